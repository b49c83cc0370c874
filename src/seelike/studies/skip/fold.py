"""Fold images into sums of what every residual sum is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.measures import SkipMeasures, float64_device
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Reading, Tally
from seelike.studies.skip.estimate import estimate, estimate_together
from seelike.studies.skip.findings import find
from seelike.studies.skip.places import Place
from seelike.studies.skip.results import model_dataset, note_undefined

MEASURES = SkipMeasures._fields
RATIO, SKIP, BRANCH = (MEASURES.index(name) for name in ("ratio", "skip_norm", "branch_norm"))
COSINES = [MEASURES.index(name) for name in ("cosine_output", "cosine_branch")]


def sums_key(model: str) -> str:
    """Where the sums of a model stand in the tally, (repeats, 3, 5, columns).

    Row 0 sums the measures over images where they are finite, row 1 their squares, row 2 counts those images. The
    columns of all places follow one another: tokens, then the means over prefix and over spatial tokens.
    """
    return f"skip/sums/{model}"


def products_key(model: str) -> str:
    """Where sums of ``||z|| ||f||`` stand, (repeats, columns): for the error of a ratio of means."""
    return f"skip/products/{model}"


TOGETHER = "skip/together"
"""Sums of products of the mean ratios of one image, of all places and models: (repeats, A, A).

A = 2 x places: per model, prefix and spatial tokens of each. From them any difference of means has its error, with
the same images in both.
"""
IMAGES = "skip/images"


@dataclass
class _Pending:
    """What was read of one model for a minibatch that is not yet whole; per place, in order."""

    sums: list[Tensor]
    products: list[Tensor]
    ratios: list[list[Tensor]]
    """Per place, (images, 2) mean ratios over prefix and spatial tokens, in parts."""


@dataclass
class SkipFold(Fold):
    """Tally: see `sums_key`, `products_key`, `TOGETHER`; ``images`` (repeats,) counts images."""

    places: Mapping[str, tuple[Place, ...]]
    design: Design
    notes: list[str]
    _pending: dict[tuple[int, str], _Pending] = field(default_factory=dict)
    _numbers: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = {m: {p.site.name: number for number, p in enumerate(ps)} for m, ps in self.places.items()}

    def readings(self, model: str) -> Iterable[Reading]:
        return [Reading(p.site.name, (p.site.skip, p.site.branch), p.site.batch_dim) for p in self.places[model]]

    def read(
        self, model: str, reading: Reading, tensors: tuple[Tensor, ...], minibatch: Minibatch, images: int
    ) -> None:
        del images
        number = self._numbers[model][reading.name]
        place = self.places[model][number]
        measures = place.measure(*tensors)
        measures = measures.to(float64_device(measures.device)).double()
        values = torch.cat([measures, token_means(measures, place.prefix_tokens)], 2)  # (5, images, columns)
        finite = values.isfinite()
        kept = values.where(finite, 0)
        pending = self._pending.setdefault((minibatch.index, model), self._nothing_read(model, values.device))
        pending.sums[number] += torch.stack([kept.sum(1), kept.square().sum(1), finite.sum(1).to(kept)])
        pending.products[number] += (kept[SKIP] * kept[BRANCH]).sum(0)
        pending.ratios[number].append(kept[RATIO, :, -2:])

    def _nothing_read(self, model: str, device: torch.device) -> _Pending:
        columns = [place.columns for place in self.places[model]]
        sums = [torch.zeros(3, len(MEASURES), c, dtype=torch.float64, device=device) for c in columns]
        products = [torch.zeros(c, dtype=torch.float64, device=device) for c in columns]
        return _Pending(sums, products, [[] for _ in columns])

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._pending.pop((minibatch.index, model), None)

    def empty(self) -> Tally:
        repeats = self.design.repeats
        tally = {IMAGES: torch.zeros(repeats, dtype=torch.float64)}
        for model, places in self.places.items():
            columns = sum(place.columns for place in places)
            tally[sums_key(model)] = torch.zeros(repeats, 3, len(MEASURES), columns, dtype=torch.float64)
            tally[products_key(model)] = torch.zeros(repeats, columns, dtype=torch.float64)
        curves = 2 * sum(len(places) for places in self.places.values())
        tally[TOGETHER] = torch.zeros(repeats, curves, curves, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        ratios = []
        for model, places in self.places.items():
            if not places:
                continue
            pending = self._pending.pop((minibatch.index, model))
            sums = torch.cat(pending.sums, 2).cpu()
            self._check(model, sums, minibatch)
            tally[sums_key(model)][minibatch.repeat] += sums
            tally[products_key(model)][minibatch.repeat] += torch.cat(pending.products).cpu()
            ratios += [torch.cat(parts).cpu() for parts in pending.ratios]
        together = torch.cat(ratios, 1)  # (images, A)
        tally[TOGETHER][minibatch.repeat] += together.mT @ together
        tally[IMAGES][minibatch.repeat] += minibatch.size

    def _check(self, model: str, sums: Tensor, minibatch: Minibatch) -> None:
        """A norm that is not finite is one of a NaN or an infinity. Raises `NonFinite`."""
        counts = sums[2, [SKIP, BRANCH]].amin(0)
        start = 0
        for place in self.places[model]:
            if bool((counts[start : start + place.tokens] < minibatch.size).any()):
                raise NonFinite(model, place.site.name, place.site.shape)
            start += place.columns

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        found = {}
        for model, places in self.places.items():
            if places:
                made = estimate(tally[sums_key(model)], tally[products_key(model)], tally[IMAGES])
                found[f"skip/{model}"] = model_dataset(model, places, made, int(tally[IMAGES].max()))
                self.notes += [n for n in note_undefined(model, places, made) if n not in self.notes]
        return found

    def findings(self, tally: Tally) -> list[Finding]:
        counts = torch.cat([tally[sums_key(m)][:, 2, RATIO, self._mean_columns(m)] for m in self.places], 1)
        sums = torch.cat([tally[sums_key(m)][:, 0, RATIO, self._mean_columns(m)] for m in self.places], 1)
        return find(self.places, estimate_together(counts, sums, tally[TOGETHER], tally[IMAGES]))

    def _mean_columns(self, model: str) -> list[int]:
        """Columns of the means over prefix and spatial tokens of every place."""
        columns, start = [], 0
        for place in self.places[model]:
            columns += [start + place.tokens, start + place.tokens + 1]
            start += place.columns
        return columns

    def held_bytes(self) -> int:
        largest = max((p.tokens for places in self.places.values() for p in places), default=0)
        columns = sum(p.columns for places in self.places.values() for p in places)
        return 8 * (16 * columns + 4 * len(MEASURES) * self.design.largest * largest)


def token_means(measures: Tensor, prefix_tokens: int) -> Tensor:
    """Mean over prefix and over spatial tokens, (5, images, tokens) -> (5, images, 2).

    A ratio that is not finite makes the mean so too; cosines are averaged over the tokens that have one.
    """
    means = []
    for part in (measures[..., :prefix_tokens], measures[..., prefix_tokens:]):
        mean = part.mean(-1)  # NaN without tokens
        mean[COSINES] = part[COSINES].nanmean(-1)
        means.append(mean)
    return torch.stack(means, -1)
