"""What the ratios show: claim F7/E of paper.md 6."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seelike.studies.base import Finding, judge
from seelike.studies.skip.estimate import Together
from seelike.studies.skip.places import Place

Places = Mapping[str, Sequence[Place]]
Part = Literal["prefix", "spatial"]

KINDS = {"attention": "self-attention", "mlp": "MLP", "conv": "convolution", "other": "other"}
"""What branches do, in words, in the order of figures and findings."""

TRADE = (
    "Figure 7: in the first half of ViT-B/16 the CLS token's ratio is high and that of spatial tokens low; in the "
    "second half they trade places (no numbers given)"
)
ABOVE = "Figure 7: ViT-B/16's ratios are well above ResNet-50's throughout (no numbers given)"


def find(places: Places, together: Together) -> list[Finding]:
    """Findings of every model, then of every transformer beside every convolutional network."""
    curves = _Curves(places, together)
    found: list[Finding] = []
    for model in places:
        for kind in KINDS:
            for part in ("prefix", "spatial"):
                found += _change(model, kind, part, curves)
    attentive = [m for m in places if curves.have(m, "attention")]
    convolutional = [m for m in places if curves.have(m, "conv") and m not in attentive]
    return found + [f for a in attentive for b in convolutional for f in _above(a, b, curves)]


@dataclass(frozen=True)
class _Curves:
    """The mean ratios of all places, and which of them is which."""

    places: Places
    together: Together

    def have(self, model: str, kind: str) -> bool:
        return any(place.site.branch_kind == kind for place in self.places[model])

    def of(self, model: str, kinds: Iterable[str], part: Part) -> list[int]:
        """Places in `together` of a model's mean ratios, from input to output; those that are not finite left out."""
        start = 0
        for other, places in self.places.items():
            if other == model:
                break
            start += 2 * len(places)
        offset = ("prefix", "spatial").index(part)
        chosen = [start + 2 * i + offset for i, p in enumerate(self.places[model]) if p.site.branch_kind in kinds]
        finite = self.together.values.isfinite().all(0)
        return [index for index in chosen if bool(finite[index])]

    def difference(self, plus: Sequence[int], minus: Sequence[int]) -> tuple[float, float]:
        """Mean over some curves minus mean over others, with its error."""
        weights: Tensor = torch.zeros(self.together.values.shape[1], dtype=torch.float64)
        weights[list(plus)] += 1 / len(plus)
        if minus:
            weights[list(minus)] -= 1 / len(minus)
        return self.together.contrast(weights)


def _change(model: str, kind: str, part: Part, curves: _Curves) -> list[Finding]:
    """How the ratio changes from the first half of the depth to the second; the middle of an odd number is in none."""
    indices = curves.of(model, [kind], part)
    half = len(indices) // 2
    if not half:
        return []
    early, late = indices[:half], indices[-half:]
    low, high = (curves.difference(some, [])[0] for some in (early, late))
    tokens = _tokens(curves.places[model], part)
    transformer = curves.have(model, "attention") and any(place.prefix_tokens for place in curves.places[model])
    sign = 1 if part == "prefix" else -1
    value, error = curves.difference(early, late) if sign == 1 else curves.difference(late, early)
    statement = (
        f"{model}, {KINDS[kind]} branches: at {tokens} the skip is on average {_plain(low)} times as long as the "
        f"branch in the first half of the depth and {_plain(high)} times in the second, a change of "
        f"{_signed(-sign * value, error)}."
    )
    turn = "falls" if sign == 1 else "rises"
    claim = f"{model}, {tokens}: the ratio {turn} from the first half to the second ({KINDS[kind]})"
    return [
        Finding(
            "skip",
            (model,),
            statement,
            f"ratio_{part} {'early - late' if sign == 1 else 'late - early'} ({kind})",
            value,
            error,
            claim=claim if transformer else "",
            verdict=judge(value, error, curves.together.quantile) if transformer else None,
            paper=TRADE if transformer else "",
        )
    ]


def _above(a: str, b: str, curves: _Curves) -> list[Finding]:
    mine, other = (curves.of(model, KINDS, "spatial") for model in (a, b))
    if not mine or not other:
        return []
    (x, _), (y, _) = (curves.difference(some, []) for some in (mine, other))
    value, error = curves.difference(mine, other)
    return [
        Finding(
            "skip",
            (a, b),
            f"At spatial positions the skip is on average {_plain(x)} times as long as the branch in {a} and "
            f"{_plain(y)} times in {b}, a difference of {_signed(value, error)} (mean over {len(mine)} and "
            f"{len(other)} sums).",
            "ratio_spatial difference",
            value,
            error,
            claim=f"the ratio of norms is higher in {a} than in {b}",
            verdict=judge(value, error, curves.together.quantile),
            paper=ABOVE,
        )
    ]


def _tokens(places: Sequence[Place], part: Part) -> str:
    if part == "spatial":
        return "spatial tokens" if any(p.prefix_tokens for p in places) else "the positions of the map"
    return "the CLS token" if max(p.prefix_tokens for p in places) == 1 else "prefix tokens"


def _plain(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.3g}"


def _signed(value: float, error: float) -> str:
    number = ("+" if value >= 0 else "") + _plain(value)
    return f"{number} ± {_plain(error)}" if math.isfinite(error) else f"{number} (no error: too few images)"
