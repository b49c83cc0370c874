"""`parquet:FILES`: encoded images in a column of Parquet files, as on the Hugging Face hub."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from seelike.errors import SeelikeError
from seelike.images.files import expand, short_names
from seelike.images.quiet import quiet
from seelike.images.source import Images
from seelike.images.tables import TableImages, image_column, label_column


def load_parquet(rest: str) -> Images:
    """All rows of the files, in the order of the files; ids are ``file.parquet:row``.

    `datasets` copies the image and label columns once into its Arrow cache (`HF_DATASETS_CACHE`), which is
    then read by memory map: Parquet itself has no quick way to one row.

    Raises:
        SeelikeError: when a file is missing, truncated or damaged, differs from the first in its columns, or
            has no image column (the columns are listed), and when the cache cannot be written.
    """
    import datasets

    files = expand(rest, ".parquet")
    schemas, counts = zip(*(_footer(file) for file in files), strict=True)
    features = _features(schemas[0])
    label = label_column(features)
    columns = [image_column(features, str(files[0]))] + ([label] if label else [])
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        _same_columns(file, schema, files[0], schemas[0], columns)
    if not any(counts):
        raise SeelikeError(f"'parquet:{rest}' holds no rows, so no images")
    try:
        with quiet():
            # Escaped, because the builder takes every path for a glob; and it fails on files without rows.
            table = datasets.Dataset.from_parquet(
                [glob.escape(str(file)) for file, count in zip(files, counts, strict=True) if count],
                columns=columns,
                features=datasets.Features({column: features[column] for column in columns}),
            )
    except Exception as error:  # pyarrow, the builder and the file system have no exception in common
        raise _why(files, error) from error
    ids = [f"{name}:{row}" for name, count in zip(short_names(files), counts, strict=True) for row in range(count)]
    return TableImages(table, f"parquet:{rest}", ids)


def _footer(file: Path) -> tuple[Any, int]:
    """Read schema and number of rows; the footer is at the end of the file, so truncation shows here."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.schema_arrow, int(parquet.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        size = file.stat().st_size
        raise SeelikeError(
            f"'{file}' ({size:,} bytes) is not a whole Parquet file, it may be truncated or still being "
            f"written; fetch it again. (pyarrow: {_first_line(error)})"
        ) from error


def _features(schema: Any) -> Any:
    """Read the features from the schema, telling class names that occur twice apart by their numbers.

    ImageNet has two cranes and two maillots, and `datasets` refuses any file that says so.
    """
    import datasets

    metadata = dict(schema.metadata or {})
    try:
        stored = json.loads(metadata[b"huggingface"])
        for feature in stored["info"]["features"].values():
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature:
                names = feature["names"]
                feature["names"] = [f"{n} ({i})" if n in names[:i] else n for i, n in enumerate(names)]
        metadata[b"huggingface"] = json.dumps(stored).encode()
        return datasets.Features.from_arrow_schema(schema.with_metadata(metadata))
    except (KeyError, TypeError, ValueError, AttributeError):  # no such metadata, or none that we can read
        return datasets.Features.from_arrow_schema(schema.remove_metadata())


def _same_columns(file: Path, schema: Any, first: Path, first_schema: Any, columns: list[str]) -> None:
    for column in columns:
        if column not in schema.names:
            raise SeelikeError(
                f"'{file}' has no column '{column}', but '{first}' has; its columns are: {', '.join(schema.names)}"
            )
        ours, theirs = schema.field(column).type, first_schema.field(column).type
        if ours != theirs:
            raise SeelikeError(f"column '{column}' is {ours} in '{file}' but {theirs} in '{first}'")


def _why(files: list[Path], error: Exception) -> SeelikeError:
    """Find the file that cannot be read to its end; else it is the cache that could not be written."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                for _ in parquet.iter_batches(batch_size=256):
                    pass
        except (pa.ArrowException, OSError) as broken:
            return SeelikeError(f"'{file}' is damaged and cannot be read to its end: {_first_line(broken)}")
    return SeelikeError(
        f"the images of '{files[0]}' could not be put into the cache "
        f"'{datasets.config.HF_DATASETS_CACHE}': {_first_line(error.__cause__ or error)}. "
        f"If that is full or read-only, set HF_DATASETS_CACHE to another folder."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0]
