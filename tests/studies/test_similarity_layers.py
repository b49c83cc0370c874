"""Which layers the study takes, and what it says when it can take none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import seelike
from nets import pictures
from seelike.errors import SeelikeError


def layers(tree, a: str, b: str) -> tuple[list[str], list[str]]:
    result = tree[f"similarity/{a}/{b}"]
    return list(result["layer"].values), list(result["other_layer"].values)


def test_a_glob_is_meant_for_the_models_that_have_such_layers(vit_model, net_model) -> None:
    study = seelike.Similarity(["blocks.?", "units.?.bn1"])
    tree = seelike.compare([vit_model, net_model], pictures(20), [study], minibatch=10)
    assert layers(tree, "vit", "net") == (["blocks.0", "blocks.1", "blocks.2"], ["units.0.bn1", "units.1.bn1"])


def test_a_glob_that_no_model_has_offers_close_matches(vit_model, net_model) -> None:
    with pytest.raises(SeelikeError, match=r"vit has no layer that matches 'block\.1'.*blocks\.1"):
        seelike.compare([vit_model, net_model], pictures(20), [seelike.Similarity(["blocks", "block.1"])])
    with pytest.raises(SeelikeError, match=r"net has no layer that matches 'blocks\.\*'"):
        seelike.compare([vit_model, net_model], pictures(20), [seelike.Similarity("blocks.*")])


def test_a_model_without_blocks_says_what_to_do() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    plain(torch.zeros(1, 3, 32, 32))
    with pytest.raises(SeelikeError, match=r"has no blocks.*sublayers"):
        seelike.compare(plain, pictures(20), [seelike.Similarity("blocks")])


def test_cls_pooling_needs_a_class_token(net_model) -> None:
    with pytest.raises(SeelikeError, match=r"net: --pool cls fits none of the \d+ layers .* has no prefix token"):
        seelike.compare(net_model, pictures(20), [seelike.Similarity(pool="cls")])
    with pytest.raises(SeelikeError, match="no pooling named 'max'"):
        seelike.Similarity(pool="max")  # type: ignore[arg-type]


def test_layers_that_a_pooling_does_not_fit_are_named(vit_model) -> None:
    tree = seelike.compare(vit_model, pictures(20), [seelike.Similarity("all", "cls")], minibatch=10)
    assert "left out under --pool cls" in tree.attrs["run"]
    assert "blocks.0" in layers(tree, "vit", "vit")[0]
    assert "patch_embed" not in layers(tree, "vit", "vit")[0]
