"""Where models come from: timm, torchvision, Hugging Face, a Python file, or any `nn.Module`."""

from __future__ import annotations

import torch

from seelike.models.kinds import list_models, load
from seelike.models.labels import unique_labels
from seelike.models.model import Model

__all__ = ["Model", "list_models", "load_model", "unique_labels"]


def load_model(spec: str, *, device: torch.device | str | None = None) -> Model:
    """Load the model that `spec` names, in eval mode, with its own preprocessing.

    ``timm:NAME``, ``torchvision:NAME``, ``hf:REPO_OR_LOCAL_DIR``, ``py:FILE.py:function``; after it,
    optionally, ``?key=value&key=value`` for the builder (``?num_classes=10``; ``?input_size=32`` or
    ``32x48`` sets the height and width of the images for every kind) and ``@WEIGHTS``: ``@random``,
    ``@random:SEED``, a checkpoint file, or for torchvision a name such as ``@IMAGENET1K_V2``. Without ``@``
    the pretrained weights are taken.

    Raises `SeelikeError` for unknown names (with close matches), weights that cannot be read or do not fit,
    and a hub that cannot be reached.
    """
    model = load(spec)
    return model if device is None else model.to(device)
