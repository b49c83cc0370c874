from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seelike.errors import SeelikeError
from seelike.images import load_images
from seelike.images.files import expand


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "parket:a",
            r"'parket:' is no kind of images \(did you mean parquet.*\); images are given as folder:DIR",
        ),
        ("folder:", "says nothing after the colon; write folder:DIR"),
        ("nowhere", "'nowhere' does not exist"),
        ("generated:many", r"not generated:N\[\?size=224,seed=0\]"),
        ("generated:3?sise=5", r"'sise=5'.*did you mean size"),
        ("generated:3?size=4", "of 4 px"),
        ("generated:0", "0 images"),
    ],
)
def test_specs_that_are_wrong(spec: str, said: str) -> None:
    with pytest.raises(SeelikeError, match=said):
        load_images(spec)


def test_a_file_of_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(SeelikeError, match=r"a\.csv' is not a folder, \.parquet or \.tar"):
        load_images(str(tmp_path / "a.csv"))


def test_generated_depends_on_seed_and_index_only() -> None:
    few, many = load_images("generated:3?size=32,seed=5"), load_images("generated:100?size=32&seed=5")
    assert list(few.ids) == list(many.ids)[:3]
    many.read(50)
    assert np.array_equal(np.asarray(few.read(2)), np.asarray(many.read(2)))
    assert few.read(0).size == (32, 32)
    assert load_images("generated:1").read(0).size == (224, 224)
    other = load_images("generated:3?size=32,seed=6")
    assert not np.array_equal(np.asarray(few.read(2)), np.asarray(other.read(2)))
    assert not set(few.ids) & set(other.ids)


def test_generated_images_are_worth_looking_at() -> None:
    images = load_images("generated:64?size=48")
    stack = np.stack([np.asarray(images.read(index), dtype=float) for index in range(64)])
    assert stack.std(axis=(1, 2)).min() > 2  # none is flat in any colour
    flat = stack.reshape(64, -1)
    likeness = np.corrcoef(flat)[~np.eye(64, dtype=bool)]
    assert np.abs(likeness).mean() < 0.5  # and no two alike


def test_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a-8.tar", "a-9.tar", "a-10.tar", "b,c.tar", "x/y.tar"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()

    def names(spec: str) -> list[str]:
        return [path.as_posix() for path in expand(spec, ".tar")]

    assert names("a-{8..10}.tar") == ["a-8.tar", "a-9.tar", "a-10.tar"]
    assert names("a-{9,8}.tar,x/y.tar") == ["a-9.tar", "a-8.tar", "x/y.tar"]
    assert names("b,c.tar") == ["b,c.tar"]  # a path that exists is no list
    assert names("a-8.tar, a-8.tar") == ["a-8.tar"]
    assert names("**/y.tar") == ["x/y.tar"]
    assert names(".") == ["a-10.tar", "a-8.tar", "a-9.tar", "b,c.tar", "x/y.tar"]
    with pytest.raises(SeelikeError, match="no file is named"):
        expand(" , ", ".tar")
