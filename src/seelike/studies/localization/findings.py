"""What localization shows: claim F9/10/D of paper.md 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from seelike.studies.base import Finding, judge
from seelike.studies.localization.estimate import PARTS, QUANTITIES
from seelike.studies.localization.places import Place
from seelike.studies.localization.resample import Resampled, stacked

CLEAR = "Figure 9: interior tokens of a ViT's last block peak at their own patch, ResNet's last unit is unspecific"
GAP = "Figure 10: a ViT trained with GAP is clearly less localised than one with a class token (no numbers given)"
EARLIER = "Figure D.3: earlier units of ResNet-50's last stage are more localised than its last unit"
STILL = "Figure D.3: earlier units of ResNet-50's last stage are still less localised than a ViT with a class token"
HIT, MARGIN = QUANTITIES.index("hit"), QUANTITIES.index("margin")
ALL, INTERIOR = PARTS.index("all"), PARTS.index("interior")


class Layers:
    """The layers of one model, with what is read off them."""

    def __init__(self, model: str, places: Sequence[Place], readouts: Sequence[Resampled], attentive: bool) -> None:
        self.model, self.places, self.readouts = model, places, readouts
        self.kind = self._kind(attentive)

    def _kind(self, attentive: bool) -> str:
        """What the paper would call a model; what has neither attention nor maps is not in its figures."""
        if self.places[-1].site.layout.kind == "map":
            return "" if attentive else "convolutional"
        if not attentive:
            return ""
        return "class token" if self.places[-1].prefix_tokens else "mean of tokens"

    @property
    def last(self) -> int:
        """The last layer."""
        return len(self.places) - 1

    def before_last(self) -> list[int]:
        """Earlier layers with the grid of the last one."""
        return [number for number in range(self.last) if self.places[number].grid == self.places[-1].grid]

    def latest_on(self, grid: tuple[int, int]) -> int | None:
        """The last layer with this grid."""
        return max((number for number, place in enumerate(self.places) if place.grid == grid), default=None)


def find(models: Sequence[Layers]) -> list[Finding]:
    """Findings of every model, then of every pair that the paper compares."""
    found = [_last(model) for model in models]
    for model in models:
        before = model.before_last() if model.kind == "convolutional" else []
        for number in before[:1]:  # the paper's "unit 1 final block"
            found += _contrast((model, number), (model, model.last), EARLIER)

    def of(kind: str) -> list[Layers]:
        return [model for model in models if model.kind == kind]

    for vit, gap in product(of("class token"), of("mean of tokens")):
        found += _contrast((vit, vit.last), (gap, gap.last), GAP)
    for vit, net in product(of("class token"), of("convolutional")):
        found += _contrast((vit, vit.last), (net, net.last), CLEAR)
        like = net.latest_on(vit.places[-1].grid)
        if like is not None and like != net.last:
            found += _contrast((vit, vit.last), (net, like), STILL)
    return found


def _last(model: Layers) -> Finding:
    place, estimate = model.places[-1], model.readouts[-1]
    value, error = _scalar(estimate.map(lambda x: x[..., HIT, ALL]))
    inside, inside_error = _scalar(estimate.map(lambda x: x[..., HIT, INTERIOR]))
    apart = f" (inside the grid {_percent(inside, inside_error)})" if math.isfinite(inside) else ""
    statement = (
        f"In {model.model}, {_percent(value, error)} of the {place.tokens} tokens of {place.site.name} resemble their "
        f"own patch of the image most{apart}; by chance it would be {100 / place.tokens:.1f} %."
    )
    return Finding("localization", (model.model,), statement, "hit_rate of the last layer", value, error)


def _contrast(one: tuple[Layers, int], other: tuple[Layers, int], paper: str) -> list[Finding]:
    """Whether a layer is more localised than another, by hit rate and, on one grid, by margin.

    On grids that differ, chance is taken out of the hit rates, as in Cohen's kappa.
    """
    (a, i), (b, k) = one, other
    places = a.places[i], b.places[k]
    same = places[0].grid == places[1].grid
    both = stacked([a.readouts[i], b.readouts[k]])
    names = [f"{model.model} ({place.site.name})" for model, place in zip((a, b), places, strict=True)]
    claim = f"{names[0]} is more localised than {names[1]}"
    models = (a.model,) if a is b else (a.model, b.model)
    rates = both.map(lambda x: x[..., HIT, ALL])
    how = ""
    if not same:
        chance = rates.mean.new_tensor([1 / place.tokens for place in places])
        rates = rates.map(lambda x: (x - chance) / (1 - chance))
        grids = " and ".join("{} x {}".format(*place.grid) for place in places)
        how = f", chance taken out, as their grids differ ({grids})"
    value, error = _scalar(rates.map(lambda x: x[..., 0] - x[..., 1]))
    x, y = (100 * float(rate) for rate in rates.mean)
    found = [
        Finding(
            "localization",
            models,
            f"{x:.1f} % of the tokens of {names[0]} and {y:.1f} % of those of {names[1]} resemble their own patch "
            f"most{how}: a difference of {_percent(value, error)}.",
            "hit_rate difference" if same else "difference of hit_rate above chance",
            value,
            error,
            claim=claim,
            verdict=judge(value, error, rates.quantile),
            paper=paper,
        )
    ]
    return found + ([_margins(names, models, both, claim, paper)] if same else [])


def _margins(names: list[str], models: tuple[str, ...], both: Resampled, claim: str, paper: str) -> Finding:
    margins = both.map(lambda x: x[..., MARGIN, ALL])
    value, error = _scalar(margins.map(lambda x: x[..., 0] - x[..., 1]))
    (x, y), (x_error, y_error) = margins.mean.tolist(), margins.error().tolist()
    return Finding(
        "localization",
        models,
        f"CKA of a token with its own patch is higher than with the others by {_plain(x, x_error)} in {names[0]} and "
        f"by {_plain(y, y_error)} in {names[1]}, a difference of {_plain(value, error)}.",
        "mean_margin difference",
        value,
        error,
        claim=f"{claim}, by the margin of CKA",
        verdict=judge(value, error, margins.quantile),
        paper=paper,
    )


def _scalar(found: Resampled) -> tuple[float, float]:
    return float(found.mean), float(found.error())


def _percent(value: float, error: float) -> str:
    if math.isfinite(error):
        return f"{100 * value:.1f} ± {100 * error:.1f} %"
    return f"{100 * value:.1f} % (no error: too few minibatches)"


def _plain(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}" if math.isfinite(error) else f"{value:.3f} (no error: too few minibatches)"
