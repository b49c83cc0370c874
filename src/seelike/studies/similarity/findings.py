"""What the similarity maps show: claims F1, F2 and the block structure of paper.md 6."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.measures import (
    best_split,
    block_contrast,
    ends_similarity,
    lower_half_match_depth,
    relative_depth,
)
from seelike.studies.base import Finding, judge
from seelike.studies.similarity.estimate import PairEstimate

Estimates = Mapping[tuple[str, str], PairEstimate]
Sites = Mapping[str, Sequence[LayerSite]]

UNIFORM = "Figure 1: ViT layers are alike throughout, ResNet's early and late layers are not (no numbers given)"
PACE = "Figure 2: the lower half of ResNet-50's layers match the lowest quarter of ViT-L/16's"
BLOCKS = "Appendix H: MLP-Mixers fall into two nearly uncorrelated parts"


def find(estimates: Estimates, sites: Sites) -> list[Finding]:
    """Findings of every model with itself, then of every pair of different models."""
    found: list[Finding] = []
    for (a, b), estimate in estimates.items():
        if a == b and len(sites[a]) >= 2:
            found += [_ends(a, estimate), _blocks(a, estimate, sites[a])]
    for a, b in estimates:
        if a != b and min(len(sites[a]), len(sites[b])) >= 2:
            a, b = _attentive_first(a, b, sites)
            found += [_more_uniform(a, b, estimates), _pace(a, b, estimates)]
    return found


def _attentive_first(a: str, b: str, sites: Sites) -> tuple[str, str]:
    """Order a pair as the paper words its claims: the model with attention before the one without."""
    attentive = {m: any(s.kind == "attention" or s.layout.kind == "tokens" for s in sites[m]) for m in (a, b)}
    return (b, a) if attentive[b] and not attentive[a] else (a, b)


def _ends(model: str, estimate: PairEstimate) -> Finding:
    value, error = _scalar(estimate, ends_similarity)
    statement = f"In {model}, the first third of the layers has a mean CKA of {_pm(value, error)} with the last third."
    return Finding("similarity", (model,), statement, "ends_similarity", value, error, paper=UNIFORM)


def _blocks(model: str, estimate: PairEstimate, sites: Sequence[LayerSite]) -> Finding:
    split = best_split(estimate.maps.mean(0))
    value, error = _scalar(estimate, lambda maps: block_contrast(maps, split))
    statement = (
        f"{model} parts best before {sites[split].name} (layer {split} of {len(sites)}): mean CKA is "
        f"{_pm(value, error)} higher within the two parts than across."
    )
    return Finding("similarity", (model,), statement, "block_contrast", value, error, paper=BLOCKS)


def _more_uniform(a: str, b: str, estimates: Estimates) -> Finding:
    (x, x_error), (y, y_error) = (_scalar(estimates[m, m], ends_similarity) for m in (a, b))
    difference = x - y
    # The same images pass both models, which mostly makes the two errors agree in sign; adding the squares as
    # if they were independent errs on the careful side.
    error = math.hypot(x_error, y_error)
    return Finding(
        "similarity",
        (a, b),
        f"First and last third are {'more' if difference > 0 else 'less'} alike in {a} than in {b}, "
        f"by {_pm(abs(difference), error)} in mean CKA.",
        "ends_similarity difference",
        difference,
        error,
        claim=f"{a} is more uniform than {b}",
        verdict=judge(difference, error, estimates[a, a].quantile),
        paper=UNIFORM,
    )


def _pace(a: str, b: str, estimates: Estimates) -> Finding:
    transpose = (a, b) not in estimates
    estimate = estimates[(b, a) if transpose else (a, b)]
    value, error = _scalar(estimate, lambda maps: lower_half_match_depth(maps.mT if transpose else maps))
    layers = estimate.maps.shape[-2 if transpose else -1]
    even = float(relative_depth(torch.arange(max(1, layers // 2)), layers).mean())
    return Finding(
        "similarity",
        (a, b),
        f"The lower half of {b} finds its best matches in {a} at a mean relative depth of {_pm(value, error)} "
        f"(layers at the same pace would be at {even:.2f}).",
        "lower_half_match_depth",
        value,
        error,
        claim=f"the lower half of {b} is matched by less than the lower half of {a}",
        verdict=judge(even - value, error, estimate.quantile),
        paper=PACE,
    )


def _scalar(estimate: PairEstimate, of: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    value, error, _ = estimate.statistic(of)
    return float(value), float(error)


def _pm(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f} (no error: too few minibatches)"
