"""Standard errors by drawing groups of minibatches anew: for statistics that jump, as which patch is most alike does.

Leaving out one group at a time moves no token's peak or a few at once, so the jackknife of a hit rate is 0 or too
large: on simulated data its 95 % intervals covered the truth in 33 to 85 % of data sets, those of the bootstrap in
88 to 100 % (tests/studies/test_localization_errors.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import t_quantile

DRAWS = 100
"""Bootstrap draws, over all repeats together: the error itself is then known to 7 %."""


@dataclass(frozen=True)
class Resampled:
    """An estimate of any shape with what it would have been on other draws of the minibatches.

    Attributes:
        values: (repeats, ...) of each repeat; draws: (repeats, draws, ...).
        groups: groups of minibatches that hold data, the fewest of any repeat.
    """

    values: Tensor
    draws: Tensor
    groups: int

    @property
    def quantile(self) -> float:
        """Standard errors on each side of a 95 % interval."""
        return t_quantile(self.groups)

    def map(self, of: Callable[[Tensor], Tensor]) -> Resampled:
        """The same function of the estimate and of all its draws."""
        return Resampled(of(self.values), of(self.draws), self.groups)

    def error(self) -> Tensor:
        """Standard error of `mean`, (...); NaN with fewer than 2 groups.

        Repeats that re-cut the same images share their luck and fresh ones do not; Var(mean) = V - s^2 (1 - 1/R)
        covers both, with V the variance of one repeat and s^2 that between the R repeats.
        """
        if self.groups < 2:
            return torch.full_like(self.values[0], torch.nan)
        single: Tensor = self.draws.var(1).mean(0) * (self.groups / (self.groups - 1))
        repeats = len(self.values)
        if repeats > 1:
            between = self.values.var(0)
            single = torch.maximum(single - between * (1 - 1 / repeats), between / repeats)
        return single.sqrt()

    @property
    def mean(self) -> Tensor:
        """Mean over repeats, (...)."""
        return self.values.mean(0)


def stacked(estimates: list[Resampled]) -> Resampled:
    """Estimates from the same images as one: (..., estimates, ...) behind repeats and draws."""
    return Resampled(
        torch.stack([each.values for each in estimates], 1),
        torch.stack([each.draws for each in estimates], 2),
        min(each.groups for each in estimates),
    )


def draw_groups(weights: Tensor) -> Tensor:
    """How often each group of minibatches is in each draw, the same for all layers and models of a run.

    Args:
        weights: (repeats, groups) data that each group holds; a group of weight zero is never drawn.

    Returns:
        (repeats, draws, groups) float64.
    """
    generator = torch.Generator().manual_seed(0)
    draws = max(8, -(-DRAWS // len(weights)))  # of each repeat
    counts = torch.zeros(len(weights), draws, weights.shape[1], dtype=torch.float64)
    for repeat, each in enumerate(weights):
        used = (each > 0).nonzero()[:, 0]
        drawn = used[torch.randint(len(used), (draws, len(used)), generator=generator)] if len(used) else None
        if drawn is not None:
            counts[repeat].scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
    return counts
