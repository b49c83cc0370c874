"""From what a user writes (paths, globs, braces, commas) to a list of files."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from seelike.errors import SeelikeError, close_matches


def existing(path: str) -> Path:
    """Return the path if it exists; raises `SeelikeError` with the nearest names in its folder."""
    found = Path(path).expanduser()
    if found.exists():
        return found
    folder = found.parent
    if not folder.is_dir():
        raise SeelikeError(f"no such file or folder: '{path}' (there is no folder '{folder}' either)")
    there = [neighbour.name for neighbour in folder.iterdir()]
    raise SeelikeError(f"no such file or folder: '{path}'{close_matches(found.name, there)}")


def expand(spec: str, suffix: str) -> list[Path]:
    """List the files meant by `a.tar,b.tar`, `data/*.tar`, `{000..003}.tar`, `{train,val}.tar` or a folder.

    A path that exists is taken as it stands, whatever signs are in it. A folder means all files in it that
    end in `suffix`.

    Raises:
        SeelikeError: for each part that matches nothing.
    """
    files: list[Path] = []
    for part in [spec] if Path(spec).expanduser().exists() else _split_outside_braces(spec):
        for pattern in [part] if Path(part).expanduser().exists() else _braces(part):
            files += _matches(pattern, suffix)
    if not files:
        raise SeelikeError(f"no file is named in '{spec}'; give a path, a glob or a comma-separated list")
    return list(dict.fromkeys(files))  # the same file twice would be the same images twice


def short_names(files: Sequence[Path]) -> list[str]:
    """Name each file by its last part, or by its path below the common folder where that is not unique."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    resolved = [file.resolve() for file in files]
    root = os.path.commonpath([file.parent for file in resolved])
    return [file.relative_to(root).as_posix() for file in resolved]


def _matches(pattern: str, suffix: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        inside = sorted(path.rglob(f"*{suffix}"))
        if not inside:
            raise SeelikeError(f"no {suffix} file in the folder '{pattern}'")
        return inside
    if path.exists():
        return [path]
    if glob.has_magic(pattern):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - absolute ones too
        if not found:
            raise SeelikeError(f"no file matches '{pattern}' (looked in '{Path.cwd()}')")
        return found
    return [existing(pattern)]


def _split_outside_braces(spec: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^{]*\})", spec) if part.strip()]


def _braces(pattern: str) -> list[str]:
    """Expand `{000..003}` and `{a,b}` as a shell does."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if span:
        width = len(span[1])
        choices = [f"{number:0{width}d}" for number in range(int(span[1]), int(span[2]) + 1)]
    else:
        choices = found[1].split(",")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [full for choice in choices for full in _braces(head + choice + tail)]
