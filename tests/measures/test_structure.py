"""What maps are read for, on maps whose reading is known."""

from __future__ import annotations

import math

import pytest
import torch

from seelike.measures import best_match, best_split, block_contrast, ends_similarity, lower_half_match_depth


def two_blocks(first: int, second: int, within: float = 0.8, across: float = 0.1) -> torch.Tensor:
    side = torch.arange(first + second) >= first
    return torch.where(side[:, None] == side[None], within, across).double().fill_diagonal_(1)


def test_ends_similarity() -> None:
    assert float(ends_similarity(two_blocks(4, 5))) == pytest.approx(0.1)
    assert float(ends_similarity(torch.full((9, 9), 0.7).double())) == pytest.approx(0.7)
    maps = two_blocks(4, 5)
    maps[0] = math.nan  # a constant layer does not spoil the mean
    assert float(ends_similarity(maps)) == pytest.approx(0.1)


@pytest.mark.parametrize("first", [2, 3, 7])
def test_split_is_found_where_it_is(first: int) -> None:
    maps = two_blocks(first, 10 - first)
    assert best_split(maps) == first
    assert float(block_contrast(maps, first)) == pytest.approx(0.7)
    assert float(block_contrast(torch.stack([maps, maps * 0.5]), first)[1]) == pytest.approx(0.35)


def test_split_is_the_best_of_all_tried() -> None:
    noise = torch.rand(17, 17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    maps = two_blocks(6, 11, 0.3, 0.2) + 0.3 * (noise + noise.T)
    maps[4] = maps[:, 4] = math.nan
    contrasts = {split: float(block_contrast(maps, split)) for split in range(2, 16)}
    assert best_split(maps) == max(contrasts, key=contrasts.__getitem__)


def test_best_match_and_its_depth() -> None:
    maps = torch.zeros(5, 8, dtype=torch.float64)
    for column in range(8):
        maps[column // 4, column] = 0.9  # the column model's lower half matches row 0, its upper half row 1
    index, value = best_match(maps.T)
    assert index.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert value.tolist() == [0.9] * 8
    assert float(lower_half_match_depth(maps)) == 0
    assert float(lower_half_match_depth(maps.flip(0))) == 1
    assert float(lower_half_match_depth(maps.flip(1))) == pytest.approx(0.25)


def test_best_match_of_an_undefined_row() -> None:
    maps = torch.tensor([[math.nan, math.nan], [0.1, math.nan]])
    index, value = best_match(maps)
    assert math.isnan(value[0])
    assert (index[1], value[1]) == (0, pytest.approx(0.1))
