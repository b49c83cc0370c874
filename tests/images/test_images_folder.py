from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seelike.errors import SeelikeError
from seelike.images import BadImage, load_images


def test_classes_ids_and_pixels(folder: Path, pixels: Callable[..., np.ndarray]) -> None:
    images = load_images(f"folder:{folder}")
    assert list(images.ids) == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert images.labels == [0, 0, 0, 1, 1, 1]
    assert images.class_names == ["cat", "dog"]
    assert len(images) == 6
    for number in range(6):
        assert np.array_equal(np.asarray(images.read(number)), pixels(number))


def test_a_path_alone_and_folder_names_that_mean_splits_elsewhere(folder: Path) -> None:
    folder.rename(folder.with_name("test[1]"))
    (folder.with_name("test[1]") / "cat").rename(folder.with_name("test[1]") / "train")
    images = load_images(str(folder.with_name("test[1]")))
    assert list(images.ids)[-1] == "train/2.png"
    assert images.class_names == ["dog", "train"]
    assert images.read(5).size == (16, 12)


def test_flat_or_uneven_folders_have_no_labels(folder: Path, encoded: Callable[..., bytes]) -> None:
    assert load_images(f"folder:{folder / 'cat'}").labels is None
    (folder / "loose.png").write_bytes(encoded(9))
    images = load_images(f"folder:{folder}")
    assert images.labels is None
    assert "loose.png" in images.ids


def test_the_class_is_the_innermost_folder(folder: Path) -> None:
    (folder.parent / "all" / "val").mkdir(parents=True)
    folder.rename(folder.parent / "all" / "val" / "x")
    images = load_images(f"folder:{folder.parent / 'all'}")
    assert images.ids[0] == "val/x/cat/0.png"
    assert images.class_names == ["cat", "dog"]


def test_hidden_and_other_files_are_left_out(folder: Path, encoded: Callable[..., bytes]) -> None:
    (folder / "cat" / "readme.txt").write_text("cats")
    (folder / "cat" / "._0.png").write_bytes(b"macOS")
    (folder / ".thumbs").mkdir()
    (folder / ".thumbs" / "0.png").write_bytes(encoded(0))
    assert len(load_images(f"folder:{folder}")) == 6


def test_unreadable_files_are_named_when_read(folder: Path, encoded: Callable[..., bytes]) -> None:
    (folder / "cat" / "0.png").write_bytes(b"")
    (folder / "cat" / "1.png").write_text("not an image")
    (folder / "dog" / "0.png").write_bytes(encoded(3)[:-40])
    images = load_images(f"folder:{folder}")
    assert len(images) == 6
    for index, said in ((0, "cat/0.png.*empty"), (1, "cat/1.png.*not an image"), (3, "dog/0.png")):
        with pytest.raises(BadImage, match=said):
            images.read(index)


def test_missing_folder_names_its_neighbours(folder: Path) -> None:
    with pytest.raises(SeelikeError, match=r"no such file or folder: '.*photo'.*did you mean photos"):
        load_images(f"folder:{folder.with_name('photo')}")
    with pytest.raises(SeelikeError, match="there is no folder '/nowhere'"):
        load_images("folder:/nowhere/at")


def test_folders_without_images_say_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(SeelikeError, match=r"no images in the folder '.*void': it is empty"):
        load_images(f"folder:{tmp_path / 'void'}")
    (tmp_path / "void" / "a.parquet").touch()
    (tmp_path / "void" / "b.csv").touch()
    with pytest.raises(SeelikeError, match=r"1 x \.parquet, 1 x \.csv; for these write parquet:.*void"):
        load_images(f"folder:{tmp_path / 'void'}")


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(SeelikeError, match="is a file, not a folder"):
        load_images(f"folder:{folder / 'cat' / '0.png'}")
