"""Sum absolute gradients over images, and what is read off each image's field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import xarray as xr
from torch import Tensor

from seelike.anatomy import Anatomy, Point
from seelike.anatomy.theory import Extents
from seelike.errors import SeelikeError
from seelike.measures.field import area_radius, distances, mass_radius, patch_share, second_moment_radius
from seelike.studies.base import Design, Finding, Fold, Minibatch, NonFinite, Tally
from seelike.studies.field.findings import contrasts, find
from seelike.studies.field.results import field_dataset
from seelike.studies.field.targets import Target

SIZES = ("radius", "mass_radius", "area_radius", "centre_share")
"""What is read off every image's field, in this order."""


def key(model: str, what: str) -> str:
    """Where the sums of a model stand in the tally."""
    return f"field/{model}/{what}"


@dataclass
class FieldFold(Fold):
    """The study at work.

    Tally per model: ``sum`` and ``square`` (targets, height, width) of the fields of single images; ``sizes``
    (2, targets, 4), sum and sum of squares of what is read off them; ``contrasts`` (2, k); ``images`` (1,).
    """

    images: int
    channels: int | None
    projection: str
    anatomies: Mapping[str, Anatomy]
    targets: Mapping[str, tuple[Target, ...]]
    theory: Mapping[str, Mapping[Point, Extents]]
    design: Design
    notes: list[str]
    _fields: dict[tuple[int, str], list[Tensor]] = field(default_factory=dict)

    def visits(self, model: str, minibatch: Minibatch) -> bool:
        del model
        return self._left(minibatch) > 0

    def _left(self, minibatch: Minibatch) -> int:
        """Images of a minibatch that are among the first `images` of the first repeat."""
        first = minibatch.index * self.design.minibatch
        return 0 if minibatch.repeat else max(0, min(minibatch.size, self.images - first))

    def visit(self, model: str, inputs: Tensor, minibatch: Minibatch, start: int) -> None:
        count = min(len(inputs), self._left(minibatch) - start)
        if count <= 0:
            return
        first = minibatch.index * self.design.minibatch + start
        fields = self._gradients(model, inputs[:count], first)
        self._fields.setdefault((minibatch.index, model), []).append(fields)

    def _gradients(self, model: str, images: Tensor, first: int) -> Tensor:
        """Fields of images `first` on, (n, targets, height, width) float64."""
        anatomy, targets = self.anatomies[model], self.targets[model]
        fields = torch.zeros(len(images), len(targets), *images.shape[-2:], dtype=torch.float64)
        with torch.enable_grad():
            x = images.detach().clone().requires_grad_()
            tensors = anatomy.run_until(anatomy.inputs(x), list(dict.fromkeys(t.point for t in targets)))
            for number, target in enumerate(targets):
                features = target.features(tensors[target.point])
                if not features.requires_grad:
                    raise SeelikeError(_no_gradient(anatomy.name, target, "nothing on the way to it has a gradient"))
                fields[:, number] = self._field(features, x, anatomy.name, target, number, first)
        return fields

    def _field(self, features: Tensor, x: Tensor, model: str, target: Target, number: int, first: int) -> Tensor:
        """Mean absolute gradient over the channels drawn, (n, height, width), on the CPU."""
        rows = self._rows(number, target.channels)[first : first + len(x)].to(features)
        total = torch.zeros(len(x), *x.shape[-2:], dtype=torch.float32, device=x.device)
        for draw in range(rows.shape[1]):
            if self.projection == "gaussian":
                scalar = (features * rows[:, draw]).sum()
            else:
                scalar = features.gather(1, rows[:, draw, None].long()).sum()
            try:
                (gradient,) = torch.autograd.grad(scalar, x, retain_graph=True)
            except RuntimeError as error:
                if "out of memory" in str(error).lower():
                    raise
                raise SeelikeError(_no_gradient(model, target, str(error).splitlines()[0])) from error
            total += gradient.abs().sum(1)  # over colours
        return (total / rows.shape[1]).double().cpu()

    def _rows(self, number: int, channels: int) -> Tensor:
        """What is drawn for every image: channel numbers (images, k), or combinations (images, k, channels)."""
        generator = torch.Generator().manual_seed(self.design.seed * 100_003 + number)
        if self.projection == "gaussian":
            return torch.randn(self.images, self.channels or 1, channels, generator=generator)
        if self.channels is None or self.channels >= channels:
            return torch.arange(channels, dtype=torch.float64).expand(self.images, -1)
        return torch.rand(self.images, channels, generator=generator).argsort(1)[:, : self.channels].double()

    def forget(self, model: str, minibatch: Minibatch) -> None:
        self._fields.pop((minibatch.index, model), None)

    def empty(self) -> Tally:
        tally: Tally = {}
        for model, targets in self.targets.items():
            _, height, width = self.anatomies[model].input_size
            for what in ("sum", "square"):
                tally[key(model, what)] = torch.zeros(len(targets), height, width, dtype=torch.float64)
            tally[key(model, "sizes")] = torch.zeros(2, len(targets), len(SIZES), dtype=torch.float64)
            tally[key(model, "contrasts")] = torch.zeros(2, len(contrasts(targets)), dtype=torch.float64)
            tally[key(model, "images")] = torch.zeros(1, dtype=torch.float64)
        return tally

    def finish(self, minibatch: Minibatch, tally: Tally) -> None:
        for model, targets in self.targets.items():
            parts = self._fields.pop((minibatch.index, model), None)
            if parts is None:
                continue
            fields = torch.cat(parts)  # (n, targets, height, width)
            broken = ~fields.isfinite().flatten(2).all(2).all(0)
            if bool(broken.any()):
                target = targets[int(broken.nonzero()[0])]
                raise NonFinite(model, f"the gradient of {target.name}", target.site.shape)
            sizes = self._sizes(fields, targets)
            tally[key(model, "sum")] += fields.sum(0)
            tally[key(model, "square")] += fields.square().sum(0)
            tally[key(model, "sizes")] += torch.stack([sizes.sum(0), sizes.square().sum(0)])
            each = torch.stack([c.of(sizes) for c in contrasts(targets)], 1) if contrasts(targets) else sizes[:, 0, :0]
            tally[key(model, "contrasts")] += torch.stack([each.sum(0), each.square().sum(0)])
            tally[key(model, "images")] += len(fields)

    def _sizes(self, fields: Tensor, targets: tuple[Target, ...]) -> Tensor:
        """What is read off every field, (n, targets, 4)."""
        height, width = fields.shape[-2:]
        sizes = []
        for number, target in enumerate(targets):
            one = fields[:, number]
            distance = distances(height, width, target.middle(height, width))
            share = patch_share(one, *target.cell(height, width))
            sizes.append(
                torch.stack(
                    [second_moment_radius(one, distance), mass_radius(one, distance), area_radius(one), share], 1
                )
            )
        return torch.stack(sizes, 1)

    def results(self, tally: Tally) -> dict[str, xr.Dataset]:
        found = {}
        for model, targets in self.targets.items():
            sums = {what: tally[key(model, what)] for what in ("sum", "square", "sizes", "images")}
            found[f"field/{model}"] = field_dataset(
                model, targets, sums, self.theory[model], SIZES, self.projection, self._drawn(targets)
            )
            flat = [t.name for t, mass in zip(targets, sums["sum"].sum((1, 2)).tolist(), strict=True) if mass == 0]
            note = f"{model}: the gradient of {', '.join(flat)} is zero everywhere, so its size is not defined (NaN)"
            if flat and note not in self.notes:
                self.notes.append(note)
        return found

    def _drawn(self, targets: tuple[Target, ...]) -> str:
        every = self.channels is None or all(self.channels >= target.channels for target in targets)
        return "all" if every else str(self.channels)

    def findings(self, tally: Tally) -> list[Finding]:
        sums = {model: (tally[key(model, "contrasts")], tally[key(model, "images")]) for model in self.targets}
        return find(self.targets, sums)

    def held_bytes(self) -> int:
        size = max(a.input_size[1] * a.input_size[2] for a in self.anatomies.values())
        return self.images * max(len(t) for t in self.targets.values()) * size * 8


def _no_gradient(model: str, target: Target, reason: str) -> str:
    return (
        f"{model}: {target.name} {target.site.shape} cannot be differentiated with respect to the image ({reason}); "
        "leave it out with --layers"
    )
