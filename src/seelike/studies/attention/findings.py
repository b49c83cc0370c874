"""What the distances show: claims F3/4 of paper.md 6."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from seelike.studies.attention.estimate import HeadEstimate
from seelike.studies.base import Finding, judge

EARLY_AND_LATE = "Figure 3: lower layers have local and global heads, the last ones only global heads (ViT-L/16, H/14)"
LITTLE_DATA = "Figure 4: trained on ImageNet only, large ViTs do not learn to attend locally in early layers"


def find(estimates: Mapping[str, HeadEstimate], sites: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Findings of every model, then of every pair of models.

    Args:
        estimates: of every model; sites: names of its attention sites.
    """
    found: list[Finding] = []
    for model, estimate in estimates.items():
        found.append(_last(model, estimate))
        if len(sites[model]) >= 2:
            found.append(_local(model, estimate))
            if min(estimate.heads[0], estimate.heads[-1]) >= 2:
                found.append(_spread(model, estimate))
    for a, b in combinations(estimates, 2):
        found.append(_more_local(a, b, estimates))
    return found


def early_blocks(sites: int) -> int:
    """How many blocks the paper looks at from each end: two, fewer in models of less than four."""
    return max(1, min(2, sites // 2))


def most_local(relative: Tensor) -> Tensor:
    """Smallest relative distance: (..., sites, heads) with NaN where there is no head -> (...)."""
    return torch.nan_to_num(relative, nan=torch.inf).amin((-2, -1))


def head_spread(relative: Tensor) -> Tensor:
    """Standard deviation over heads: (..., heads) with NaN where there is no head -> (...)."""
    centred = relative - relative.nanmean(-1, keepdim=True)
    count = (~relative.isnan()).sum(-1)
    return (centred.square().nansum(-1) / (count - 1)).sqrt()


def _last(model: str, estimate: HeadEstimate) -> Finding:
    value, error = estimate.statistic(lambda relative: relative[..., -1, :].nanmean(-1))
    statement = f"In {model}, the heads of the last block look {_pm(value, error)} times as far as uniform attention."
    return Finding("attention", (model,), statement, "relative_distance of the last block", value, error)


def _local(model: str, estimate: HeadEstimate) -> Finding:
    ends = early_blocks(len(estimate.heads))
    first, first_error = estimate.statistic(lambda relative: most_local(relative[..., :ends, :]))
    last, last_error = estimate.statistic(lambda relative: most_local(relative[..., -ends:, :]))
    value, error = estimate.statistic(
        lambda relative: most_local(relative[..., -ends:, :]) - most_local(relative[..., :ends, :])
    )
    blocks = "two blocks" if ends == 2 else "block"
    return Finding(
        "attention",
        (model,),
        f"In {model}, the most local head of the first {blocks} looks {_pm(first, first_error)} times as far as "
        f"uniform attention, that of the last {blocks} {_pm(last, last_error)} times.",
        "least relative_distance, last blocks minus first",
        value,
        error,
        claim=f"the most local head of {model}'s first {blocks} looks less far than that of its last",
        verdict=judge(value, error, estimate.quantile),
        paper=EARLY_AND_LATE,
    )


def _spread(model: str, estimate: HeadEstimate) -> Finding:
    first, first_error = estimate.statistic(lambda relative: head_spread(relative[..., 0, :]))
    last, last_error = estimate.statistic(lambda relative: head_spread(relative[..., -1, :]))
    value, error = estimate.statistic(
        lambda relative: head_spread(relative[..., 0, :]) - head_spread(relative[..., -1, :])
    )
    return Finding(
        "attention",
        (model,),
        f"In {model}, the heads of the first block spread by {_pm(first, first_error)} of the distance of uniform "
        f"attention, those of the last block by {_pm(last, last_error)} (standard deviation over heads).",
        "spread of relative_distance over heads, first block minus last",
        value,
        error,
        claim=f"heads of {model} differ more in distance in the first block than in the last",
        verdict=judge(value, error, estimate.quantile),
        paper=EARLY_AND_LATE,
    )


def _more_local(a: str, b: str, estimates: Mapping[str, HeadEstimate]) -> Finding:
    ends = {model: early_blocks(len(estimates[model].heads)) for model in (a, b)}
    (x, x_error), (y, y_error) = (
        estimates[model].statistic(lambda relative, e=ends[model]: most_local(relative[..., :e, :]))  # type: ignore[misc]
        for model in (a, b)
    )
    value, error = y - x, math.hypot(x_error, y_error)
    return Finding(
        "attention",
        (a, b),
        f"The most local head of the first blocks looks {_pm(x, x_error)} times as far as uniform attention in {a}, "
        f"{_pm(y, y_error)} times in {b}.",
        "least relative_distance of the first blocks, difference",
        value,
        error,
        claim=f"the most local head of the first blocks looks less far in {a} than in {b}",
        verdict=judge(value, error, estimates[a].quantile),
        paper=LITTLE_DATA,
    )


def _pm(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f} (no error: too few minibatches)"
