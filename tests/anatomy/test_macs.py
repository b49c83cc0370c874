"""Multiply-adds: the numbers of paper.md 5.8, torch's own counter, and counts by hand."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from nets import tiny_vit
from seelike.anatomy import read_anatomy
from seelike.anatomy.multiply_adds import AFTER, BEFORE, BETWEEN, MultiplyAdds, count_multiply_adds
from seelike.anatomy.torch_counter import disagreement, torch_multiply_adds
from seelike.measures.cost import attention_cost, cost_at


def count(module: nn.Module, *shape: int, by_name: str = "") -> tuple[MultiplyAdds, dict[str, int]]:
    image = torch.zeros(2, *(shape or (3, 32, 32)))
    anatomy = read_anatomy(module.eval().requires_grad_(False), {by_name: image} if by_name else (image,), name="net")
    return count_multiply_adds(anatomy), torch_multiply_adds(anatomy)


def of(counted: MultiplyAdds, block: str, *kinds: str) -> int:
    return sum(o.multiply_adds for o in counted.operations if o.block == block and o.kind in kinds)


@pytest.mark.parametrize(
    ("name", "side", "tokens", "width", "projection", "scores", "total"),
    [
        ("vit_base_patch16_224", 224, 197, 768, 116.2, 29.8, 524.4),
        ("vit_base_patch16_384", 384, 577, 768, 340.3, 255.7, 1872.7),
        ("vit_huge_patch14_224", 224, 257, 1280, 421.1, 84.5, 1853.4),
    ],
)
def test_the_numbers_of_the_paper(
    name: str, side: int, tokens: int, width: int, projection: float, scores: float, total: float
) -> None:
    cost = attention_cost(tokens, tokens, width)
    assert (cost.query_projection, cost.key_projection) == (tokens * width**2,) * 2
    assert cost.scores == tokens**2 * width
    millions = [round(x / 1e6, 1) for x in (cost.query_projection, cost.scores, cost.total)]
    assert millions == [projection, scores, total]
    counted, torch_says = count(timm.create_model(name, depth=1), 3, side, side)
    assert of(counted, "blocks.0", "projections") == cost.projections == 4 * tokens * width**2
    assert of(counted, "blocks.0", "attention") == cost.attention == 2 * tokens**2 * width
    assert of(counted, "blocks.0", "mlp") == 8 * tokens * width**2
    assert disagreement(counted, torch_says) == ""


def test_a_tiny_vit_by_hand() -> None:
    counted, torch_says = count(tiny_vit())
    n, c = 17, 32
    block = {"projections": 4 * n * c * c, "attention": 2 * n * n * c, "mlp": 8 * n * c * c}
    for number in range(3):
        for kind, expected in block.items():
            assert of(counted, f"blocks.{number}", kind) == expected
        assert of(counted, f"blocks.{number}", "convolution", "other") == 0
    assert of(counted, BEFORE, "convolution") == 16 * 3 * 8 * 8 * c
    assert of(counted, AFTER, "other") == c * 5
    assert counted.places == (BEFORE, "blocks.0", "blocks.1", "blocks.2", AFTER)
    assert counted.total == sum(torch_says.values()) == 3 * sum(block.values()) + 16 * 192 * c + c * 5
    own = {"projections": 4 * c * c + 4 * c, "mlp": 8 * c * c + 5 * c, "other": 4 * c}
    assert {kind: counted.parameters["blocks.1", kind] for kind in own} == own
    assert counted.parameters[BEFORE, "other"] == n * c + c  # positions and class token
    assert counted.parameters[AFTER, "other"] == 2 * c + 5 * c + 5
    outputs = {o.path: o.outputs for o in counted.operations if o.block == "blocks.0"}
    assert outputs["blocks.0.attn.qkv"] == 3 * n * c
    assert outputs["blocks.0.mlp.fc1"] == 4 * n * c


def hf_vit() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        attn_implementation="eager",
    )  # fmt: skip
    return transformers.ViTModel(config)


SWIN: dict[str, Any] = {"img_size": 64, "embed_dim": 24, "depths": (2, 1), "num_heads": (2, 4)}
FAMILIES: dict[str, tuple[Any, int]] = {
    "resnet18": (lambda: timm.create_model("resnet18"), 64),
    "swinv2": (lambda: timm.create_model("swinv2_tiny_window8_256", **SWIN), 64),
    "pvt": (lambda: timm.create_model("pvt_v2_b0", depths=(1, 1, 1, 1)), 64),
    "mixer": (lambda: timm.create_model("mixer_s32_224", img_size=64), 64),
    "cait": (lambda: timm.create_model("cait_xxs24_224", img_size=32, depth=2), 32),
    "efficientnet": (lambda: timm.create_model("efficientnet_b0"), 32),
    "hf vit": (hf_vit, 32),
    "torchvision vit": (
        lambda: torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
        ),
        32,
    ),
}


@cache
def count_family(family: str) -> tuple[nn.Module, MultiplyAdds, dict[str, int]]:
    build, side = FAMILIES[family]
    module = build()
    return module, *count(module, 3, side, side, by_name="pixel_values" if family == "hf vit" else "")


SLOW = ("efficientnet", "cait", "resnet18")


@pytest.mark.parametrize("family", [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in FAMILIES])
def test_agrees_with_torch_and_gives_every_parameter_a_place(family: str) -> None:
    module, counted, torch_says = count_family(family)
    assert disagreement(counted, torch_says) == ""
    assert counted.total == sum(torch_says.values())
    assert sum(counted.parameters.values()) == sum(p.numel() for p in module.parameters())
    assert counted.notes == ()


def test_kinds_of_a_pvt_and_a_mixer() -> None:
    _, pvt, _ = count_family("pvt")
    first = "stages.0.blocks.0"
    queries, keys, c = 16 * 16, 2 * 2, 32  # 64 / 4, reduced 8 times
    cost = attention_cost(queries, keys, c)
    assert of(pvt, first, "projections") == cost.projections
    assert of(pvt, first, "attention") == cost.attention
    assert of(pvt, first, "mlp") == 2 * queries * c * 8 * c
    reduction, depthwise = keys * 64 * c * c, queries * 9 * 8 * c
    assert of(pvt, first, "convolution") == reduction + depthwise
    assert of(pvt, BETWEEN, "convolution") > 0
    _, mixer, _ = count_family("mixer")
    assert of(mixer, "blocks.0", "mlp") == 2 * 512 * 4 * 256 + 2 * 4 * 512 * 2048
    assert of(mixer, "blocks.0", "projections", "attention", "convolution", "other") == 0


class Products(nn.Module):
    """One of each operation that multiplies, in unusual shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, dilation=2)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2)
        self.line = nn.Conv1d(6, 4, 5)
        self.weight = nn.Parameter(torch.randn(2, 3))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.grouped(x))  # (n, 6, h, w)
        y = self.line(x.flatten(2))  # (n, 4, l)
        y = torch.einsum("...al,...bl->...ab", y, y.roll(1, 2))  # (n, 4, 4)
        y = torch.einsum("nab,cd->nacbd", y, self.weight).flatten(1)  # (n, 96)
        y = torch.baddbmm(y[:, None], y[:, :, None], y[:, None])  # (n, 96, 96)
        return torch.addmm(self.bias, y.mean(1), torch.ones(96, 5)) + y @ torch.ones(96) @ torch.ones(96, 5)


