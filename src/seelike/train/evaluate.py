"""Test accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.images import Images
from seelike.models import Model, load_model
from seelike.train.datasets import open_split, places

BATCH = 500


@dataclass(frozen=True)
class Accuracy:
    """Share of `images` whose largest output is their class, with its binomial standard error."""

    value: float
    images: int

    @property
    def error(self) -> float:
        """Standard error."""
        return sqrt(self.value * (1 - self.value) / self.images)

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} % ± {100 * self.error:.2f} ({self.images:,} images)"


def evaluate(model: Model | str, name: str | None = None, data: Iterable[str] = (), split: str = "test") -> Accuracy:
    """Measure the accuracy of a model on a split of a data set, each image through the model's own preprocessing.

    `name` is a data set as in recipes; for a zoo model it may be left out, and is what the model was trained on.
    `data` says where data sets lie (``NAME=SPEC``).

    Raises `SeelikeError` when the data set is unknown or has more classes than the model.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    name = name or loaded.provenance.get("data_set")
    if name is None:
        raise SeelikeError(f"on which images? model {loaded.name} does not say what it was trained on; name a data set")
    return accuracy_on(loaded, _opened(str(name), split, places(data)))


def _opened(name: str, split: str, where: Mapping[str, str]) -> Images:
    images = open_split(name, split, where)
    if images is None:
        raise SeelikeError(f"data set {name} has no split {split}; recipes hold out training images instead")
    return images


@torch.inference_mode()
def accuracy_on(model: Model, images: Images) -> Accuracy:
    """Count hits over all of `images`, one at a time as studies see them."""
    labels = torch.tensor(images.labels)
    hits = 0
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        batch = torch.stack([model.preprocess(images.read(row)) for row in rows])
        outputs = model.module(batch.to(model.device, model.dtype)).float().cpu()
        _check_classes(outputs, labels, model.name, images.name)
        hits += int((outputs.argmax(1) == labels[start : rows.stop]).sum())
    return Accuracy(hits / len(images), len(images))


def _check_classes(outputs: Tensor, labels: Tensor, model: str, images: str) -> None:
    if outputs.ndim != 2 or outputs.shape[1] <= int(labels.max()):
        classes = tuple(outputs.shape[1:])
        raise SeelikeError(f"model {model} gives {classes} outputs, but {images} has {int(labels.max()) + 1} classes")
