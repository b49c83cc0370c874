"""Fold minibatches into sums of products of tokens with patches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy, LayerSite
from seelike.measures import hsic_products
from seelike.measures.localization import TokenSums, token_sums
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Tally
from seelike.studies.localization.estimate import LayerEstimate, estimate_layer
from seelike.studies.localization.findings import Layers, find
from seelike.studies.localization.places import listed
from seelike.studies.localization.results import model_dataset
from seelike.studies.localization.targets import Grid, Targets

ROUNDING = 2.0**-20
"""A token whose spread is under so small a share of its size varies in the last bits of float32 only."""
WEIGHT = "localization/weight"
IMAGES = "localization/images"


def layer_key(model: str, number: int, what: str) -> str:
    """Where sums of layer `number` of a model stand in the tally: cross, own, spread."""
    return f"localization/{model}/{number}/{what}"


def patch_key(model: str, grid: Grid, what: str) -> str:
    """Where sums of the patches of a grid stand in the tally: own, spread."""
    return f"localization/{model}/patches/{grid[0]}x{grid[1]}/{what}"


@dataclass(frozen=True)
class Products:
    """What a minibatch adds for one layer.

    Attributes:
        cross: (tokens, patches) ``n (n - 3) HSIC_1``; own: (tokens,) the same of a token with itself.
        spread: (2, tokens) squared norm of one example times n, and sum of squares about the mean.
    """

    cross: Tensor
    own: Tensor
    spread: Tensor


@dataclass
class LocalizationFold(Fold):
    """The study at work.

    Tally: per layer ``cross`` (repeats, groups, tokens, patches), ``own`` (repeats, groups, tokens) and ``spread`` (2,
    tokens); per grid of patches ``own`` and ``spread`` of the patches. Not divided by n (n - 3), so that adding weighs
    every minibatch by it; ``weight`` (repeats, groups) sums n (n - 3), ``images`` sums n.
    """

    anatomies: Mapping[str, Anatomy]
    targets: Mapping[str, Targets]
    design: Design
    notes: list[str]
    _pixels: dict[tuple[int, str], list[Tensor]] = field(default_factory=dict)
    _patches: dict[tuple[int, str], dict[Grid, TokenSums]] = field(default_factory=dict)
    _products: dict[tuple[int, str], dict[int, Products]] = field(default_factory=dict)

    def sites(self, model: str) -> Iterable[LayerSite]:
        return self.targets[model].sites

    def visits(self, model: str, minibatch: Minibatch) -> bool:
        del minibatch
        return self.targets[model].embedding is None

    def visit(self, model: str, inputs: Tensor, minibatch: Minibatch, start: int) -> None:
        del start
        key = (minibatch.index, model)
        parts = self._pixels.setdefault(key, [])
        parts.append(inputs)
        if sum(map(len, parts)) == minibatch.size:
            self._patches[key] = self.targets[model].of_pixels(torch.cat(self._pixels.pop(key)))

    def see(self, model: str, site: LayerSite, tensor: Tensor, minibatch: Minibatch) -> None:
        targets, key = self.targets[model], (minibatch.index, model)
        if targets.embedding is not None and site.point == targets.embedding.point:
            self._patches[key] = targets.of_embedding(tensor)
        for number, place in enumerate(targets.places):
            if place.site.point == site.point:
                tokens = token_sums(place.features(tensor))
                cross = hsic_products(tokens.sums, self._patches[key][place.grid].sums)
                self._products.setdefault(key, {})[number] = Products(cross.cpu(), tokens.own.cpu(), spread_of(tokens))

    def forget(self, model: str, minibatch: Minibatch) -> None:
        key = (minibatch.index, model)
        self._pixels.pop(key, None)
        self._patches.pop(key, None)
        self._products.pop(key, None)

    def empty(self) -> Tally:
        shape = (self.design.repeats, self.design.groups)
        tally: Tally = {name: torch.zeros(shape, dtype=torch.float64) for name in (WEIGHT, IMAGES)}
        for model, targets in self.targets.items():
            for number, place in enumerate(targets.places):
                sizes = {"cross": (*shape, place.tokens, place.tokens), "own": (*shape, place.tokens)}
                for what, size in (sizes | {"spread": (2, place.tokens)}).items():
                    tally[layer_key(model, number, what)] = torch.zeros(size, dtype=torch.float64)
            for grid in targets.grids:
                cells = grid[0] * grid[1]
                tally[patch_key(model, grid, "own")] = torch.zeros(*shape, cells, dtype=torch.float64)
                tally[patch_key(model, grid, "spread")] = torch.zeros(2, cells, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        cell = (minibatch.repeat, minibatch.group)
        for model, targets in self.targets.items():
            patches = self._patches.pop((minibatch.index, model))
            products = self._products.pop((minibatch.index, model))
            for grid, sums in patches.items():
                own = sums.own.cpu()
                if not bool(own.isfinite().all()):
                    what = targets.embedding.name if targets.embedding is not None else "the preprocessed image"
                    raise NonFinite(model, what, tuple(self.anatomies[model].input_size))
                tally[patch_key(model, grid, "own")][cell] += own
                tally[patch_key(model, grid, "spread")] += spread_of(sums)
            for number, each in products.items():
                site = targets.places[number].site
                if not bool(each.own.isfinite().all() and each.cross.isfinite().all()):
                    raise NonFinite(model, site.name, site.shape)
                tally[layer_key(model, number, "cross")][cell] += each.cross
                tally[layer_key(model, number, "own")][cell] += each.own
                tally[layer_key(model, number, "spread")] += each.spread
        tally[WEIGHT][cell] += minibatch.size * (minibatch.size - 3)
        tally[IMAGES][cell] += minibatch.size

    def estimates(self, model: str, tally: Tally) -> Iterator[LayerEstimate]:
        """CKA of every layer of a model with errors, one layer at a time."""
        targets = self.targets[model]
        _, height, width = self.anatomies[model].input_size
        for number, place in enumerate(targets.places):
            own = tally[layer_key(model, number, "own")] * ~_constant(tally[layer_key(model, number, "spread")])
            patch = tally[patch_key(model, place.grid, "own")] * ~_constant(
                tally[patch_key(model, place.grid, "spread")]
            )
            cross = tally[layer_key(model, number, "cross")]
            yield estimate_layer(place, cross, own, patch, tally[WEIGHT], (height, width))

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        images = int(tally[IMAGES].sum(1).max())
        found = {}
        for model, targets in self.targets.items():
            source = "pixels" if targets.embedding is None else targets.embedding.name
            size = self.anatomies[model].input_size
            found[f"localization/{model}"] = model_dataset(model, self.estimates(model, tally), source, images, size)
            self._note_constant(model, tally)
        return found

    def _note_constant(self, model: str, tally: Tally) -> None:
        """Name what does not vary: it has no CKA, and is not counted."""
        targets = self.targets[model]
        flat = {
            f"{place.site.name} ({int(still.sum())} of {place.tokens} tokens)": still
            for number, place in enumerate(targets.places)
            if bool((still := _constant(tally[layer_key(model, number, "spread")])).any())
        }
        for grid in targets.grids:
            still = _constant(tally[patch_key(model, grid, "spread")])
            if bool(still.any()):
                flat[f"{int(still.sum())} of {grid[0]} x {grid[1]} patches of the image"] = still
        note = f"{model}: did not vary over the images, so CKA is not defined (NaN) and not counted: {listed(flat)}"
        if flat and note not in self.notes:
            self.notes.append(note)

    def findings(self, tally: Tally) -> list[Finding]:
        return find(
            [
                Layers(
                    model,
                    targets.places,
                    [each.readouts for each in self.estimates(model, tally)],
                    bool(self.anatomies[model].attentions),
                )
                for model, targets in self.targets.items()
            ]
        )

    def held_bytes(self) -> int:
        n = self.design.largest
        largest = max(place.tokens for targets in self.targets.values() for place in targets.places)
        kept = [sum(r * c for r, c in targets.grids) * n * n * 4 for targets in self.targets.values()]
        crosses = [sum(place.tokens**2 for place in targets.places) * 8 for targets in self.targets.values()]
        return largest * n * n * 12 + sum(kept) + sum(crosses)


def spread_of(tokens: TokenSums) -> Tensor:
    """Sizes and spreads of tokens, (2, tokens) on the CPU."""
    return torch.stack([tokens.size, tokens.sums.spread.to(tokens.size)]).cpu()


def _constant(spread: Tensor) -> Tensor:
    """Whether tokens or patches did not vary, from their (2, tokens) sizes and spreads."""
    return spread[1] <= ROUNDING**2 * spread[0]
