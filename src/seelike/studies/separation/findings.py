"""What the loss shows: where it drops (paper.md 5.1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from seelike.studies.base import Finding, judge
from seelike.studies.separation.estimate import Separations, best

FROSST = (
    "Frosst et al. 2019: in a ResNet trained on CIFAR-10 the loss stays high everywhere but in the last block, where "
    "it drops (no numbers given)"
)


def find(models: Mapping[str, Separations]) -> list[Finding]:
    """Findings of every model with at least three layers."""
    deep = [each for each in models.values() if len(each.sites) >= 3 and bool((each.counts.sum((0, 1)) > 0).all())]
    return [finding for each in deep for finding in (_drop(each), _late(each))]


def _drop(made: Separations) -> Finding:
    """The pair of neighbouring layers between which the loss falls most."""
    curve = best(made.grid)
    steps, errors = made.estimate(lambda losses: -curve(losses).diff(dim=-1))
    (ends, ends_error) = made.estimate(lambda losses: curve(losses)[..., [0, -1]])
    place = int(steps.argmax())
    value, error = float(steps[place]), float(errors[place])
    names = [site.name for site in made.sites[place : place + 2]]
    return Finding(
        study="separation",
        models=(made.model,),
        statement=f"The soft nearest neighbour loss of {made.model} goes from {_number(ends[0], ends_error[0])} at "
        f"its first layer to {_number(ends[1], ends_error[1])} at its last; it falls most from {names[0]} to "
        f"{names[1]}, by {value:.3f} ± {error:.3f}, the largest of {len(steps)} steps.",
        statistic="largest fall of the loss between neighbouring layers (best temperatures)",
        value=value,
        error=error,
    )


def _late(made: Separations) -> Finding:
    """Whether the loss falls more in the last third of the layers than in all those before."""
    curve, cut = best(made.grid), round(2 * (len(made.sites) - 1) / 3)

    def contrast(losses: Tensor) -> Tensor:
        values = curve(losses)
        return (values[..., cut] - values[..., -1]) - (values[..., 0] - values[..., cut])

    value, error = (float(each) for each in made.estimate(contrast))
    late, late_error = made.estimate(lambda losses: curve(losses)[..., cut] - curve(losses)[..., -1])
    early, early_error = made.estimate(lambda losses: curve(losses)[..., 0] - curve(losses)[..., cut])
    maps = made.sites[-1].layout.kind == "map"
    return Finding(
        study="separation",
        models=(made.model,),
        statement=f"The loss of {made.model} falls by {_number(late, late_error)} in the last third of its layers and "
        f"by {_number(early, early_error)} before, a difference of {value:.3f} ± {error:.3f}.",
        statistic="fall of the loss in the last third of the layers minus fall before",
        value=value,
        error=error,
        claim=f"the loss of {made.model} stays high and drops late" if maps else "",
        verdict=judge(value, error, made.quantile) if maps else None,
        paper=FROSST if maps else "",
    )


def _number(value: Tensor, error: Tensor) -> str:
    return f"{float(value):.3f} ± {float(error):.3f}"
