"""Fold minibatches into the products that CKA with the reference is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import xarray as xr
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.studies.base import Finding, Fold, Minibatch, Tally
from seelike.studies.reference.results import find, model_dataset
from seelike.studies.similarity.estimate import PairEstimate
from seelike.studies.similarity.fold import SimilarityFold


@dataclass
class ReferenceFold(Fold):
    """Tally: that of the similarity study, for every model with itself and for the reference with every other."""

    maps: SimilarityFold
    reference: str
    notes: list[str]

    def sites(self, model: str) -> Iterable[LayerSite]:
        return self.maps.sites(model)

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        self.maps.see(model, site, tensor, minibatch)

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self.maps.forget(model, minibatch)

    def empty(self) -> Tally:
        return self.maps.empty()

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        self.maps.finish(minibatch, tally)

    def same_layers(self, tally: Tally) -> dict[str, PairEstimate]:
        """CKA of every other model with the reference, layer with same layer: maps of shape (..., layers)."""
        found = {}
        for (_, model), estimate in self.maps.estimates(tally, [p for p in self.maps.pairs() if p[0] != p[1]]).items():
            maps, left_out = (each.diagonal(dim1=-2, dim2=-1) for each in (estimate.maps, estimate.left_out))
            found[model] = PairEstimate(maps, left_out, estimate.weights)
        return found

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        images = self.maps.images(tally)
        self.maps.note_constant_layers(tally)
        return {
            f"reference/{model}": model_dataset(
                estimate, (self.reference, model), self.maps.chosen[self.reference], pool=self.maps.pool, images=images
            )
            for model, estimate in self.same_layers(tally).items()
        }

    def findings(self, tally: Tally) -> list[Finding]:
        return find(self.same_layers(tally), self.reference)

    def held_bytes(self) -> int:
        return self.maps.held_bytes()
