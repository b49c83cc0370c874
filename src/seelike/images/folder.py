"""`folder:DIR`: image files in a folder and the folders below it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import PIL.Image

from seelike.errors import SeelikeError
from seelike.images.files import existing
from seelike.images.quiet import quiet
from seelike.images.source import Images
from seelike.images.tables import TableImages


def load_folder(rest: str) -> Images:
    """All images below a folder, sorted by path; ids are the paths relative to it.

    Labels follow the rule of the `imagefolder` loader of `datasets`: each image's class is the folder that
    it lies in, provided that all images lie equally deep and in at least two folders. The files are
    listed here rather than by that loader, which reads folder names such as `test` as splits, leaves out
    hidden folders and cannot see paths with glob signs in them. Hidden files and files without the suffix
    of an image format are left out.

    Raises:
        SeelikeError: when the folder does not exist, or holds no image (what it holds is said).
    """
    import datasets

    root = existing(rest)
    if not root.is_dir():
        raise SeelikeError(f"'{rest}' is a file, not a folder; for one file write parquet:{rest} or tar:{rest}")
    ids, others = _list(root)
    if not ids:
        raise SeelikeError(f"no images in the folder '{rest}': {_what_else(rest, others)}")
    classes = [Path(name).parent.as_posix() for name in ids]
    depths = {name.count("/") for name in ids}
    columns: dict[str, list[object]] = {"image": [{"bytes": None, "path": str(root / name)} for name in ids]}
    features = {"image": datasets.Image(decode=False)}
    if len(depths) == 1 and len(set(classes)) > 1:
        names = sorted({Path(folder).name for folder in classes})
        columns["label"] = [Path(folder).name for folder in classes]
        features["label"] = datasets.ClassLabel(names=names)
    with quiet():
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return TableImages(table, f"folder:{rest}", ids)


def _list(root: Path) -> tuple[list[str], Counter[str]]:
    """Walk the folder: relative paths of images in sorted order, and how many other files by suffix."""
    PIL.Image.init()
    suffixes = {suffix for suffix, format_ in PIL.Image.registered_extensions().items() if format_ in PIL.Image.OPEN}
    # PIL opens these through other programs or by their first page only: nobody means them as images.
    suffixes -= {".pdf", ".ps", ".eps", ".mpg", ".mpeg", ".h5", ".hdf", ".emf", ".wmf", ".grib", ".bufr"}
    ids: list[str] = []
    others: Counter[str] = Counter()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in suffixes:
                ids.append((Path(folder) / name).relative_to(root).as_posix())
            else:
                others[Path(name).suffix.lower() or "no suffix"] += 1
    return sorted(ids), others


def _what_else(rest: str, others: Counter[str]) -> str:
    if not others:
        return "it is empty"
    found = ", ".join(f"{count} x {suffix}" for suffix, count in others.most_common(5))
    hint = ""
    for kind in ("parquet", "tar"):
        if f".{kind}" in others:
            hint = f"; for these write {kind}:{rest}"
    return f"found only {found}{hint}"
