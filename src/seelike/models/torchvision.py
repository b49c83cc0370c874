"""``torchvision:NAME``: torchvision's image classifiers, each with the transforms of its weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from seelike.errors import SeelikeError, close_matches
from seelike.models.hub import loading
from seelike.models.model import Model
from seelike.models.provenance import provenance, random_weights
from seelike.models.seeding import seeded
from seelike.models.spec import ModelSpec
from seelike.models.weights import fit_checkpoint

SIZE_ARGUMENTS = {"vit_": "image_size", "maxvit_": "input_size"}
"""Builders, by the start of their names, that must know the size of the images."""


def names() -> list[str]:
    """Names of torchvision's image classifiers."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def load(spec: ModelSpec) -> Model:
    """Build the model; its preprocessing is that of its weights, of the DEFAULT weights if it has others."""
    import torchvision

    check_name(spec.name)
    seed = spec.seed
    known = torchvision.models.get_model_weights(spec.name)
    tags = {str(tag.name): tag for tag in known}
    tag = _tag(spec, known, tags) if seed is None else None
    out = (
        f"use torchvision:{spec.name}@random, a checkpoint torchvision:{spec.name}@FILE, or set TORCH_HOME "
        "to a cache that holds it"
    )
    with (
        loading(spec.text, out, url=None if tag is None else tag.url),
        seeded(seed or 0),
        warnings.catch_warnings(),
    ):
        # GoogLeNet and Inception announce that their initialisation will change.
        warnings.filterwarnings("ignore", message="The default weight initialization", category=FutureWarning)
        module = build(spec, tag)
    weights: str | dict[str, str]
    if tag is not None:
        weights = f"pretrained {tag}"
    elif seed is not None:
        weights = random_weights(seed)
    else:
        weights = fit_checkpoint(module, spec.weights or "", model=spec.built, classes_option="num_classes")
    transform, size = _transform(spec, tag if tag is not None else _default(known))
    return Model(
        module,
        size,
        spec.label,
        preprocess=transform,
        preprocess_note=_note(transform),
        spec=spec.text,
        provenance=provenance(spec, weights, "torchvision"),
    )


def check_name(name: str) -> None:
    """Raise `SeelikeError` when torchvision has no image classifier `name`."""
    import torchvision

    if name in names():
        return
    if name in torchvision.models.list_models():
        builder = torchvision.models.get_model_builder(name).__module__.split(".")[2]
        raise SeelikeError(
            f"torchvision's {name} is no image classifier (it belongs to torchvision.models.{builder}), and "
            "only those are read; build what you need of it in a file and give py:FILE.py:function"
        )
    raise SeelikeError(f"torchvision knows no model {name!r}{close_matches(name, names())}")


def _default(known: Any) -> Any:
    return getattr(known, "DEFAULT", None)


def _tag(spec: ModelSpec, known: Any, tags: dict[str, Any]) -> Any:
    """Return the weights that the spec names, DEFAULT if it names none; None for a checkpoint file."""
    wanted = spec.weights or "DEFAULT"
    if wanted == "DEFAULT" and _default(known) is not None:
        return _default(known)
    if wanted in tags:
        return tags[wanted]
    if spec.weights is not None and (Path(wanted).expanduser().exists() or Path(wanted).suffix):
        return None
    have = ", ".join(tags) or "none"
    raise SeelikeError(
        f"torchvision has no weights {wanted!r} for {spec.name}, and there is no such file; it has: {have}; "
        f"torchvision:{spec.name}@random is always there"
    )


def build(spec: ModelSpec, tag: Any) -> nn.Module:
    """Call torchvision's builder."""
    import torchvision

    arguments = dict(spec.arguments)
    side = spec.input_size[-2:] if spec.input_size is not None else None
    argument = next((a for start, a in SIZE_ARGUMENTS.items() if spec.name.startswith(start)), None)
    if side is not None and argument == "input_size":
        arguments.setdefault(argument, side)
    elif side is not None and argument == "image_size":
        if side[0] != side[1]:
            raise SeelikeError(f"{spec.text}: torchvision's {spec.name} takes square images only")
        arguments.setdefault(argument, side[0])
    module: nn.Module = torchvision.models.get_model(spec.name, weights=tag, **arguments)
    return module


def _transform(spec: ModelSpec, tag: Any) -> tuple[Any, tuple[int, int, int]]:
    """Return the transforms of `tag`, set to the size of the spec, and that size."""
    if tag is None:
        return None, spec.size((3, 224, 224))
    transform = tag.transforms()
    crop, resize = transform.crop_size[0], transform.resize_size[0]
    side = spec.arguments.get("image_size")
    side = side if isinstance(side, int) else crop  # vision transformers are built for one size
    spec_size = spec.size((3, side, side))
    height, width = spec_size[1:]
    if (height, width) != (crop, crop):
        transform.crop_size = [height, width]
        transform.resize_size = [round(max(height, width) * resize / crop)]
    return transform, spec_size


def _note(transform: Any) -> str | None:
    if transform is None:
        return None
    crop = transform.crop_size if len(transform.crop_size) == 2 else transform.crop_size * 2
    return (
        f"torchvision: short side resized to {transform.resize_size[0]} ({transform.interpolation.value}), "
        f"centre crop {crop[0]} x {crop[1]}, mean {tuple(transform.mean)}, std {tuple(transform.std)}"
    )
