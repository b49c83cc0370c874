"""Numbers that others computed: Kornblith's demo notebook and the worked example of paper.md 2.1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seelike.measures import cka, hsic_biased, hsic_unbiased


@pytest.fixture
def kornblith() -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.RandomState(1337)
    x = generator.randn(100, 10)
    return torch.from_numpy(x), torch.from_numpy(generator.randn(100, 10) + x)


def test_kornblith_notebook(kornblith: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = kornblith
    assert float(cka(x, y, "biased")) == pytest.approx(0.55761, abs=5e-6)
    assert float(cka(x, y, "unbiased")) == pytest.approx(0.51346, abs=5e-6)


def test_worked_example() -> None:
    x = torch.tensor([[1, 0], [0, 1], [1, 1], [2, 0], [0, 3]], dtype=torch.float64)
    y = torch.tensor([[1], [2], [0], [3], [1]], dtype=torch.float64)
    k, l = x @ x.T, y @ y.T
    assert float(hsic_unbiased(k, l)) == pytest.approx(-4 / 15, abs=1e-12)
    assert float(hsic_unbiased(k, k)) == pytest.approx(2.0, abs=1e-12)
    assert float(hsic_unbiased(l, l)) == pytest.approx(7 / 6, abs=1e-12)
    assert float(cka(x, y)) == pytest.approx(-0.174574312, abs=1e-9)
    assert float(cka(x, y, "biased")) == pytest.approx(0.145749870, abs=1e-9)


def song(k: np.ndarray, l: np.ndarray) -> float:
    """HSIC_1 as Song et al. write it, on purpose unlike the code under test."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    ones = np.ones(n)
    terms = np.trace(k @ l) + (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float((terms - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3)))


@pytest.mark.parametrize("n", [4, 5, 32])
def test_hsic_is_songs_formula(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 7, generator=generator, dtype=torch.float64)
    y = torch.randn(n, 3, generator=generator, dtype=torch.float64) + x[:, :3]
    k, l = x @ x.T, y @ y.T
    assert float(hsic_unbiased(k, l)) == pytest.approx(song(k.numpy(), l.numpy()), rel=1e-11)
    h = np.eye(n) - 1 / n
    expected = np.trace(k.numpy() @ h @ l.numpy() @ h) / (n - 1) ** 2
    assert float(hsic_biased(k, l)) == pytest.approx(expected, rel=1e-11)


def test_unbiased_estimate_averages_to_zero_where_the_biased_one_does_not() -> None:
    """Independent wide features: true HSIC 0. (paper.md 2.1, 'why unbiased matters')"""
    generator = torch.Generator().manual_seed(0)
    draws = [[torch.randn(16, 512, generator=generator, dtype=torch.float64) for _ in range(2)] for _ in range(300)]
    unbiased = torch.stack([hsic_unbiased(x @ x.T, y @ y.T) for x, y in draws])
    scale = torch.stack([hsic_unbiased(x @ x.T, x @ x.T) for x, _ in draws]).mean()
    error = float(unbiased.std() / len(draws) ** 0.5)
    assert abs(float(unbiased.mean())) < 4 * error
    assert float(torch.stack([cka(x, y, "biased") for x, y in draws]).mean()) > 0.9
    assert abs(float(unbiased.mean() / scale)) < 0.01
