"""Counts of correct answers by layer, pooling and token, and accuracies with errors made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.measures import jackknife_error, leave_one_out, t_quantile
from seelike.measures.ridge import best_lambda
from seelike.studies.base import Tally
from seelike.studies.probe.readers import knobs
from seelike.studies.probe.split import Split
from seelike.studies.probe.store import Unit
from seelike.studies.probe.views import View

IMAGES = "probe/images"
"""Evaluated images, (repeats, groups)."""


def held_out_key(unit: Unit, method: str) -> str:
    """Correct answers on held-out images, (repeats, values of the knob, draws, sets)."""
    return f"probe/held-out/{method}/{unit.name}"


def correct_key(unit: Unit, method: str) -> str:
    """Correct answers on evaluated images, (repeats, groups, draws, sets)."""
    return f"probe/correct/{method}/{unit.name}"


@dataclass(frozen=True)
class Estimate:
    """A statistic of accuracies.

    Attributes:
        value: (...) mean over draws; spread: standard deviation over draws, NaN with one.
        error: standard error; t: how many of them are half a 95 % interval.
    """

    value: Tensor
    error: Tensor
    spread: Tensor
    t: Tensor


@dataclass(frozen=True)
class Tallied:
    """The tally of one model: counts of all its probes, and which of them is which.

    The columns of its counts are the sets of all units, one after the other.
    """

    model: str
    units: tuple[Unit, ...]
    split: Split
    lambdas: tuple[float, ...]
    tally: Tally

    @property
    def views(self) -> tuple[View, ...]:
        """Layers, from input to output."""
        return tuple(unit.view for unit in self.units if unit.part == "pooled")

    @property
    def images(self) -> Tensor:
        """Evaluated images, (repeats, groups)."""
        return self.tally[IMAGES]

    @property
    def checked(self) -> bool:
        return any(unit.check for unit in self.units)

    def counts(self, method: str = "ridge") -> Tensor:
        """Correct answers (repeats, groups, draws, columns); zero where the method was not asked for."""
        parts = [
            self.tally[correct_key(unit, method if method in unit.methods else "ridge")] * (method in unit.methods)
            for unit in self.units
        ]
        return torch.cat(parts, -1)

    def lambda_chosen(self) -> Tensor:
        """The lambda of every fit, (repeats, draws, columns)."""
        values = torch.tensor(knobs("ridge", self.lambdas), dtype=torch.float64)
        parts = [self.tally[held_out_key(unit, "ridge")] for unit in self.units]
        return torch.cat([torch.stack([values[best_lambda(repeat)] for repeat in part]) for part in parts], -1)

    def pooled_column(self, layer: int, pooling: str) -> int | None:
        """Column of a pooling of a layer, None where it has no such."""
        number = self.views[layer].set_of(pooling)
        return None if number is None else self._start(layer, "pooled") + number

    def token_columns(self, layer: int) -> list[int]:
        """Columns of the tokens of a layer; none where they were not probed one by one."""
        view = self.views[layer]
        if not any(unit.view is view and unit.part == "tokens" for unit in self.units):
            return []
        start = self._start(layer, "tokens")
        return list(range(start, start + view.tokens))

    def _start(self, layer: int, part: str) -> int:
        start = 0
        for unit in self.units:
            if unit.view is self.views[layer] and unit.part == part:
                return start
            start += unit.sets
        raise KeyError((layer, part))

    def native(self) -> str:
        """The pooling that the model itself is likely to classify by: CLS where there is one, else the mean."""
        return "cls" if "cls" in self.views[-1].sets else "spatial"

    def estimate(self, statistic: Callable[[Tensor], Tensor], method: str = "ridge") -> Estimate:
        """A statistic of this model's accuracies; see `estimate`."""
        return estimate(self.counts(method), self.images, statistic)


def estimate(counts: Tensor, images: Tensor, statistic: Callable[[Tensor], Tensor]) -> Estimate:
    """A statistic of accuracies with its error.

    Two things make it uncertain: which images the probes were fitted on, which is another lot in every draw, and which
    images they were evaluated on, the same ones in all draws of a repeat. The squared error is the variance over draws
    divided by their number, plus the variance of the mean over draws by a delete-a-group jackknife over evaluated
    images, which repeats are not taken to lower, since they may show the same ones. With a single draw the first part
    is not known and left out: the error is that of counting.

    Args:
        counts: (repeats, groups, draws, columns) correct answers; images: (repeats, groups) evaluated.
        statistic: from accuracies (..., columns) to (..., whatever).
    """
    by_draw = statistic(counts.sum(1) / images.sum(1)[:, None, None])  # (repeats, draws, ...)
    groups, weights = counts.movedim(1, 0), images.movedim(1, 0)
    others = leave_one_out(groups) / leave_one_out(weights)[..., None, None]
    left_out = statistic(others).mean(2)  # (groups, repeats, ...)
    full = by_draw.mean(1)
    counting = torch.stack([jackknife_error(left_out[:, r], full[r], weights[:, r]) for r in range(len(full))])
    counting = counting.square().mean(0)
    draws = by_draw.flatten(0, 1)
    spread = draws.std(0) if len(draws) > 1 else torch.full_like(draws[0], torch.nan)
    fitting = torch.nan_to_num(spread.square() / len(draws), nan=0.0)
    freedom = (counting + fitting).square() / (
        counting.square() / (int((weights > 0).sum(0).min()) - 1) + fitting.square() / max(1, len(draws) - 1)
    )  # Welch and Satterthwaite
    return Estimate(full.mean(0), (counting + fitting).sqrt(), spread, _quantiles(freedom))


def _quantiles(freedom: Tensor) -> Tensor:
    groups = torch.nan_to_num(freedom, nan=1.0).floor().clamp(1, 1000).int() + 1
    flat = groups.flatten().tolist()
    known = {group: t_quantile(group) for group in set(flat)}
    return torch.tensor([known[group] for group in flat], dtype=torch.float64).reshape(freedom.shape)


def columns_of(tallied: Sequence[Tallied]) -> dict[str, int]:
    """Where the columns of each model begin when the counts of several stand side by side."""
    starts, start = {}, 0
    for each in tallied:
        starts[each.model] = start
        start += sum(unit.sets for unit in each.units)
    return starts
