from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
import torchvision
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from seelike.errors import SeelikeError
from seelike.images import BadImage, Images, as_images, load_batches, load_images


class Pictures(Dataset):
    """A user's own dataset: five PIL images with labels, one of which cannot be read."""

    def __init__(self, pixels: Callable[..., np.ndarray]) -> None:
        self.pixels = [pixels(number) for number in range(5)]

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[PIL.Image.Image, int]:
        if index == 3:
            raise KeyError("lost")
        return PIL.Image.fromarray(self.pixels[index]), index % 2


def test_specs_and_images(folder: Path) -> None:
    images = as_images(f"folder:{folder}")
    assert len(images) == 6
    assert as_images(images) is images
    assert list(as_images(folder).ids) == list(images.ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_float_tensor(dtype: torch.dtype) -> None:
    tensor = torch.rand(5, 3, 4, 6).to(dtype).requires_grad_()
    images = as_images(tensor)
    assert images.is_tensor
    assert list(images.ids) == [f"tensor:{index}" for index in range(5)]
    assert torch.equal(images.read(3), tensor[3])
    assert images.read(3).dtype == dtype
    assert not images.read(3).requires_grad
    assert torch.equal(as_images(np.ones((2, 1, 3, 3), dtype=np.float32)).read(1), torch.ones(1, 3, 3))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(5, 3, 4, 4, dtype=torch.uint8), r"tensor of uint8.*must be float.*images\.float\(\)"),
        (torch.zeros(5, 3, 4, 4, dtype=torch.int64), "tensor of int64"),
        (torch.zeros(3, 4, 4), r"shape \(3, 4, 4\); expected .*\(n, channels, height, width\)"),
        (torch.zeros(0, 3, 4, 4), r"no image: shape \(0, 3, 4, 4\)"),
        ([], "is empty"),
        (5, "a int is not images"),
        ({"pixel_values": torch.zeros(2, 3, 4, 4)}, r"a dict is not images; pass one of its values \(pixel_values\)"),
        (["a.png", "b.png"], "item 0 of 'images' is a str"),
        ([torch.zeros(3, 4, 4, dtype=torch.uint8)], r"images\[0\]' is a tensor of uint8"),
        (iter([]), "gave no batch; an iterator that was already used up"),
        (iter([torch.zeros(3, 4, 4)]), r"batches\[0\]' has shape \(3, 4, 4\)"),
        (iter([{"x_ray": 1}]), "keys x_ray has none of pixel_values"),
        (iter([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 5, 4)]), r"batch 1 .*\(3, 5, 4\), but .* \(3, 4, 4\)"),
        (iter([(torch.zeros(2, 3, 4, 4), [1])]), "batch 0 .* has 2 images but 1 labels"),
    ],
)
def test_what_is_no_images(value: Any, said: str) -> None:
    with pytest.raises(SeelikeError, match=said):
        as_images(value)


