"""Sum what ridge regression needs over the images to fit to, then squared errors over those to evaluate on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite
from seelike.errors import SeelikeError
from seelike.measures import float64_device
from seelike.measures.ridge import Affine, RidgeSums
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Tally
from seelike.studies.position.estimate import Explained, explained
from seelike.studies.position.findings import find
from seelike.studies.position.readouts import TOKEN, Readout, token_places
from seelike.studies.position.results import model_dataset
from seelike.studies.position.solve import solve, squared_errors
from seelike.studies.position.split import EVALUATE, FIT, TUNE, Split

TARGETS = 2
"""Row and column."""
Sums = dict[int, RidgeSums]
"""Part of the images (FIT, TUNE, EVALUATE) -> sums over them."""


def key(model: str, readout: Readout, what: str) -> str:
    """Where a read-out's sums stand in the tally: ``evaluation``, or a field of `RidgeSums`."""
    return f"position/{model}/{readout.key}/{what}"


@dataclass
class PositionFold(Fold):
    """The study at work.

    Tally per read-out: the fields of `RidgeSums`, (2, ...) for the images to fit to and those to tune on, and
    ``evaluation`` (groups, 7): examples, sums of both targets, of their squares, and of squared errors. The images to
    fit to are shown first; at the first image to evaluate on the read-out is solved from the tally.
    """

    anatomies: Mapping[str, Anatomy]
    readouts: Mapping[str, tuple[Readout, ...]]
    split: Split
    design: Design
    notes: list[str]
    _sums: dict[tuple[int, str], dict[str, Sums]] = field(default_factory=dict)
    _solved: dict[str, tuple[Affine, float]] = field(default_factory=dict)

    def sites(self, model: str) -> Iterable[LayerSite]:
        return {readout.place.site.index: readout.place.site for readout in self.readouts[model]}.values()

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        if minibatch.repeat:
            return
        held = self._sums.setdefault((minibatch.index, model), {})
        for readout in self.readouts[model]:
            if readout.place.site.point == site.point:
                parts = self.split.tokens if readout.source == TOKEN else self.split.images
                held[readout.key] = self._add_up(readout, tensor, minibatch, parts)

    def _add_up(self, readout: Readout, tensor: Tensor, minibatch: Minibatch, parts: Mapping[int, int]) -> Sums:
        """Sums over the images of a minibatch, those of each part apart."""
        rows: dict[int, list[int]] = {}
        for row, index in enumerate(minibatch.indices):
            if index in parts:
                rows.setdefault(parts[index], []).append(row)
        found = {}
        place = float64_device(tensor.device)
        for part, some in rows.items():
            x = readout.examples(tensor[some]).to(place, torch.float64)
            y = self._targets(readout, [minibatch.indices[row] for row in some]).to(place)
            sums = RidgeSums.of(x.flatten(0, -2), y)
            found[part] = RidgeSums(*(getattr(sums, f.name).cpu() for f in fields(sums)))
        return found

    def _targets(self, readout: Readout, indices: Sequence[int]) -> Tensor:
        """Rows and columns of what is read: (images, 2), or (images * tokens, 2)."""
        if readout.source == TOKEN:
            return token_places(readout.place.grid).repeat(len(indices), 1)
        assert self.design.samples.truths is not None
        truths = self.design.samples.truths(indices)
        return torch.stack([torch.as_tensor(truths[name], dtype=torch.float64) for name in ("row", "column")], 1)

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._sums.pop((minibatch.index, model), None)

    def empty(self) -> Tally:
        tally: Tally = {}
        for model, readouts in self.readouts.items():
            for readout in readouts:
                d = readout.features
                shapes = {"count": (), "x": (d,), "y": (TARGETS,), "xx": (d, d), "xy": (d, TARGETS), "yy": (TARGETS,)}
                for what, shape in shapes.items():
                    tally[key(model, readout, what)] = torch.zeros(2, *shape, dtype=torch.float64)
                tally[key(model, readout, "evaluation")] = torch.zeros(
                    self.design.groups, 1 + 3 * TARGETS, dtype=torch.float64
                )
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        for model, readouts in self.readouts.items():
            held = self._sums.pop((minibatch.index, model), {})
            for readout in readouts:
                for part, sums in sorted(held.get(readout.key, {}).items()):
                    site = readout.place.site
                    if not bool(sums.xx.diagonal().isfinite().all()):
                        raise NonFinite(model, site.name, site.shape)
                    if part == EVALUATE:
                        read, _ = self._read(model, readout, tally)
                        row = torch.cat([sums.count[None], sums.y, sums.yy, squared_errors(sums, read)])
                        tally[key(model, readout, "evaluation")][minibatch.group] += row
                    else:
                        for each in fields(sums):
                            tally[key(model, readout, each.name)][part] += getattr(sums, each.name)

    def _read(self, model: str, readout: Readout, tally: Tally) -> tuple[Affine, float]:
        """The read-out fitted to the tally, with its lambda; no image to fit to comes after it was asked for."""
        name = key(model, readout, "")
        if name not in self._solved:
            fit, tune = (
                RidgeSums(*(tally[key(model, readout, each.name)][part] for each in fields(RidgeSums)))
                for part in (FIT, TUNE)
            )
            if not (fit.count > 1 and tune.count > 1):
                raise SeelikeError(
                    f"{model}: of the images to fit the position study to none are left ({int(fit.count)} to fit, "
                    f"{int(tune.count)} to choose lambda): too many could not be read"
                )
            self._solved[name] = solve(fit, tune)
        return self._solved[name]

    def estimates(self, model: str, tally: Tally) -> list[Explained]:
        """R^2 of every read-out of a model."""
        return [
            explained(readout, tally[key(model, readout, "evaluation")], self._lambda(model, readout, tally))
            for readout in self.readouts[model]
        ]

    def _lambda(self, model: str, readout: Readout, tally: Tally) -> float:
        enough = bool((tally[key(model, readout, "count")] > 1).all())
        return self._read(model, readout, tally)[1] if enough else float("nan")

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        return {f"position/{model}": model_dataset(model, self.estimates(model, tally)) for model in self.readouts}

    def findings(self, tally: Tally) -> list[Finding]:
        return find({model: self.estimates(model, tally) for model in self.readouts}, self.anatomies)

    def held_bytes(self) -> int:
        return max(sum(readout.features**2 * 8 for readout in readouts) for readouts in self.readouts.values())
