"""Random changes of a batch of images, all at once."""

from __future__ import annotations

import torch
from torch import Tensor

from seelike.train.recipe import AugmentationPart


def augment(images: Tensor, how: AugmentationPart, random: torch.Generator) -> Tensor:
    """Change uint8 images (n, height, width, channels) and return them as floats in about [0, 255].

    Flip, shift and turn are one indexing, colours one multiplication and one addition. `random` is on the CPU.
    """
    n, height, width, channels = images.shape
    device = images.device
    rows = torch.arange(height)[:, None].expand(n, height, width)  # where each pixel comes from
    columns = torch.arange(width).expand(n, height, width)
    if how.flip:
        mirrored = torch.rand(n, 1, 1, generator=random) < 0.5
        columns = torch.where(mirrored, columns.flip(2), columns)
    if how.shift:
        down, right = torch.randint(-how.shift, how.shift + 1, (2, n, 1, 1), generator=random)
        rows, columns = (rows + down).clamp(0, height - 1), (columns + right).clamp(0, width - 1)
    if how.turn:
        turns = torch.randint(4, (n, 1, 1), generator=random)
        rows, columns = (torch.where(turns < 2, i, i.flip(1, 2)) for i in (rows, columns))
        rows, columns = (torch.where(turns % 2 == 0, i, i.transpose(1, 2)) for i in (rows, columns))
    if how.flip or how.shift or how.turn:
        images = images[torch.arange(n, device=device)[:, None, None], rows.to(device), columns.to(device)]
    if not how.colour:
        return images.float()
    return _colour(images.float(), how.colour, random, channels)


def _colour(images: Tensor, strength: float, random: torch.Generator, channels: int) -> Tensor:
    """Scale the contrast, shift the brightness and scale each channel, by up to `strength`."""
    n = len(images)
    draws = (2 * torch.rand(n, 2 + channels, generator=random) - 1) * strength
    contrast, brightness, balance = torch.split(draws.to(images.device)[:, :, None, None], [1, 1, channels], dim=1)
    balance = balance.movedim(1, -1)  # (n, 1, 1, channels)
    mean = images.mean((1, 2, 3), keepdim=True)
    contrasted: Tensor = (images - mean) * (1 + contrast) + mean
    return (contrasted + 255 * brightness / 2) * (1 + balance / 2)