def test_hugging_face_dataset(encoded: Callable[..., bytes], pixels: Callable[..., np.ndarray]) -> None:
    cells = [{"bytes": encoded(number), "path": None} for number in range(4)]
    features = datasets.Features(
        {"x": datasets.Value("int64"), "img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    table = datasets.Dataset.from_dict({"img": cells, "x": [0] * 4, "label": [0, 1, 1, 0]}, features=features)
    table = table.select([3, 2, 0])
    images = as_images(table)
    assert images.labels == [0, 1, 0]
    assert images.class_names == ["a", "b"]
    assert np.array_equal(np.asarray(images.read(1)), pixels(2))
    assert isinstance(table[0]["img"], PIL.Image.Image)  # the user's own object decodes as before
    with pytest.raises(SeelikeError, match=r"pass one of its values \(train\)"):
        as_images(datasets.DatasetDict({"train": table}))
    streamed = as_images(table.to_iterable_dataset())
    assert np.array_equal(np.asarray(streamed.read(1)), pixels(2))


def test_dataset_of_pictures(pixels: Callable[..., np.ndarray]) -> None:
    images = as_images(Pictures(pixels))
    assert list(images.ids)[:2] == ["Pictures:0", "Pictures:1"]
    assert np.array_equal(np.asarray(images.read(2)), pixels(2))
    assert images.labels is not None
    assert images.labels[1] == 1
    with pytest.raises(BadImage, match=r"Pictures:3.*lost"):
        images.read(3)
    batch = next(load_batches(images, [[[0, 3, 1]]], [_mean], workers=1, on_bad_image="skip"))
    assert (batch.labels, [bad.id for bad in batch.bad]) == ([0, 1], ["Pictures:3"])


def test_torchvision_dataset(folder: Path) -> None:
    images = as_images(torchvision.datasets.ImageFolder(str(folder)))
    assert images.labels == [0, 0, 0, 1, 1, 1]
    assert images.class_names == ["cat", "dog"]
    ours = load_images(f"folder:{folder}")
    assert all(np.array_equal(np.asarray(images.read(i)), np.asarray(ours.read(i))) for i in range(6))


def test_datasets_of_tensors() -> None:
    tensor = torch.rand(4, 3, 5, 5)
    images = as_images(TensorDataset(tensor, torch.tensor([3, 1, 2, 0])))
    assert images.is_tensor
    assert list(images.labels or []) == [3, 1, 2, 0]
    batch = next(load_batches(images, [[[2, 0]]], [_mean, _mean], workers=0, on_bad_image="stop"))
    assert all(torch.equal(given, tensor[[2, 0]]) for given in batch.inputs)
    assert torch.equal(as_images(list(tensor)).read(1), tensor[1])


def test_lists_of_pictures(pixels: Callable[..., np.ndarray]) -> None:
    images = as_images([PIL.Image.fromarray(pixels(0)).convert("L"), PIL.Image.fromarray(pixels(1))])
    assert images.read(0).mode == "RGB"
    assert np.array_equal(np.asarray(images.read(1)), pixels(1))
    assert images.labels is None


def test_iterables_of_batches_are_read_once_up_to_the_limit() -> None:
    tensor, label = torch.rand(10, 3, 4, 4), torch.arange(10)
    read = []

    def batches(kind: str) -> Iterator[Any]:
        for start in (0, 4, 8):
            read.append(start)
            x, y = tensor[start : start + 4], label[start : start + 4]
            yield {"tensor": x, "tuple": (x, y), "dict": {"labels": y, "pixel_values": x}}[kind]

    for kind in ("tensor", "tuple", "dict"):
        images = as_images(batches(kind))
        assert torch.equal(torch.stack([images.read(i) for i in range(10)]), tensor)
        assert images.labels == (None if kind == "tensor" else list(range(10)))
    read.clear()
    images = as_images(batches("tuple"), limit=6)
    assert (len(images), images.labels, read) == (6, list(range(6)), [0, 4])


def test_loaders_and_lists_of_batches() -> None:
    data = TensorDataset(torch.rand(7, 3, 4, 4), torch.arange(7))
    images = as_images(DataLoader(data, batch_size=3))
    assert (len(images), images.labels) == (7, list(range(7)))
    assert torch.equal(images.read(6), data.tensors[0][6])
    assert len(as_images([torch.rand(3, 3, 4, 4), torch.rand(2, 3, 4, 4)])) == 5

    class Stream(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            yield torch.rand(2, 3, 4, 4)

    assert len(as_images(Stream())) == 2


def test_a_class_of_ones_own() -> None:
    class Grey(Images):
        name, ids = "grey", ("a", "b")

        def read(self, index: int) -> PIL.Image.Image:
            if index:
                raise BadImage("nothing there")
            return PIL.Image.new("RGB", (4, 4), "grey")

    batch = next(load_batches(as_images(Grey()), [[[0, 1]]], [_mean], on_bad_image="skip"))
    assert (batch.ids, batch.bad[0].id, batch.bad[0].reason) == (["a"], "b", "nothing there")


def _mean(image: PIL.Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image).mean(axis=(0, 1)), dtype=torch.float32)[:, None, None]
