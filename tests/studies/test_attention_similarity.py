"""Similarity of attention maps: known answers, an independent float64 implementation, and end to end."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import seelike
from nets import pictures, small_net, tiny_vit
from seelike.errors import SeelikeError
from seelike.measures import map_similarity, unit_columns
from seelike.studies.attention_similarity import fold as fold_module
from seelike.studies.attention_similarity.results import adjacent, between_heads


def random_maps(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


def similarity(maps: Tensor) -> Tensor:
    unit, present = unit_columns(maps)
    return map_similarity(unit.flatten(-2), present)


def by_loops(a: Tensor, b: Tensor) -> float:
    """Mean cosine of equal columns, number by number; 0 for a column that is zero in one map, none for one in both."""
    cosines = []
    for t in range(a.shape[-1]):
        x, y = a[:, t].tolist(), b[:, t].tolist()
        norms = math.hypot(*x) * math.hypot(*y)
        if norms > 0:
            cosines.append(sum(i * j for i, j in zip(x, y, strict=True)) / norms)
        elif any(x) or any(y):
            cosines.append(0)
    return sum(cosines) / len(cosines)


def test_equals_loops_with_rectangular_maps() -> None:
    maps = random_maps(3, 7, 5)
    expected = [[by_loops(a, b) for b in maps] for a in maps]
    torch.testing.assert_close(similarity(maps), torch.tensor(expected, dtype=torch.float64))


def test_a_map_with_itself_is_one_and_scale_of_columns_does_not_matter() -> None:
    maps = random_maps(3, 6, 6)
    torch.testing.assert_close(similarity(maps).diagonal(), torch.ones(3, dtype=torch.float64))
    scaled = maps * torch.arange(1, 7)
    torch.testing.assert_close(similarity(scaled), similarity(maps))
    rows = maps * torch.arange(1, 7)[:, None]  # but that of rows does
    assert not torch.allclose(similarity(rows), similarity(maps), atol=1e-3)


def test_identity_and_shift_have_nothing_in_common() -> None:
    eye = torch.eye(8)
    torch.testing.assert_close(similarity(torch.stack([eye, eye.roll(1, 1)])), torch.eye(2))
    uniform = torch.full((8, 8), 1 / 8)
    torch.testing.assert_close(similarity(torch.stack([eye, uniform]))[0, 1], torch.tensor(8**-0.5))


def test_a_key_that_nobody_attends_to() -> None:
    maps = random_maps(3, 5, 5)
    maps[1, :, 2] = 0
    maps[:, :, 4] = 0
    expected = [[by_loops(a, b) for b in maps] for a in maps]
    torch.testing.assert_close(similarity(maps), torch.tensor(expected, dtype=torch.float64))


def test_maps_that_attend_to_different_keys_are_not_alike() -> None:
    first, last = torch.zeros(4, 4), torch.zeros(4, 4)
    first[:, 0], last[:, 3] = 1, 1
    torch.testing.assert_close(similarity(torch.stack([first, last])), torch.eye(2))


def test_adjacent_and_between_heads() -> None:
    maps = torch.arange(9.0).reshape(3, 3)
    assert adjacent(maps).tolist() == [1, 5]
    assert between_heads(maps) == pytest.approx((1 + 2 + 3 + 5 + 6 + 7) / 6)
    assert between_heads(torch.ones(1, 1)).isnan()


def sharp(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "qkv.weight" in name:
                parameter.normal_(std=2.5 * parameter.shape[-1] ** -0.5)
    return module


@pytest.fixture(scope="module")
def vit() -> seelike.Model:
    return seelike.Model(sharp(tiny_vit(depth=5, num_heads=4)), (3, 32, 32), "vit")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pictures(20)


def measure(model: seelike.Model, images: Tensor, **options: Any) -> Any:
    tree = seelike.compare(model, images, [seelike.AttentionSimilarity()], **({"minibatch": 5} | options))
    return tree[f"attention-similarity/{model.name}"]


@pytest.fixture(scope="module")
def result(vit: seelike.Model, images: Tensor) -> Any:
    return measure(vit, images)


def eager_maps(module: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """(n, blocks, heads, queries, keys) in float64."""
    seen: list[Tensor] = []

    def attend(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        seen.append((query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1))
        return seen[-1] @ value

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(F, "scaled_dot_product_attention", attend)
        module.double()(images.double())
    module.float()
    return torch.stack(seen, 1)


def test_equals_eager_float64(vit: Any, images: Tensor, result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = eager_maps(vit.module, images, monkeypatch).numpy()
    unit = maps / np.linalg.norm(maps, axis=-2, keepdims=True)
    blocks = np.einsum("nphqt,nrhqt->npr", unit, unit) / (4 * 17)
    heads = np.einsum("nphqt,npiqt->nphi", unit, unit) / 17
    np.testing.assert_allclose(result["similarity"], blocks.mean(0), rtol=2e-5)
    np.testing.assert_allclose(result["head_similarity"], heads.mean(0), rtol=2e-5)
    error = blocks.std(0, ddof=1) / math.sqrt(20)
    np.testing.assert_allclose(result["similarity_error"], error, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.diag(result["similarity"]), 1, atol=1e-6)
    np.testing.assert_allclose(result["adjacent"][1:], np.diag(blocks.mean(0), 1), rtol=2e-5)
    assert np.isnan(result["adjacent"][0])
    assert float(result["similarity"].min()) < 0.9


@pytest.mark.parametrize("options", [{"minibatch": 10}, {"minibatch": 5, "batch": 2}, {"minibatch": 4, "batch": 20}])
def test_minibatches_and_forward_batches_do_not_matter(options: dict[str, int], vit: Any, images: Any, result: Any):
    other = measure(vit, images, **options)
    for name in ("similarity", "head_similarity"):
        np.testing.assert_allclose(result[name], other[name], rtol=1e-5)
    np.testing.assert_allclose(result["similarity_error"], other["similarity_error"], rtol=1e-3, atol=1e-6)


def test_a_head_at_a_time_gives_the_same(vit: Any, images: Tensor, result: Any, monkeypatch: Any) -> None:
    for size in (1, 3 * 5 * 17 * 17 * 4):  # one head of all blocks; three of four
        monkeypatch.setattr(fold_module, "BUFFER_BYTES", size)
        other = measure(vit, images)
        for name in ("similarity", "head_similarity"):
            np.testing.assert_allclose(result[name], other[name], rtol=1e-5)


def test_blocks_of_equal_weights_and_input_attend_alike(images: Tensor) -> None:
    """Blocks that add nothing hand on the same tokens, so equal queries and keys make equal maps."""
    net = sharp(tiny_vit(depth=3))
    for block in net.blocks:
        block.load_state_dict(net.blocks[0].state_dict())
        nn.init.zeros_(block.attn.proj.weight), nn.init.zeros_(block.attn.proj.bias)
        nn.init.zeros_(block.mlp.fc2.weight), nn.init.zeros_(block.mlp.fc2.bias)
    data = measure(seelike.Model(net, (3, 32, 32), "same"), images)
    np.testing.assert_allclose(data["similarity"], np.ones((3, 3)), atol=1e-6)
    assert float(data["similar_share"]) == 1


def test_maps_of_different_shape_are_not_compared() -> None:
    torch.manual_seed(0)
    net = timm.create_model("pvt_v2_b0", depths=(2, 1, 1, 1)).eval()
    data = measure(seelike.Model(net, (3, 64, 64), "pvt"), pictures(8, 64), minibatch=4)
    alike = np.isfinite(data["similarity"].values)
    expected = np.eye(5, dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    np.testing.assert_array_equal(alike, expected)
    assert np.isfinite(data["head_similarity"].values).sum() == 1 + 1 + 4 + 25 + 64


def test_windows_are_refused_with_the_reason() -> None:
    net = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(1,), num_heads=(2,)
    ).eval()
    with pytest.raises(SeelikeError, match="swin: all attention is windowed"):
        measure(seelike.Model(net, (3, 56, 56), "swin"), pictures(8, 56), minibatch=4)


def test_end_to_end_with_a_convolutional_network(tmp_path: Any, vit: Any, images: Tensor, result: Any) -> None:
    net = seelike.Model(small_net(), (3, 32, 32), "net")
    studies = [seelike.AttentionSimilarity(0.5), seelike.AttentionDistance()]
    tree = seelike.compare([vit, net], images, studies, tmp_path, minibatch=5)
    data = seelike.open_results(tmp_path)["attention-similarity/vit"]
    np.testing.assert_allclose(data["similarity"], result["similarity"], rtol=1e-6)
    near = result["adjacent"].values[1:]
    assert float(data["similar_share"]) == (near > 0.5).mean()
    assert "attention-similarity" in {p.stem for p in (tmp_path / "figures").iterdir()}
    assert "net has no attention sites; the attention-similarity study leaves it out" in tree.attrs["run"]
    found = {f["statistic"]: f for f in json.loads(tree.attrs["findings"]) if f["study"] == "attention-similarity"}
    assert found["adjacent, last third minus first"]["value"] == pytest.approx(near[-1] - near[0], rel=1e-5)
    heads = float(result["head_similarity_mean"].mean())
    assert found["adjacent minus head_similarity_mean"]["value"] == pytest.approx(near.mean() - heads, rel=1e-5)


def test_a_threshold_that_is_none() -> None:
    with pytest.raises(SeelikeError, match="threshold of similar blocks lies between 0 and 1, not at 90"):
        seelike.AttentionSimilarity(90)


def test_nan_in_the_activations_is_named(images: Tensor) -> None:
    net = tiny_vit()
    nn.init.constant_(net.blocks[1].attn.qkv.bias, math.nan)
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in broken at blocks\.1\.attn"):
        measure(seelike.Model(net, (3, 32, 32), "broken"), images)
