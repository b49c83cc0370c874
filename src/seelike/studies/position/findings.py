"""What the read-outs show (paper.md 5.5; Figure 10 for tokens that forget their place)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, fx

from seelike.anatomy import Anatomy
from seelike.anatomy.ops import CONVOLUTIONS, operation
from seelike.studies.base import Finding, judge
from seelike.studies.position.estimate import AXES, Explained
from seelike.studies.position.readouts import POOLINGS, TOKEN
from seelike.studies.similarity.estimate import PairEstimate

BOTH = AXES.index("both")
PADDING = "Islam et al. 2021: zero padding makes CNNs encode absolute position, without it they hardly do"
TOKENS = "Figure 10: tokens of a ViT trained with GAP are less localised than those of one with a class token"
PADDED = {
    TOKEN: ("The place of a position on the map", "grid_r2", "where a position of its maps is"),
    "mean": ("The place of the object, from the mean over the map,", "object_r2 (mean)", "where the object is"),
}
"""Read-outs that padding is asked of: what is read, the statistic, the claim."""
WORDS = {"mean": "the mean over tokens", "cls": "the class token", "quarters": "the means of the map's quarters"}


def find(estimates: Mapping[str, Sequence[Explained]], anatomies: Mapping[str, Anatomy]) -> list[Finding]:
    """Findings of every model, then of convolutional networks with and without zero padding, then of ViTs."""
    found = [f for model, each in estimates.items() for f in (*_objects(model, each), *_tokens(model, each))]
    tokens = {model: [e for e in each if e.readout.source == TOKEN] for model, each in estimates.items()}
    attentive = {model: bool(anatomies[model].attentions) for model in estimates}
    nets = [m for m in estimates if not attentive[m] and _kind(tokens[m]) == "map"]
    padded = {model: pads_with_zeros(anatomies[model].graph) for model in nets}
    for one, other in product(nets, nets):
        if padded[one] and not padded[other]:
            for source in PADDED:
                both = [[e for e in estimates[model] if e.readout.source == source] for model in (one, other)]
                if all(both):
                    found.append(_padding((one, other), both[0], both[1], source))
    vits = [m for m in estimates if attentive[m] and _kind(tokens[m]) == "tokens"]
    cls = [m for m in vits if tokens[m][-1].readout.place.prefix_tokens]
    found += [
        _last(one, other, tokens[one][-1], tokens[other][-1]) for one in cls for other in vits if other not in cls
    ]
    return found


def _kind(layers: Sequence[Explained]) -> str:
    return layers[-1].readout.place.site.layout.kind if layers else ""


def pads_with_zeros(graph: fx.Graph) -> bool:
    """Whether any convolution of a model adds zeros around its map."""
    return any(
        _nonzero(node.args[4] if len(node.args) > 4 else node.kwargs.get("padding", 0))
        for node in graph.nodes
        if node.op == "call_function" and operation(node) in CONVOLUTIONS
    )


def _nonzero(padding: Any) -> bool:
    if isinstance(padding, str):
        return padding == "same"
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)


def _objects(model: str, estimates: Sequence[Explained]) -> list[Finding]:
    found = []
    for pooling in POOLINGS:
        layers = [each for each in estimates if each.readout.source == pooling]
        if not layers:
            continue
        best = max(layers, key=lambda each: float(each.r2.maps[0, BOTH]))
        value, error = _scalar(layers[-1].r2)
        more = f"; best from {best.readout.place.site.name}, {_pm(*_scalar(best.r2))}" if best is not layers[-1] else ""
        found.append(
            Finding(
                "position",
                (model,),
                f"From {WORDS[pooling]} of the last layer of {model} the object's place can be read with an R² of "
                f"{_pm(value, error)}{more}.",
                f"object_r2 of the last layer ({pooling})",
                value,
                error,
            )
        )
    return found


def _tokens(model: str, estimates: Sequence[Explained]) -> list[Finding]:
    layers = [each for each in estimates if each.readout.source == TOKEN]
    if not layers:
        return []
    value, error = _scalar(layers[-1].r2)
    first = layers[0]
    early = f"{_pm(*_scalar(first.r2))} in {first.readout.place.site.name} and " if len(layers) > 1 else ""
    return [
        Finding(
            "position",
            (model,),
            f"In {model} a token's own place on the grid can be read with an R² of {early}{_pm(value, error)} in "
            f"{layers[-1].readout.place.site.name}.",
            "grid_r2 of the last layer",
            value,
            error,
        )
    ]


def _padding(models: tuple[str, str], a: Sequence[Explained], b: Sequence[Explained], source: str) -> Finding:
    """Mean over layers with zero padding minus without."""
    one, other = models
    words, statistic, claim = PADDED[source]
    both = PairEstimate(
        torch.stack([_mean(a).maps, _mean(b).maps], -1),
        torch.stack([_mean(a).left_out, _mean(b).left_out], -1),
        a[0].r2.weights,
    )
    value, error = (float(x) for x in both.statistic(lambda x: x[..., 0] - x[..., 1])[:2])
    x, y = both.maps[0].tolist()
    return Finding(
        "position",
        models,
        f"{words} can be read with a mean R² over layers of {x:.3f} in {one}, which adds zeros around its maps, and "
        f"{y:.3f} in {other}, which does not: a difference of {_pm(value, error)}.",
        f"{statistic} difference, mean over layers",
        value,
        error,
        claim=f"zero padding tells {one} {claim}",
        verdict=judge(value, error, both.quantile),
        paper=PADDING,
    )


def _mean(layers: Sequence[Explained]) -> PairEstimate:
    def mean(values: list[Tensor]) -> Tensor:
        return torch.stack(values).mean(0)[..., BOTH]

    return PairEstimate(
        mean([each.r2.maps for each in layers]), mean([each.r2.left_out for each in layers]), layers[0].r2.weights
    )


def _last(one: str, other: str, a: Explained, b: Explained) -> Finding:
    both = PairEstimate(
        torch.stack([a.r2.maps, b.r2.maps], -1), torch.stack([a.r2.left_out, b.r2.left_out], -1), a.r2.weights
    )
    value, error = (float(x) for x in both.statistic(lambda x: x[..., BOTH, 0] - x[..., BOTH, 1])[:2])
    (x, x_error), (y, y_error) = _scalar(a.r2), _scalar(b.r2)
    return Finding(
        "position",
        (one, other),
        f"In the last layer a token's own place can be read with an R² of {_pm(x, x_error)} in {one} and "
        f"{_pm(y, y_error)} in {other}, a difference of {_pm(value, error)}.",
        "grid_r2 difference in the last layer",
        value,
        error,
        claim=f"tokens of {one} know their place better than those of {other} in the last layer",
        verdict=judge(value, error, both.quantile),
        paper=TOKENS,
    )


def _scalar(estimate: PairEstimate) -> tuple[float, float]:
    value, error, _ = estimate.statistic(lambda x: x[..., BOTH])
    return float(value), float(error)


def _pm(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f} (no error: too few minibatches)"
