from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import seelike
from nets import tiny_vit
from seelike.errors import SeelikeError
from seelike.images import BadImage, load_images


@pytest.fixture
def cat(tmp_path: Path, encoded: Callable[..., bytes]) -> Path:
    (tmp_path / "cat.PNG").write_bytes(encoded(0))
    (tmp_path / "dog, sitting.jpeg").write_bytes(encoded(1, "JPEG"))
    (tmp_path / "owl.png").write_bytes(encoded(2))
    return tmp_path / "cat.PNG"


@pytest.mark.parametrize("kind", ["", "picture:"])
def test_one_picture(kind: str, cat: Path, pixels: Callable[..., np.ndarray]) -> None:
    images = load_images(f"{kind}{cat}")
    assert list(images.ids) == ["cat.PNG"]
    assert images.labels is None
    assert images.name == f"picture:{cat}"
    assert np.array_equal(np.asarray(images.read(0)), pixels(0))


def test_several_in_the_order_named(
    cat: Path, pixels: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cat.parent)
    images = load_images("picture:owl.png, cat.PNG,owl.png")
    assert list(images.ids) == ["owl.png", "cat.PNG"]
    assert np.array_equal(np.asarray(images.read(0)), pixels(2))
    assert list(load_images("owl.png,cat.PNG").ids) == ["owl.png", "cat.PNG"]
    assert list(load_images("picture:dog, sitting.jpeg").ids) == ["dog, sitting.jpeg"]  # a path that exists is no list
    assert list(load_images("picture:o*.png,*.PNG").ids) == ["owl.png", "cat.PNG"]


def test_names_alike_are_told_apart(cat: Path, encoded: Callable[..., bytes]) -> None:
    other = cat.parent / "more" / "cat.PNG"
    other.parent.mkdir()
    other.write_bytes(encoded(3))
    assert list(load_images(f"picture:{cat},{other}").ids) == ["cat.PNG", "more/cat.PNG"]


def test_what_is_no_picture_is_named_before_any_work(cat: Path) -> None:
    for name, content, said in (
        ("notes.jpg", b"not a picture", r"notes\.jpg' is no picture in a format that PIL knows"),
        ("empty.png", b"", r"empty\.png' is no picture: it is empty"),
        ("cut.png", cat.read_bytes()[:20], r"cut\.png'"),
    ):
        (cat.parent / name).write_bytes(content)
        with pytest.raises(SeelikeError, match=said):
            load_images(str(cat.parent / name))


def test_a_damaged_picture_is_named_when_read(cat: Path) -> None:
    (cat.parent / "cut.png").write_bytes(cat.read_bytes()[:-40])
    images = load_images(f"picture:{cat.parent / 'cut.png'}")
    with pytest.raises(BadImage, match=r"cut\.png"):
        images.read(0)


def test_missing_files_and_folders(cat: Path) -> None:
    for spec in (f"{cat.parent / 'cot.png'}", f"picture:{cat},{cat.parent / 'cot.png'}"):
        with pytest.raises(SeelikeError, match=r"no such file or folder: '.*cot\.png' \(did you mean"):
            load_images(spec)
    with pytest.raises(SeelikeError, match=r"is a folder, not a picture; .* write folder:"):
        load_images(f"picture:{cat.parent}")
    with pytest.raises(SeelikeError, match="no file matches"):
        load_images(f"picture:{cat.parent}/*.gif")
    with pytest.raises(SeelikeError, match="no picture is named"):
        load_images("picture:,")
    with pytest.raises(SeelikeError, match=r"says nothing after the colon; write picture:FILE"):
        load_images("picture:")


def test_maps_of_one_picture(cat: Path) -> None:
    """The shortest way: one model, one file, one study."""
    model = seelike.Model(tiny_vit(), (3, 32, 32), "vit")
    data = seelike.compare(model, str(cat), [seelike.AttentionMaps()])["maps/vit"]
    assert list(data["image"].values) == ["cat.PNG"]
    assert data["map"].shape == (1, 3, 2, 4, 4)
    assert np.isfinite(data["map"]).all()
