"""Before the first step: the images and the network of a recipe, checked against each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from seelike.errors import SeelikeError
from seelike.models.architectures import NAMES, build
from seelike.models.seeding import seeded
from seelike.train.datasets import open_split
from seelike.train.fractions import held_out, nested_fraction
from seelike.train.initial import start_from
from seelike.train.pixels import Pixels
from seelike.train.recipe import ImagesPart, ModelPart


@dataclass(frozen=True)
class Data:
    """The images of a recipe: what to train on, what to validate on, the names of the classes."""

    training: Pixels
    validation: Pixels
    classes: tuple[str, ...]


def open_images(part: ImagesPart, size: int, where: Mapping[str, str], device: torch.device | str) -> Data:
    """Open and decode the images that a recipe trains and validates on."""
    source = open_split(part.name, "train", where)
    if source is None:
        raise SeelikeError(f"data set {part.name} has no split for training")
    rows = np.arange(len(source))
    checks = open_split(part.name, "validation", where)
    if checks is None:
        checks = source
        rows, checked = held_out(len(source), part.held_out, part.seed)
    else:
        checked = np.arange(len(checks))
    rows = nested_fraction(rows, part.fraction, part.seed)
    training, validation = Pixels(source, rows, size, device), Pixels(checks, checked, size, device)
    if validation.classes > training.classes:
        raise SeelikeError(
            f"{part.name} has {validation.classes} classes for validation but {training.classes} for training"
        )
    names = source.class_names or [str(number) for number in range(training.classes)]
    return Data(training, validation, tuple(names))


def build_model(part: ModelPart, classes: int, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network of a recipe for so many classes, and return it with all arguments of its builder.

    Raises `SeelikeError` when the recipe asks for another number of classes, or the arguments do not fit.
    """
    wanted = part.arguments.get("num_classes", classes)
    if wanted != classes:
        raise SeelikeError(
            f"model.arguments.num_classes is {wanted}, but the images have {classes} classes; leave num_classes away"
        )
    arguments = {"num_classes": classes, "img_size": part.input_size} | dict(part.arguments)
    with seeded(seed):
        try:
            module = build(part.architecture, arguments)
        except SeelikeError as error:
            if part.architecture in NAMES or "img_size" not in str(error.__cause__):
                raise
            del arguments["img_size"]  # networks that take images of any size say so by not knowing the argument
            module = build(part.architecture, arguments)
        if part.init is not None:
            start_from(module, part.init)
        check_output(module, part, classes)
    return module, arguments


def check_output(module: nn.Module, part: ModelPart, classes: int) -> None:
    """Raise `SeelikeError` unless images of the recipe's size become (n, classes)."""
    try:
        with torch.no_grad():
            outputs = module.eval()(torch.zeros(2, 3, part.input_size, part.input_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        said = str(error).strip().split("\n")[0]
        raise SeelikeError(f"{part.architecture} cannot take images of {part.input_size} pixels: {said}") from error
    if tuple(outputs.shape) != (2, classes):
        raise SeelikeError(f"{part.architecture} gives {tuple(outputs.shape[1:])} outputs for {classes} classes")


def plain_attention(module: nn.Module) -> None:
    """Let timm's attentions multiply matrices one by one, which gives the same numbers.

    On a CPU the fused kernel's backward in bfloat16 takes three quarters of a small ViT's step (docs/zoo.md).
    """
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False  # type: ignore[assignment]


def fingerprint(text: str, data: Data) -> str:
    """Tell runs apart that must not go on from each other's checkpoints: recipe and labels of the images."""
    known = hashlib.sha256(text.encode())
    for pixels in (data.training, data.validation):
        known.update(pixels.labels.cpu().numpy().tobytes())
    return known.hexdigest()
