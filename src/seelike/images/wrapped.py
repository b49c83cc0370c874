"""Images out of whatever a user has in Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from seelike.errors import SeelikeError
from seelike.images.decode import to_rgb
from seelike.images.load import load_images
from seelike.images.source import BadImage, Images
from seelike.images.tables import TableImages
from seelike.images.tensors import TensorImages, check, from_batches, parts


def as_images(source: Any, limit: int | None = None) -> Images:
    """Take as images what is one of these, and say so clearly when it is none.

    * a spec or path: see `load_images`; `Images`: itself;
    * a float tensor (or array) of shape (n, channels, height, width), preprocessed: given to all models
      as it is;
    * a `datasets.Dataset` with an image column;
    * a sequence or map-style torch `Dataset` of PIL images, of float tensors (channels, height, width), or
      of (image, label): read on demand, in worker processes if it can be pickled or forked;
    * any other iterable: of batches, float tensors (n, channels, height, width), (tensor, labels) or dicts
      with `pixel_values`, or of PIL images. It is **read once, into memory**, up to `limit` images.

    Args:
        source: see above.
        limit: how many images to read from an iterable; other sources are read on demand and ignore it.

    Raises:
        SeelikeError: for anything else, naming type, shape or dtype.
    """
    if isinstance(source, Images):
        return source
    if isinstance(source, (str, Path)):
        return load_images(str(source))
    if isinstance(source, np.ndarray):
        source = torch.from_numpy(source)
    if isinstance(source, Tensor):
        return TensorImages(source)
    if type(source).__module__.startswith("datasets.") and hasattr(source, "features"):
        wrapped = _hugging_face(source)
        if wrapped is not None:
            return wrapped
    if isinstance(source, Mapping):
        keys = ", ".join(str(key) for key in source)
        raise SeelikeError(f"a {type(source).__name__} is not images; pass one of its values ({keys})")
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _sequence(source, limit)
    if isinstance(source, Iterable):
        return _iterable(source, limit)
    raise SeelikeError(
        f"a {type(source).__name__} is not images: pass a spec such as 'folder:DIR', a float tensor (n, "
        f"channels, height, width), a dataset, or an iterable of batches"
    )


class ItemImages(Images):
    """Items of a sequence or map-style dataset: PIL images, tensors, or either with a label.

    Labels are taken from the dataset's `targets` where it has them (torchvision); otherwise from the items,
    each read when its label is asked for.
    """

    def __init__(self, items: Any, name: str) -> None:
        first, label = _item(items, 0)
        self.is_tensor = isinstance(first, Tensor)
        if self.is_tensor:
            check(first, 3, f"{name}[0]")
        elif not isinstance(first, PIL.Image.Image):
            raise SeelikeError(
                f"item 0 of '{name}' is a {type(first).__name__}; expected a PIL image or a float tensor "
                f"(channels, height, width), alone or with a label"
            )
        self.name = name
        self.ids = [f"{name}:{index}" for index in range(len(items))]
        self._items = items
        self.class_names = getattr(items, "classes", None)
        targets = getattr(items, "targets", None)
        if targets is not None and len(targets) == len(self.ids):
            self.labels = [int(target) for target in targets]
        elif isinstance(label, (int, np.integer)) or (isinstance(label, Tensor) and label.numel() == 1):
            self.labels = _ItemLabels(items)

    def read(self, index: int) -> PIL.Image.Image | Tensor:
        """Item `index`; raises `BadImage` when the dataset cannot read it."""
        sample = self.ids[index]
        try:
            image, _ = _item(self._items, index)
            if isinstance(image, PIL.Image.Image):
                image.load()
                return to_rgb(image)
        except MemoryError:
            raise
        except Exception as error:  # somebody else's code: whatever it raises, this image cannot be read
            raise BadImage.of(sample, f"{error!r}") from error
        if not self.is_tensor:
            raise BadImage.of(sample, f"it is a {type(image).__name__}, not a PIL image like item 0")
        check(image, 3, sample)
        return image if isinstance(image, Tensor) else torch.as_tensor(image)


class _ItemLabels(Sequence[int]):
    """Labels that are only known by reading the items."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return int(_item(self._items, index)[1])


def _item(items: Any, index: int) -> tuple[Any, Any]:
    return parts(items[index])


def _hugging_face(source: Any) -> Images | None:
    """Wrap a Dataset; None for a streamed one, which is an iterable like any other."""
    if not hasattr(source, "with_format") or not hasattr(source, "__len__"):
        return None
    name = str(source.info.dataset_name or "dataset") if source.info else "dataset"
    where = f"{name}/{source.split}" if source.split else name
    return TableImages(source, where, [f"{where}:{row}" for row in range(len(source))])


def _sequence(source: Any, limit: int | None) -> Images:
    name = "images" if isinstance(source, (list, tuple)) else type(source).__name__
    if len(source) == 0:
        raise SeelikeError(f"'{name}' is empty, so there are no images in it")
    try:
        first, _ = _item(source, 0)
    except SeelikeError:
        raise
    except Exception as error:
        raise SeelikeError(f"item 0 of '{name}' cannot be read: {error!r}") from error
    if isinstance(first, Tensor) and first.dim() == 4:
        return from_batches((source[index] for index in range(len(source))), limit, name)
    return ItemImages(source, name)


def _iterable(source: Iterable[Any], limit: int | None) -> Images:
    iterator = iter(source)
    first = next(iterator, None)
    if first is None:
        return from_batches((), limit)
    rest = itertools.chain([first], iterator)
    if isinstance(parts(first)[0], PIL.Image.Image):
        return ItemImages(list(itertools.islice(rest, limit)), "images")
    return from_batches(rest, limit)
