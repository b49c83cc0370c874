"""Small networks and images that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import vision_transformer
from torch import nn


def tiny_vit(**overrides: Any) -> nn.Module:
    """A ViT of 3 blocks on 32 pixels: 16 patches and CLS."""
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}
    return vision_transformer.VisionTransformer(**(options | overrides)).eval()


class Unit(nn.Module):
    """A residual unit with in-place ReLUs, as everybody writes them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return self.relu(y)


class SmallNet(nn.Module):
    """A nested residual network on 32 pixels."""

    def __init__(self, channels: int = 8, units: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 4, 4), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.units = nn.Sequential(*[Unit(channels) for _ in range(units)])
        self.head = nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.units(self.stem(x)).mean((2, 3)))


def small_net(**overrides: Any) -> nn.Module:
    torch.manual_seed(1)
    net = SmallNet(**overrides).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net


def pictures(n: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth random images (n, 3, size, size), unlike noise in that neighbouring pixels agree."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 5, 5, generator=generator)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
