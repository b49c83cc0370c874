"""What the subsets show: claim F5 of paper.md 6, with "strongly negative" (paper.md 3, Figure 5) as a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from seelike.studies.base import Finding, judge
from seelike.studies.heads.estimate import HeadEstimate

FALLS = (
    "Figure 5: CKA of heads of the first block with the first five units of ResNet-50 and -152 falls with their "
    "distance, from .5-.6 at the local end to .25-.35 at the global end (ViT-L/16, H/14)"
)

STRONG = -0.5
"""Rank correlations below this are called strongly negative: of few subsets, a little below zero says nothing."""


def find(
    estimates: Mapping[tuple[str, str], HeadEstimate], blocks: Mapping[str, str], layers: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Findings of every pair: one per layer, and one on all of them.

    Args:
        estimates: of every pair; blocks: name of every model's attention; layers: names of the other models' layers.
    """
    found = []
    for (model, other), estimate in estimates.items():
        found += _layers(model, other, estimate, blocks[model], layers[other])
        if len(layers[other]) > 1:
            found.append(_all(model, other, estimate, blocks[model], len(layers[other])))
    return found


def _layers(model: str, other: str, estimate: HeadEstimate, block: str, layers: Sequence[str]) -> list[Finding]:
    values, errors = estimate.rank_correlation()
    cka, cka_error = estimate.cka()
    distance, _ = estimate.distance()
    found = []
    for index, layer in enumerate(layers):
        value, error = float(values[index]), float(errors[index])
        near, far = (_pm(float(cka[end, index]), float(cka_error[end, index])) for end in (0, -1))
        statement = (
            f"Heads of {block} in {model} that look {distance[0]:.1f} pixels far have a CKA of {near} with {layer} of "
            f"{other}, those that look {distance[-1]:.1f} pixels far {far}; rank correlation of distance and CKA over "
            f"{len(cka)} subsets: {_pm(value, error)}."
        )
        found.append(
            Finding(
                "heads",
                (model, other),
                statement,
                f"rank_correlation with {layer}",
                value,
                error,
                claim=f"similarity of {model}'s heads to {layer} of {other} falls with their distance (rank "
                f"correlation under {STRONG})",
                verdict=judge(STRONG - value, error, estimate.table.quantile),
                paper=FALLS,
            )
        )
    return found


def _all(model: str, other: str, estimate: HeadEstimate, block: str, count: int) -> Finding:
    value, error = estimate.largest_rank_correlation()
    return Finding(
        "heads",
        (model, other),
        f"Of the rank correlations of distance and CKA of heads of {block} in {model} with {count} layers of {other}, "
        f"the largest is {_pm(value, error)}.",
        "largest rank_correlation",
        value,
        error,
        claim=f"similarity of {model}'s heads to all {count} layers of {other} falls with their distance (rank "
        f"correlation under {STRONG})",
        verdict=judge(STRONG - value, error, estimate.table.quantile),
        paper=FALLS,
    )


def _pm(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f} (no error: too few minibatches)"
