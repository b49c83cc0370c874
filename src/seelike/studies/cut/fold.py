"""Fold minibatches into the products that CKA is made of, and count who classified which image rightly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite
from seelike.studies.base import Finding, Fold, Minibatch, Reading, Tally
from seelike.studies.cut.estimate import CutEstimate, estimate_cut
from seelike.studies.cut.findings import find
from seelike.studies.cut.parts import Cuts, Part
from seelike.studies.cut.results import model_dataset
from seelike.studies.similarity.fold import SimilarityFold

HITS = "cut/hits"
COUNTED = "cut/counted"


@dataclass
class CutFold(Fold):
    """Tally: that of the similarity study for every model with itself; ``hits`` (repeats, models, models).

    ``hits[r, a, b]`` counts the images of repeat r that a and b both classify rightly, so that the difference of two
    accuracies has the error of a paired one; ``counted`` (repeats) counts images.
    """

    maps: SimilarityFold
    cuts: Cuts
    parts: Mapping[str, Sequence[Part]]
    blocks: Sequence[str]
    anatomies: Mapping[str, Anatomy]
    notes: list[str]
    _outputs: dict[str, Reading] = field(default_factory=dict)
    _right: dict[tuple[int, str], list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = self.maps.design.samples.labels
        if labels is None:
            self.notes.append("no accuracies beside the cuts: the images have no labels")
            return
        classes = int(max(labels)) + 1
        for model, anatomy in self.anatomies.items():
            output = anatomy.output
            if output is None or len(output[1]) != 1 or output[1][0] < classes:
                shape = output[1] if output else "of several tensors"
                note = f"{model}: no accuracy, its output {shape} has no place for each of {classes} classes"
                self.notes.append(note)
            else:
                self._outputs[model] = Reading("output", (output[0],))

    def sites(self, model: str) -> Iterable[LayerSite]:
        return self.maps.sites(model)

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        self.maps.see(model, site, tensor, minibatch)

    def readings(self, model: str) -> Iterable[Reading]:
        return [self._outputs[model]] if model in self._outputs else []

    def read(
        self, model: str, reading: Reading, tensors: tuple[Tensor, ...], minibatch: Minibatch, images: int
    ) -> None:
        del reading
        labels = self.maps.design.samples.need_labels("cut")
        seen = self._right.setdefault((minibatch.index, model), [])
        first = sum(len(part) for part in seen)
        wanted = torch.tensor([labels[i] for i in minibatch.indices[first : first + images]])
        seen.append(tensors[0].argmax(1).cpu() == wanted)

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self.maps.forget(model, minibatch)
        self._right.pop((minibatch.index, model), None)

    def empty(self) -> Tally:
        repeats, models = self.maps.design.repeats, len(self.anatomies)
        hits = torch.zeros(repeats, models, models, dtype=torch.float64)
        return self.maps.empty() | {HITS: hits, COUNTED: torch.zeros(repeats, dtype=torch.float64)}

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        self.maps.finish(minibatch, tally)
        right = torch.zeros(len(self.anatomies), minibatch.size, dtype=torch.float64)
        for place, model in enumerate(self.anatomies):
            if model in self._outputs:
                right[place] = torch.cat(self._right.pop((minibatch.index, model))).double()
        tally[HITS][minibatch.repeat] += right @ right.T
        tally[COUNTED][minibatch.repeat] += minibatch.size

    def estimates(self, tally: Tally) -> dict[str, CutEstimate]:
        """What was measured, for every model."""
        pairs = self.maps.estimates(tally)
        places = {model: place for place, model in enumerate(self.anatomies)}
        return {
            model: estimate_cut(
                pairs[model, model],
                pairs[self.cuts.whole, self.cuts.whole],
                self.parts[model],
                self.parts[self.cuts.whole],
                tally[HITS][:, [places[self.cuts.whole], places[model]]][..., [places[self.cuts.whole], places[model]]]
                if {model, self.cuts.whole} <= self._outputs.keys()
                else None,
                tally[COUNTED],
            )
            for model in self.anatomies
        }

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        images = int(tally[COUNTED].max())
        return {
            f"cut/{model}": model_dataset(
                model, estimate, self.blocks, self.cuts, self.maps.chosen[model], images=images
            )
            for model, estimate in self.estimates(tally).items()
        }

    def findings(self, tally: Tally) -> list[Finding]:
        return find(self.estimates(tally), self.blocks, self.cuts)

    def held_bytes(self) -> int:
        return self.maps.held_bytes()
