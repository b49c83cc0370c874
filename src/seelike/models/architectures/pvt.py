"""Pyramid vision transformer v2: `timm.models.pvt_v2.PyramidVisionTransformerV2` on small images.

Four stages of 8, 4, 2 and 1 token a side at 32 pixels; keys and values are reduced by 4, 2, 1, 1, so that the first
two stages attend to 2 x 2 keys.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from torch import nn

from seelike.models.architectures.registry import default_cfgs as _table
from seelike.models.architectures.registry import labelled, options

__all__ = ["seelike_pvt_lab", "seelike_pvt_small"]

LAB = {"embed_dims": (24, 48, 72, 96), "num_heads": (1, 2, 3, 4), "mlp_ratios": (4, 4, 3, 2), "depths": (2, 2, 2, 2)}
SMALL = {
    "embed_dims": (32, 64, 160, 256),
    "num_heads": (1, 2, 5, 8),
    "mlp_ratios": (8, 8, 4, 4),
    "depths": (2, 2, 2, 2),
}

default_cfgs = _table(["seelike_pvt_lab", "seelike_pvt_small"], "head", "patch_embed.proj")


def _pvt(name: str, size: dict[str, Any], given: dict[str, Any]) -> nn.Module:
    arguments = options({"num_classes": 10, "sr_ratios": (4, 2, 1, 1), **size}, given)
    arguments.pop("img_size", None)  # its position code is convolutional
    return labelled(PyramidVisionTransformerV2(**arguments), name)


@register_model  # type: ignore[untyped-decorator]
def seelike_pvt_lab(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """PVT v2 of 2 blocks a stage, up to width 128."""
    return _pvt("seelike_pvt_lab", LAB, arguments)


@register_model  # type: ignore[untyped-decorator]
def seelike_pvt_small(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """PVT v2-B0 with reductions for small images."""
    return _pvt("seelike_pvt_small", SMALL, arguments)
