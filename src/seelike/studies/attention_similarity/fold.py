"""Fold attention maps into sums over images of their similarities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.anatomy.positions import PlacedAttention
from seelike.measures import counted_columns, map_similarity, unit_columns
from seelike.studies.attention.estimate import ImageMeans
from seelike.studies.attention.weights import CHUNK_BYTES, reading, weights
from seelike.studies.attention_similarity.findings import find
from seelike.studies.attention_similarity.results import SimilarityMeans, similarity_dataset
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Reading, Tally

Groups = Mapping[str, Sequence[Sequence[PlacedAttention]]]
IMAGES = "attention-similarity/images"
BUFFER_BYTES = 8 * CHUNK_BYTES
"""Maps of one image held at a time: as many heads of all blocks as fit, at least one."""


@dataclass
class AttentionSimilarityFold(Fold):
    """Tally: per group of blocks whose maps have one shape, sums over images of similarities and their squares.

    ``blocks`` (2, repeats, groups, blocks, blocks) and ``heads`` (2, repeats, groups, blocks, heads, heads).
    Queries and keys of all blocks are kept until the last block has run (of unfused attention the maps, which the
    model has made); maps are then made image by image.
    """

    anatomies: Mapping[str, Anatomy]
    groups: Groups
    threshold: float
    design: Design
    notes: list[str]
    _sums: dict[tuple[str, int], dict[str, Tensor]] = field(default_factory=dict)
    _checked: set[tuple[str, str]] = field(default_factory=set)

    def readings(self, model: str) -> Iterable[Reading]:
        return [self._reading(group) for group in self.groups.get(model, ())]

    def _reading(self, group: Sequence[PlacedAttention]) -> Reading:
        points = tuple(point for placed in group for point in reading(placed).points)
        return Reading(group[0].site.name, points)

    def read(
        self, model: str, reading: Reading, tensors: tuple[Tensor, ...], minibatch: Minibatch, images: int
    ) -> None:
        number, group = next((i, g) for i, g in enumerate(self.groups[model]) if g[0].site.name == reading.name)
        held = self._sums.setdefault((model, minibatch.index), {})
        check = (model, reading.name) not in self._checked
        for image in range(images):
            some = tuple(tensor.narrow(0, image * (r := len(tensor) // images), r) for tensor in tensors)
            blocks, heads = self._similarities(model, group, some, check)
            for key, value in ((f"blocks/{number}", blocks), (f"heads/{number}", heads)):
                each = value.double().cpu()
                each = torch.stack([each, each.square()])
                held[key] = held[key] + each if key in held else each
        self._checked.add((model, reading.name))

    def _similarities(
        self, model: str, group: Sequence[PlacedAttention], tensors: tuple[Tensor, ...], check: bool
    ) -> tuple[Tensor, Tensor]:
        """Similarity of blocks (blocks, blocks) and of the heads of each (blocks, heads, heads), of one image."""
        site, count = group[0].site, group[0].heads
        one = site.query_tokens * site.key_tokens * 4
        at_once = min(count, max(1, BUFFER_BYTES // (one * len(group))))
        products: list[tuple[Tensor, Tensor]] = []
        heads: Tensor | None = None
        for first in range(0, count, at_once):
            only = slice(first, min(first + at_once, count))
            unit, present = unit_columns(self._maps(model, group, tensors, only, check))  # (blocks, heads, q, k)
            flat, there = unit.flatten(1), present.flatten(1)
            counted = counted_columns(there)
            products.append((map_similarity(flat, there) * counted, counted))
            if at_once == count:
                heads = map_similarity(unit.flatten(2), present)
        blocks = sum(p for p, _ in products) / sum(s for _, s in products)
        if heads is None:  # not all heads of all blocks at once: block by block
            heads = torch.cat([self._heads(model, group, tensors, index) for index in range(len(group))])
        assert isinstance(blocks, Tensor)
        return blocks, heads

    def _heads(self, model: str, group: Sequence[PlacedAttention], tensors: tuple[Tensor, ...], index: int) -> Tensor:
        start = sum(len(reading(placed).points) for placed in group[:index])
        maps = self._maps(model, group[index : index + 1], tensors[start:], slice(None), False)
        unit, present = unit_columns(maps)
        return map_similarity(unit.flatten(2), present)

    def _maps(
        self,
        model: str,
        group: Sequence[PlacedAttention],
        tensors: tuple[Tensor, ...],
        only: slice,
        check: bool,
    ) -> Tensor:
        """Attention maps of one image, (blocks, heads, queries, keys)."""
        maps, start = [], 0
        for placed in group:
            points = len(reading(placed).points)
            mine, start = tensors[start : start + points], start + points
            parts = weights(model, self.anatomies[model], placed, mine, check=check, only=only)
            maps.append(torch.cat([part for _, _, part in parts], dim=1)[0])
        return torch.stack(maps)

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._sums.pop((model, minibatch.index), None)

    def empty(self) -> Tally:
        shape = (2, self.design.repeats, self.design.groups)
        tally = {IMAGES: torch.zeros(shape[1:], dtype=torch.float64)}
        for model, groups in self.groups.items():
            for number, group in enumerate(groups):
                blocks, heads = len(group), group[0].heads
                for kind, each in (("blocks", (blocks, blocks)), ("heads", (blocks, heads, heads))):
                    tally[_key(model, f"{kind}/{number}")] = torch.zeros(*shape, *each, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        for model, groups in self.groups.items():
            for key, sums in self._sums.pop((model, minibatch.index)).items():
                if not bool(sums.isfinite().all()):
                    self._refuse(model, groups[int(key.split("/")[1])], sums, key)
                tally[_key(model, key)][:, minibatch.repeat, minibatch.group] += sums
        tally[IMAGES][minibatch.repeat, minibatch.group] += minibatch.size

    def _refuse(self, model: str, group: Sequence[PlacedAttention], sums: Tensor, key: str) -> None:
        own = sums[0].diagonal() if key.startswith("blocks") else sums[0].flatten(1).sum(1)
        site = group[int((~own.isfinite()).nonzero()[0])].site
        raise NonFinite(model, site.name, (site.heads, site.query_tokens, site.key_tokens))

    def held_bytes(self) -> int:
        # A reading is gathered for a forward batch, of which a fold knows the minibatch only.
        held = 0
        for groups in self.groups.values():
            sites = [placed for group in groups for placed in group]
            held = max(held, sum(_read_bytes(placed) for placed in sites))
        return held * self.design.largest + 4 * BUFFER_BYTES

    def _means(self, model: str, tally: Tally) -> list[SimilarityMeans]:
        return [
            SimilarityMeans(
                tuple(group),
                ImageMeans(tally[_key(model, f"blocks/{number}")], tally[IMAGES]),
                ImageMeans(tally[_key(model, f"heads/{number}")], tally[IMAGES]),
            )
            for number, group in enumerate(self.groups[model])
        ]

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        return {
            f"attention-similarity/{model}": similarity_dataset(
                self._means(model, tally), model, self.anatomies[model], self.threshold
            )
            for model in self.groups
        }

    def findings(self, tally: Tally) -> list[Finding]:
        return [finding for model in self.groups for finding in find(model, self._means(model, tally), self.threshold)]


def _key(model: str, what: str) -> str:
    return f"attention-similarity/{what}/{model}"


def _read_bytes(placed: PlacedAttention) -> int:
    """What is read of one image at a site, in float32."""
    site = placed.site
    tokens = 2 * site.query_tokens + 2 * site.key_tokens if site.fused else site.query_tokens
    return tokens * placed.heads * (site.head_dim if site.fused else site.key_tokens) * 4
