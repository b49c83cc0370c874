"""Errors checked against what they estimate: the spread over fresh data."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from seelike.measures import jackknife_error, leave_one_out, t_quantile


def test_error_of_a_mean_is_the_textbook_one() -> None:
    values = torch.tensor([3.0, 5, 4, 8, 1, 7], dtype=torch.float64)
    left_out = leave_one_out(values) / 5
    error = jackknife_error(left_out, values.mean(), torch.ones(6, dtype=torch.float64))
    assert float(error) == pytest.approx(float(values.std() / 6**0.5), rel=1e-12)


def test_groups_of_different_weight() -> None:
    """A weighted mean's error, against the spread over many draws of the groups' sums."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([10.0, 20, 30, 40, 20, 10, 25, 45], dtype=torch.float64)
    means, errors = [], []
    for _ in range(2000):
        sums = weights + weights.sqrt() * torch.randn(8, generator=generator, dtype=torch.float64)
        mean = sums.sum() / weights.sum()
        left_out = leave_one_out(sums) / leave_one_out(weights)
        means.append(mean)
        errors.append(jackknife_error(left_out, mean, weights))
    spread = float(torch.stack(means).std())
    assert float(torch.stack(errors).square().mean().sqrt()) == pytest.approx(spread, rel=0.06)


def test_empty_groups_do_not_count_and_one_group_has_no_error() -> None:
    values = torch.tensor([3.0, 5, 4, 0], dtype=torch.float64)
    weights = torch.tensor([1.0, 1, 1, 0], dtype=torch.float64)
    full = values.sum() / weights.sum()
    error = jackknife_error(leave_one_out(values) / leave_one_out(weights), full, weights)
    assert float(error) == pytest.approx(float(values[:3].std() / 3**0.5), rel=1e-12)
    assert jackknife_error(values[:1], full, weights[:1]).isnan()


@pytest.mark.parametrize("groups", [4, 5, 10, 20, 100])
def test_t_quantile(groups: int) -> None:
    assert t_quantile(groups) == pytest.approx(scipy.stats.t.ppf(0.975, groups - 1), rel=0.01)
    assert t_quantile(1) == float("inf")
