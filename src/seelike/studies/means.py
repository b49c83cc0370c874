"""Means over images with their errors, from sums over images, when a run repeats them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A mean over images.

    Attributes:
        value: (...) the mean; NaN without images.
        error: (...) its standard error; NaN with fewer than 2 images.
        spread: (...) standard deviation over images.
    """

    value: Tensor
    error: Tensor
    spread: Tensor


def mean_from_sums(counts: Tensor, sums: Tensor, squares: Tensor) -> Mean:
    """Mean over images from the sums of every repeat.

    Args:
        counts: (repeats, ...) images; sums: (repeats, ...) of values; squares: (repeats, ...) of their squares. All
            float64, of shapes that broadcast.
    """
    value = sums / counts
    # Rounding may leave a little less than nothing where all images agree.
    spread = ((squares - sums * value) / (counts - 1)).clamp_min(0)
    return over_repeats(value, spread, counts)


def over_repeats(value: Tensor, variance: Tensor, counts: Tensor, fresh: Tensor | None = None) -> Mean:
    """Average repeats, which may or may not show the same images.

    Args:
        value: (repeats, ...) mean of every repeat.
        variance: (repeats, ...) over the images of a repeat; counts: (repeats, ...) images.
        fresh: what `freshness` says of more statistics of the same images than these, from which it is surer.

    Repeats of the same images share their luck, fresh ones do not. Both are covered by Var(mean) = V - s^2 (1 - 1/R),
    with V the variance of the mean of one repeat and s^2 = fresh * V that between the R repeats.
    """
    repeats = len(value)
    fresh = freshness(value, variance, counts) if fresh is None else fresh
    error = ((variance / counts).mean(0) * (1 - fresh * (1 - 1 / repeats))).sqrt()
    undefined = (counts < 2).expand_as(value).any(0)
    spread = variance.mean(0).sqrt()
    return Mean(value.mean(0), error.masked_fill(undefined, torch.nan), spread.masked_fill(undefined, torch.nan))


def freshness(value: Tensor, variance: Tensor, counts: Tensor) -> Tensor:
    """How far repeats show other images: 0, the same ones; 1, none in common.

    Repeats that share the part p of their images differ by (1 - p) of what their errors say. That holds for all
    statistics alike, so the mean over all is taken: a few repeats say little about one. Arguments as in `over_repeats`.
    """
    if len(value) < 2:
        return value.new_zeros(())
    shares = value.var(0) / (variance / counts).mean(0)
    shares = shares[shares.isfinite()]
    return shares.mean().clamp(0, 1) if len(shares) else value.new_zeros(())
