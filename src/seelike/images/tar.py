"""`tar:SHARDS`: images in tar files of the WebDataset layout."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import PIL.Image

from seelike.errors import SeelikeError
from seelike.images.decode import decode
from seelike.images.files import expand, short_names
from seelike.images.source import BadImage, Images

FIELDS = ("jpg", "jpeg", "png", "webp", "ppm", "bmp", "gif", "tif", "tiff")
_BLOCK = 512


@dataclass
class _Sample:
    shard: int
    key: str
    fields: dict[str, tuple[int, int]]  # field -> offset, size in the shard
    label: int | str | None = None

    def image(self) -> tuple[int, int] | None:
        """Place of the image: `jpg` before `png` before `mask.jpg`."""
        for field in FIELDS:
            if field in self.fields:
                return self.fields[field]
        for field in sorted(self.fields):
            if field.rpartition(".")[2] in FIELDS:
                return self.fields[field]
        return None


def load_tar(rest: str) -> Images:
    """All samples of the shards, in order; ids are ``shard.tar:key``.

    A sample is the files of a shard that share a name up to its first dot; the label is the number or text
    in its `cls`, or `label` in its `json`. The shards are indexed once (headers only) and read in place:
    the `webdataset` builder of `datasets` would copy all of them into its cache, refuses shards that mix
    jpg and png, and takes a shard cut between two files for a short one.

    Raises:
        SeelikeError: when a shard is missing, compressed, truncated or not a tar file, or holds no images.
    """
    shards = expand(rest, ".tar")
    samples = [sample for number, shard in enumerate(shards) for sample in _index(shard, number)]
    if not samples:
        raise SeelikeError(f"no images in 'tar:{rest}': no file in it ends in .{', .'.join(FIELDS)}")
    return TarImages(f"tar:{rest}", shards, samples)


class TarImages(Images):
    """Samples of tar shards, read at their offsets when asked for."""

    def __init__(self, name: str, shards: list[Path], samples: list[_Sample]) -> None:
        names = short_names(shards)
        self.name = name
        self.ids = [f"{names[sample.shard]}:{sample.key}" for sample in samples]
        self._shards = shards
        self._samples = samples
        found = [sample.label for sample in samples]
        if all(isinstance(label, int) for label in found):
            self.labels = [label for label in found if isinstance(label, int)]
        elif all(label is not None for label in found):
            self.class_names = sorted({str(label) for label in found})
            number = {name: i for i, name in enumerate(self.class_names)}
            self.labels = [number[str(label)] for label in found]

    def read(self, index: int) -> PIL.Image.Image:
        """Decode sample `index`; raises `BadImage` when it cannot be decoded."""
        sample, name = self._samples[index], self.ids[index]
        place = sample.image()
        if place is None:
            raise BadImage.of(name, f"the sample has no image, only {', '.join(sorted(sample.fields))}")
        try:
            with self._shards[sample.shard].open("rb") as file:
                content = _slice(file, place)
        except OSError as error:
            raise BadImage.of(name, f"{error}") from error
        return decode(content, name)


def _index(shard: Path, number: int) -> list[_Sample]:
    samples: dict[str, _Sample] = {}
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                _add(samples, member, shard, number)
            _check_end(file, tar.offset, shard)
            kept = [sample for sample in samples.values() if sample.image() or "cls" in sample.fields]
            for sample in kept:
                sample.label = _label(file, sample)
    except (tarfile.TarError, OSError) as error:
        raise SeelikeError(f"'{shard}' cannot be read as a tar file: {_what(shard)} ({error})") from error
    return kept


def _add(samples: dict[str, _Sample], member: tarfile.TarInfo, shard: Path, number: int) -> None:
    folder, _, base = member.name.removeprefix("./").rpartition("/")
    stem, _, field = base.partition(".")
    if not member.isreg() or not stem or not field:  # folders, and the dot files that macOS leaves
        return
    key = f"{folder}/{stem}" if folder else stem
    sample = samples.setdefault(key, _Sample(number, key, {}))
    if field.lower() in sample.fields:
        raise SeelikeError(f"'{shard}' holds '{member.name}' twice, so its samples cannot be told apart")
    sample.fields[field.lower()] = (member.offset_data, member.size)


def _check_end(file: BinaryIO, offset: int, shard: Path) -> None:
    """Demand the zeros that end a whole tar file; `tarfile` does not mind when they are missing."""
    if _slice(file, (offset, _BLOCK)) != bytes(_BLOCK):
        raise SeelikeError(
            f"'{shard}' ends without the end mark of a tar file at byte {offset:,}: it is truncated or "
            f"damaged. Fetch or pack it again."
        )


def _label(file: BinaryIO, sample: _Sample) -> int | str | None:
    label: object = None
    try:
        if "cls" in sample.fields:
            label = _slice(file, sample.fields["cls"]).decode().strip()
        elif "json" in sample.fields:
            content = json.loads(_slice(file, sample.fields["json"]))
            label = content.get("label") if isinstance(content, dict) else None
    except ValueError:  # metadata that is not ours to judge: the image counts, without a label
        return None
    if isinstance(label, str):
        return int(label) if label.lstrip("-").isdecimal() else label
    return label if isinstance(label, int) else None


def _slice(file: BinaryIO, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    return file.read(place[1])


def _what(shard: Path) -> str:
    with shard.open("rb") as file:
        head = file.read(6)
    if not head:
        return "it is empty"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return "it is compressed, and single images can only be found in plain tar files; decompress it"
    return "it is truncated, or something else than a tar file"
