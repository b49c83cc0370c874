from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seelike.errors import SeelikeError
from seelike.images import BadImage, load_images


@pytest.fixture
def shards(write_tar: Callable[..., Path], encoded: Callable[..., bytes]) -> Path:
    """s-000.tar to s-002.tar with two samples each, png and jpg mixed."""
    for number in range(3):
        first, second = 2 * number, 2 * number + 1
        files = [(f"{first:04d}.png", encoded(first)), (f"{first:04d}.cls", str(first).encode())]
        files += [
            (f"d/{second:04d}.jpg", encoded(second, "JPEG")),
            (f"d/{second:04d}.cls", str(second).encode()),
        ]
        path = write_tar(f"s-{number:03d}.tar", files)
    return path.parent


def test_ids_labels_and_pixels(shards: Path, pixels) -> None:
    for spec in ("s-*.tar", "s-{000..002}.tar", ""):
        images = load_images(f"tar:{shards}/{spec}")
        assert list(images.ids)[:3] == ["s-000.tar:0000", "s-000.tar:d/0001", "s-001.tar:0002"]
        assert images.labels == [0, 1, 2, 3, 4, 5]
        assert np.array_equal(np.asarray(images.read(4)), pixels(4))
        assert images.read(5).size == (16, 12)
    assert len(load_images(f"{shards}/s-001.tar")) == 2


def test_labels_from_json_or_text(write_tar: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    files = [
        ("a.jpg", encoded(0)),
        ("a.json", json.dumps({"label": 7}).encode()),
        ("b.jpg", encoded(0)),
        ("b.cls", b"3\n"),
    ]
    assert load_images(f"tar:{write_tar('a.tar', files)}").labels == [7, 3]
    files = [("a.jpg", encoded(0)), ("a.cls", b"dog"), ("b.jpg", encoded(0)), ("b.cls", b"cat")]
    images = load_images(f"tar:{write_tar('b.tar', files)}")
    assert (images.labels, images.class_names) == ([1, 0], ["cat", "dog"])
    files = [("a.jpg", encoded(0)), ("a.cls", b"1"), ("b.jpg", encoded(0)), ("b.json", b"{broken")]
    assert load_images(f"tar:{write_tar('c.tar', files)}").labels is None


def test_which_file_is_the_image(write_tar: Callable[..., Path], encoded: Callable[..., bytes], pixels) -> None:
    files = [
        ("./a.mask.png", encoded(0)),
        ("./a.PNG", encoded(1)),
        ("./b.img.png", encoded(2)),
        ("._a.png", b"macOS"),
        ("readme.md", b"hello"),
    ]
    images = load_images(f"tar:{write_tar('a.tar', files)}")
    assert list(images.ids) == ["a.tar:a", "a.tar:b"]
    assert np.array_equal(np.asarray(images.read(0)), pixels(1))
    assert np.array_equal(np.asarray(images.read(1)), pixels(2))


def test_a_sample_without_image_is_counted_and_named(write_tar: Callable[..., Path], encoded) -> None:
    images = load_images(f"tar:{write_tar('a.tar', [('a.cls', b'1'), ('b.jpg', encoded(0)), ('c.jpg', b'no')])}")
    assert len(images) == 3
    with pytest.raises(BadImage, match=r"a\.tar:a.*no image, only cls"):
        images.read(0)
    with pytest.raises(BadImage, match=r"a\.tar:c"):
        images.read(2)


def test_no_images(write_tar: Callable[..., Path]) -> None:
    with pytest.raises(SeelikeError, match=r"no images in 'tar:.*a\.tar'"):
        load_images(f"tar:{write_tar('a.tar', [('a.txt', b'x')])}")


def test_the_same_name_twice(write_tar: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    with pytest.raises(SeelikeError, match=r"a\.tar' holds 'a\.jpg' twice"):
        load_images(f"tar:{write_tar('a.tar', [('a.jpg', encoded(0)), ('a.jpg', encoded(1))])}")


def test_truncated_anywhere(shards: Path, write_tar: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    path = write_tar("whole.tar", [(f"{number}.png", encoded(number)) for number in range(4)])
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    end = members[-1].offset_data + -(-members[-1].size // 512) * 512
    cuts = [0, 100, members[1].offset, members[2].offset + 512, members[3].offset_data + 9, end - 1, end]
    for cut in cuts:
        (shards / "cut.tar").write_bytes(content[:cut])
        with pytest.raises(SeelikeError, match=r"cut\.tar' (ends without|cannot be read).*(truncated|empty)"):
            load_images(f"tar:{shards}/s-000.tar,{shards}/cut.tar")
    (shards / "cut.tar").write_bytes(content[: end + 512])  # one block of zeros is an end
    assert len(load_images(f"tar:{shards}/cut.tar")) == 4


def test_garbage_between_members(write_tar: Callable[..., Path], encoded: Callable[..., bytes]) -> None:
    path = write_tar("a.tar", [(f"{number}.png", encoded(number)) for number in range(4)])
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[2].offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 512] = b"\x55" * 512
    path.write_bytes(content)
    with pytest.raises(SeelikeError, match=f"byte {offset:,}: it is truncated or damaged"):
        load_images(f"tar:{path}")


def test_not_a_tar_or_compressed(shards: Path) -> None:
    (shards / "text.tar").write_text("hello " * 500)
    with pytest.raises(SeelikeError, match=r"text\.tar' cannot be read as a tar file"):
        load_images(f"tar:{shards}/text.tar")
    (shards / "small.tar").write_bytes(gzip.compress((shards / "s-000.tar").read_bytes()))
    with pytest.raises(SeelikeError, match=r"small\.tar' .*is compressed.*decompress"):
        load_images(f"tar:{shards}/small.tar")


def test_missing_shard_of_a_range(shards: Path) -> None:
    with pytest.raises(SeelikeError, match=r"no such file or folder: '.*s-003\.tar'"):
        load_images(f"tar:{shards}/s-{{000..004}}.tar")
