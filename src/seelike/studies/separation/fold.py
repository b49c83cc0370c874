"""Fold minibatches into sums of soft nearest neighbour losses over images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.measures.separation import Distance, scaled, soft_nearest_neighbour_losses, squared_distances
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Tally
from seelike.studies.separation.estimate import Separations
from seelike.studies.separation.findings import find
from seelike.studies.separation.results import model_dataset
from seelike.studies.similarity.pooling import Pool, pool_features

GRID = torch.cat([2.0 ** (torch.arange(-28, 9, dtype=torch.float64) / 4), torch.tensor([torch.inf]).double()])
"""Temperatures of scaled distances among which the best is sought: 1/128 to 4, four to a doubling, and infinity."""
ROUNDING = 2.0**-20
"""A layer whose spread is under so small a share of its size varies in the last bits of float32 only."""
ALONE = "separation/alone"
"""Images without another one of their class in their minibatch, and all images: (repeats, 2)."""


def sums_key(model: str) -> str:
    """Sums of losses over images, (repeats, groups, layers, 1 + temperatures of the grid), the fixed one first."""
    return f"separation/losses/{model}"


def counts_key(model: str) -> str:
    """Images that were summed, (repeats, groups, layers)."""
    return f"separation/images/{model}"


@dataclass
class SeparationFold(Fold):
    """Tally: see `sums_key`, `counts_key`, `ALONE`. The best temperature is found from the sums, at the end."""

    chosen: Mapping[str, tuple[LayerSite, ...]]
    labels: np.ndarray
    pool: Pool
    temperature: float
    distance: Distance
    scaled: bool
    design: Design
    notes: list[str]
    _losses: dict[tuple[int, str], dict[str, Tensor]] = field(default_factory=dict)

    def sites(self, model: str) -> Iterable[LayerSite]:
        return self.chosen[model]

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        features = pool_features(tensor, site.layout, self.pool).flatten(1)
        distances = squared_distances(features, self.distance)
        size = torch.linalg.vector_norm(features[0], dtype=torch.float64).square().to(distances.device)
        if self.distance == "cosine":
            still = bool(features.isfinite().all() & ~distances.isfinite().all())  # a vector of zeros has no direction
        else:
            still = bool(distances.mean() <= ROUNDING**2 * size)
        self._losses.setdefault((minibatch.index, model), {})[site.point] = self._measure(distances, minibatch, still)

    def _measure(self, distances: Tensor, minibatch: Minibatch, still: bool) -> Tensor:
        """Losses (1 + temperatures, n) of one layer; NaN where not defined, infinite where activations are NaN."""
        if still:
            return distances.new_full((1 + len(GRID), minibatch.size), torch.nan)
        if not bool(distances.isfinite().all()):
            return distances.new_full((1 + len(GRID), minibatch.size), torch.inf)
        labels = torch.as_tensor(self.labels[list(minibatch.indices)], device=distances.device)
        relative = scaled(distances)
        fixed = torch.tensor([self.temperature], dtype=torch.float64)
        first = soft_nearest_neighbour_losses(relative if self.scaled else distances, labels, fixed)
        return torch.cat([first, soft_nearest_neighbour_losses(relative, labels, GRID)])

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._losses.pop((minibatch.index, model), None)

    def empty(self) -> Tally:
        shape = (self.design.repeats, self.design.groups)
        tally = {ALONE: torch.zeros(self.design.repeats, 2, dtype=torch.float64)}
        for model, sites in self.chosen.items():
            tally[sums_key(model)] = torch.zeros(*shape, len(sites), 1 + len(GRID), dtype=torch.float64)
            tally[counts_key(model)] = torch.zeros(*shape, len(sites), dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        cell = (minibatch.repeat, minibatch.group)
        _, inverse, sizes = np.unique(self.labels[list(minibatch.indices)], return_inverse=True, return_counts=True)
        alone = int((sizes[inverse] == 1).sum())
        tally[ALONE][minibatch.repeat] += torch.tensor([alone, minibatch.size], dtype=torch.float64)
        for model, sites in self.chosen.items():
            seen = self._losses.pop((minibatch.index, model))
            for layer, site in enumerate(sites):
                losses = seen[site.point].cpu()
                if bool(losses.isinf().any()):
                    raise NonFinite(model, site.name, site.shape)
                defined = ~losses.isnan().any(0)
                tally[sums_key(model)][cell][layer] += losses[:, defined].sum(1)
                tally[counts_key(model)][cell][layer] += int(defined.sum())

    def separations(self, tally: Tally) -> dict[str, Separations]:
        """Losses of every model, with what their errors are made from."""
        return {
            model: Separations(model, sites, tally[sums_key(model)], tally[counts_key(model)], GRID)
            for model, sites in self.chosen.items()
        }

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        alone, images = tally[ALONE].sum(0).tolist()
        if alone:
            note = (
                f"separation: {100 * alone / images:.1f} % of the images had no other one of their class in their "
                "minibatch and are left out; a larger --minibatch leaves out fewer"
            )
            self.notes += [note] if note not in self.notes else []
        found = {}
        for model, each in self.separations(tally).items():
            found[f"separation/{model}"] = model_dataset(each).assign_attrs(
                minibatch=self.design.minibatch,
                images=int(tally[ALONE][0, 1]),
                images_alone=int(tally[ALONE][0, 0]),
                pool=self.pool,
                temperature=self.temperature,
                distance=self.distance,
                scaled=int(self.scaled),
            )
            flat = [
                site.name for site, count in zip(each.sites, each.counts.sum((0, 1)).tolist(), strict=True) if not count
            ]
            note = f"{model}: {', '.join(flat)} did not vary over the images, so no loss is defined there (NaN)"
            self.notes += [note] if flat and note not in self.notes else []
        return found

    def findings(self, tally: Tally) -> list[Finding]:
        return find(self.separations(tally))

    def held_bytes(self) -> int:
        layers = sum(len(sites) for sites in self.chosen.values())
        return 8 * (layers * (1 + len(GRID)) * self.design.largest + 4 * max(self.design.largest**2, 1 << 22))
