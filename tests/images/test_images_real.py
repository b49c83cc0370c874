"""On the real images beside the checkout; numbers are facts about those files, counted once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torchvision.transforms import v2

from seelike.errors import SeelikeError
from seelike.images import BadImage, as_images, load_batches, load_images, partition


def test_cifar10(shared_data: Path) -> None:
    images = load_images(f"parquet:{shared_data}/cifar10/test.parquet")
    assert len(images) == 10_000
    assert images.ids[9_999] == "test.parquet:9999"
    assert np.bincount(images.labels).tolist() == [1000] * 10
    assert images.class_names is not None
    assert images.class_names[3] == "cat"
    # The mean colour of CIFAR-10 (test) as the literature gives it: 0.4942, 0.4851, 0.4504.
    some = np.stack([np.asarray(images.read(index)) for index in range(0, 10_000, 5)])
    assert some.shape == (2000, 32, 32, 3)
    assert np.abs(some.mean(axis=(0, 1, 2)) / 255 - [0.4942, 0.4851, 0.4504]).max() < 0.01


def test_imagenet_sample(shared_data: Path) -> None:
    images = load_images(str(shared_data / "imagenet-sample" / "validation.parquet"))
    assert len(images) == 1000
    assert images.class_names is not None
    assert (len(images.class_names), len(set(images.class_names))) == (1000, 1000)  # both cranes kept apart
    assert images.class_names[0] == "tench"
    transform = v2.Compose([v2.Resize(64), v2.CenterCrop(64), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])
    plan = [[part] for part in partition(1000, 16, limit=48, seed=1)]
    batches = list(load_batches(images, plan, [transform], workers=2))
    assert [tuple(batch.inputs[0].shape) for batch in batches] == [(16, 3, 64, 64)] * 3
    direct = torch.stack([transform(images.read(index)) for index in batches[1].indices])
    assert torch.equal(batches[1].inputs[0], direct)


def test_folder_tar_and_parquet_are_the_same_images(shared_data: Path, tmp_path: Path, write_tar) -> None:
    parquet = load_images(f"parquet:{shared_data}/cifar10/test.parquet")
    rows = pq.ParquetFile(shared_data / "cifar10" / "test.parquet").read_row_group(0)["image"].to_pylist()[:6]
    (tmp_path / "few").mkdir()
    for number, row in enumerate(rows):
        (tmp_path / "few" / f"{number}.png").write_bytes(row["bytes"])
    tar = load_images(f"tar:{write_tar('few.tar', [(f'{i}.png', row['bytes']) for i, row in enumerate(rows)])}")
    folder = load_images(f"folder:{tmp_path / 'few'}")
    for index in range(6):
        expected = np.asarray(parquet.read(index))
        assert np.array_equal(np.asarray(tar.read(index)), expected)
        assert np.array_equal(np.asarray(folder.read(index)), expected)


def test_truncated_copy(shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / "cifar10" / "test.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(SeelikeError, match=r"half\.parquet' \(1,\d+,\d+ bytes\) is not a whole Parquet file"):
        load_images(f"parquet:{tmp_path}/half.parquet")


def test_a_photo_cut_short(shared_data: Path, tmp_path: Path) -> None:
    table = pq.ParquetFile(shared_data / "imagenet-sample" / "validation.parquet").read_row_group(0)
    content = table["image"][5].as_py()["bytes"]
    (tmp_path / "whole.jpg").write_bytes(content)
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) - 2000])
    images = as_images(tmp_path)
    assert images.read(1).size[0] > 100
    with pytest.raises(BadImage, match=r"cut\.jpg.*truncated"):
        images.read(0)


def test_folders_of_parquet_say_how_to_write_them(shared_data: Path) -> None:
    with pytest.raises(SeelikeError, match=r"2 x \.parquet; for these write parquet:"):
        load_images(str(shared_data / "cifar10"))
