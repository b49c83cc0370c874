"""What is kept about where a model came from."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from seelike.models.spec import ModelSpec


def provenance(spec: ModelSpec, weights: str | dict[str, str], library: str) -> dict[str, Any]:
    """Collect spec, kind, name, builder's arguments, weights and library version, ready for JSON.

    `weights` is a sentence ("random, seed 0", a hub's tag) or what `fit_checkpoint` returned.
    """
    kept: dict[str, Any] = {
        "spec": spec.text,
        "kind": spec.kind,
        "name": spec.name,
        "arguments": {k: list(v) if isinstance(v, tuple) else v for k, v in spec.arguments.items()},
    }
    kept |= {"weights": weights} if isinstance(weights, str) else weights
    return kept | {"library": f"{library} {version(library)}"}


def random_weights(seed: int) -> str:
    """How random weights are called."""
    return f"random, seed {seed}"
