"""What is drawn at random: fractions, order, augmentation; and the learning rate, which is not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seelike.errors import SeelikeError
from seelike.train.augment import augment
from seelike.train.fractions import held_out, nested_fraction
from seelike.train.order import Order, generator
from seelike.train.recipe import AugmentationPart, OptimisationPart
from seelike.train.schedule import rate


@settings(deadline=None, max_examples=40)
@given(st.integers(40, 500), st.lists(st.floats(0.03, 1), min_size=2, max_size=4), st.integers(0, 9))
def test_smaller_fractions_are_parts_of_larger_ones(total: int, fractions: list[float], seed: int) -> None:
    rows = np.arange(total) * 3  # not the positions themselves
    chosen = [set(nested_fraction(rows, f, seed).tolist()) for f in sorted(fractions)]
    for fraction, smaller in zip(sorted(fractions), chosen, strict=True):
        assert len(smaller) == round(fraction * total)
        assert smaller <= set(rows.tolist())
    for smaller, larger in itertools.pairwise(chosen):
        assert smaller <= larger


def test_another_seed_is_another_fraction_and_all_is_all() -> None:
    rows = np.arange(1000)
    one, two = (nested_fraction(rows, 0.1, seed) for seed in (0, 1))
    assert 80 <= len(set(one.tolist()) - set(two.tolist())) <= 100
    assert np.array_equal(nested_fraction(rows, 1.0, 4), rows)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.0001, math.nan])
def test_fractions_lie_between_nought_and_one(fraction: float) -> None:
    with pytest.raises(SeelikeError, match=r"must lie in \(0, 1\]"):
        nested_fraction(np.arange(10), fraction, 0)


def test_a_fraction_of_nothing_is_refused() -> None:
    with pytest.raises(SeelikeError, match="leaves none of 10"):
        nested_fraction(np.arange(10), 0.01, 0)


def test_held_out_images_are_not_trained_on() -> None:
    training, validation = held_out(100, 30, 0)
    assert len(validation) == 30
    assert sorted([*training, *validation]) == list(range(100))
    with pytest.raises(SeelikeError, match="takes 100 of 100"):
        held_out(100, 100, 0)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_every_epoch_shows_every_image_once(total: int, batch: int, seed: int) -> None:
    order = Order(total, batch, seed)
    shown = torch.cat([order.rows(step) for step in range(math.ceil(3 * total / batch))])[: 3 * total]
    for epoch in shown.reshape(3, total):
        assert sorted(epoch.tolist()) == list(range(total))
    step = math.ceil(total / batch)
    assert torch.equal(Order(total, batch, seed).rows(step), order.rows(step))  # no memory needed


def numbered(n: int = 6, size: int = 8) -> torch.Tensor:
    """Images whose every pixel is different."""
    return torch.arange(size * size * 3, dtype=torch.uint8).reshape(size, size, 3).expand(n, -1, -1, -1)


def test_flip_and_turn_give_the_eight_ways_to_lay_a_square_down() -> None:
    images = numbered(400)
    changed = augment(images, AugmentationPart(flip=True, turn=True, shift=0), torch.Generator().manual_seed(0))
    flips = (images[0], images[0].flip(1))
    ways = torch.stack([torch.rot90(image, k) for image in flips for k in range(4)]).float()
    same = (changed[:, None] == ways).all((2, 3, 4))
    assert (same.sum(1) == 1).all()
    counts = same.sum(0)
    assert counts.sum() == 400
    assert counts.min() > 25  # 50 expected each, 3.8 standard deviations


def test_shift_repeats_the_edge() -> None:
    images, size, most = numbered(200), 8, 2
    changed = augment(images, AugmentationPart(flip=False, shift=most), torch.Generator().manual_seed(1))
    padded = F.pad(images[0].permute(2, 0, 1)[None].float(), [most] * 4, mode="replicate")[0].permute(1, 2, 0)
    crops = [padded[y : y + size, x : x + size] for y in range(2 * most + 1) for x in range(2 * most + 1)]
    same = (changed[:, None] == torch.stack(crops)).all((2, 3, 4))
    assert same.any(1).all()
    assert same.any(0).all()  # 25 shifts among 200 images: a given one is missed once in 3,500


def test_colours_change_the_whole_image_alike_and_no_more_than_said() -> None:
    images = numbered(50)
    changed = augment(images, AugmentationPart(flip=False, shift=0, colour=0.2), torch.Generator().manual_seed(2))
    for image in changed:  # of every channel an increasing line over what it was
        for channel in range(3):
            slope = (image[..., channel].flatten()[-1] - image[..., channel].flatten()[0]) / 189
            expected = image[0, 0, channel] + slope * (images[0, ..., channel].float() - channel)
            assert torch.allclose(image[..., channel], expected, atol=1e-2)
            assert 0.8 * 0.9 <= slope <= 1.2 * 1.1
    assert changed.std(0).min() > 1  # and every image differently


def test_random_numbers_depend_on_seed_and_step_alone() -> None:
    draws = {(s, t): torch.rand(3, generator=generator(s, t)) for s in (0, 1) for t in (0, 1, 2)}
    assert len({tuple(d.tolist()) for d in draws.values()}) == 6
    assert torch.equal(torch.rand(3, generator=generator(1, 2)), draws[1, 2])


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    how = OptimisationPart(steps=1000, rate=0.5, warmup=99)
    assert rate(0, how) == pytest.approx(0.005)
    assert rate(49, how) == pytest.approx(0.25)
    assert rate(99, how) == 0.5
    middle = 99 + 901 / 2
    assert (rate(math.floor(middle), how) + rate(math.ceil(middle), how)) / 2 == pytest.approx(0.25)
    assert 0 < rate(999, how) < 1e-5
    assert max(rate(s, OptimisationPart(steps=9, rate=0.5, warmup=99)) for s in range(9)) == 0.5
