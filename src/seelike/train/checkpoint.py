"""Checkpoints: written beside their place and then moved, so that there is always a whole one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from seelike.errors import SeelikeError

FORMAT = 2


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` (tensors, numbers, text, lists, dicts) to `path`.

    Raises `SeelikeError` when it cannot be written, such as on a full disk; what was at `path` is still there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            torch.save(state | {"format": FORMAT}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer turns some errors of the disk into RuntimeError
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        kept = (
            f"the one before is whole: make room and go on with --resume ({path})"
            if path.exists()
            else "nothing is kept"
        )
        said = str(error).strip().split("\n")[0]
        raise SeelikeError(f"checkpoint {path} cannot be written ({said}); {kept}") from error


def load(path: Path, recipe: str) -> dict[str, Any]:
    """Read a checkpoint of the run of `recipe` (its fingerprint), without running code from the file.

    Raises `SeelikeError` when it is damaged, of another format, or of another recipe.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SeelikeError(f"there is no checkpoint {path} to go on from; leave --resume away to start") from None
    except Exception as error:  # torch, zipfile and pickle have no exception in common
        said = str(error).strip().split("\n")[0].split(". ")[0]
        raise SeelikeError(f"checkpoint {path} cannot be read: {said}; remove it to start anew") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise SeelikeError(f"checkpoint {path} is of another version of seelike; remove it to start anew")
    if state["recipe"] != recipe:
        raise SeelikeError(f"checkpoint {path} belongs to another recipe or other images; use another --out")
    return state
