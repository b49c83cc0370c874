"""What is kept of the images that fit a probe: their features, or sums over them, whichever is less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.measures.ridge import RidgeSums, class_targets, ridge_path, ridge_path_from_sums
from seelike.studies.base import Tally
from seelike.studies.probe.readers import Reader, RidgeReader, fit_logistic
from seelike.studies.probe.split import Split
from seelike.studies.probe.views import View

FILLED = "probe/filled"
"""Where it stands which rows of which fit were shown, (repeats, draws, slots)."""


@dataclass(frozen=True)
class Unit:
    """Probes of one layer that are fitted together: of its pooled features, or of every token.

    Its tally is the features of the fit, (repeats, draws, sets, slots, d), where they are fewer than features or a
    check needs them; and the sums of `RidgeSums` where they are not fewer. Filling a slot is adding to zero.

    Attributes:
        model: its label; view: the layer.
        part: ``pooled`` (one set per pooling of the view) or ``tokens`` (one set per token).
        split: the plan.
        check: also fit logistic regressions.
    """

    model: str
    view: View
    part: Literal["pooled", "tokens"]
    split: Split
    check: bool = False

    @property
    def sets(self) -> int:
        return len(self.view.sets) if self.part == "pooled" else self.view.tokens

    @property
    def name(self) -> str:
        return f"{self.model}/{self.view.site.index}/{self.part}"

    @property
    def methods(self) -> tuple[str, ...]:
        return ("ridge", "logistic") if self.check else ("ridge",)

    @property
    def by_sums(self) -> bool:
        return self.split.slots >= self.view.features

    def _key(self, what: str) -> str:
        return f"probe/{what}/{self.name}"

    def empty(self, repeats: int) -> Tally:
        """The tally of no images."""
        shape, d, classes = (repeats, self.split.draws, self.sets), self.view.features, len(self.split.classes)
        tally: dict[str, tuple[int, ...]] = {}
        if self.by_sums:
            tally |= {"x": (d,), "xx": (d, d), "xy": (d, classes)}
        if not self.by_sums or self.check:
            tally["rows"] = (self.split.slots, d)
        return {self._key(what): torch.zeros(*shape, *size, dtype=torch.float64) for what, size in tally.items()}

    def add(self, tally: Tally, repeat: int, draw: int, slots: Tensor, features: Tensor, labels: Tensor) -> None:
        """Add features (sets, n, d) of images that fill `slots` (n,) of a fit, of classes `labels` (n,)."""
        if self.by_sums:
            targets = class_targets(labels, len(self.split.classes)).to(features.device)
            sums = RidgeSums.of(features, targets)
            for what in ("x", "xx", "xy"):
                tally[self._key(what)][repeat, draw] += getattr(sums, what).cpu()
        if self._key("rows") in tally:
            tally[self._key("rows")][repeat, draw].index_add_(1, slots, features.cpu().double())

    def solve(self, tally: Tally, repeat: int, lambdas: tuple[float, ...], device: torch.device) -> dict[str, Reader]:
        """Fit from the tally alone. Raises `SeelikeError` when no image of a fit could be read."""
        filled = tally[FILLED][repeat] > 0  # (draws, slots)
        if not bool(filled.any(1).all()):
            raise SeelikeError(f"{self.model}: none of the images that fit a draw of the study probe could be read")
        labels = torch.as_tensor(self.split.parts[repeat].slot_labels)
        targets = class_targets(labels, len(self.split.classes)) * filled[..., None]  # (draws, slots, classes)

        def kept(what: str) -> Tensor:
            # A copy: where a tensor begins in memory, a file's or its own, may change the last bits of products.
            return tally[self._key(what)][repeat].clone().to(device)

        if self.by_sums:
            count = filled.sum(1, dtype=torch.float64)[:, None].to(device)  # (draws, 1)
            y = targets.sum(1)[:, None].to(device)
            sums = RidgeSums(count, kept("x"), y, kept("xx"), kept("xy"), count[..., None].expand(y.shape))
            path = ridge_path_from_sums(sums)
        else:
            path = ridge_path(kept("rows"), targets[:, None].to(device), filled[:, None].to(device))
        readers: dict[str, Reader] = {"ridge": RidgeReader(path, lambdas)}
        if self.check:
            rows = tally[self._key("rows")][repeat]
            logistic = fit_logistic(rows, labels, filled, len(self.split.classes))
            readers["logistic"] = type(logistic)(logistic.every.to(device))
        return readers

    def solved_bytes(self, classes: int) -> int:
        """What the solution takes in memory."""
        d = self.view.features
        rank = min(d, self.split.slots)
        return 8 * self.split.draws * self.sets * (d * rank + (rank + d) * classes)

    def tally_bytes(self, repeats: int) -> int:
        """What its tally takes."""
        d, slots = self.view.features, self.split.slots
        row = d * (d + len(self.split.classes) + 1) if self.by_sums else slots * d
        return 8 * repeats * self.split.draws * self.sets * row


def fitting_tokens(units: Sequence[Unit], repeats: int, most: int) -> list[Unit]:
    """As many of the units, evenly spaced and the last among them, as `most` bytes hold."""
    need = [unit.tally_bytes(repeats) + unit.solved_bytes(len(unit.split.classes)) for unit in units]
    for count in range(len(units), 0, -1):
        places = [len(units) - 1 - (i * len(units)) // count for i in range(count)]
        if sum(need[place] for place in places) <= most:
            return [units[place] for place in sorted(places)]
    return []
