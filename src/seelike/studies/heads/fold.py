"""Fold heads and layers into sums of Gram products, and attention into sums of distances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite
from seelike.measures import (
    GramSums,
    attention_distance,
    gram_sums,
    hsic_products,
    pixel_distances,
    uniform_distance,
    write_gram,
)
from seelike.studies.attention.estimate import ImageMeans
from seelike.studies.attention.weights import CHUNK_BYTES, weights
from seelike.studies.attention.weights import reading as weights_reading
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Reading, Tally
from seelike.studies.heads.estimate import HeadEstimate, estimate_heads
from seelike.studies.heads.findings import find
from seelike.studies.heads.options import HeadOptions
from seelike.studies.heads.outputs import HeadSite
from seelike.studies.heads.results import heads_dataset
from seelike.studies.similarity.fold import ROUNDING

WEIGHT = "heads/weight"
IMAGES = "heads/images"


def _key(what: str, *models: str) -> str:
    return f"heads/{what}/{'/'.join(models)}"


@dataclass
class HeadFold(Fold):
    """Which subsets will be wanted is not known before all images were seen, so what any subset is made of is summed.

    Tally, with the parts of `HeadSite.parts`: ``distance`` (2, repeats, groups, heads) sums over images and of squares;
    ``own`` (repeats, groups, parts, parts), ``layers`` (repeats, groups, layers) and ``cross`` (repeats, groups,
    parts, layers) products of Gram matrices as in the similarity study; ``spread`` (2, heads or layers), sizes and
    spreads, by which constants are known; ``weight`` sums n (n - 3), ``images`` n, (repeats, groups).
    """

    study: HeadOptions
    anatomies: Mapping[str, Anatomy]
    heads: Mapping[str, HeadSite]
    widths: Mapping[str, int]
    layers: Mapping[str, tuple[LayerSite, ...]]
    design: Design
    notes: list[str]
    _outputs: dict[tuple[str, int], list[Tensor]] = field(default_factory=dict)
    _seen: dict[tuple[str, str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    _distance: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)

    def pairs(self) -> list[tuple[str, str]]:
        """A model with attention, and every other model."""
        return [(model, other) for model in self.heads for other in self.layers if model != other]

    def sites(self, model: str) -> Iterable[LayerSite]:
        return self.layers.get(model, ())

    def readings(self, model: str) -> Iterable[Reading]:
        return [self.heads[model].reading] if model in self.heads else []

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        place = self.layers[model].index(site)
        grams, norms = self._store("layers", model, minibatch, len(self.layers[model]), tensor)
        write_gram(tensor, grams[place])
        norms[place] = torch.linalg.vector_norm(tensor[0], dtype=norms.dtype)

    def read(
        self, model: str, reading: Reading, tensors: tuple[Tensor, ...], minibatch: Minibatch, images: int
    ) -> None:
        del reading  # there is one
        key = (model, minibatch.index)
        sums = self._distance.setdefault(key, torch.zeros(2, self.heads[model].heads, dtype=torch.float64))
        each = self._distances(model, tensors, images)
        sums += torch.stack([each.sum(0), each.square().sum(0)])
        parts = self._outputs.setdefault(key, [])
        parts.append(self.heads[model].outputs(tensors, images))
        if sum(len(part) for part in parts) < minibatch.size:
            return
        outputs = torch.cat(self._outputs.pop(key))  # (n, heads, tokens, head_dim)
        grams, norms = self._store("heads", model, minibatch, len(self.heads[model].parts), outputs)
        self.heads[model].write_grams(outputs, grams)
        norms[: outputs.shape[1]] = torch.linalg.vector_norm(outputs[0].flatten(1), dim=1, dtype=norms.dtype)

    def _store(self, kind: str, model: str, minibatch: Minibatch, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Where the Gram matrices of a minibatch are put, (count, n, n), and norms of its first image."""
        key, n = (kind, model, minibatch.index), minibatch.size
        if key not in self._seen:
            work = torch.promote_types(like.dtype, torch.float32)
            self._seen[key] = (
                torch.zeros(count, n, n, dtype=work, device=like.device),
                torch.zeros(count, dtype=work, device=like.device),
            )
        return self._seen[key]

    def _distances(self, model: str, tensors: tuple[Tensor, ...], images: int) -> Tensor:
        """Attention distance of every image and head, (images, heads)."""
        placed = self.heads[model].placed
        tensors = tensors[: len(weights_reading(placed, shares=True).points)]
        wide = torch.promote_types(tensors[0].dtype, torch.float32)
        distances = pixel_distances(placed.queries, placed.keys).to(tensors[0].device, wide)
        found = torch.empty(images * placed.windows, placed.heads, dtype=torch.float64, device=distances.device)
        check = model not in self._checked
        for rows, heads, part in weights(model, self.anatomies[model], placed, tensors, check=check):
            found[rows, heads] = attention_distance(
                part,
                distances,
                query_prefix=placed.query_prefix,
                key_prefix=placed.key_prefix,
                renormalize=self.study.renormalize,
            ).double()
        self._checked.add(model)
        return found.reshape(images, placed.windows, placed.heads).mean(1).cpu()

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._outputs.pop((model, minibatch.index), None)
        self._distance.pop((model, minibatch.index), None)
        for kind in ("heads", "layers"):
            self._seen.pop((kind, model, minibatch.index), None)

    def empty(self) -> Tally:
        shape = (self.design.repeats, self.design.groups)

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float64)

        tally = {WEIGHT: zeros(*shape), IMAGES: zeros(*shape)}
        for model, site in self.heads.items():
            parts = len(site.parts)
            tally[_key("distance", model)] = zeros(2, *shape, site.heads)
            tally[_key("own", model)] = zeros(*shape, parts, parts)
            tally[_key("spread/heads", model)] = zeros(2, site.heads)
        for model, layers in self.layers.items():
            tally[_key("layers", model)] = zeros(*shape, len(layers))
            tally[_key("spread/layers", model)] = zeros(2, len(layers))
        for model, other in self.pairs():
            tally[_key("cross", model, other)] = zeros(*shape, len(self.heads[model].parts), len(self.layers[other]))
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        cell = (minibatch.repeat, minibatch.group)
        heads, layers = {}, {}
        for model, site in self.heads.items():
            distance = self._distance.pop((model, minibatch.index))
            sums = heads[model] = self._sums("heads", model, minibatch, tally, [a == b for a, b in site.parts])
            if not bool(distance.isfinite().all()) or not bool(sums.rows.isfinite().all()):
                raise NonFinite(model, site.placed.site.name, (site.heads, site.placed.site.query_tokens))
            tally[_key("distance", model)][:, cell[0], cell[1]] += distance
            tally[_key("own", model)][cell] += hsic_products(sums, sums).cpu()
        for model, sites in self.layers.items():
            sums = layers[model] = self._sums("layers", model, minibatch, tally, [True] * len(sites))
            finite = sums.rows.sum(1).isfinite()
            if not bool(finite.all()):
                layer = sites[int((~finite).nonzero()[0])]
                raise NonFinite(model, layer.name, layer.shape)
            tally[_key("layers", model)][cell] += hsic_products(sums, sums).diagonal().cpu()
        for model, other in self.pairs():
            tally[_key("cross", model, other)][cell] += hsic_products(heads[model], layers[other]).cpu()
        tally[WEIGHT][cell] += minibatch.size * (minibatch.size - 3)
        tally[IMAGES][cell] += minibatch.size

    def _sums(self, kind: str, model: str, minibatch: Minibatch, tally: Tally, single: list[bool]) -> GramSums:
        """What products need of a minibatch's Gram matrices; adds sizes and spreads of the `single` ones."""
        grams, norms = self._seen.pop((kind, model, minibatch.index))
        sums = gram_sums(grams)
        spread = sums.spread[torch.tensor(single)].cpu()
        size = norms[: len(spread)].double().square().cpu() * minibatch.size
        tally[_key(f"spread/{kind}", model)] += torch.stack([size, spread])
        return sums

    def held_bytes(self) -> int:
        n, held = self.design.largest, 3 * CHUNK_BYTES
        for site in self.heads.values():
            one = site.placed.site
            outputs = n * site.heads * site.placed.windows * one.query_tokens * one.head_dim * 4
            # Under a projection every head has a tensor as wide as the model, and all pairs have a Gram matrix.
            held += outputs * (1 if site.projection is None else 2 * site.heads) + len(site.parts) * n * n * 12
        return held + sum(len(sites) for sites in self.layers.values()) * n * n * 12

    def estimates(self, tally: Tally) -> dict[tuple[str, str], HeadEstimate]:
        """CKA and distance of the subsets of every pair."""
        found = {}
        for model, other in self.pairs():
            found[model, other] = estimate_heads(
                self.heads[model],
                ImageMeans(tally[_key("distance", model)], tally[IMAGES]),
                cross=tally[_key("cross", model, other)],
                own=tally[_key("own", model)],
                layers=tally[_key("layers", other)] * ~self._constant("layers", other, tally),
                constant=self._constant("heads", model, tally),
                weights=tally[WEIGHT],
                rule=self.study.subset,
                width=self.widths[model],
            )
        return found

    def _constant(self, kind: str, model: str, tally: Tally) -> Tensor:
        """Which heads or layers vary in the last bits of float32 only, if at all."""
        size, spread = tally[_key(f"spread/{kind}", model)]
        constant: Tensor = spread <= ROUNDING**2 * size
        return constant

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        found = {}
        for (model, other), estimate in self.estimates(tally).items():
            placed = self.heads[model].placed
            uniform = uniform_distance(
                pixel_distances(placed.queries, placed.keys), placed.key_prefix, renormalize=self.study.renormalize
            )
            found[f"heads/{model}/{other}"] = heads_dataset(
                estimate, (model, other), self.heads[model], self.layers[other], uniform, self.study, tally[IMAGES]
            )
            self._note_constants(model, other, tally)
        return found

    def _note_constants(self, model: str, other: str, tally: Tally) -> None:
        heads, layers = self._constant("heads", model, tally), self._constant("layers", other, tally)
        still = [f"head {i} of {model}" for i, flat in enumerate(heads.tolist()) if flat]
        still += [
            f"{site.name} of {other}" for site, flat in zip(self.layers[other], layers.tolist(), strict=True) if flat
        ]
        note = f"{', '.join(still)} did not vary over the images, so CKA is not defined there (NaN)"
        if still and note not in self.notes:
            self.notes.append(note)

    def findings(self, tally: Tally) -> list[Finding]:
        blocks = {model: site.placed.site.name for model, site in self.heads.items()}
        return find(self.estimates(tally), blocks, {m: [s.name for s in sites] for m, sites in self.layers.items()})
