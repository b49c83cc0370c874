"""Run one model over one forward batch and hand every tapped tensor to the studies, minibatch by minibatch."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seelike.anatomy import LayerSite
from seelike.models import Model
from seelike.passes.memory import SHARE, available_bytes, halve, is_out_of_memory
from seelike.passes.readings import Readings, join_taps
from seelike.studies import Fold, Minibatch

See = Callable[[LayerSite, Tensor, Minibatch], None]


@dataclass
class Forward:
    """One model with the studies that look at it.

    Attributes:
        label: the model's label in results; model: the model.
        wanted: per site, the folds that want its tensor.
        batch: most images in one forward pass; halved, and told, when memory runs out.
        tell: takes a sentence for the user.
    """

    label: str
    model: Model
    folds: Sequence[Fold]
    batch: int
    tell: Callable[[str], None]
    wanted: Mapping[str, tuple[LayerSite, list[Fold]]] = field(init=False)
    readings: Readings = field(init=False)

    def __post_init__(self) -> None:
        self.readings = Readings.of(self.label, self.folds)
        wanted: dict[str, tuple[LayerSite, list[Fold]]] = {}
        for fold in self.folds:
            for site in fold.sites(self.label):
                wanted.setdefault(site.point, (site, []))[1].append(fold)
        self.wanted = wanted

    def __call__(self, images: Tensor, minibatches: Sequence[Minibatch]) -> None:
        """Show `images` (n, c, h, w), which are `minibatches` one after the other, to model and studies.

        When memory runs out the batch is halved and the same images are shown again; folds overwrite what
        they held of these minibatches, so nothing counts twice.
        """
        while True:
            try:
                return self._show(images, minibatches)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                full = min(self.batch, len(images))
            for fold in self.folds:
                for minibatch in minibatches:
                    fold.forget(self.label, minibatch)
            # Out of the except block, so that the error's traceback no longer holds the tensors.
            self.batch = halve(full, self.model)
            gc.collect()
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            self.tell(f"{self.label}: memory ran out with {full} images at a time; going on with {self.batch}")

    def _show(self, images: Tensor, minibatches: Sequence[Minibatch]) -> None:
        start = 0
        for together in _fitting(minibatches, self.batch):
            count = sum(m.size for m in together)
            part = images[start : start + count]
            self._visit(part, together)
            if not (self.wanted or self.readings.wanted):
                pass  # nobody looks at the forward pass itself
            elif count <= self.batch:
                self._show_whole(part, together)
            else:
                self._show_in_pieces(part, together[0])
            start += count

    def _show_whole(self, images: Tensor, minibatches: Sequence[Minibatch]) -> None:
        def hand(site: LayerSite, folds: list[Fold]) -> Callable[[Tensor], None]:
            def see(tensor: Tensor) -> None:
                first = 0
                tensor = site.batch_first(tensor)
                for minibatch in minibatches:
                    for fold in folds:
                        fold.see(self.label, site, tensor[first : first + minibatch.size], minibatch)
                    first += minibatch.size

            return see

        taps = {point: hand(site, folds) for point, (site, folds) in self.wanted.items()}
        parts = [(minibatch, minibatch.size) for minibatch in minibatches]
        self._run(images, join_taps(taps, self.readings.taps(parts)))

    def _show_in_pieces(self, images: Tensor, minibatch: Minibatch) -> None:
        """Run a minibatch larger than the forward batch: keep its tensors until it is whole.

        Not all sites' tensors need fit in memory at once: sites are taken in rounds, each within the budget.
        """
        for number, points in enumerate(self._rounds(minibatch.size)):
            kept: dict[str, list[Tensor]] = {point: [] for point in points}
            for start in range(0, minibatch.size, self.batch):
                part = images[start : start + self.batch]
                taps = {point: _keeper(self.wanted[point][0], kept[point]) for point in points}
                read = self.readings.taps([(minibatch, len(part))]) if number == 0 else {}
                self._run(part, join_taps(taps, read))
            for point in points:
                site, folds = self.wanted[point]
                tensor = torch.cat(kept.pop(point))
                for fold in folds:
                    fold.see(self.label, site, tensor, minibatch)

    def _visit(self, images: Tensor, minibatches: Sequence[Minibatch]) -> None:
        """Give folds that run the model by themselves the images of each minibatch, a forward batch at a time."""
        first = 0
        for minibatch in minibatches:
            for fold in self.folds:
                if not fold.visits(self.label, minibatch):
                    continue
                for start in range(0, minibatch.size, self.batch):
                    part = images[first + start : first + min(start + self.batch, minibatch.size)]
                    part = part.to(self.model.device, self.model.dtype, non_blocking=True)
                    fold.visit(self.label, part, minibatch, start)
            first += minibatch.size

    def _rounds(self, images: int) -> list[list[str]]:
        budget = SHARE * available_bytes(self.model.device)
        rounds: list[list[str]] = [[]]
        filled = 0.0
        for point, (site, _) in self.wanted.items():
            need = images * math.prod(site.shape) * self.model.dtype.itemsize
            if rounds[-1] and filled + need > budget:
                rounds.append([])
                filled = 0.0
            rounds[-1].append(point)
            filled += need
        return rounds

    def _run(self, images: Tensor, taps: Mapping[str, Callable[[Tensor], None]]) -> None:
        model = self.model
        inputs = model.inputs(images.to(model.device, model.dtype, non_blocking=True))
        with torch.inference_mode():
            model.anatomy.run(inputs, taps, keep=self.readings.keep)


def _keeper(site: LayerSite, into: list[Tensor]) -> Callable[[Tensor], None]:
    return lambda tensor: into.append(site.batch_first(tensor).clone())


def _fitting(minibatches: Sequence[Minibatch], batch: int) -> list[list[Minibatch]]:
    """Group consecutive minibatches into runs of at most `batch` images; a larger one stands alone."""
    groups: list[list[Minibatch]] = []
    filled = batch
    for minibatch in minibatches:
        if filled + minibatch.size > batch or not groups:
            groups.append([])
            filled = 0
        groups[-1].append(minibatch)
        filled += minibatch.size
    return groups
