"""What all architectures share: how timm hears of them, and the checks of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from seelike.errors import SeelikeError

MEAN = STD = (0.5, 0.5, 0.5)
"""Images scaled to [-1, 1]."""


def default_cfgs(names: Sequence[str], classifier: str, first_conv: str) -> Any:
    """Return timm's table of data configs: 32 pixels, 10 classes, no pretrained weights on any hub."""
    from timm.models import generate_default_cfgs

    config = {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": MEAN,
        "std": STD,
        "first_conv": first_conv,
        "classifier": classifier,
    }
    return generate_default_cfgs(dict.fromkeys(names, config))


def labelled(module: nn.Module, name: str) -> nn.Module:
    """Give a module its data config, as timm's factory does for timm's own."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name).to_dict()
    module.pretrained_cfg = module.default_cfg = config
    return module


def check_patches(img_size: int | Sequence[int], patch_size: int, name: str) -> None:
    """Raise `SeelikeError` when patches of `patch_size` do not tile the image."""
    sides = [img_size] if isinstance(img_size, int) else list(img_size)
    for side in sides:
        if patch_size < 1 or side % patch_size:
            near = (
                f"{side // patch_size * patch_size} or {-(-side // patch_size) * patch_size}" if patch_size > 0 else ""
            )
            raise SeelikeError(
                f"{name}: images of {side} pixels cannot be cut into patches of {patch_size}; "
                f"choose a side that patch_size divides{f' ({near})' if near else ''}, or another patch_size"
            )


def check_heads(width: int, heads: int, name: str) -> None:
    """Raise `SeelikeError` when `heads` heads cannot share `width` channels."""
    if heads < 1 or width % heads:
        raise SeelikeError(f"{name}: embed_dim {width} is not divisible by num_heads {heads}")


def options(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Lay `given` over `defaults`, without the keys by which timm's factory talks to entry points."""
    ignored = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    return defaults | {key: value for key, value in given.items() if key not in ignored and value is not None}
