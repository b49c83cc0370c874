"""What receptive fields are read for: claims F6 and C.4 (paper.md 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from seelike.measures import t_quantile
from seelike.studies.base import Finding, judge
from seelike.studies.field.targets import Target
from seelike.studies.means import mean_from_sums

RADIUS, SHARE = 0, 3


@dataclass(frozen=True)
class Contrast:
    """A number of one image's fields: `of` maps sizes (n, targets, 4) to (n,)."""

    name: str
    of: Callable[[Tensor], Tensor]


def contrasts(targets: tuple[Target, ...]) -> list[Contrast]:
    """The numbers that findings are made of, as far as the targets allow."""
    after = [i for i, t in enumerate(targets) if t.stage == "after" and t.branch_kind]
    found = []
    third = max(1, len(after) // 3)
    if len(after) >= 3:
        found.append(_mean("first", after[:third], RADIUS))
        found.append(_mean("last", after[-third:], RADIUS))
    late = [i for i in after[len(after) // 2 :] if targets[i].branch_kind == "attention"]
    pairs = [(i, i - 1) for i in late if i and targets[i - 1].stage == "before"]
    if pairs:
        found.append(_difference("share", pairs))
    return found


def _mean(name: str, rows: list[int], size: int) -> Contrast:
    return Contrast(name, lambda sizes: sizes[:, rows, size].mean(1))


def _difference(name: str, pairs: list[tuple[int, int]]) -> Contrast:
    after, before = ([p[k] for p in pairs] for k in (0, 1))
    return Contrast(name, lambda sizes: (sizes[:, after, SHARE] - sizes[:, before, SHARE]).mean(1))


def find(targets: Mapping[str, tuple[Target, ...]], sums: Mapping[str, tuple[Tensor, Tensor]]) -> list[Finding]:
    """Compare how soon fields are large, and whether the centre vanishes before the sum."""
    values = {model: _estimates(targets[model], *sums[model]) for model in targets}
    found: list[Finding] = []
    quantile = {model: t_quantile(int(sums[model][1])) for model in targets}
    kinds = {model: any(t.branch_kind == "attention" for t in each) for model, each in targets.items()}
    vits = [m for m in targets if kinds[m] and "first" in values[m]]
    cnns = [m for m in targets if not kinds[m] and "first" in values[m]]
    found += [_sooner(vit, cnn, values, max(quantile[vit], quantile[cnn])) for vit in vits for cnn in cnns]
    found += [_centre(model, values[model]["share"], quantile[model]) for model in vits if "share" in values[model]]
    return found


def _estimates(targets: tuple[Target, ...], sums: Tensor, images: Tensor) -> dict[str, tuple[float, float]]:
    found = mean_from_sums(images.reshape(1, 1), sums[:1], sums[1:])
    names = [contrast.name for contrast in contrasts(targets)]
    return {name: (float(m), float(e)) for name, m, e in zip(names, found.value, found.error, strict=True)}


def _sooner(vit: str, cnn: str, values: Mapping[str, Mapping[str, tuple[float, float]]], quantile: float) -> Finding:
    (a, a_error), (b, b_error) = values[vit]["first"], values[cnn]["first"]
    error = (a_error**2 + b_error**2) ** 0.5
    late = f"; in the last third {values[vit]['last'][0]:.1f} and {values[cnn]['last'][0]:.1f}"
    return Finding(
        study="field",
        models=(vit, cnn),
        statement=f"In the first third of their residual sums, the receptive field of {vit} has a radius of "
        f"{a:.1f} ± {a_error:.1f} pixels and that of {cnn} {b:.1f} ± {b_error:.1f}{late}",
        statistic="difference of mean second-moment radius, first third of residual sums",
        value=a - b,
        error=error,
        claim=f"lower layers of {vit} see further than those of {cnn}",
        verdict=judge(a - b, error, quantile),
        paper="ViT's lower layers have larger effective fields than ResNet's, which grow gradually (Figure 6)",
    )


def _centre(model: str, value: tuple[float, float], quantile: float) -> Finding:
    return Finding(
        study="field",
        models=(model,),
        statement=f"In the later half of the attention sublayers of {model}, the share of the centre patch is "
        f"{100 * value[0]:.1f} ± {100 * value[1]:.1f} points larger after the residual sum than before it",
        statistic="share of the centre patch after minus before the sum, later half of attention",
        value=value[0],
        error=value[1],
        claim=f"late attention of {model} loses the dominant centre patch before the residual sum",
        verdict=judge(value[0], value[1], quantile),
        paper="before the residual sum, later attention sublayers have no dominant centre patch (Figure C.4)",
    )
