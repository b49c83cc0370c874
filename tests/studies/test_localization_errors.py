"""Errors of localization against the spread over data sets that are drawn anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seelike.measures import hsic_products
from seelike.measures.localization import token_sums
from seelike.studies.localization.estimate import estimate_layer
from seelike.studies.localization.places import Place
from seelike.studies.localization.resample import Resampled, draw_groups

TOKENS, GROUPS, N = 16, 20, 48


def sums(mix: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a pass over new images adds up: tokens are mixtures of patches, with noise."""
    generator = torch.Generator().manual_seed(seed)
    cross = torch.zeros(1, GROUPS, TOKENS, TOKENS, dtype=torch.float64)
    own, other = (torch.zeros(1, GROUPS, TOKENS, dtype=torch.float64) for _ in range(2))
    for group in range(GROUPS):
        patches = torch.randn(N, TOKENS, 6, generator=generator) + 0.5 * torch.randn(N, 1, 6, generator=generator)
        tokens = torch.einsum("tp,npd->ntd", mix, patches) + torch.randn(N, TOKENS, 6, generator=generator)
        a, b = token_sums(tokens), token_sums(patches)
        cross[0, group], own[0, group], other[0, group] = hsic_products(a.sums, b.sums), a.own, b.own
    return cross, own, other, torch.full((1, GROUPS), float(N * (N - 3)), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(3))
def test_intervals_cover_the_mean_over_data_sets(trial: int) -> None:
    site: Any = None
    place = Place(site, (4, 4))
    mix = 0.3 * torch.rand(TOKENS, TOKENS, generator=torch.Generator().manual_seed(trial)) + 0.15 * torch.eye(TOKENS)
    found = [estimate_layer(place, *sums(mix, 1000 + seed), (32, 32)).readouts for seed in range(60)]
    values = np.array([each.mean[:, 0].numpy() for each in found])  # (data sets, quantities)
    errors = np.array([each.error()[:, 0].numpy() for each in found])
    spread = values.std(0, ddof=1)
    np.testing.assert_allclose(np.sqrt(np.square(errors).mean(0)), spread, rtol=0.45)
    covered = np.abs(values - values.mean(0)) <= found[0].quantile * errors
    assert (covered.mean(0) >= 0.85).all(), covered.mean(0)


def test_the_error_of_a_mean_is_that_of_the_textbook() -> None:
    """A weighted mean of groups has a known standard error; the bootstrap knows it to a few percent."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.randn(1, 20, 400, generator=generator, dtype=torch.float64)  # 400 quantities
    counts = draw_groups(torch.ones(1, 20))
    estimate = Resampled(groups.mean(1), counts @ groups / 20, 20)
    textbook = groups[0].std(0) / 20**0.5
    assert float((estimate.error() / textbook).mean()) == pytest.approx(1, abs=0.03)


def test_groups_without_data_are_never_drawn() -> None:
    counts = draw_groups(torch.tensor([[1.0, 0, 2, 3], [1, 1, 1, 1]]))
    assert counts.shape == (2, 50, 4)
    assert counts[0, :, 1].max() == 0
    assert set(counts.sum(-1)[0].tolist()) == {3.0}
    assert set(counts.sum(-1)[1].tolist()) == {4.0}


def test_one_group_has_no_error() -> None:
    estimate = Resampled(torch.ones(1, 3), torch.ones(1, 100, 3), 1)
    assert estimate.error().isnan().all()
