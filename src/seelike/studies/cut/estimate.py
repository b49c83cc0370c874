"""From tallies to similarity across and within, accuracies, and how they differ from the whole model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import t_quantile
from seelike.studies.cut.parts import Part
from seelike.studies.similarity.estimate import PairEstimate


@dataclass(frozen=True)
class Value:
    """A value, or one for each block, with its standard error; NaN where it is not defined."""

    value: Tensor
    error: Tensor


@dataclass(frozen=True)
class CutEstimate:
    """One model, block by block.

    Attributes:
        cka: (layers, layers) with itself.
        within, across: (blocks,) mean CKA; contrast: within minus across.
        across_change, contrast_change: (blocks,) against the whole model at the same block.
        accuracy, accuracy_change: shares of the images; None without labels.
        quantile: standard errors on each side of a 95 % interval.
    """

    cka: Value
    within: Value
    across: Value
    contrast: Value
    across_change: Value
    contrast_change: Value
    accuracy: Value | None
    accuracy_change: Value | None
    quantile: float


def estimate_cut(
    own: PairEstimate,
    whole: PairEstimate,
    parts: Sequence[Part],
    whole_parts: Sequence[Part],
    hits: Tensor | None,
    counted: Tensor,
) -> CutEstimate:
    """Put a model beside the whole one.

    Args:
        own, whole: CKA of either model with itself, from the same minibatches.
        parts, whole_parts: of each block.
        hits: (repeats, 2, 2) images that the whole model and this one classify rightly, and both; None without labels.
        counted: (repeats,) images.
    """
    # (..., blocks, model or whole, within or across)
    both = PairEstimate(
        _means(own.maps, whole.maps, parts, whole_parts),
        _means(own.left_out, whole.left_out, parts, whole_parts),
        own.weights,
    )

    def of(weights: Sequence[Sequence[float]]) -> Value:
        factors = torch.tensor(weights, dtype=torch.float64)
        return Value(*both.statistic(lambda means: (means * factors).sum((-2, -1)))[:2])

    accuracy = _accuracy(hits, counted) if hits is not None else (None, None)
    return CutEstimate(
        Value(*own.statistic(lambda maps: maps)[:2]),
        within=Value(*both.statistic(lambda means: means[..., 0, 0])[:2]),
        across=Value(*both.statistic(lambda means: means[..., 0, 1])[:2]),
        contrast=Value(*both.statistic(lambda means: means[..., 0, 0] - means[..., 0, 1])[:2]),
        across_change=of([[0, 1], [0, -1]]),
        contrast_change=of([[1, -1], [-1, 1]]),
        accuracy=accuracy[0],
        accuracy_change=accuracy[1],
        quantile=t_quantile(own.groups),
    )


def _means(own: Tensor, whole: Tensor, parts: Sequence[Part], whole_parts: Sequence[Part]) -> Tensor:
    return torch.stack(
        [
            torch.stack([part.means(own), other.means(whole)], -2)
            for part, other in zip(parts, whole_parts, strict=True)
        ],
        -3,
    )


def _accuracy(hits: Tensor, counted: Tensor) -> tuple[Value, Value]:
    """Accuracy of the second model, and what it is more than the first's, from images that both saw.

    Repeats of the same images add nothing to what is known, and fresh ones only do by chance: the error is that of
    one repeat.
    """
    images = counted.mean()
    shares = hits.sum(0) / counted.sum()
    first, second, both = shares[0, 0], shares[1, 1], shares[0, 1]
    change = second - first
    disagree = first + second - 2 * both
    return (
        Value(second, (second * (1 - second) / images).sqrt()),
        Value(change, ((disagree - change.square()).clamp_min(0) / images).sqrt()),
    )
