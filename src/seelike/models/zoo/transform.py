"""From an image to what a zoo model takes: resized to the input, scaled, normalised."""

from __future__ import annotations

from dataclasses import dataclass

import PIL.Image
import torch
import torchvision.transforms.functional as F
from torch import Tensor


def fit(image: PIL.Image.Image, size: tuple[int, int]) -> PIL.Image.Image:
    """Return the image as ``RGB`` of `size` (height, width); nothing is cropped, and the right size is left alone."""
    image = image if image.mode == "RGB" else image.convert("RGB")
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), PIL.Image.Resampling.BICUBIC)


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (n, channels, height, width) floats of pixels (n, height, width, channels) in [0, 255]."""
    scale = pixels.new_tensor(std, dtype=torch.float32) * 255
    shift = pixels.new_tensor(mean, dtype=torch.float32) * 255
    return ((pixels.float() - shift) / scale).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class ZooTransform:
    """The preprocessing of a zoo model, the same as in its training."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def note(self) -> str:
        """One sentence for reports."""
        height, width = self.size
        return f"zoo: resized to {height} x {width} (bicubic) unless it has that size, mean {self.mean}, std {self.std}"

    def __call__(self, image: PIL.Image.Image) -> Tensor:
        """Return (channels, height, width), float32."""
        pixels = F.pil_to_tensor(fit(image, self.size)).permute(1, 2, 0)[None]
        return normalise(pixels, self.mean, self.std)[0]
