"""Weights to start from: another model's, for fine-tuning."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from seelike.errors import SeelikeError
from seelike.models import load_model
from seelike.models.weights import misfit, read_checkpoint, strip_prefixes


def start_from(module: nn.Module, place: str) -> None:
    """Load the weights of `place` (a model's spec, or a checkpoint file) into `module`.

    The classifier stays as it is when it has another number of classes. Raises `SeelikeError` when anything else
    does not fit.
    """
    own = module.state_dict()
    if Path(place).suffix in (".safetensors", ".pt", ".pth"):
        state: dict[str, Tensor] = strip_prefixes(read_checkpoint(place)[0], set(own))
    else:
        state = dict(load_model(place).module.state_dict())
    head = classifier(module)
    fresh = [k for k in own if head and k.startswith(head) and k in state and state[k].shape != own[k].shape]
    state |= {key: own[key] for key in fresh}
    complaint = misfit(state, own, Path(place), "of the recipe", None)
    if complaint:
        raise SeelikeError(f"model.init: {complaint}")
    module.load_state_dict(state)


def classifier(module: nn.Module) -> str:
    """Name of the classifier among the modules, empty when the model does not tell."""
    find = getattr(module, "get_classifier", None)
    head = find() if find is not None else None
    return next((f"{name}." for name, part in module.named_modules() if part is head and name), "")
