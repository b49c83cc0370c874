"""Sizes of receptive fields (paper.md 2.3; Luo et al. 2016)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUO_SHARE = 1 - 0.9545
"""A pixel belongs to the field when its gradient is above this share of the largest: two standard deviations."""


def distances(height: int, width: int, centre: tuple[float, float]) -> Tensor:
    """Distance of every pixel's middle from `centre` (row, column) in pixels, (height, width) float64."""
    rows = torch.arange(height, dtype=torch.float64) - centre[0]
    columns = torch.arange(width, dtype=torch.float64) - centre[1]
    return (rows[:, None].square() + columns[None, :].square()).sqrt()


def second_moment_radius(fields: Tensor, distance: Tensor) -> Tensor:
    """Root mean squared distance of the field's mass: (..., height, width) -> (...), pixels; NaN without mass."""
    mass = fields.sum((-2, -1))
    return ((fields * distance.square()).sum((-2, -1)) / mass).sqrt()


def mass_radius(fields: Tensor, distance: Tensor, share: float = 0.9) -> Tensor:
    """Radius of the smallest disc that holds `share` of the field's mass: (..., h, w) -> (...), pixels."""
    order = distance.flatten().argsort(stable=True)
    mass = fields.flatten(-2)[..., order].cumsum(-1)
    total = mass[..., -1:]
    enough = (mass >= share * total).double().argmax(-1)  # the first pixel with which there is enough
    return torch.where(total[..., 0] > 0, distance.flatten()[order][enough], math.nan)


def area_radius(fields: Tensor) -> Tensor:
    """Luo et al.'s size: root of the number of pixels above 4.55 % of the largest, (..., h, w) -> (...), pixels."""
    largest = fields.amax((-2, -1), keepdim=True)
    count = (fields > LUO_SHARE * largest).double().sum((-2, -1))
    return torch.where(largest[..., 0, 0] > 0, count.sqrt(), math.nan)


def patch_share(fields: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Share of the mass in the pixels rows[0]..rows[1] - 1, columns[0]..columns[1] - 1: (..., h, w) -> (...)."""
    inside = fields[..., rows[0] : rows[1], columns[0] : columns[1]].sum((-2, -1))
    return inside / fields.sum((-2, -1))
