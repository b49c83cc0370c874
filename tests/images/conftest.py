"""Small images, and a cache of `datasets` that goes away with the test."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")


@pytest.fixture
def pixels() -> Callable[..., np.ndarray]:
    """Random uint8 pixels (height, width, 3), different for each number."""

    def make(number: int = 0, height: int = 12, width: int = 16) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def encoded(pixels: Callable[..., np.ndarray]) -> Callable[..., bytes]:
    """The bytes of image `number` as a file."""

    def make(number: int = 0, kind: str = "PNG", **size: int) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels(number, **size)).save(buffer, kind)
        return buffer.getvalue()

    return make


@pytest.fixture
def folder(tmp_path: Path, encoded: Callable[..., bytes]) -> Path:
    """photos/{cat,dog}/{0,1,2}.png, six images."""
    for number in range(6):
        path = tmp_path / "photos" / ("cat", "dog")[number // 3] / f"{number % 3}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number))
    return tmp_path / "photos"


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, **columns: list[object]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        return path

    return write


@pytest.fixture
def write_tar(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, files: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
        path = tmp_path / name
        with tarfile.open(path, mode) as tar:
            for member, content in files:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write
