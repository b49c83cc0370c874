"""Sizes of receptive fields against known answers."""

from __future__ import annotations

import math

import pytest
import torch

from seelike.measures.field import area_radius, distances, mass_radius, patch_share, second_moment_radius


def test_a_single_pixel() -> None:
    field = torch.zeros(2, 9, 9, dtype=torch.float64)
    field[0, 4, 4] = 3
    field[1, 4, 7] = 3
    distance = distances(9, 9, (4, 4))
    assert second_moment_radius(field, distance).tolist() == [0, 3]
    assert mass_radius(field, distance).tolist() == [0, 3]
    assert area_radius(field).tolist() == [1, 1]
    assert patch_share(field, (3, 6), (3, 6)).tolist() == [1, 0]


def test_a_field_that_is_equal_everywhere() -> None:
    field = torch.ones(10, 14, dtype=torch.float64)
    distance = distances(10, 14, (4.5, 6.5))
    expected = math.sqrt((10**2 - 1 + 14**2 - 1) / 12)
    assert float(second_moment_radius(field, distance)) == pytest.approx(expected, rel=1e-12)
    assert float(area_radius(field)) == pytest.approx(math.sqrt(140))
    assert float(patch_share(field, (0, 5), (0, 7))) == pytest.approx(0.25)
    inside = (distance <= mass_radius(field, distance)).double().mean()
    assert 0.9 <= float(inside) <= 0.9 + 8 / 140  # the pixels of one ring come together


def test_a_gaussian_field() -> None:
    sigma, distance = 6.0, distances(101, 101, (50, 50))
    field = torch.exp(-distance.square() / (2 * sigma**2))
    assert float(second_moment_radius(field, distance)) == pytest.approx(math.sqrt(2) * sigma, rel=1e-6)
    assert float(mass_radius(field, distance)) == pytest.approx(sigma * math.sqrt(2 * math.log(10)), abs=0.2)
    reach = sigma * math.sqrt(2 * math.log(1 / 0.0455))
    assert float(area_radius(field)) == pytest.approx(math.sqrt(math.pi) * reach, rel=0.01)


def test_scale_does_not_matter_and_no_mass_is_no_size() -> None:
    field = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distance = distances(8, 8, (4, 4))
    for measure in (lambda f: second_moment_radius(f, distance), lambda f: mass_radius(f, distance), area_radius):
        torch.testing.assert_close(measure(1000 * field), measure(field))
        assert bool(measure(torch.zeros(8, 8, dtype=torch.float64)).isnan())
