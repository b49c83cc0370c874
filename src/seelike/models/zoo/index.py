"""The index of the zoo: one entry per member, kept in ``index.json``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from seelike.errors import SeelikeError, close_matches

FOLDER = Path(__file__).parent / "weights"
INDEX = "index.json"


@dataclass(frozen=True)
class Member:
    """One model of the zoo.

    * `architecture` and `arguments` build it; `input_size` (3, height, width), `mean` and `std` preprocess for it.
    * `test_accuracy` on `test_images` images of `data_set`, measured after the weights were rounded to half precision,
      each image through the model's own preprocessing (``seelike train --evaluate zoo:NAME``).
    * `recipe` (a shipped one), `recipe_sha256` of its text with all keys, `seed`, `fraction`, `training_images`,
      `steps`, `training_seconds` on `threads` threads of `device`, `cpu_seconds` of its processor (None where nobody
      counted), `versions`: how it came about.
    * `sha256` of the file of weights.
    """

    architecture: str
    arguments: Mapping[str, Any]
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    data_set: str
    test_accuracy: float
    test_images: int
    recipe: str
    recipe_sha256: str
    seed: int
    fraction: float
    training_images: int
    steps: int
    training_seconds: float
    cpu_seconds: float | None
    threads: int
    device: str
    parameters: int
    sha256: str
    versions: Mapping[str, str]


def members(folder: Path = FOLDER) -> dict[str, Member]:
    """Read the index: members by name, in the order in which they were added.

    Raises `SeelikeError` when the index is damaged or of another version.
    """
    path = folder / INDEX
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {name: _member(entry) for name, entry in entries.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise SeelikeError(f"the zoo's index {path} is damaged ({error}); install seelike anew") from error


def member(name: str, folder: Path = FOLDER) -> Member:
    """Return one member. Raises `SeelikeError` with close matches for unknown names."""
    known = members(folder)
    if name not in known:
        have = f"; there are: {', '.join(known)}" if known else "; it is empty"
        raise SeelikeError(f"the zoo has no model {name!r}{close_matches(name, known)}{have}")
    return known[name]


def add(name: str, entry: Member, module: nn.Module, folder: Path = FOLDER) -> None:
    """Write a member's weights and its line of the index, replacing what has the same name.

    The weights are rounded to half precision; ``entry.test_accuracy`` must have been measured with `rounded` weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.safetensors"
    state = {key: _half(value).contiguous() for key, value in module.state_dict().items()}
    partial = weights.with_suffix(".partial")
    save_file(state, partial, {"recipe": entry.recipe, "recipe_sha256": entry.recipe_sha256})
    partial.chmod(0o644)  # safetensors writes for the owner's eyes only
    known = members(folder) | {name: dataclasses.replace(entry, sha256=sha256(partial))}
    text = json.dumps({key: dataclasses.asdict(value) for key, value in known.items()}, indent=1)
    partial.replace(weights)
    index = folder / (INDEX + ".partial")
    index.write_text(text + "\n", encoding="utf-8")
    index.replace(folder / INDEX)


def round_to_half(module: nn.Module) -> nn.Module:
    """Round all weights to half precision, in place, and keep them as they were typed."""
    state = {key: _half(value).to(value.dtype) for key, value in module.state_dict().items()}
    module.load_state_dict(state)
    return module


def sha256(path: Path) -> str:
    """Hash a file."""
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _half(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu()
    return value.half() if value.is_floating_point() else value


def _member(entry: dict[str, Any]) -> Member:
    tuples = ("input_size", "mean", "std", "classes")
    return Member(**(entry | {key: tuple(entry[key]) for key in tuples if key in entry}))
