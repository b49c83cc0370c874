from __future__ import annotations

from pathlib import Path

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
    ],
)
def test_specs_that_are_wrong(spec: str, said: str) -> None:
    with pytest.raises(SeelikeError, match=said):
        load_images(spec)


def test_a_file_of_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(SeelikeError, match=r"a\.csv' is not a folder, \.parquet or \.tar"):
        load_images(str(tmp_path / "a.csv"))


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
