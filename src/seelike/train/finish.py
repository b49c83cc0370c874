"""After the last step: test accuracy, weights and summary."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from seelike.errors import SeelikeError
from seelike.models import Model
from seelike.models.architectures.registry import MEAN, STD
from seelike.models.zoo.transform import ZooTransform
from seelike.train.evaluate import accuracy_on
from seelike.train.recipe import Recipe

LIBRARIES = ("torch", "timm", "lightning-fabric", "numpy")


def as_model(module: nn.Module, size: int, name: str) -> Model:
    """Wrap a trained network with the preprocessing of its training."""
    transform = ZooTransform((size, size), MEAN, STD)
    return Model(module, (3, size, size), name, preprocess=transform, preprocess_note=transform.note)


def summarise(
    recipe: Recipe, name: str, text: str, arguments: dict[str, Any], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Collect what is known without measuring."""
    return {
        "recipe_name": name,
        "recipe_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "recipe": asdict(recipe),
        "arguments": arguments,
        "classes": list(classes),
        "mean": list(MEAN),
        "std": list(STD),
        "versions": {library: version(library) for library in LIBRARIES} | {"python": platform.python_version()},
    }


def measure(module: nn.Module, recipe: Recipe, images: Any) -> dict[str, Any]:
    """Return the test accuracy of a network on `images`."""
    model = as_model(module, recipe.model.input_size, recipe.model.architecture)
    found = accuracy_on(model, images)
    return {
        "test_accuracy": found.value,
        "test_images": found.images,
        "parameters": model.parameters,
    }


def write(module: nn.Module, summary: dict[str, Any], weights: Path, place: Path) -> None:
    """Write weights and summary, each beside its place first. Raises `SeelikeError` when the disk refuses."""
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    metadata = {key: json.dumps(value) for key, value in summary.items()}
    try:
        partial = weights.with_name(weights.name + ".partial")
        save_file(state, partial, metadata)
        partial.replace(weights)
        partial = place.with_name(place.name + ".partial")
        partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        partial.replace(place)
    except OSError as error:
        raise SeelikeError(
            f"the results cannot be written to {place.parent}: {error}; make room, then --resume"
        ) from error
