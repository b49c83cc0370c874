"""What a recipe says: frozen dataclasses, one per section of its YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seelike.errors import SeelikeError

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""A recipe's words for what Fabric calls precision."""


def at_least(name: str, value: float, least: float) -> None:
    """Raise `SeelikeError` when `value` is smaller than `least`, or no number."""
    if not value >= least:
        raise SeelikeError(f"{name} must be at least {least}, not {value}")


@dataclass(frozen=True)
class ModelPart:
    """Which network. Classes and input size reach the builder as `num_classes` and, where it has one, `img_size`.

    * `architecture`: a name that timm knows, ours (``seelike_vit_lab``) included.
    * `arguments`: for its builder.
    * `input_size`: side of the images in pixels.
    * `init`: a model to start from instead of random weights (``zoo:vit-cls``, a safetensors file); a classifier of
      another number of classes starts anew.
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    input_size: int = 32
    init: str | None = None


@dataclass(frozen=True)
class ImagesPart:
    """Which images.

    * `name`: a data set that `seelike.train.datasets` knows (``scenes``, ``cifar10``), or any other name that
      ``--data NAME=SPEC`` explains.
    * `fraction` of the training images in (0, 1]: the first ones of a permutation that `seed` alone decides, so that
      smaller fractions are parts of larger ones.
    * `held_out`: how many training images are taken away for validation where the data set has no split for it.
    """

    name: str
    fraction: float = 1.0
    seed: int = 0
    held_out: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise SeelikeError(
                f"images.fraction must lie in (0, 1], not be {self.fraction}; 0.1 is a tenth of the training images"
            )
        at_least("images.held_out", self.held_out, 1)


@dataclass(frozen=True)
class OptimisationPart:
    """AdamW with linear warm-up and cosine decay to zero.

    * `steps` of `batch` images each; `rate`: the highest learning rate; `warmup`: steps until it is reached.
    * `weight_decay` spares biases, norms and position embeddings; `clip`: largest norm of the gradient (0: no limit).
    * `ema`: decay of the running mean of the weights that is evaluated and kept (0: the weights themselves).
    * `label_smoothing`: share of the target that is spread over all classes.
    """

    steps: int
    batch: int = 128
    rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.998
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            at_least(f"optimisation.{name}", getattr(self, name), 1)
        for name in ("warmup", "weight_decay", "clip", "rate"):
            at_least(f"optimisation.{name}", getattr(self, name), 0)
        for name in ("ema", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise SeelikeError(f"optimisation.{name} must lie in [0, 1), not be {getattr(self, name)}")


@dataclass(frozen=True)
class AugmentationPart:
    """Random changes of the training images, drawn for every image and step anew.

    * `flip`: mirror left and right, half of the time.
    * `turn`: by 0, 90, 180 or 270 degrees, for images without an up.
    * `shift`: by up to so many pixels each way; what comes in at an edge repeats the edge.
    * `colour`: contrast, brightness and the balance of the channels change by up to this share.
    """

    flip: bool = True
    turn: bool = False
    shift: int = 4
    colour: float = 0.0

    def __post_init__(self) -> None:
        at_least("augmentation.shift", self.shift, 0)
        if not 0 <= self.colour < 1:
            raise SeelikeError(f"augmentation.colour must lie in [0, 1), not be {self.colour}")


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights of a model.

    * `seed`: of the first weights, the order of the images and their augmentation.
    * `precision`: ``bf16`` (mixed), ``fp16`` (mixed) or ``fp32``.
    * `keep`: also keep the weights after every so many epochs (0: only the last).
    """

    model: ModelPart
    images: ImagesPart
    optimisation: OptimisationPart
    augmentation: AugmentationPart = AugmentationPart()
    precision: str = "bf16"
    seed: int = 0
    keep: int = 0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SeelikeError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        at_least("seed", self.seed, 0)
        at_least("keep", self.keep, 0)
