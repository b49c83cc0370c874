"""Fold attention weights into sums over images: distance, entropy and share on prefix tokens of every head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.anatomy.positions import PlacedAttention
from seelike.measures import attention_distance, attention_entropy, pixel_distances, prefix_share, uniform_distance
from seelike.studies.attention.convolutions import Fields, add_fields
from seelike.studies.attention.estimate import HeadEstimate, ImageMeans
from seelike.studies.attention.findings import find
from seelike.studies.attention.results import distance_dataset
from seelike.studies.attention.weights import CHUNK_BYTES, reading, weights
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Reading, Tally

QUANTITIES = ("distance", "entropy", "prefix_share")
IMAGES = "attention/images"


def sums_key(model: str) -> str:
    """Where the sums of a model stand in the tally.

    (2, repeats, groups, quantities, sites, heads): of the values of single images, and of their squares.
    """
    return f"attention/sums/{model}"


@dataclass
class AttentionFold(Fold):
    """Tally: per model, head and group of minibatches the sums of three quantities and of their squares."""

    anatomies: Mapping[str, Anatomy]
    placed: Mapping[str, Sequence[PlacedAttention]]
    fields: Fields
    renormalize: bool
    design: Design
    notes: list[str]
    _sums: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _distances: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    _checked: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._place = {
            (model, site.site.name): (index, site)
            for model, sites in self.placed.items()
            for index, site in enumerate(sites)
        }
        same: dict[bytes, Tensor] = {}  # blocks of one grid share their distances
        for key, (_, site) in self._place.items():
            where = site.queries.numpy().tobytes() + site.keys.numpy().tobytes()
            self._distances[key] = same.setdefault(where, pixel_distances(site.queries, site.keys))

    def readings(self, model: str) -> Iterable[Reading]:
        return [reading(site, shares=True) for site in self.placed.get(model, ())]

    def read(
        self, model: str, reading: Reading, tensors: tuple[Tensor, ...], minibatch: Minibatch, images: int
    ) -> None:
        key = (model, reading.name)
        index, placed = self._place[key]
        wide = torch.promote_types(tensors[0].dtype, torch.float32)
        distances = self._distances[key] = self._distances[key].to(tensors[0].device, wide)
        rows = images * placed.windows
        found = torch.empty(len(QUANTITIES), rows, placed.heads, dtype=torch.float64, device=distances.device)
        prefix = {"query_prefix": placed.query_prefix, "key_prefix": placed.key_prefix}
        for at, heads, part in weights(model, self.anatomies[model], placed, tensors, check=key not in self._checked):
            found[0, at, heads] = attention_distance(part, distances, **prefix, renormalize=self.renormalize).double()
            found[1, at, heads] = attention_entropy(part, placed.query_prefix).double()
            found[2, at, heads] = prefix_share(part, **prefix).double()
        self._checked.add(key)
        each = found.reshape(len(QUANTITIES), images, placed.windows, placed.heads).mean(2).cpu()  # per image
        sums = self._sums.setdefault((model, minibatch.index), self._zeros(model))
        sums[..., index, : placed.heads] += torch.stack([each.sum(1), each.square().sum(1)])

    def _zeros(self, model: str) -> Tensor:
        sites = self.placed[model]
        return torch.zeros(2, len(QUANTITIES), len(sites), max(s.heads for s in sites), dtype=torch.float64)

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._sums.pop((model, minibatch.index), None)

    def empty(self) -> Tally:
        shape = (self.design.repeats, self.design.groups)
        tally = {}
        for model in self.placed:
            each = self._zeros(model)
            tally[sums_key(model)] = each[:, None, None].repeat(1, *shape, 1, 1, 1)
        tally[IMAGES] = torch.zeros(shape, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        cell = (slice(None), minibatch.repeat, minibatch.group)
        for model, sites in self.placed.items():
            sums = self._sums.pop((model, minibatch.index))
            broken = (~sums[0, 0].isfinite()).any(1).nonzero()  # distances: entropy has its own reasons
            if len(broken):
                site = sites[int(broken[0])].site
                raise NonFinite(model, site.name, (site.heads, site.query_tokens, site.key_tokens))
            tally[sums_key(model)][cell] += sums
        tally[IMAGES][minibatch.repeat, minibatch.group] += minibatch.size

    def held_bytes(self) -> int:
        chunk = max(s.site.query_tokens * s.site.key_tokens * 4 for sites in self.placed.values() for s in sites)
        distances = {id(t): t.numel() * 4 for t in self._distances.values()}
        return 3 * max(CHUNK_BYTES, chunk) + sum(distances.values())

    def estimates(self, tally: Tally) -> dict[str, HeadEstimate]:
        """Values and errors of every head of every model."""
        return {
            model: HeadEstimate(
                ImageMeans(tally[sums_key(model)], tally[IMAGES]),
                heads=tuple(site.heads for site in sites),
                uniform=torch.tensor([self._uniform(site) for site in sites], dtype=torch.float64),
            )
            for model, sites in self.placed.items()
        }

    def _uniform(self, placed: PlacedAttention) -> float:
        distances = pixel_distances(placed.queries, placed.keys)
        return uniform_distance(distances, placed.key_prefix, renormalize=self.renormalize)

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        found = {}
        for model, estimate in self.estimates(tally).items():
            dataset = distance_dataset(
                estimate, model, self.anatomies[model], self.placed[model], renormalize=self.renormalize
            )
            self._note_entropy(model, dataset)
            found[f"attention/{model}"] = add_fields(dataset, self.fields.get(self.anatomies[model].input_size[1:], ()))
        return found

    def _note_entropy(self, model: str, dataset: xr.Dataset) -> None:
        lost = dataset["entropy"].isnull().sum("head") > dataset["distance"].isnull().sum("head")
        if bool(lost.any()):
            names = ", ".join(dataset["block"].values[lost.values])
            self.notes.append(f"{model}: {names} has negative weights after its softmax, so no entropy (NaN)")

    def findings(self, tally: Tally) -> list[Finding]:
        sites = {model: [placed.site.name for placed in sites] for model, sites in self.placed.items()}
        return find(self.estimates(tally), sites)
