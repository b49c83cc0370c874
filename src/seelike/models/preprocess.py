"""From a decoded image to the tensor that a model takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch
import torchvision.transforms.functional as F
from torch import Tensor

from seelike.errors import SeelikeError

MODES = {1: "L", 3: "RGB"}
"""The PIL mode of images for models with this number of channels."""

RESIZE_TO_CROP = 256 / 224


def resized_side(height: int, width: int) -> int:
    """Short side, in pixels, that an image gets before a crop of `height` x `width`: 256 before 224."""
    return round(max(height, width) * RESIZE_TO_CROP)


@dataclass(frozen=True)
class Preprocess:
    """What `Model.preprocess` is: `transform`, with the image's mode set before and the result checked after.

    Called with a PIL image, returns a float tensor of shape `input_size` (channels, height, width). Images
    are converted to ``RGB`` for models with 3 channels and ``L`` for 1, so that a grey or CMYK file in a
    folder of photographs does no harm; for other numbers of channels `transform` gets the image as it was
    decoded. Raises `SeelikeError` naming the model when `transform` returns anything else.
    """

    transform: Callable[[Any], Any]
    input_size: tuple[int, int, int]
    model: str

    def __call__(self, image: PIL.Image.Image) -> Tensor:
        """Preprocess one image."""
        mode = MODES.get(self.input_size[0])
        if mode is not None and image.mode != mode:
            image = image.convert(mode)
        made = self.transform(image)
        if not isinstance(made, Tensor) or not made.is_floating_point():
            what = f"a {made.dtype} tensor" if isinstance(made, Tensor) else f"a {type(made).__name__}"
            raise SeelikeError(
                f"the preprocessing of model {self.model} returned {what}; it must return a float tensor of "
                f"shape {self.input_size} (a last step such as torchvision's ToTensor is missing)"
            )
        if tuple(made.shape) != self.input_size:
            raise SeelikeError(
                f"the preprocessing of model {self.model} returned shape {tuple(made.shape)}, but the "
                f"model's input_size is {self.input_size}; make them agree"
            )
        return made.as_subclass(Tensor)


@dataclass(frozen=True)
class DefaultTransform:
    """Resize the short side (bicubic, 256/224 of the crop), crop the centre, scale to [-1, 1].

    What big_vision's few-shot evaluation does, and the paper's default here (its appendix names no other).
    """

    height: int
    width: int

    @property
    def note(self) -> str:
        """One sentence for reports."""
        side = resized_side(self.height, self.width)
        return (
            f"default: short side resized to {side} (bicubic), centre crop {self.height} x {self.width}, "
            "values scaled to [-1, 1]"
        )

    def __call__(self, image: PIL.Image.Image) -> Tensor:
        """Return (channels, height, width), float32 in [-1, 1]."""
        side = resized_side(self.height, self.width)
        image = F.resize(image, [side], interpolation=F.InterpolationMode.BICUBIC)
        image = F.center_crop(image, [self.height, self.width])
        pixels: Tensor = F.pil_to_tensor(image)
        return pixels.to(torch.float32) / 127.5 - 1


@dataclass(frozen=True)
class NoTransform:
    """Stands where no preprocessing is known: a number of channels for which there is no kind of image."""

    channels: int
    model: str

    @property
    def note(self) -> str:
        """One sentence for reports."""
        return f"none: images for {self.channels} channels have no default preprocessing"

    def __call__(self, _image: PIL.Image.Image) -> Tensor:
        """Raise `SeelikeError`."""
        raise SeelikeError(
            f"model {self.model} takes {self.channels} channels, for which there is no default "
            "preprocessing; give Model(..., preprocess=function from a PIL image to a tensor), or give "
            "tensors as images"
        )


def default_transform(input_size: tuple[int, int, int], model: str) -> DefaultTransform | NoTransform:
    """Choose the preprocessing of a model that brings none."""
    channels, height, width = input_size
    return DefaultTransform(height, width) if channels in MODES else NoTransform(channels, model)
