"""What a run needs to go on after it was stopped: one file, replaced whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from seelike.errors import SeelikeError
from seelike.studies import Tally

FILE = "pass.safetensors"


@dataclass
class PassState:
    """How far a pass has come.

    Attributes:
        tally: sums over the minibatches done.
        done: minibatches done.
        batch: images per forward batch, as it was last (memory may have run out on the way).
        skipped: (id, reason) of images that could not be read.
        notes: what was noticed on the way.
        seconds: time spent so far, over all starts.
    """

    tally: Tally
    done: int
    batch: int
    skipped: list[tuple[str, str]]
    notes: list[str]
    seconds: float = 0.0


def save_state(folder: Path, state: PassState, fingerprint: dict[str, Any]) -> None:
    """Write the state beside the old one and put it in its place in one step. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {k: v for k, v in asdict(state).items() if k != "tally"}
    partial = folder / (FILE + ".partial")
    metadata = {"state": json.dumps(about), "fingerprint": json.dumps(fingerprint)}
    try:
        save_file({k: v.contiguous() for k, v in state.tally.items()}, partial, metadata=metadata)
    except SafetensorError as error:  # safetensors words a full disk in its own way
        partial.unlink(missing_ok=True)
        raise OSError(str(error)) from error
    os.replace(partial, folder / FILE)  # noqa: PTH105 - the atomic one


def load_state(folder: Path, fingerprint: dict[str, Any]) -> PassState | None:
    """Read a saved state, None when there is none.

    Raises:
        SeelikeError: the file is damaged, or belongs to a run with other models, images or options (which are named).
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tally: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SeelikeError(f"{path} cannot be read ({error}); remove {folder} and start again") from error
    theirs = json.loads(metadata["fingerprint"])
    ours = json.loads(json.dumps(fingerprint))
    differ = [key for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)]
    if differ:
        told = "; ".join(f"{key}: {_short(theirs.get(key))} then, {_short(ours.get(key))} now" for key in differ)
        raise SeelikeError(
            f"{folder.parent} holds an interrupted run that differs from this one ({told}); give the same options to "
            "resume it, or another --out"
        )
    about = json.loads(metadata["state"])
    about["skipped"] = [tuple(pair) for pair in about["skipped"]]
    return PassState(tally=tally, **about)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all parameters and buffers: whether it is the same model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    return digest.hexdigest()


def ids_hash(ids: list[str]) -> str:
    """SHA-256 over image ids in order: whether it is the same collection."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()
