"""Images that are already tensors in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.images.source import Images

IMAGE_KEYS = ("pixel_values", "image", "images", "img", "x", "inputs")
LABEL_KEYS = ("label", "labels", "target", "targets", "y")


class TensorImages(Images):
    """A float tensor of preprocessed images; every model gets it as it is.

    Args:
        tensor: float, shape (n, channels, height, width). It is kept on the CPU, in its own dtype.
        labels: n class numbers, or None.
        name: for labels and `run.json`.

    Raises:
        SeelikeError: when the tensor is not float or has other dimensions, or labels of another number.
    """

    is_tensor = True

    def __init__(self, tensor: Tensor, labels: Sequence[int] | None = None, name: str = "tensor") -> None:
        check(tensor, 4, name)
        if tensor.shape[0] == 0:
            raise SeelikeError(f"the images '{name}' hold no image: shape {tuple(tensor.shape)}")
        if labels is not None and len(labels) != len(tensor):
            raise SeelikeError(f"'{name}': {len(labels)} labels for {len(tensor)} images")
        self.tensor = tensor.detach().cpu()
        self.labels = None if labels is None else [int(label) for label in labels]
        self.name = name
        self.ids = [f"{name}:{index}" for index in range(len(tensor))]

    def read(self, index: int) -> Tensor:
        """Image `index`, shape (channels, height, width)."""
        return self.tensor[index]


def check(value: Any, dims: int, name: str) -> None:
    """Raise `SeelikeError` unless `value` is a float tensor with `dims` dimensions."""
    shape = "(n, channels, height, width)" if dims == 4 else "(channels, height, width)"
    if not isinstance(value, Tensor):
        raise SeelikeError(f"'{name}' is a {type(value).__name__}, not a float tensor {shape}")
    if value.dim() != dims:
        raise SeelikeError(f"'{name}' has shape {tuple(value.shape)}; expected a float tensor {shape}")
    if not value.is_floating_point():
        raise SeelikeError(
            f"'{name}' is a tensor of {str(value.dtype).removeprefix('torch.')}, but a tensor is fed to the "
            f"models as it is, so it must be float and normalised: for example images.float().div(255) and "
            f"then the mean and standard deviation that the models were trained with. Or pass PIL images."
        )


def parts(item: Any) -> tuple[Any, Any]:
    """Split an item or batch (x; (x, label, ...); dict) into images and label or None.

    Raises:
        SeelikeError: for a dict without a known key (its keys are listed), an empty tuple.
    """
    if isinstance(item, Mapping):
        image = next((key for key in IMAGE_KEYS if key in item), None)
        if image is None:
            keys = ", ".join(str(key) for key in item)
            raise SeelikeError(f"a dict with the keys {keys} has none of {', '.join(IMAGE_KEYS)}")
        label = next((item[key] for key in LABEL_KEYS if key in item), None)
        return item[image], label
    if isinstance(item, (tuple, list)):
        if not item:
            raise SeelikeError("an empty tuple is no image")
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def from_batches(batches: Iterable[Any], limit: int | None, name: str = "batches") -> TensorImages:
    """Read batches once, into memory, up to `limit` images.

    Args:
        batches: each a float tensor (n, channels, height, width), a tuple of it and n labels, or a dict
            with `pixel_values` (or `image`) and perhaps `label`.
        limit: stop after so many images; None reads to the end.
        name: for labels and `run.json`.

    Raises:
        SeelikeError: for batches of another kind, or of different image shapes, or none at all.
    """
    kept: list[Tensor] = []
    labels: list[int] | None = []
    count = 0
    for number, batch in enumerate(batches):
        images, label = parts(batch)
        check(images, 4, f"{name}[{number}]")
        if kept and images.shape[1:] != kept[0].shape[1:]:
            raise SeelikeError(
                f"batch {number} of '{name}' has images of shape {tuple(images.shape[1:])}, but those "
                f"before it are {tuple(kept[0].shape[1:])}; all must be of one shape"
            )
        kept.append(images.detach().cpu())
        if labels is not None:
            labels = None if label is None else labels + _numbers(label, len(images), number, name)
        count += len(images)
        if limit is not None and count >= limit:
            break
    if not kept:
        raise SeelikeError(f"'{name}' gave no batch; an iterator that was already used up gives none")
    return TensorImages(torch.cat(kept)[:limit], None if labels is None else labels[:limit], name)


def _numbers(label: Any, n: int, number: int, name: str) -> list[int]:
    values = torch.as_tensor(label).flatten().tolist()
    if len(values) != n:
        raise SeelikeError(f"batch {number} of '{name}' has {n} images but {len(values)} labels")
    return [int(value) for value in values]
