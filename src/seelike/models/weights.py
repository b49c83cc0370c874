"""Weights from a checkpoint file: read without running code, checked key by key."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from seelike.errors import SeelikeError

State = dict[str, Tensor]

NESTED = (
    "state_dict",
    "model",
    "model_state_dict",
    "module",
    "net",
    "network",
    "model_ema",
    "state_dict_ema",
    "ema",
)
"""Keys under which training scripts keep the state dict, in the order in which they are looked for."""
PREFIXES = ("module.", "model.", "net.", "network.", "backbone.")
"""What wrappers put before every key."""
SHOWN = 3


def fit_checkpoint(module: nn.Module, file: str, *, model: str, classes_option: str | None = None) -> dict[str, str]:
    """Load the checkpoint `file` into `module`, which must have the same keys and shapes.

    Returns what the provenance of the model keeps. Raises one `SeelikeError` when the file is missing, corrupt,
    holds code or no state dict, or does not fit; `classes_option` is the builder's argument for the number of
    classes, to be named in the message.
    """
    state, provenance = read_checkpoint(file)
    own = module.state_dict()
    state = strip_prefixes(state, set(own))
    complaint = misfit(state, own, Path(file), model, classes_option)
    if complaint:
        raise SeelikeError(complaint)
    module.load_state_dict(state, strict=False)  # strictness has been seen to above
    return provenance


def read_checkpoint(file: str) -> tuple[State, dict[str, str]]:
    """Return the state dict of a file, and its name, SHA-256 and the key that the state dict lay under."""
    path = Path(file).expanduser()
    state, nested = find_state(read_file(path), path)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    provenance = {"weights": f"file {path.name}", "weights_file": str(path), "weights_sha256": digest}
    return state, provenance | ({"weights_key": nested} if nested else {})


def read_file(path: Path) -> Any:
    """Return what a ``.safetensors`` or torch file holds, on the CPU. Code in a pickle is never run."""
    if not path.is_file():
        what = "is a directory, not a checkpoint file" if path.is_dir() else "does not exist"
        hint = "; write the ?key=value before the @" if "?" in str(path) else ""
        raise SeelikeError(f"checkpoint {path} {what}{hint}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        # argparse.Namespace holds the options of many published training runs (DeiT, MAE), and is mere data.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd formats, which fail right after with an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise SeelikeError(f"checkpoint {path} cannot be read: permission denied") from error
    except pickle.UnpicklingError as error:
        raise SeelikeError(_unsafe(path, str(error))) from error
    except (SafetensorError, RuntimeError, EOFError, KeyError, ValueError, OSError, IndexError) as error:
        if "TorchScript" in str(error):
            message = f"checkpoint {path} is a TorchScript archive; save the module's state_dict() instead"
            raise SeelikeError(message) from error
        told = isinstance(error, SafetensorError | RuntimeError)
        reason = str(error).strip().split("\n")[0].split(". ")[0] if told else "not what torch.save writes"
        raise SeelikeError(f"checkpoint {path} is corrupt or no checkpoint: {reason}") from error


def _unsafe(path: Path, message: str) -> str:
    """Word why torch's reader of tensors refuses a pickle."""
    way_out = "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
    if "GLOBAL " not in message:
        return f"checkpoint {path} is no checkpoint of torch.save but another kind of pickle; write it with {way_out}"
    needed = message.split("GLOBAL ")[1].split(" ")[0]
    return (
        f"checkpoint {path} needs Python code to be run on loading ({needed}), which seelike never does; if you "
        f"trust it, load it in Python and save its tensors alone: {way_out}"
    )


def find_state(loaded: Any, path: Path) -> tuple[State, str]:
    """Return the state dict in what a file held, and the key that it lay under (empty: at the top)."""
    if not isinstance(loaded, Mapping):
        raise SeelikeError(f"checkpoint {path} holds a {type(loaded).__name__}, not a state dict of named tensors")
    for key in NESTED:
        inner = loaded.get(key)
        if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
            return _tensors(inner), key
    state = _tensors(loaded)
    if not state:
        keys = ", ".join(map(str, list(loaded)[:5])) or "none"
        raise SeelikeError(f"checkpoint {path} holds no state dict; its keys are: {keys}")
    return state, ""


def _tensors(mapping: Mapping[Any, Any]) -> State:
    return {str(key): value for key, value in mapping.items() if isinstance(value, Tensor)}


def strip_prefixes(state: State, known: set[str]) -> State:
    """Take off what `torch.compile`, data parallel and training wrappers add to every key."""
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    while set(state).isdisjoint(known):
        prefix = next((p for p in PREFIXES if state and all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def misfit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, model: str, classes_option: str | None
) -> str | None:
    """Say how a state dict and a module's `own` differ and what to do about it; None when they agree."""
    # Counters of batches steer nothing in eval mode, and files older than 2018 lack them.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    if not (missing or unexpected or shapes):
        return None
    parts = []
    if shapes:
        words = [f"{k}: file {tuple(state[k].shape)}, model {tuple(own[k].shape)}" for k in shapes]
        parts.append(f"{len(shapes)} of {len(own)} tensors differ in shape ({_some(words, '; ')})")
    if missing:
        parts.append(f"{len(missing)} of {len(own)} tensors are missing in the file ({_some(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} of the file's {len(state)} are unknown to the model ({_some(unexpected)})")
    classes = _classes(state, own, shapes) if not missing and not unexpected else None
    if classes is None:
        advice = "name the architecture, and the arguments after ?, that the file was saved from"
    elif classes_option is None:
        advice = f"the file is of a model with {classes} classes: build the model with as many"
    else:
        advice = f"the file is of a model with {classes} classes: add ?{classes_option}={classes}"
    return f"checkpoint {path} does not fit model {model}: {', '.join(parts)}; {advice}"


def _classes(state: Mapping[str, Tensor], own: Mapping[str, Tensor], shapes: list[str]) -> int | None:
    """Return the number of classes of the file when the rows of the classifier are all that differs."""
    if (
        not shapes
        or len(shapes) > 4
        or any(state[k].shape[1:] != own[k].shape[1:] or not state[k].ndim for k in shapes)
    ):
        return None
    rows = {state[k].shape[0] for k in shapes}
    return rows.pop() if len(rows) == 1 else None


def _some(items: list[str], between: str = ", ") -> str:
    more = len(items) - SHOWN
    return between.join(items[:SHOWN]) + (f"{between}and {more} more" if more > 0 else "")
