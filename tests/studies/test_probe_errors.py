"""The error of a probe's accuracy against simulation."""

from __future__ import annotations

import pytest
import torch

from seelike.studies.probe.split import GROUPS
from seelike.studies.probe.tallied import estimate


def simulate(draws: int, between: float, images: int, trials: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and errors of the mean accuracy of probes that differ by `between`, and see the same images."""
    g = torch.Generator().manual_seed(0)
    values, errors = [], []
    for _ in range(trials):
        accuracy = 0.7 + between * torch.randn(draws, generator=g)
        difficulty = torch.rand(images, generator=g)
        hits = (difficulty < accuracy[:, None]).double()
        counts = torch.zeros(1, GROUPS, draws, 1, dtype=torch.float64)
        counts[0, :, :, 0].index_add_(0, torch.arange(images) % GROUPS, hits.T)
        shown = torch.bincount(torch.arange(images) % GROUPS, minlength=GROUPS)[None].double()
        made = estimate(counts, shown, lambda a: a[..., 0])
        values.append(made.value)
        errors.append(made.error)
    return torch.stack(values), torch.stack(errors)


@pytest.mark.parametrize(("draws", "between"), [(3, 0.05), (3, 0.0), (5, 0.02), (1, 0.0)])
def test_the_error_is_the_spread_of_repetitions(draws: int, between: float) -> None:
    values, errors = simulate(draws, between, 210)
    ratio = errors.square().mean().sqrt() / values.std()
    assert 0.9 < float(ratio) < 1.1


def test_intervals_cover_the_truth() -> None:
    g = torch.Generator().manual_seed(1)
    covered = 0
    for _ in range(600):
        accuracy = 0.7 + 0.05 * torch.randn(3, generator=g)
        hits = (torch.rand(200, generator=g) < accuracy[:, None]).double()
        counts = hits.reshape(3, 10, GROUPS).sum(1).T[None, :, :, None]
        made = estimate(counts, torch.full((1, GROUPS), 10.0).double(), lambda a: a[..., 0])
        covered += abs(float(made.value) - 0.7) < float(made.t * made.error)
    assert 0.93 < covered / 600 < 0.99


def test_one_draw_knows_the_error_of_counting_only() -> None:
    counts = torch.tensor([3.0, 5.0, 4.0, 4.0]).double()[None, :, None, None]
    made = estimate(counts, torch.full((1, 4), 8.0).double(), lambda a: a)
    assert made.spread.isnan().all()
    torch.testing.assert_close(made.error.squeeze(), (counts.flatten() / 8).std() / 2)
