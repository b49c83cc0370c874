from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from seelike.errors import SeelikeError
from seelike.images import load_images
from seelike.images.hub import _explain, _parse


@pytest.fixture
def repository(write_parquet: Callable[..., Path], encoded: Callable[..., bytes]) -> Path:
    """A clone of a hub repository with train and test."""
    write_parquet("digits/data/train-00000-of-00001.parquet", image=[encoded(n) for n in range(5)], label=[0] * 5)
    path = write_parquet("digits/data/test-00000-of-00001.parquet", image=[encoded(9), encoded(8)], label=[1, 0])
    return path.parents[1]


def test_local_repository(repository: Path, pixels: Callable[..., np.ndarray]) -> None:
    images = load_images(f"hf:{repository}/train")
    assert list(images.ids) == [f"digits/train:{row}" for row in range(5)]
    assert images.labels == [0] * 5
    images = load_images(f"hf:{repository}")  # no split named: test comes before train
    assert images.name.endswith("digits/test")
    assert np.array_equal(np.asarray(images.read(0)), pixels(9))


def test_saved_to_disk(tmp_path: Path, encoded: Callable[..., bytes], pixels: Callable[..., np.ndarray]) -> None:
    table = datasets.Dataset.from_dict({"img": [{"bytes": encoded(4), "path": None}]}).cast_column(
        "img", datasets.Image()
    )
    table.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"dev": table, "train": table}).save_to_disk(str(tmp_path / "many"))
    assert np.array_equal(np.asarray(load_images(f"hf:{tmp_path}/one").read(0)), pixels(4))
    assert list(load_images(f"hf:{tmp_path}/many/dev").ids) == ["many/dev:0"]
    with pytest.raises(SeelikeError, match=r"splits dev, train; say which: hf:.*many/dev"):
        load_images(f"hf:{tmp_path}/many")
    with pytest.raises(SeelikeError, match="without splits; leave out '/test'"):
        load_images(f"hf:{tmp_path}/one/test")


def test_a_split_that_does_not_exist(repository: Path) -> None:
    with pytest.raises(SeelikeError, match=r"no split 'tset' \(did you mean test.*\); its splits are: .*train"):
        load_images(f"hf:{repository}/tset")


def test_hub_out_of_reach(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SeelikeError, match=r"cannot be reached for 'nobody/nothing'.*HF_HUB_OFFLINE.*parquet:FILES"):
        load_images("hf:nobody/nothing/test")
    assert capfd.readouterr().err == ""


def test_unknown_dataset() -> None:
    error = datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed.")
    assert "no dataset 'a/b' on the hub" in str(_explain("a/b", error))
    assert "pass the Dataset in Python" in str(_explain("a/b", ValueError("Config name is missing.")))


@pytest.mark.parametrize(
    ("rest", "place", "split"),
    [
        ("mnist", "mnist", None),
        ("mnist/test", "mnist", "test"),
        ("cifar100/test[:50]", "cifar100", "test[:50]"),
        ("ylecun/mnist", "ylecun/mnist", None),
        ("ylecun/mnist/test", "ylecun/mnist", "test"),
        ("ylecun/mnist/odd", "ylecun/mnist", "odd"),
    ],
)
def test_names(rest: str, place: str, split: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _parse(rest) == (place, split)


def test_paths_that_do_not_exist() -> None:
    with pytest.raises(SeelikeError, match="no such file or folder"):
        load_images("hf:./no/such/folder")
    with pytest.raises(SeelikeError, match=r"not hf:NAME"):
        load_images("hf:a/b/c/d")


def test_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeelikeError, match="empty' cannot be read as a dataset"):
        load_images(f"hf:{tmp_path}/empty")