def test_products_in_unusual_shapes() -> None:
    counted, _ = count(Products(), 4, 16, 16)
    h = (16 + 2 - 5) // 2 + 1  # 7
    side, length = 2 * h, (2 * h) ** 2 - 4
    assert [(o.op, o.multiply_adds) for o in counted.operations] == [
        ("conv2d", h * h * 8 * 2 * 9),
        ("conv_transpose2d", h * h * 8 * 3 * 16),
        ("conv1d", length * 4 * 6 * 5),
        ("einsum", 4 * 4 * length),
        ("einsum", 4 * 4 * 2 * 3),
        ("baddbmm", 96 * 96),
        ("addmm", 96 * 5),
        ("matmul", 96 * 96),
        ("matmul", 96 * 5),
    ]
    assert side == 14


def test_what_cannot_be_counted_is_named_and_torch_says_how_much() -> None:
    class Waves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                x = x @ x.mT
            return torch.fft.rfft2(x).abs()

    counted, torch_says = count(Waves(), 8, 8)
    assert counted.total == 0
    assert counted.notes == ("not counted: fft_rfft2 in net, wrap_with_autocast in net",)
    assert torch_says == {"convolution": 0, "product": 8 * 8 * 8}
    assert disagreement(counted, torch_says) == "torch's counter does not agree: products 0 here and 512 there"


def test_twice_the_side_as_the_formula_says() -> None:
    gap = {"class_token": False, "global_pool": "avg", "img_size": 32}
    small, _ = count(tiny_vit(**gap), 3, 32, 32)
    large, _ = count(tiny_vit(**(gap | {"img_size": 64})), 3, 64, 64)
    blocks = ("blocks.0", "blocks.1", "blocks.2")
    fixed, quadratic = of(small, AFTER, "other"), sum(of(small, b, "attention") for b in blocks)
    assert large.total == cost_at(fixed, small.total - fixed - quadratic, quadratic, 4)
    assert large.total > 4 * small.total
    assert math.isclose(cost_at(1, 2, 3, 2), 1 + 4 + 12)
