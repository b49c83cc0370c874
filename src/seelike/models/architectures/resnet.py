"""Residual networks as in BiT, on small images.

`timm.models.resnetv2.ResNetV2` with GroupNorm and weight-standardised convolutions. As in the paper's public code the
unit is a post-activation bottleneck (``preact=False``) with the stride on its 3 x 3 convolution. The stem's pooling is
left out, so that 32 pixels become stages of 16, 8, 4 and 2; ``stem_stride=1`` doubles these.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.layers import GroupNormAct, StdConv2d
from timm.models import register_model
from timm.models.resnetv2 import ResNetV2
from torch import nn

from seelike.errors import SeelikeError
from seelike.models.architectures.registry import default_cfgs as _table
from seelike.models.architectures.registry import labelled, options

__all__ = ["seelike_resnet_lab", "seelike_resnet_small"]

LAB = {"layers": (3, 4, 6, 3), "channels": (64, 96, 160, 256), "stem_chs": 32, "groups": 8}
SMALL = {"layers": (3, 4, 6, 3), "channels": (128, 256, 512, 1024), "stem_chs": 64, "groups": 16}

default_cfgs = _table(["seelike_resnet_lab", "seelike_resnet_small"], "head.fc", "stem.conv")


def _resnet(name: str, size: dict[str, Any], given: dict[str, Any]) -> nn.Module:
    arguments = options({"num_classes": 10, "stem_stride": 2, "preact": False, **size}, given)
    arguments.pop("img_size", None)  # convolutions take any
    groups, stride = arguments.pop("groups"), arguments.pop("stem_stride")
    if stride not in (1, 2):
        raise SeelikeError(f"{name}: stem_stride must be 1 or 2, not {stride!r}")
    model = ResNetV2(
        norm_layer=partial(GroupNormAct, num_groups=groups), conv_layer=StdConv2d, stem_type="", **arguments
    )
    model.stem.pool = nn.Identity()
    if stride == 1:
        model.stem.conv.stride = (1, 1)
    return labelled(model, name)


@register_model  # type: ignore[untyped-decorator]
def seelike_resnet_lab(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """ResNet of 16 bottleneck units (3, 4, 6, 3 as in ResNet-50) up to 256 channels; 0.49 M parameters."""
    return _resnet("seelike_resnet_lab", LAB, arguments)


@register_model  # type: ignore[untyped-decorator]
def seelike_resnet_small(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: ARG001
    """ResNet-50 at half its width; 5.9 M parameters."""
    return _resnet("seelike_resnet_small", SMALL, arguments)
