"""From sums of losses to losses with errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.measures import jackknife_error, leave_one_out, t_quantile
from seelike.measures.separation import lowest

Statistic = Callable[[Tensor], Tensor]
"""From mean losses (..., layers, 1 + temperatures) to whatever (...)."""


@dataclass(frozen=True)
class Separations:
    """Sums of losses of one model.

    Attributes:
        model: its label; sites: its layers.
        sums: (repeats, groups, layers, 1 + temperatures), the fixed temperature first.
        counts: (repeats, groups, layers) images summed; grid: (temperatures,).
    """

    model: str
    sites: tuple[LayerSite, ...]
    sums: Tensor
    counts: Tensor
    grid: Tensor

    @property
    def quantile(self) -> float:
        """Standard errors on each side of a 95 % interval."""
        return t_quantile(int((self.counts.amax(2) > 0).sum(1).min()))

    def estimate(self, statistic: Statistic) -> tuple[Tensor, Tensor]:
        """Value and standard error of a statistic of mean losses: mean over repeats, which may show the same images.

        The error is that of one repeat (delete-a-group jackknife over minibatches), root mean square over repeats.
        """
        values, errors = [], []
        for sums, counts in zip(self.sums, self.counts, strict=True):
            full = statistic(sums.sum(0) / counts.sum(0)[..., None])
            others = leave_one_out(sums) / leave_one_out(counts)[..., None]
            values.append(full)
            errors.append(jackknife_error(statistic(others), full, counts.amax(1)))
        return torch.stack(values).mean(0), torch.stack(errors).square().mean(0).sqrt()


def fixed(losses: Tensor) -> Tensor:
    """Losses (..., layers) at the fixed temperature."""
    return losses[..., 0]


def chance(losses: Tensor) -> Tensor:
    """Losses (..., layers) at infinite temperature: of labels that have nothing to do with the distances."""
    return losses[..., -1]


def best(grid: Tensor) -> Statistic:
    """Losses (..., layers) at the best temperature of each layer."""
    return lambda losses: lowest(losses[..., 1:], grid)[0]


def best_temperature(grid: Tensor) -> Statistic:
    """The best temperatures (..., layers)."""
    return lambda losses: lowest(losses[..., 1:], grid)[1]
