"""Our small architectures: their sizes, what seelike reads in them, and what a removed skip means."""

from __future__ import annotations

import pytest
import timm
import torch

import seelike
from seelike.errors import SeelikeError
from seelike.models.architectures import NAMES, build

LAB = [name for name in NAMES if name.endswith("_lab")]
SMALL = [name for name in NAMES if name.endswith("_small")]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_what_they_are_called(name: str) -> None:
    module = build(name, {}).eval()
    low, high = (0.4e6, 0.5e6) if name in LAB else (2e6, 6e6)
    assert low <= parameters(module) <= high
    with torch.no_grad():
        assert module(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert name in timm.list_models("seelike_*")


@pytest.mark.parametrize(
    ("spec", "residuals", "attentions", "blocks"),
    [
        ("seelike_vit_lab?depth=3", 6, 3, 3),
        ("seelike_vit_lab?depth=3,gap=true", 6, 3, 3),
        ("seelike_vit_lab?depth=3,cut=1", 4, 3, 2),
        ("seelike_vit_lab?depth=3,cut=1,cut_sublayers=mlp", 5, 3, 3),
        ("seelike_resnet_lab?layers=1x2x1x1", 5, 0, 5),
        ("seelike_mixer_lab?num_blocks=3", 6, 0, 3),
        ("seelike_pvt_lab?depths=1x1x1x1", 8, 4, 4),
    ],
)
def test_everything_in_them_is_read(spec: str, residuals: int, attentions: int, blocks: int) -> None:
    read = seelike.load_model(f"timm:{spec}@random").anatomy
    assert (len(read.residuals), len(read.attentions), len(read.blocks)) == (residuals, attentions, blocks)
    assert read.notes == ()
    # As many captures as in the paper: 6 of a transformer's block, 7 of a residual unit.
    names = [site.name for site in read.select("sublayers")]
    if "cut" not in spec and "vit" in spec:
        assert sum(name.startswith("blocks.1") for name in names) == 6
    if "resnet" in spec:
        assert sum(name.startswith("stages.1.blocks.1") for name in names) == 7


def test_a_cut_block_is_its_branches_alone() -> None:
    """z <- MSA(LN z), z <- MLP(LN z), by hand."""
    module = build("seelike_vit_lab", {"cut": 4}).eval()
    block, z = module.blocks[4], torch.randn(2, 65, 64)
    with torch.no_grad():
        branch = block.attn(block.norm1(z))
        assert torch.equal(block(z), block.mlp(block.norm2(branch)))
        half = build("seelike_vit_lab", {"cut": 4, "cut_sublayers": "attention"}).eval().blocks[4]
        branch = half.attn(half.norm1(z))
        assert torch.equal(half(z), branch + half.mlp(half.norm2(branch)))


def test_a_cut_model_starts_with_the_weights_of_the_whole_one() -> None:
    states = []
    for arguments in ({}, {"cut": 1}):
        torch.manual_seed(0)
        states.append(build("seelike_vit_lab", arguments).state_dict())
    whole, cut = states
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_gap_has_no_class_token_and_averages_after_the_norm() -> None:
    module = build("seelike_vit_lab", {"gap": True}).eval()
    assert module.cls_token is None
    assert module.pos_embed.shape == (1, 64, 64)
    torch.nn.init.normal_(module.head.weight)
    torch.nn.init.normal_(module.norm.weight)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        tokens = module.norm(module.blocks(module.patch_embed(images) + module.pos_embed))
        assert torch.allclose(module(images), module.head(tokens.mean(1)), atol=1e-4)


def test_the_resnet_is_that_of_bit() -> None:
    """Standardised convolutions, GroupNorm, and a ReLU after the sum."""
    module = build("seelike_resnet_lab", {}).eval()
    kinds = {type(part).__name__ for part in module.modules()}
    assert {"StdConv2d", "GroupNormAct"} <= kinds
    assert not {"BatchNorm2d", "Conv2d", "MaxPool2d"} & {type(part).__name__ for part in module.stages.modules()}
    images, seen = torch.randn(2, 3, 32, 32), []
    for stage in module.stages:
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        expected = module(images)
        weight = module.stages[1].blocks[0].conv2.weight
        weight.mul_(3).add_(0.5)  # standardisation takes scale and mean of every filter out again
        assert torch.allclose(module(images), expected, atol=1e-3)
    assert [tuple(output.shape[2:]) for output in seen[:4]] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert all(output.min() == 0 for output in seen)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("seelike_vit_lab", {"img_size": 30}, r"30 pixels cannot be cut into patches of 4; .*\(28 or 32\)"),
        ("seelike_mixer_lab", {"img_size": (32, 33)}, r"33 pixels cannot be cut into patches of 4"),
        ("seelike_vit_lab", {"patch_size": 0}, r"patches of 0"),
        ("seelike_vit_lab", {"cut": 12}, r"cut=12 is not a block; blocks are counted from 0 to 11"),
        ("seelike_vit_lab", {"cut": True}, r"cut=True is not a block"),
        ("seelike_vit_lab", {"cut": 1, "cut_sublayers": "msa"}, r"'msa' is none of both, attention, mlp"),
        ("seelike_vit_lab", {"num_heads": 5}, r"embed_dim 64 is not divisible by num_heads 5"),
        ("seelike_resnet_lab", {"stem_stride": 3}, r"stem_stride must be 1 or 2, not 3"),
        ("seelike_resnet_lab", {"groups": 7}, r"seelike_resnet_lab cannot be built with groups=7: .*divisible"),
        ("seelike_vit_lb", {}, r"no architecture 'seelike_vit_lb' \(did you mean seelike_vit_lab"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SeelikeError, match=message):
        build(name, arguments)
