"""Fold images into fits, choices of lambda, and counts of correct answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.measures import float64_device
from seelike.measures.ridge import Affine, best_lambda
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Tally
from seelike.studies.probe.findings import find
from seelike.studies.probe.readers import Reader, count_correct, knobs
from seelike.studies.probe.results import model_dataset
from seelike.studies.probe.split import GROUPS, Part, Split
from seelike.studies.probe.store import FILLED, Unit
from seelike.studies.probe.tallied import IMAGES, Tallied, correct_key, held_out_key

Key = tuple[str, int]
"""A model and the number of one of its units."""


@dataclass(frozen=True)
class _Shown:
    """What the images of a minibatch are for: rows of the minibatch, as the units need them."""

    repeat: int
    draw: Tensor
    slot: Tensor
    held_out: Tensor
    group: Tensor
    labels: Tensor


@dataclass
class ProbeFold(Fold):
    """Tally: what `Unit` fits from; correct answers of held-out images by lambda; those of evaluated ones by group.

    Nothing but the tally decides: the fits are solved when the first held-out image comes, and lambda is chosen when
    the first evaluated one comes, from sums that do not change any more. A resumed run solves again.
    """

    units: Mapping[str, tuple[Unit, ...]]
    split: Split
    lambdas: tuple[float, ...]
    shots: int | None
    design: Design
    notes: list[str]
    _seen: dict[tuple[int, str], dict[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)
    _readers: dict[Key, dict[str, Reader]] = field(default_factory=dict)
    _chosen: dict[Key, dict[str, Affine]] = field(default_factory=dict)
    _repeat: int = 0

    def sites(self, model: str) -> Iterable[LayerSite]:
        return list({unit.view.site.point: unit.view.site for unit in self.units[model]}.values())

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        view = next(unit.view for unit in self.units[model] if unit.view.site.point == site.point)
        self._seen.setdefault((minibatch.index, model), {})[site.point] = view.read(tensor)

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._seen.pop((minibatch.index, model), None)

    def empty(self) -> Tally:
        repeats = self.design.repeats
        tally = {
            FILLED: torch.zeros(repeats, self.split.draws, self.split.slots, dtype=torch.float64),
            IMAGES: torch.zeros(repeats, GROUPS, dtype=torch.float64),
        }
        for units in self.units.values():
            for unit in units:
                tally |= unit.empty(repeats)
                for method in unit.methods:
                    sets = (self.split.draws, unit.sets)
                    count = len(knobs(method, self.lambdas))
                    tally[held_out_key(unit, method)] = torch.zeros(repeats, count, *sets, dtype=torch.float64)
                    tally[correct_key(unit, method)] = torch.zeros(repeats, GROUPS, *sets, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        if minibatch.repeat != self._repeat:
            self._readers, self._chosen, self._repeat = {}, {}, minibatch.repeat
        shown = self._shown(self.split.parts[minibatch.repeat], minibatch)
        fits = shown.draw >= 0
        tally[FILLED][minibatch.repeat, shown.draw[fits], shown.slot[fits]] += 1
        tally[IMAGES][minibatch.repeat] += torch.bincount(shown.group[shown.group >= 0], minlength=GROUPS)
        for model, units in self.units.items():
            seen = self._seen.pop((minibatch.index, model))
            for number, unit in enumerate(units):
                features = seen[unit.view.site.point][unit.part == "tokens"]
                if not bool(features.isfinite().all()):
                    raise NonFinite(model, unit.view.site.name, unit.view.site.shape)
                self._fold(tally, (model, number), features, shown)

    def _shown(self, part: Part, minibatch: Minibatch) -> _Shown:
        rows = list(minibatch.indices)

        def of(values: object) -> Tensor:
            return torch.as_tensor(values).long()

        return _Shown(
            minibatch.repeat,
            of(part.draw[rows]),
            of(part.slot[rows]),
            torch.as_tensor(part.held_out[rows]),
            of(part.group[rows]),
            of(self.split.labels[rows]),
        )

    def _fold(self, tally: Tally, key: Key, features: Tensor, shown: _Shown) -> None:
        """Take one unit's features (sets, n, d) of a minibatch."""
        unit = self.units[key[0]][key[1]]
        labels = shown.labels.to(features.device)
        for draw in sorted(set(shown.draw.tolist()) - {-1}):
            rows = (shown.draw == draw).nonzero()[:, 0]
            unit.add(tally, shown.repeat, draw, shown.slot[rows], features[:, rows], shown.labels[rows])
        if bool(shown.held_out.any()):
            rows = shown.held_out.nonzero()[:, 0]
            for method, reader in self._read(key, tally, features.device).items():
                counts = count_correct(reader.scores(features[:, rows]), labels[rows.to(labels.device)])
                tally[held_out_key(unit, method)][shown.repeat] += counts.cpu()
        if bool((shown.group >= 0).any()):
            rows = (shown.group >= 0).nonzero()[:, 0]
            for method, classifier in self._choose(key, tally, features.device).items():
                hits = classifier(features[:, rows]).argmax(-1) == labels[rows.to(labels.device)]
                by_group = hits.new_zeros(GROUPS, *hits.shape[:2], dtype=torch.float64, device="cpu")
                by_group.index_add_(0, shown.group[rows], hits.movedim(-1, 0).to("cpu", torch.float64))
                tally[correct_key(unit, method)][shown.repeat] += by_group

    def _read(self, key: Key, tally: Tally, device: torch.device) -> dict[str, Reader]:
        """The fits of a unit, solved from the tally."""
        if key not in self._readers:
            unit = self.units[key[0]][key[1]]
            self._readers[key] = unit.solve(tally, self._repeat, self.lambdas, float64_device(device))
        return self._readers[key]

    def _choose(self, key: Key, tally: Tally, device: torch.device) -> dict[str, Affine]:
        """The classifiers of the lambdas that were best on held-out images, in float32."""
        if key not in self._chosen:
            unit = self.units[key[0]][key[1]]
            readers = self._read(key, tally, device)
            self._chosen[key] = {
                method: reader.chosen(
                    best_lambda(tally[held_out_key(unit, method)][self._repeat]).to(float64_device(device))
                )
                .to(torch.float32)
                .to(device)
                for method, reader in readers.items()
            }
            del self._readers[key]  # held-out images all came before
        return self._chosen[key]

    def tallied(self, tally: Tally) -> dict[str, Tallied]:
        """The tally by model, in words of layers and poolings."""
        return {model: Tallied(model, units, self.split, self.lambdas, tally) for model, units in self.units.items()}

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        return {f"probe/{model}": model_dataset(each, self.shots) for model, each in self.tallied(tally).items()}

    def findings(self, tally: Tally) -> list[Finding]:
        return find(self.tallied(tally))

    def held_bytes(self) -> int:
        held = 0
        for units in self.units.values():
            held += sum(unit.sets * self.design.largest * unit.view.features * 4 for unit in units)
            held += sum(unit.solved_bytes(len(self.split.classes)) for unit in units)
        return held
