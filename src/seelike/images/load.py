"""From a spec such as `folder:photos` to images: the table of kinds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from seelike.errors import SeelikeError, close_matches
from seelike.images.folder import load_folder
from seelike.images.hub import load_hub
from seelike.images.parquet import load_parquet
from seelike.images.picture import load_pictures, picture_suffixes
from seelike.images.scenes import load_scenes
from seelike.images.source import Images
from seelike.images.tar import load_tar

# kind -> (what reads the rest of the spec, how it is written). A new kind is one line here.
KINDS: dict[str, tuple[Callable[[str], Images], str]] = {
    "folder": (load_folder, "folder:DIR"),
    "parquet": (load_parquet, "parquet:FILES"),
    "hf": (load_hub, "hf:NAME[/SPLIT]"),
    "tar": (load_tar, "tar:SHARDS"),
    "picture": (load_pictures, "picture:FILE[,FILE]"),
    "scenes": (load_scenes, "scenes:SPLIT[?n=,size=32,seed=0,textures=A]"),
}


def load_images(spec: str) -> Images:
    """Open a source of images; nothing is decoded yet.

    Args:
        spec: one of

            * ``folder:DIR``: image files in and below DIR, the subfolder being the class;
            * ``parquet:FILES``: a column of encoded images, as on the Hugging Face hub;
            * ``hf:NAME[/SPLIT]``: a dataset of the hub (``hf:ylecun/mnist/test``), or a folder with one;
            * ``tar:SHARDS``: tar files of the WebDataset layout;
            * ``picture:FILE[,FILE]``: single pictures;
            * ``scenes:SPLIT[?n=,size=32,seed=0,textures=A]``: generated images of shapes, SPLIT being train,
              validation or test (docs/scenes.md);
            * a path alone: a folder, or files that end in .parquet, .tar or the suffix of a picture.

            FILES and SHARDS are a path, a folder, a glob, ``{000..003}``, or several with commas.

    Raises:
        SeelikeError: for an unknown kind (kinds are listed), what does not exist, holds no images or is
            damaged; the file is named.
    """
    kind, colon, rest = spec.partition(":")
    if Path(spec).expanduser().exists() or not colon:
        return _guess(spec)
    if kind not in KINDS:
        raise SeelikeError(f"'{kind}:' is no kind of images{close_matches(kind, KINDS)}; {_kinds()}")
    if not rest.strip():
        raise SeelikeError(f"'{spec}' says nothing after the colon; write {KINDS[kind][1]}")
    return KINDS[kind][0](rest)


def _guess(path: str) -> Images:
    if Path(path).expanduser().is_dir():
        return load_folder(path)
    if re.search(r"\.parquet$", path):
        return load_parquet(path)
    if re.search(r"\.tar$", path):
        return load_tar(path)
    if Path(path).suffix.lower() in picture_suffixes():
        return load_pictures(path)
    kinds = "is not a folder, .parquet or .tar, nor has it the suffix of a picture"
    there = kinds if Path(path).expanduser().exists() else "does not exist"
    raise SeelikeError(f"'{path}' {there}{close_matches(path, KINDS)}; {_kinds()}")


def _kinds() -> str:
    return "images are given as " + ", ".join(written for _, written in KINDS.values()) + ", or a path"
