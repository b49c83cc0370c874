"""What CKA must not change under, what it must change under, and how it behaves in single precision."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seelike.measures import cka, gram, gram_products, gram_sums, shifted_gram, u_centre, write_gram


def pair(n: int = 64, d: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, torch.tanh(x[:, :8]) + 0.5 * torch.randn(n, 8, generator=generator, dtype=torch.float64)


def orthogonal(d: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50))
def test_invariant_under_rotation_scale_shift_and_permutation(seed: int, scale: float, shift: float) -> None:
    x, y = pair(seed=seed)
    moved = scale * (x @ orthogonal(x.shape[1], seed)) + shift
    moved = moved[:, torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(seed))]
    for estimator in ("unbiased", "biased"):
        assert float(cka(moved, y, estimator)) == pytest.approx(float(cka(x, y, estimator)), abs=1e-9)


def test_not_invariant_under_invertible_linear_maps() -> None:
    x, y = pair()
    stretch = torch.diag(torch.logspace(0, 2, x.shape[1], dtype=torch.float64))
    assert abs(float(cka(x @ stretch, y) - cka(x, y))) > 0.05


def test_not_invariant_under_a_permutation_of_one_sides_examples() -> None:
    x, y = pair()
    assert abs(float(cka(x.roll(1, 0), y) - cka(x, y))) > 0.1


def test_symmetric_and_one_with_itself() -> None:
    x, y = pair()
    assert float(cka(x, y)) == pytest.approx(float(cka(y, x)), abs=1e-14)
    assert float(cka(x, x)) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("shift", [0.0, 10.0, 100.0, 1000.0])
def test_single_precision_survives_a_large_mean(shift: float) -> None:
    """peers.md, finding 4: the usual formula gives 1.087 at shift 10 and infinity at 100."""
    x, y = pair(128, 4096, seed=3)
    x32, y32 = (x + shift).float(), (y + shift).float()
    expected = float(cka(x32.double(), y32.double()))
    assert float(cka(x32, y32)) == pytest.approx(expected, abs=1e-6)
    assert float(cka(x32, y32)) == pytest.approx(float(cka(x, y)), abs=2e-4)  # the rounding of the input itself


@pytest.mark.parametrize("chunk", [1, 1 << 30])  # chunks of 1024 features; all at once
@pytest.mark.parametrize("n", [9, 33, 64, 67])
def test_gram_in_chunks_and_strips_is_the_gram(n: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(gram, "STRIP", 16)
    x = torch.randn(n, 5, 1000, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    flat = x.flatten(1) - x.flatten(1)[0]
    torch.testing.assert_close(shifted_gram(x), flat @ flat.T)
    torch.testing.assert_close(shifted_gram(x.float()), flat @ flat.T, rtol=1e-5, atol=1e-2)
    half = x.bfloat16()
    torch.testing.assert_close(shifted_gram(half), shifted_gram(half.double()), rtol=1e-5, atol=1e-2)
    flat = x.flatten(1) - x.flatten(1).mean(0)
    assert float(gram_sums(shifted_gram(x)[None]).spread) == pytest.approx(float(flat.square().sum()), rel=1e-12)


@pytest.mark.parametrize("least", [0, 1 << 62])  # with oneDNN's product, and without
def test_both_products_give_the_gram(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "LEAST", least)
    x = torch.randn(40, 6000, generator=torch.Generator().manual_seed(0))
    expected = shifted_gram(x.double())
    torch.testing.assert_close(shifted_gram(x), expected, rtol=3e-6, atol=3e-3)


def test_what_lies_below_the_diagonal_does_not_count() -> None:
    x = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(1))
    grams = torch.full((3, 20, 20), torch.nan)
    for features, out in zip(x, grams, strict=True):
        write_gram(features, out)
    grams[:] = torch.where(torch.ones(20, 20, dtype=torch.bool).triu(), grams, torch.nan)
    full = torch.stack([shifted_gram(features.double()) for features in x])
    torch.testing.assert_close(gram_products(grams, grams), gram_products(full, full), rtol=1e-4, atol=1e-2)


def test_constant_features_have_an_exactly_zero_gram() -> None:
    x = torch.full((33, 70), 0.1) * torch.linspace(0.3, 7, 70)
    assert torch.count_nonzero(shifted_gram(x)) == 0
    assert math.isnan(float(cka(x, torch.randn(33, 4))))


def test_u_centred_rows_sum_to_zero_and_their_products_are_those_of_sums() -> None:
    grams = torch.stack([shifted_gram(t) for t in pair(20)])
    centred = u_centre(grams)
    assert float(centred.sum(-1).abs().max()) < 1e-10
    assert float(centred.diagonal(dim1=-2, dim2=-1).abs().max()) == 0
    products = torch.einsum("aij,bij->ab", centred, centred)
    torch.testing.assert_close(gram_products(grams, grams), products)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_examples(n: int) -> None:
    with pytest.raises(ValueError, match=f"at least 4 examples in a minibatch, not {n}"):
        cka(torch.randn(n, 3), torch.randn(n, 3))


def test_different_numbers_of_examples() -> None:
    with pytest.raises(ValueError, match="x has 5 examples and y has 6"):
        cka(torch.randn(5, 3), torch.randn(6, 3))
