"""Attention maps and rollout against an eager float64 reimplementation on many families."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import seelike
from nets import pictures

SMALL: dict[str, Any] = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}


def _timm(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, pretrained=False, **options)


def _hf(attention: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        num_hidden_layers=3, hidden_size=32, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    config._attn_implementation = attention
    return transformers.ViTModel(config)


def _torchvision() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64
    ).requires_grad_(False)


# name -> (model, image size, prefix tokens, grid)
PLAIN: dict[str, tuple[Any, tuple[int, int], int, tuple[int, int]]] = {
    "timm vit": (lambda: _timm("vit_tiny_patch16_224", img_size=32, **SMALL), (32, 32), 1, (4, 4)),
    "not square": (lambda: _timm("vit_tiny_patch16_224", img_size=(24, 40), **SMALL), (24, 40), 1, (3, 5)),
    "gap": (
        lambda: _timm("vit_tiny_patch16_224", img_size=32, class_token=False, global_pool="avg", **SMALL),
        (32, 32),
        0,
        (4, 4),
    ),
    "deit distilled": (lambda: _timm("deit_tiny_distilled_patch16_224", img_size=32, **SMALL), (32, 32), 2, (4, 4)),
    "dinov2 registers": (lambda: _timm("vit_small_patch14_reg4_dinov2", img_size=32, **SMALL), (32, 32), 5, (4, 4)),
    "torchvision vit": (_torchvision, (32, 32), 1, (4, 4)),
    "hf vit": (lambda: _hf("sdpa"), (32, 32), 1, (4, 4)),
    "hf vit eager": (lambda: _hf("eager"), (32, 32), 1, (4, 4)),
}


def sharpen(module: nn.Module) -> nn.Module:
    """Random weights attend to everything alike; larger queries and keys make attention look somewhere."""
    parts = ("qkv", "in_proj", "query", "key", "q_proj", "k_proj", ".q.", ".kv.")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if any(part in name for part in parts) and name.endswith("weight"):
                parameter.normal_(std=2.5 * parameter.shape[-1] ** -0.5)
            elif name.endswith(("_token", "gamma")):  # DINOv2 begins with nearly nothing in either
                parameter.normal_()
    return module.eval()


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Collect the weights of every attention that is run eagerly, fused or written out."""
    seen: list[Tensor] = []
    softmax = torch.softmax

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **_) -> Tensor:
        scores = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        seen.append(softmax(scores, -1))
        return seen[-1] @ value

    def written_out(self: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
        seen.append(softmax(self, dim))
        return seen[-1]

    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", attend)
        patch.setattr(torch.Tensor, "softmax", written_out)
        patch.setattr(F, "softmax", written_out)
        yield seen


def weights_of(module: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Weights of every attention, (n * windows, heads, queries, keys), in float64."""
    module = module.double()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), recorded(monkeypatch) as seen:
            module(images.double())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    module.float()
    return [each.numpy() for each in seen]


def maps_of(module: nn.Module, images: Tensor, *, hf: bool = False, **options: Any) -> Any:
    name = "pixel_values" if hf else None
    model = seelike.Model(module, (3, *images.shape[-2:]), "model", input_name=name)
    study = seelike.AttentionMaps(**({"images": len(images)} | options))
    return seelike.compare(model, images, [study], minibatch=4, batch=4)["maps/model"].to_dataset()


SLOW = ("gap", "dinov2 registers", "hf vit eager")
CASES = [
    *(pytest.param(name, "auto", marks=pytest.mark.slow) if name in SLOW else (name, "auto") for name in PLAIN),
    ("not square", (2, 1)),
    pytest.param("deit distilled", (2, 1), marks=pytest.mark.slow),
    pytest.param("deit distilled", "mean", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "query"), CASES)
def test_equals_eager_float64_attention(name: str, query: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build, size, prefix, grid = PLAIN[name]
    torch.manual_seed(0)
    module, images = sharpen(build()), pictures(6, 40)[..., : size[0], : size[1]].contiguous()
    data = maps_of(module, images, hf=name.startswith("hf"), query=query)
    truth = weights_of(module, images, monkeypatch)
    assert data["map"].shape == (6, len(truth), 2, *grid)

    def row(a: np.ndarray) -> np.ndarray:
        """What the query gives to the patches, on the grid."""
        if query == "mean" or (query == "auto" and not prefix):
            line = a[..., prefix:, :].mean(-2)
        else:
            line = a[..., prefix + query[0] * grid[1] + query[1] if isinstance(query, tuple) else 0, :]
        return line[..., prefix:].reshape(*line.shape[:-1], *grid)

    total = np.eye(truth[0].shape[-1])
    for block, a in enumerate(truth):
        np.testing.assert_allclose(data["map"].values[:, block], row(a), rtol=3e-4, atol=1e-7)
        step = a.mean(1) + np.eye(a.shape[-1])
        total = step / step.sum(-1, keepdims=True) @ total
    np.testing.assert_allclose(total.sum(-1), 1)
    np.testing.assert_allclose(data["rollout"].values, row(total), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(data["uniform"].values, 1 / truth[0].shape[-1])
    assert data["map"].values.max() > 2 * data["uniform"].values[0]  # not so alike that anything would pass


def test_prefix_tokens_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module, images = sharpen(PLAIN["deit distilled"][0]()), pictures(4, 32)
    data = maps_of(module, images, query=1)
    truth = weights_of(module, images, monkeypatch)
    for block, a in enumerate(truth):
        np.testing.assert_allclose(data["map"].values[:, block], a[:, :, 1, 2:].reshape(4, 2, 4, 4), rtol=3e-4)
    assert data.attrs["query"] == "prefix token 1"


def test_fused_and_written_out_attention_give_the_same() -> None:
    torch.manual_seed(0)
    module, images = sharpen(PLAIN["timm vit"][0]()), pictures(4, 32)
    fused = maps_of(module, images)
    for block in module.blocks:
        assert block.attn.fused_attn
        block.attn.fused_attn = False
    written_out = maps_of(module, images)
    for name in ("map", "rollout"):
        np.testing.assert_allclose(fused[name], written_out[name], rtol=1e-4)


@pytest.mark.parametrize("patch", [(4, 9), pytest.param(None, marks=pytest.mark.slow)])
def test_windows_of_swin_lie_where_they_were_cut(patch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shifted windows too: numbers of positions, rolled and cut as Swin does it."""
    torch.manual_seed(0)
    swin = sharpen(_timm("swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(2, 1), num_heads=(2, 4)))
    images = pictures(3, 56)
    data = maps_of(swin, images, query=patch or "auto")
    truth = weights_of(swin, images, monkeypatch)
    assert data["map"].shape == (3, 3, 4, 14, 14)
    assert "rollout" not in data
    for block, (side, shift) in enumerate(((14, 0), (14, 3), (7, 0))):
        cells = torch.arange(side * side).reshape(side, side).roll((-shift, -shift), (0, 1))
        windows = cells.reshape(side // 7, 7, side // 7, 7).transpose(1, 2).reshape(-1, 49).numpy()
        a = truth[block].reshape(3, len(windows), -1, 49, 49)
        heads = a.shape[2]
        expected = np.full((3, heads, side * side), np.nan)
        for window, places in enumerate(windows):
            if patch is None:
                expected[:, :, places] = a[:, window].mean(2) / len(windows)
                continue
            cell = patch[0] * side // 14 * side + patch[1] * side // 14
            if cell in places:
                expected[:, :, places] = a[:, window][:, :, list(places).index(cell)]
        expected = expected.reshape(3, heads, side, side).repeat(14 // side, 2).repeat(14 // side, 3)
        np.testing.assert_allclose(data["map"].values[:, block, :heads], expected, rtol=3e-4, atol=1e-7)
        assert np.isnan(data["map"].values[:, block, heads:]).all()


@pytest.mark.slow
def test_reduced_keys_of_pvt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch of the first grid is looked from through the coarser patches that hold it; keys are 2 x 2 throughout."""
    torch.manual_seed(0)
    pvt, images = sharpen(_timm("pvt_v2_b0", depths=(1, 1, 1, 1))), pictures(3, 64)
    data = maps_of(pvt, images, query=(3, 14))
    truth = weights_of(pvt, images, monkeypatch)
    assert data["map"].shape[-2:] == (2, 2)
    assert "rollout" not in data
    for block, side in enumerate((16, 8, 4, 2)):
        a = truth[block][:, :, 3 * side // 16 * side + 14 * side // 16]
        np.testing.assert_allclose(
            data["map"].values[:, block, : a.shape[1]], a.reshape(3, -1, 2, 2), rtol=3e-4, atol=1e-7
        )
