"""What probes show: claims F11 and F13 of paper.md 6, and where accuracy jumps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seelike.studies.base import Finding, judge
from seelike.studies.probe.tallied import Estimate, Tallied, columns_of, estimate

Statistic = Callable[[Tensor], Tensor]
"""From the accuracies of all columns of one model (..., columns) to one number (...)."""

TOKENS = (
    "Figure 11: ViT-B/32 with GAP and ResNet-50 read nearly as well from one position of the last block as pooled, "
    "the spatial tokens of the model with CLS poorly (D.4: 57-58 %, 44-52 % and 6-10 % on ImageNet)"
)
LATE = "Figure 13: larger ViTs are read much better in the middle; ResNets rise sharply near the end"


def find(models: Mapping[str, Tallied]) -> list[Finding]:
    """Findings of every model, then of pairs of models of two kinds."""
    found = [finding for each in models.values() for finding in (*_tokens(each), *_jump(each))]
    probed = [each for each in models.values() if _token_layer(each) is not None]
    with_cls = [each for each in probed if each.native() == "cls"]
    without = [each for each in probed if each.native() != "cls"]
    found += [_tokens_beside(a, b) for a in with_cls for b in without]
    deep = [each for each in models.values() if len(each.views) >= 3]
    maps = [each for each in deep if each.views[-1].site.layout.kind == "map"]
    tokens = [each for each in deep if each.views[-1].site.layout.kind == "tokens"]
    return found + [_late_beside(a, b) for a in maps for b in tokens]


def _native(tallied: Tallied, layer: int) -> Statistic:
    column = tallied.pooled_column(layer, tallied.native())
    if column is None:  # a layer before the CLS token enters, or one of pooled features
        column = tallied.pooled_column(layer, "spatial")
    place = 0 if column is None else column
    return lambda accuracy: accuracy[..., place]


def _token_layer(tallied: Tallied) -> int | None:
    """The last layer whose tokens were probed."""
    layers = [layer for layer in range(len(tallied.views)) if tallied.token_columns(layer)]
    return layers[-1] if layers else None


def _shortfall(tallied: Tallied) -> Statistic:
    """Native read-out minus the mean over tokens, at the last layer whose tokens were probed."""
    layer = _token_layer(tallied)
    assert layer is not None
    columns, native = tallied.token_columns(layer), _native(tallied, layer)
    return lambda accuracy: native(accuracy) - accuracy[..., columns].mean(-1)


def _one(tallied: Tallied, statistic: Statistic) -> tuple[float, float, float]:
    return _numbers(tallied.estimate(statistic))


def _difference(a: Tallied, first: Statistic, b: Tallied, second: Statistic) -> tuple[float, float, float]:
    """A statistic of one model minus one of another, on the same images."""
    starts = columns_of([a, b])
    counts = torch.cat([a.counts(), b.counts()], -1)
    cut = starts[b.model]
    return _numbers(estimate(counts, a.images, lambda c: first(c[..., :cut]) - second(c[..., cut:])))


def _numbers(made: Estimate) -> tuple[float, float, float]:
    return float(made.value), float(made.error), float(made.t)


def _tokens(tallied: Tallied) -> list[Finding]:
    layer = _token_layer(tallied)
    if layer is None:
        return []
    model, name = tallied.model, tallied.views[layer].site.name
    columns = tallied.token_columns(layer)
    pooled, pooled_error, _ = _one(tallied, _native(tallied, layer))
    single, single_error, _ = _one(tallied, lambda accuracy: accuracy[..., columns].mean(-1))
    value, error, t = _one(tallied, _shortfall(tallied))
    cls = tallied.native() == "cls"
    whole = "the CLS token" if cls else "the mean over positions"
    claim = f"the spatial tokens of {model} are read worse, one by one, than its CLS token" if cls else ""
    return [
        Finding(
            study="probe",
            models=(model,),
            statement=f"{model} at {name}: {_percent(pooled, pooled_error)} of the images are read right from {whole} "
            f"and {_percent(single, single_error)} from one spatial position (mean over {len(columns)}), "
            f"{_points(value, error)} less.",
            statistic=f"accuracy of {'CLS' if cls else 'mean'} minus mean accuracy of single positions",
            value=value,
            error=error,
            claim=claim,
            verdict=judge(value, error, t) if cls else None,
            paper=TOKENS,
        )
    ]


def _tokens_beside(a: Tallied, b: Tallied) -> Finding:
    """The model with CLS beside one without."""
    (x, _, _), (y, _, _) = _one(a, _shortfall(a)), _one(b, _shortfall(b))
    value, error, t = _difference(a, _shortfall(a), b, _shortfall(b))
    return Finding(
        study="probe",
        models=(a.model, b.model),
        statement=f"One spatial position of the last layer falls {100 * x:.1f} points short of the model's own "
        f"read-out in {a.model} (CLS) and {100 * y:.1f} points in {b.model} (mean), a difference of "
        f"{_points(value, error)}.",
        statistic="shortfall of single positions, difference",
        value=value,
        error=error,
        claim=f"single positions of {b.model} fall less short of its pooled read-out than those of {a.model} of CLS",
        verdict=judge(value, error, t),
        paper=TOKENS,
    )


def _jump(tallied: Tallied) -> list[Finding]:
    layers = len(tallied.views)
    if layers < 2:
        return []
    curve = _curve(tallied)
    made = tallied.estimate(lambda accuracy: curve(accuracy).diff(dim=-1))
    place = int(made.value.argmax())
    value, error = float(made.value[place]), float(made.error[place])
    whole = tallied.estimate(lambda accuracy: curve(accuracy)[..., -1] - curve(accuracy)[..., 0])
    names = [view.site.name for view in tallied.views[place : place + 2]]
    return [
        Finding(
            study="probe",
            models=(tallied.model,),
            statement=f"The accuracy of {tallied.model} rises most from {names[0]} to {names[1]}, by "
            f"{_points(value, error)}, the largest of {layers - 1} steps; from its first to its last layer by "
            f"{_points(float(whole.value), float(whole.error))}.",
            statistic="largest rise of accuracy between neighbouring layers",
            value=value,
            error=error,
            paper=LATE if tallied.views[-1].site.layout.kind == "map" else "",
        )
    ]


def _curve(tallied: Tallied) -> Statistic:
    natives = [_native(tallied, layer) for layer in range(len(tallied.views))]
    return lambda accuracy: torch.stack([native(accuracy) for native in natives], -1)


def _late(tallied: Tallied) -> Statistic:
    """How much accuracy rises in the last third of the layers."""
    start, last = round(2 * (len(tallied.views) - 1) / 3), len(tallied.views) - 1
    first, second = _native(tallied, start), _native(tallied, last)
    return lambda accuracy: second(accuracy) - first(accuracy)


def _late_beside(a: Tallied, b: Tallied) -> Finding:
    (x, _, _), (y, _, _) = _one(a, _late(a)), _one(b, _late(b))
    value, error, t = _difference(a, _late(a), b, _late(b))
    return Finding(
        study="probe",
        models=(a.model, b.model),
        statement=f"In the last third of its layers the accuracy of {a.model} rises by {100 * x:.1f} points and that "
        f"of {b.model} by {100 * y:.1f}, a difference of {_points(value, error)}.",
        statistic="rise of accuracy in the last third of the layers, difference",
        value=value,
        error=error,
        claim=f"more of the accuracy of {a.model} comes in its last third than of {b.model}",
        verdict=judge(value, error, t),
        paper=LATE,
    )


def _percent(value: float, error: float) -> str:
    return f"{100 * value:.1f} ± {100 * error:.1f} %"


def _points(value: float, error: float) -> str:
    return f"{100 * value:.1f} ± {100 * error:.1f} points"
