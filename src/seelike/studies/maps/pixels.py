"""From what a model was given back to a picture.

A study sees the tensors that a model gets. Pictures of 8 bits that were normalised by the right mean and standard
deviation are whole numbers again when that is undone, which tells which of the usual ones it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "scaled to [-1, 1]": ((0.5,), (0.5,)),
    "scaled to [0, 1]": ((0.0,), (1.0,)),
    "ImageNet's mean and standard deviation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP's mean and standard deviation": (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
}
"""Mean and standard deviation of every channel, or of all."""
STRETCHED = "unknown: darkest to brightest value of the image shown as black to white"
SCALES = (*NORMALISATIONS, STRETCHED)
"""How an image was brought back, by number."""
WHOLE = 0.02
"""How far from whole numbers levels of 8 bits may lie after rounding in float32."""


def as_picture(image: Tensor) -> tuple[Tensor, int]:
    """Bring one preprocessed image back to colours.

    Args:
        image: (channels, height, width).

    Returns:
        (height, width, 3) float64 between 0 and 1, and the number in `SCALES` of what was undone. Grey images get
        three equal channels; of other numbers of channels the mean is shown in grey.
    """
    image = image.detach().cpu().double()
    found, scale = _undone(image)
    if len(found) != 3:
        found = found.mean(0, keepdim=True).expand(3, -1, -1)
    return found.clamp(0, 1).permute(1, 2, 0), scale


def _undone(image: Tensor) -> tuple[Tensor, int]:
    for number, (mean, std) in enumerate(NORMALISATIONS.values()):
        if len(mean) in (1, len(image)):
            levels = (image * _column(std) + _column(mean)) * 255
            within = levels.min() > -WHOLE and levels.max() < 255 + WHOLE
            if within and (levels - levels.round()).abs().max() < WHOLE:
                return levels / 255, number
    low, high = image.min(), image.max()
    return (image - low) / (high - low if high > low else 1.0), len(NORMALISATIONS)


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]
