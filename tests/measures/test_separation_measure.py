from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seelike.measures.separation import lowest, scaled, soft_nearest_neighbour_losses, squared_distances


def cleverhans(x: np.ndarray, y: np.ndarray, temperature: float) -> float:
    """The loss as cleverhans writes it (snnl.py), without its constants of 1e-5, which keep it from being exact."""
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    f = np.exp(-distances / temperature) - np.eye(len(x))
    picked = f / f.sum(1, keepdims=True)
    masked = picked * (y[:, None] == y[None])
    return float(-np.log(masked.sum(1)).mean())


def data(n: int = 40, d: int = 6, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=g, dtype=torch.float64)
    return torch.randn(n, d, generator=g, dtype=torch.float64) + centres[y], y


def loss(x: Tensor, y: Tensor, temperature: float, of: str = "scaled") -> float:
    distances = squared_distances(x)
    distances = scaled(distances) if of == "scaled" else distances
    return float(soft_nearest_neighbour_losses(distances, y, torch.tensor([temperature]))[0].mean())


@pytest.mark.parametrize("temperature", [0.5, 3.0, 100.0])
def test_is_what_cleverhans_computes(temperature: float) -> None:
    x, y = data()
    assert loss(x, y, temperature, "raw") == pytest.approx(cleverhans(x.numpy(), y.numpy(), temperature), rel=1e-10)
    mean = float(squared_distances(x).sum()) / (40 * 39)
    expected = cleverhans(x.numpy(), y.numpy(), temperature * mean)
    assert loss(x, y, temperature) == pytest.approx(expected, rel=1e-10)


def test_labels_without_meaning_give_the_known_value() -> None:
    """1,000 examples of 10 classes (paper.md 5.1): log(999 / 99) = 2.3116."""
    x = torch.randn(1000, 50, generator=torch.Generator().manual_seed(0))
    y = torch.arange(1000) % 10
    assert loss(x, y, math.inf) == pytest.approx(math.log(999 / 99), abs=1e-12)
    assert round(math.log(999 / 99), 4) == 2.3116
    assert loss(x, y, 100.0, "raw") == pytest.approx(2.3116, abs=0.01)


def test_clusters_far_apart_give_zero() -> None:
    x, y = data()
    corners = torch.eye(4, dtype=torch.float64)[y]
    assert loss(torch.cat([0.001 * x, corners], 1), y, 0.05) < 1e-6
    assert loss(x, y, 0.1) > 0.1


def test_rotation_size_and_origin_do_not_matter_to_scaled_distances() -> None:
    x, y = data()
    q, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    before = loss(x, y, 0.3)
    assert loss(7.3 * x @ q + 5, y, 0.3) == pytest.approx(before, rel=1e-9)
    assert loss(x[torch.arange(39, -1, -1)], y.flip(0), 0.3) == pytest.approx(before, rel=1e-12)
    stretched = x * torch.tensor([9.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert abs(loss(stretched, y, 0.3) - before) > 0.01
    raw = loss(x, y, 3.0, "raw")
    assert loss(x @ q + 5, y, 3.0, "raw") == pytest.approx(raw, rel=1e-9)
    assert abs(loss(7.3 * x, y, 3.0, "raw") - raw) > 0.1


def test_distances() -> None:
    x, _ = data()
    torch.testing.assert_close(squared_distances(x), torch.cdist(x, x).square(), rtol=1e-9, atol=1e-9)
    cosine = 1 - torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)
    torch.testing.assert_close(squared_distances(x, "cosine"), cosine, rtol=1e-9, atol=1e-9)
    far = (x + 1e4).float()  # a mean that eats the digits of single precision
    error = (squared_distances(far) - torch.cdist(far.double(), far.double()).square()).abs().max()
    assert float(error) < 1e-4


def test_an_example_without_another_of_its_class_has_no_loss() -> None:
    x, y = data()
    y[7] = 99
    losses = soft_nearest_neighbour_losses(scaled(squared_distances(x)), y, torch.tensor([0.1, math.inf]))
    assert losses.isnan().nonzero()[:, 1].tolist() == [7, 7]


def test_low_temperatures_do_not_overflow() -> None:
    """One neighbour of another class is nearer than all of the own one: the loss grows like distance over T."""
    distances = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]], dtype=torch.float64)
    losses = soft_nearest_neighbour_losses(distances, torch.tensor([0, 1, 0]), torch.tensor([1e-5]))
    torch.testing.assert_close(losses[0, [0, 2]], torch.tensor([2e5, 1e5], dtype=torch.float64))


def test_large_batches_in_parts_are_the_same(monkeypatch) -> None:
    x, y = data()
    distances, temperatures = squared_distances(x), torch.logspace(-1, 2, 7, dtype=torch.float64)
    whole = soft_nearest_neighbour_losses(distances, y, temperatures)
    monkeypatch.setattr("seelike.measures.separation.AT_A_TIME", 3200)
    torch.testing.assert_close(soft_nearest_neighbour_losses(distances, y, temperatures), whole, rtol=0, atol=0)


def test_the_lowest_loss_is_found_between_the_temperatures_of_the_grid() -> None:
    from scipy.optimize import minimize_scalar

    x, y = data(120, 4)
    distances = scaled(squared_distances(x))
    grid = torch.cat([2.0 ** (torch.arange(-28, 9).double() / 4), torch.tensor([torch.inf]).double()])
    value, temperature = lowest(soft_nearest_neighbour_losses(distances, y, grid).mean(1), grid)

    def at(log_temperature: float) -> float:
        one = torch.tensor([log_temperature], dtype=torch.float64).exp()
        return float(soft_nearest_neighbour_losses(distances, y, one).mean())

    found = minimize_scalar(at, bounds=(-5, 3), method="bounded", options={"xatol": 1e-8})
    assert float(value) == pytest.approx(found.fun, abs=1e-4)
    assert float(temperature.log()) == pytest.approx(found.x, abs=0.02)


def test_the_lowest_loss_may_be_at_an_end() -> None:
    grid = torch.tensor([1.0, 2.0, 4.0, math.inf], dtype=torch.float64)
    losses = torch.tensor([[3.0, 2.0, 1.0, 0.5], [0.1, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 1.5]])
    value, temperature = lowest(losses.double(), grid)
    assert value.tolist() == [0.5, pytest.approx(0.1), 1.0, 1.0]
    assert temperature.tolist() == [math.inf, 1.0, 2.0, 4.0]
