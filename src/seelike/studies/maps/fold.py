"""Keep the maps of chosen pictures, and sum over all images what falls on objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.studies.attention.estimate import ImageMeans
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Tally
from seelike.studies.maps.findings import find
from seelike.studies.maps.look import Looked, look
from seelike.studies.maps.objects import Rows, head_shares, object_cover
from seelike.studies.maps.pixels import as_picture
from seelike.studies.maps.results import Pictures, Shares, maps_dataset
from seelike.studies.maps.view import Views

IMAGES = "maps/images"
"""(repeats, groups) images over which shares are summed."""


def key(model: str, what: str) -> str:
    """Where something of a model stands in the tally."""
    return f"maps/{what}/{model}"


@dataclass
class MapsFold(Fold):
    """The study at work.

    Tally per model, with a slot for every chosen picture, filled once: ``map`` (slots, views, heads, rows, columns),
    ``rollout`` (slots, rows, columns), ``picture`` (slots, height, width, 3), ``scale`` (slots,), ``shown`` (slots,);
    and, where objects are known, sums and sums of squares over all images: ``rows`` (2, repeats, groups, length) and
    ``heads`` (2, repeats, groups, views, heads).
    """

    anatomies: Mapping[str, Anatomy]
    views: Mapping[str, Views]
    chosen: tuple[int, ...]
    objects: bool
    design: Design
    notes: list[str]
    _sums: dict[tuple[str, int], Tally] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._slot = {index: slot for slot, index in enumerate(self.chosen)}

    def visits(self, model: str, minibatch: Minibatch) -> bool:
        return model in self.views and (self.objects or bool(self._slots(minibatch, minibatch.indices)))

    def _slots(self, minibatch: Minibatch, indices: tuple[int, ...]) -> dict[int, int]:
        """Which of some images of a minibatch (by their row) go to which slot; of the first repeat only."""
        if minibatch.repeat:
            return {}
        return {row: self._slot[index] for row, index in enumerate(indices) if index in self._slot}

    def visit(self, model: str, inputs: Tensor, minibatch: Minibatch, start: int) -> None:
        indices = minibatch.indices[start : start + len(inputs)]
        slots = self._slots(minibatch, indices)
        rows = list(range(len(indices))) if self.objects else list(slots)
        if not rows:
            return
        sums = self._sums.setdefault((model, minibatch.index), {})
        views = self.views[model]
        looked = look(model, self.anatomies[model], views, inputs[rows], check=model not in self._checked)
        self._checked.add(model)
        for row, slot in slots.items():
            self._keep(sums, slot, looked, rows.index(row), inputs[row])
        if self.objects:
            cover = object_cover(self.design.samples, indices, views.grid)
            for what, each in (
                ("rows", Rows.of(views).pack(looked, views, cover)),
                ("heads", head_shares(looked, cover)),
            ):
                both = torch.stack([each.sum(0), each.square().sum(0)])
                sums[what] = sums[what] + both if what in sums else both

    def _keep(self, sums: Tally, slot: int, looked: Looked, row: int, pixels: Tensor) -> None:
        """Hold what goes into a slot until the minibatch ends."""
        picture, scale = as_picture(pixels)
        sums[f"map/{slot}"] = looked.maps[row]
        if looked.rollout is not None:
            sums[f"rollout/{slot}"] = looked.rollout[row]
        sums[f"picture/{slot}"] = picture
        sums[f"scale/{slot}"] = torch.tensor(float(scale), dtype=torch.float64)
        sums[f"shown/{slot}"] = torch.ones((), dtype=torch.float64)

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._sums.pop((model, minibatch.index), None)

    def empty(self) -> Tally:
        cells = (self.design.repeats, self.design.groups)
        tally = {IMAGES: torch.zeros(cells, dtype=torch.float64)}
        for model, views in self.views.items():
            height, width = self.anatomies[model].input_size[1:]
            shapes: dict[str, tuple[int, ...]] = {
                "map": (len(views.views), views.heads, *views.grid),
                "picture": (height, width, 3),
                "scale": (),
                "shown": (),
            }
            if views.skips is not None:
                shapes["rollout"] = views.grid
            for what, shape in shapes.items():
                tally[key(model, what)] = torch.zeros(len(self.chosen), *shape, dtype=torch.float64)
            if self.objects:
                for what, shape in (("rows", (Rows.of(views).length,)), ("heads", (len(views.views), views.heads))):
                    tally[key(model, what)] = torch.zeros(2, *cells, *shape, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        cell = (slice(None), minibatch.repeat, minibatch.group)
        for model in self.views:
            for name, value in self._sums.pop((model, minibatch.index), {}).items():
                what, _, slot = name.partition("/")
                if not bool(value.isfinite().all()):
                    self._refuse(model, what, value)
                if slot:
                    tally[key(model, what)][int(slot)] += value
                else:
                    tally[key(model, what)][cell] += value
        tally[IMAGES][minibatch.repeat, minibatch.group] += minibatch.size

    def _refuse(self, model: str, what: str, value: Tensor) -> None:
        views = self.views[model]
        place = int((~value.isfinite()).nonzero()[0, int(what == "heads")]) if what in ("map", "heads") else -1
        site = views.views[place].placed.site
        raise NonFinite(model, site.name, (site.heads, site.query_tokens, site.key_tokens))

    def held_bytes(self) -> int:
        most = 0
        for views in self.views.values():
            maps = len(views.views) * views.heads * views.grid[0] * views.grid[1] * 8
            tokens = max(site.site.query_tokens * site.site.key_tokens for site in views.sites)
            most = max(most, maps + 3 * tokens * 4)
        return most * (self.design.largest if self.objects else len(self.chosen))

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        found = {}
        for model, views in self.views.items():
            shown = [slot for slot, count in enumerate(tally[key(model, "shown")].tolist()) if count]
            if len(shown) < len(self.chosen):
                lost = (index for slot, index in enumerate(self.chosen) if slot not in shown)
                names = ", ".join(self.design.samples.ids[index] for index in lost)
                self._note(f"no attention maps of {names}: not shown, because it could not be read")
            get = {what: tally[key(model, what)][shown] for what in ("map", "picture", "scale")}
            rollout = tally[key(model, "rollout")][shown] if views.skips is not None else None
            ids = tuple(self.design.samples.ids[self.chosen[slot]] for slot in shown)
            pictures = Pictures(ids, get["map"], rollout, get["picture"], get["scale"])
            found[f"maps/{model}"] = maps_dataset(
                model, self.anatomies[model], views, pictures, self._shares(model, tally)
            )
        return found

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _shares(self, model: str, tally: Tally) -> Shares | None:
        if not self.objects:
            return None
        return Shares(
            Rows.of(self.views[model]),
            ImageMeans(tally[key(model, "rows")], tally[IMAGES]),
            ImageMeans(tally[key(model, "heads")], tally[IMAGES]),
        )

    def findings(self, tally: Tally) -> list[Finding]:
        if not self.objects or float(tally[IMAGES].sum(1).min()) < 2:
            return []  # a single picture has no others to be compared with
        shares = {model: self._shares(model, tally) for model in self.views}
        return [finding for model, each in shares.items() if each for finding in find(model, self.views[model], each)]
