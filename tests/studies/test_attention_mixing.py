"""Attention whose heads are mixed after the softmax, as in DeepViT's Re-attention (Zhou et al. 2021; paper.md 5.2)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import seelike
from nets import pictures, tiny_vit

HEADS = 4


class ReAttention(nn.Module):
    """Heads of the attention weights are mixed by a matrix, in one of the ways that people write it; then a norm."""

    def __init__(self, plain: nn.Module, theta: Tensor, how: str, norm: nn.Module) -> None:
        super().__init__()
        self.qkv, self.proj, self.how = plain.qkv, plain.proj, how
        self.theta = nn.Parameter(theta.clone())
        self.mix = nn.Conv2d(HEADS, HEADS, 1, bias=False)
        self.mix.weight.data = theta[:, :, None, None].clone()
        self.norm = norm

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (width // HEADS) ** -0.5).softmax(-1)
        if self.how == "convolution":
            weights = self.mix(weights)
        elif self.how == "einsum":
            weights = torch.einsum("gh,nhqk->ngqk", self.theta, weights)
        else:
            weights = (weights.permute(0, 2, 3, 1) @ self.theta.T).permute(0, 3, 1, 2)
        return self.proj((self.norm(weights) @ v).transpose(1, 2).reshape(n, tokens, width))


def vit(theta: Tensor | None = None, how: str = "convolution", norm: nn.Module | None = None) -> nn.Module:
    """The same weights every time, heads mixed by `theta` in the second block."""
    module = tiny_vit(num_heads=HEADS)
    torch.manual_seed(4)
    with torch.no_grad():
        for block in module.blocks:
            block.attn.qkv.weight.normal_(std=2.5 * 32**-0.5)
    if theta is not None:
        module.blocks[1].attn = ReAttention(module.blocks[1].attn, theta, how, norm or nn.Identity())
    return module.eval()


def measure(module: nn.Module) -> Any:
    model = seelike.Model(module, (3, 32, 32), "vit")
    return seelike.compare(model, pictures(12), [seelike.AttentionDistance()], minibatch=6)["attention/vit"]


@pytest.fixture(scope="module")
def plain() -> Any:
    return measure(vit())


@pytest.mark.parametrize("how", ["convolution", "matmul", "einsum"])
def test_identity_equals_plain_attention(plain: Any, how: str) -> None:
    mixed = measure(vit(torch.eye(HEADS), how))
    assert mixed["module"].values.tolist() == plain["module"].values.tolist()
    for name in ("distance", "distance_error", "entropy", "prefix_share"):
        np.testing.assert_allclose(mixed[name], plain[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_permutation_permutes_the_heads(plain: Any) -> None:
    order = torch.tensor([2, 0, 3, 1])
    mixed = measure(vit(torch.eye(HEADS)[order]))
    for name in ("distance", "entropy", "prefix_share"):
        expected = plain[name].values[1][order.numpy()]
        np.testing.assert_allclose(mixed[name].values[1], expected, rtol=1e-4, err_msg=name)
        assert not np.allclose(expected, plain[name].values[1], rtol=1e-2)


def test_distance_is_linear_in_the_mixture(plain: Any) -> None:
    theta = torch.rand(HEADS, HEADS, generator=torch.Generator().manual_seed(0)).softmax(-1)
    mixed = measure(vit(theta))
    expected = theta.double().numpy() @ plain["distance"].values[1]
    np.testing.assert_allclose(mixed["distance"].values[1], expected, rtol=1e-4)
    # Mixing raises entropy, so what is read is what meets the values and not what the softmax put out.
    assert (mixed["entropy"].values[1] > theta.numpy() @ plain["entropy"].values[1]).all()


def signed() -> nn.Module:
    """A norm over the images that makes half of the weights negative, as DeepViT's does."""
    norm = nn.BatchNorm2d(HEADS)
    norm.running_mean.fill_(1 / 17)
    return norm


def test_where_a_norm_leaves_signed_weights_the_softmax_says_where_heads_look(plain: Any) -> None:
    theta = torch.rand(HEADS, HEADS, generator=torch.Generator().manual_seed(0)).softmax(-1)
    model = seelike.Model(vit(theta, norm=signed()), (3, 32, 32), "vit")
    tree = seelike.compare(model, pictures(12), [seelike.AttentionDistance()], minibatch=6)
    for name in ("distance", "entropy", "prefix_share"):
        # The last block sees what the mixing made of the image.
        np.testing.assert_allclose(tree["attention/vit"][name][:2], plain[name][:2], rtol=1e-4, err_msg=name)
    notes = json.loads(tree.attrs["run"])["notes"]
    assert any("mixes and normalises its heads after the softmax" in note for note in notes)


def test_maps_are_of_the_softmax_and_similarity_of_what_meets_the_values() -> None:
    theta = torch.rand(HEADS, HEADS, generator=torch.Generator().manual_seed(0)).softmax(-1)
    found = {}
    for name, module in {"plain": vit(), "mixed": vit(theta, norm=signed())}.items():
        studies = [seelike.AttentionMaps(), seelike.AttentionSimilarity()]
        found[name] = seelike.compare(seelike.Model(module, (3, 32, 32), "vit"), pictures(12), studies, minibatch=6)
    maps = {name: tree["maps/vit"].to_dataset() for name, tree in found.items()}
    assert (maps["mixed"]["rollout"].values >= 0).all()
    assert maps["mixed"]["rollout"].values.sum(axis=(-2, -1)).max() <= 1 + 1e-6
    similarity = {name: tree["attention-similarity/vit"].to_dataset() for name, tree in found.items()}
    np.testing.assert_allclose(maps["mixed"]["map"][:, :2], maps["plain"]["map"][:, :2], rtol=1e-4)
    assert float(similarity["plain"]["similarity"][0, 1]) > 0.1 > float(similarity["mixed"]["similarity"][0, 1])
