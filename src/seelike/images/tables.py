"""Images in the columns of a Hugging Face dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image

from seelike.errors import SeelikeError
from seelike.images.decode import decode
from seelike.images.source import BadImage, Images

IMAGE_NAMES = ("image", "img", "images", "pixel_values", "jpg", "jpeg", "png", "webp", "picture", "photo")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "cls")


class TableImages(Images):
    """Rows of a `datasets.Dataset`, left encoded in its memory-mapped Arrow file until they are read.

    Args:
        table: the dataset; of its columns only image and label are used, and no transform set on it is.
        name: for labels and `run.json`.
        ids: one id per row.

    Raises:
        SeelikeError: when no column holds images (the columns are listed), or there are no rows.
    """

    def __init__(self, table: Any, name: str, ids: Sequence[str]) -> None:
        import datasets

        if len(table) == 0:
            raise SeelikeError(f"'{name}' holds no rows, so no images")
        self._column = image_column(table.features, name)
        label = label_column(table.features)
        table = table.with_format(None).select_columns([self._column] + ([label] if label else []))
        if isinstance(table.features[self._column], datasets.Image):
            # We decode ourselves: in the worker, completely, and with the image's name in the error.
            table = table.cast_column(self._column, datasets.Image(decode=False))
        self.name = name
        self.ids = ids
        if label:
            self.labels, self.class_names = _labels(table, label)
        self._table = table.select_columns([self._column])

    def read(self, index: int) -> PIL.Image.Image:
        """Decode row `index`; raises `BadImage` when it cannot be decoded."""
        cell, sample = self._table[index][self._column], self.ids[index]
        content = cell if isinstance(cell, bytes) else _content(cell)
        if content is None:
            raise BadImage.of(sample, "the cell is empty")
        return decode(content, sample)


def image_column(features: Mapping[str, Any], name: str) -> str:
    """Find the column that holds images, by its feature type or else by its name and binary content.

    Raises:
        SeelikeError: when there is none; the columns are listed.
    """
    import datasets

    typed = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    binary = [column for column, feature in features.items() if _is_binary(feature)]
    named = [column for known in IMAGE_NAMES for column in binary if column.lower() == known]
    candidates = [column for column in IMAGE_NAMES if column in typed] + typed + named
    if candidates:
        return str(candidates[0])
    if len(binary) == 1:
        return str(binary[0])
    columns = ", ".join(f"{column} ({_word(feature)})" for column, feature in features.items())
    raise SeelikeError(
        f"'{name}' has no image column; its columns are: {columns}. Images are expected as encoded files, in "
        f"a column 'image' of bytes or of struct{{bytes, path}}."
    )


def label_column(features: Mapping[str, Any]) -> str | None:
    """Find the column of class labels: `label` and the like, else the only one of type `ClassLabel`."""
    import datasets

    for column in LABEL_NAMES:
        if column in features and _is_label(features[column]):
            return column
    typed = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    return str(typed[0]) if len(typed) == 1 else None


def _content(cell: Any) -> bytes | Path | None:
    if isinstance(cell, Mapping):
        if cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        return Path(cell["path"]) if cell.get("path") else None
    return None


def _is_binary(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return _is_binary(feature.get("bytes"))
    return getattr(feature, "dtype", None) in ("binary", "large_binary", "binary_view")


def _is_label(feature: Any) -> bool:
    dtype = str(getattr(feature, "dtype", ""))
    return dtype.startswith(("int", "uint")) or dtype in ("string", "large_string")


def _labels(table: Any, column: str) -> tuple[list[int] | None, list[str] | None]:
    """Read the labels; None as soon as one is missing, for a class number cannot say 'unknown'."""
    values = table[column][:]
    if any(value is None for value in values):
        return None, None
    if isinstance(values[0], str):
        names = sorted(set(values))
        number = {name: i for i, name in enumerate(names)}
        return [number[value] for value in values], names
    known = getattr(table.features[column], "names", None)
    return [int(value) for value in values], list(known) if known else None


def _word(feature: Any) -> str:
    if isinstance(feature, Mapping):
        return f"struct{{{', '.join(feature)}}}"
    return str(getattr(feature, "dtype", type(feature).__name__))
