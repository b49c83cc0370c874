"""Places of queries and keys: windows, strided windows, heads in the batch, reduced keys, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seelike.anatomy import Anatomy, read_anatomy
from seelike.anatomy.positions import place_attentions


def timm_anatomy(name: str, size: tuple[int, int], **options: Any) -> Anatomy:
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, **options).eval()
    return read_anatomy(module, (torch.randn(2, 3, *size),), name=name)


def test_rectangular_grid_row_by_row() -> None:
    options = {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    anatomy = timm_anatomy("vit_tiny_patch16_224", (32, 48), img_size=(32, 48), **options)
    (placed,), notes = place_attentions(anatomy)
    assert not notes
    assert (placed.query_prefix, placed.key_prefix, placed.windows, placed.patch) == (1, 1, 1, (8.0, 8.0))
    assert placed.queries[[0, 1, 6, 23]].tolist() == [[4, 4], [4, 12], [12, 4], [28, 44]]
    assert torch.equal(placed.keys, placed.queries)


@pytest.fixture(scope="module")
def maxvit() -> Anatomy:
    return timm_anatomy("maxvit_rmlp_pico_rw_256", (64, 64), img_size=64)


@pytest.mark.slow
def test_windows_and_strided_grids_of_maxvit_are_told_apart(maxvit: Anatomy) -> None:
    """Same shapes, other places: 2 x 2 neighbours against 2 x 2 positions half an image apart."""
    placed = {each.site.name: each for each in place_attentions(maxvit)[0]}
    near, far = (placed[f"stages.0.blocks.0.attn_{kind}.attn"] for kind in ("block", "grid"))
    assert near.site.query_tokens == far.site.query_tokens == 4
    assert (near.queries - near.queries[0]).tolist() == [[0, 0], [0, 4], [4, 0], [4, 4]]
    assert (far.queries - far.queries[0]).tolist() == [[0, 0], [0, 32], [32, 0], [32, 32]]
    assert near.windows == far.windows == 64
    assert near.shared_mask is not None  # a learned bias, the same for all images
    assert near.own_mask is None


@pytest.mark.slow
def test_shifted_windows_of_swin_do_not_wrap() -> None:
    anatomy = timm_anatomy(
        "swin_tiny_patch4_window7_224", (56, 56), img_size=56, embed_dim=24, depths=(2, 1), num_heads=(2, 4)
    )
    first, shifted, whole = place_attentions(anatomy)[0]
    torch.testing.assert_close(first.queries - first.queries[0], shifted.queries - shifted.queries[0])
    assert (first.windows, shifted.windows, whole.windows) == (4, 4, 1)
    assert (first.queries - first.queries[0]).amax(0).tolist() == [24, 24]
    assert whole.patch == (8.0, 8.0)


@pytest.mark.slow
def test_reduced_keys_lie_at_the_centres_of_their_cells() -> None:
    placed, _ = place_attentions(timm_anatomy("pvt_v2_b0", (64, 64), depths=(1, 1, 1, 1)))
    assert [len(each.queries) for each in placed] == [256, 64, 16, 4]
    for each in placed:
        assert each.keys.tolist() == [[16, 16], [16, 48], [48, 16], [48, 48]]
    torch.testing.assert_close(placed[0].queries.mean(0), placed[0].keys.mean(0))


def test_a_query_that_is_no_place_is_left_out_and_said() -> None:
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    placed, notes = place_attentions(timm_anatomy("cait_xxs24_224", (32, 32), **options))
    assert [each.site.name for each in placed] == ["blocks.0.attn", "blocks.1.attn"]
    assert notes == (
        "left out blocks_token_only.0.attn, blocks_token_only.1.attn: its only query cannot be matched with positions "
        "in the image",
    )


class Attention(nn.Module):
    """Attention written out with bmm, heads in the batch dimension."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        size = width // self.heads
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        q, k, v = (t.reshape(n * self.heads, tokens, size) for t in (q, k, v))
        weights = torch.bmm(q, k.transpose(1, 2)).mul(size**-0.5).softmax(-1)
        return self.proj(torch.bmm(weights, v).reshape(n, self.heads, tokens, size).transpose(1, 2).reshape_as(x))


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(16), attention, nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ToyViT(nn.Module):
    """4 x 4 patches and, on demand, a class token before or behind them."""

    def __init__(self, attention: nn.Module, token: str = "") -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, 16))
        self.block, self.token, self.head = Block(attention), token, nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        cls = self.cls.expand(x.shape[0], -1, -1)
        x = torch.cat({"": [x], "first": [cls, x], "last": [x, cls]}[self.token], 1)
        return self.head(self.block(x).mean(1))


def toy(attention: nn.Module, token: str = "") -> Anatomy:
    torch.manual_seed(0)
    return read_anatomy(ToyViT(attention, token).eval(), (torch.randn(2, 3, 32, 32),), name="toy")


@pytest.mark.parametrize("token", ["", "first"])
def test_heads_in_the_batch_are_heads(token: str) -> None:
    (placed,), notes = place_attentions(toy(Attention(4), token))
    assert not notes
    assert (placed.heads, placed.windows, placed.query_prefix) == (4, 1, len(token) // 5)
    assert len(placed.queries) == 16


def test_learned_tokens_behind_the_image_are_refused() -> None:
    placed, notes = place_attentions(toy(Attention(4), "last"))
    assert not placed
    assert "learned tokens stand behind those of the image" in notes[0]


class Windows(nn.Module):
    """Attention in windows of 2 x 2 patches: plain, shifted, of every other patch, or such as cannot be placed."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.qkv = how, nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        if self.how == "shifted":
            x = x.reshape(n, 4, 4, 16).roll((-1, -1), (1, 2))
        rows = x.reshape(n, 2, 2, 2, 2, 16)  # image, window row, row, window column, column
        orders = {"images innermost": (1, 3, 0, 2, 4, 5), "strided": (0, 2, 4, 1, 3, 5)}
        order = orders.get(self.how, (0, 1, 3, 2, 4, 5))
        windows = rows.permute(order).reshape(-1, 4, 16)
        if self.how == "mixed":
            windows = windows + windows.mean(1, keepdim=True)
        q, k, v = self.qkv(windows).reshape(-1, 4, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows.permute(order).shape)
        y = y.permute([order.index(dim) for dim in range(6)])
        return (
            y.reshape(n, 4, 4, 16).roll((1, 1), (1, 2)).flatten(1, 2) if self.how == "shifted" else y.reshape(n, 16, 16)
        )


@pytest.mark.parametrize(("how", "step"), [("plain", 8), ("shifted", 8), ("strided", 16)])
def test_windows_of_tokens_are_traced_to_their_patches(how: str, step: int) -> None:
    """Equal shapes, other places: neighbours, and patches half an image apart (MaxViT's grids)."""
    (placed,), notes = place_attentions(toy(Windows(how)))
    assert not notes
    assert placed.windows == 4
    assert (placed.queries - placed.queries[0]).tolist() == [[0, 0], [0, step], [step, 0], [step, step]]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("images innermost", "images and windows lie interleaved in the batch"),
        ("mixed", "its windows overlap or are padded"),
    ],
)
def test_windows_that_cannot_be_placed_are_said(how: str, reason: str) -> None:
    placed, notes = place_attentions(toy(Windows(how)))
    assert not placed
    assert reason in notes[0]
