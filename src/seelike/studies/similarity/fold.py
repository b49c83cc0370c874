"""Fold minibatches into sums of Gram products, for every pair of layers of every pair of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.measures import GramSums, float64_device, gram_sums, hsic_products, write_gram
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Tally
from seelike.studies.similarity.estimate import PairEstimate, estimate_pair
from seelike.studies.similarity.findings import find
from seelike.studies.similarity.pooling import Pool, pool_features
from seelike.studies.similarity.results import pair_dataset

ROUNDING = 2.0**-20
"""A layer whose spread is under so small a share of its size varies in the last bits of float32 only."""


@dataclass
class SimilarityFold(Fold):
    """Tally: per pair of models the products of U-centred Grams, (repeats, groups, layers, other layers).

    Products are not divided by n (n - 3), so that adding them weighs every minibatch by n (n - 3): a short one
    cannot spoil the mean (peers.md, finding 5). ``weight`` (repeats, groups) sums n (n - 3), ``images`` sums n, and
    ``spread`` (2, layers) of a model sums over minibatches, in row 0, the squared norm of one example times n, and in
    row 1 the squares about the mean. All keys begin with `prefix`.

    `wanted` names the pairs to compare, a model's with itself before those with others; None means all.
    """

    chosen: Mapping[str, tuple[LayerSite, ...]]
    pool: Pool
    design: Design
    notes: list[str]
    prefix: str = "similarity"
    wanted: Sequence[tuple[str, str]] | None = None
    _grams: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    _scales: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    _spare: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    _places: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._places = {
            model: {site.point: place for place, site in enumerate(sites)} for model, sites in self.chosen.items()
        }

    def sites(self, model: str) -> Iterable[LayerSite]:
        return self.chosen[model]

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of models, each with itself too, in the order of the models."""
        return list(combinations_with_replacement(self.chosen, 2)) if self.wanted is None else list(self.wanted)

    def _pair(self, a: str, b: str) -> str:
        return f"{self.prefix}/products/{a}/{b}"

    def _spread(self, model: str) -> str:
        return f"{self.prefix}/spread/{model}"

    @property
    def _weight(self) -> str:
        return f"{self.prefix}/weight"

    @property
    def _images(self) -> str:
        return f"{self.prefix}/images"

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        features = pool_features(tensor, site.layout, self.pool)
        key = (minibatch.index, model)
        grams = self._grams.get(key)
        if grams is None or grams.shape[-1] != minibatch.size:
            layers, n, work = len(self.chosen[model]), minibatch.size, _wide(features.dtype)
            grams = self._grams[key] = self._store(("grams", model), (layers, n, n), work, features.device)
            self._scales[key] = torch.empty(layers, dtype=work, device=features.device)
        place = self._places[model][site.point]
        write_gram(features, grams[place])
        torch.linalg.vector_norm(features[0], dtype=grams.dtype, out=self._scales[key][place])

    def empty(self) -> Tally:
        shape = (self.design.repeats, self.design.groups)
        tally = {
            self._pair(a, b): torch.zeros(*shape, len(self.chosen[a]), len(self.chosen[b]), dtype=torch.float64)
            for a, b in self.pairs()
        }
        for model, sites in self.chosen.items():
            tally[self._spread(model)] = torch.zeros(2, len(sites), dtype=torch.float64)
        tally[self._weight] = torch.zeros(shape, dtype=torch.float64)
        tally[self._images] = torch.zeros(shape, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        sums = {model: self._sums(model, minibatch, tally) for model in self.chosen}
        cell = (minibatch.repeat, minibatch.group)
        for a, b in self.pairs():
            tally[self._pair(a, b)][cell] += hsic_products(sums[a], sums[b]).cpu()
        self._spare |= {("upper", model): each.upper for model, each in sums.items()}
        tally[self._weight][cell] += minibatch.size * (minibatch.size - 3)
        tally[self._images][cell] += minibatch.size

    def _sums(self, model: str, minibatch: Minibatch, tally: Tally) -> GramSums:
        grams = self._grams.pop((minibatch.index, model))
        layers, n, _ = grams.shape
        place = float64_device(grams.device)
        sums = gram_sums(grams, self._store(("upper", model), (layers, n * (n - 1) // 2), torch.float64, place))
        self._spare["grams", model] = grams
        norms = self._scales.pop((minibatch.index, model))
        finite = (sums.rows.sum(1) + sums.spread).isfinite()
        if not bool(finite.all()):
            site = self.chosen[model][int((~finite).nonzero()[0])]
            raise NonFinite(model, site.name, site.shape)
        tally[self._spread(model)] += torch.stack([norms.square().to(sums.spread) * minibatch.size, sums.spread]).cpu()
        return sums

    def _store(self, use: tuple[str, str], shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory of the minibatch before, where it fits: new memory costs as much as what is written to it."""
        spare = self._spare.pop(use, None)
        if spare is not None and spare.shape == shape and spare.dtype == dtype and spare.device == device:
            return spare
        return torch.empty(shape, dtype=dtype, device=device)

    def held_bytes(self) -> int:
        layers = sum(len(sites) for sites in self.chosen.values())
        return int(1.5 * layers * self.design.largest**2 * 8)  # float32 Grams, their copy, and half of each in float64

    def estimates(
        self, tally: Tally, pairs: Sequence[tuple[str, str]] | None = None
    ) -> dict[tuple[str, str], PairEstimate]:
        """CKA with errors for every pair of models, or for some of the pairs."""
        own = {m: self._own_products(m, tally) for m in self.chosen}
        weight = tally[self._weight]
        return {
            (a, b): estimate_pair(tally[self._pair(a, b)], own[a], own[b], weight)
            for a, b in (self.pairs() if pairs is None else pairs)
        }

    def images(self, tally: Tally) -> int:
        """Images of the longest repeat."""
        return int(tally[self._images].sum(1).max())

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        images = self.images(tally)
        found = {}
        for (a, b), estimate in self.estimates(tally).items():
            found[f"{self.prefix}/{a}/{b}"] = pair_dataset(
                estimate, (a, b), (self.chosen[a], self.chosen[b]), pool=self.pool, images=images
            )
        self.note_constant_layers(tally)
        return found

    def _own_products(self, model: str, tally: Tally) -> Tensor:
        """Each layer's product with itself, (repeats, groups, layers); zero for layers that do not vary."""
        own = tally[self._pair(model, model)].diagonal(dim1=-2, dim2=-1)
        return own * ~self._constant(model, tally)

    def _constant(self, model: str, tally: Tally) -> Tensor:
        size, spread = tally[self._spread(model)]
        constant: Tensor = spread <= ROUNDING**2 * size
        return constant

    def note_constant_layers(self, tally: Tally) -> None:
        """Name layers that do not vary: their CKA is not defined, and no epsilon hides that."""
        for model, sites in self.chosen.items():
            flat = [s.name for s, still in zip(sites, self._constant(model, tally).tolist(), strict=True) if still]
            note = f"{model}: {', '.join(flat)} did not vary over the images, so CKA is not defined there (NaN)"
            if flat and note not in self.notes:
                self.notes.append(note)

    def findings(self, tally: Tally) -> list[Finding]:
        return find(self.estimates(tally), self.chosen)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """A dtype in which the norm of many features does not overflow."""
    return dtype if dtype == torch.float64 else torch.float32
