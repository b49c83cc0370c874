"""The attention distance study: against an eager float64 reimplementation on many families, and end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
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
from nets import pictures, small_net, tiny_vit
from seelike.anatomy import AttentionSite
from seelike.errors import SeelikeError
from seelike.measures import t_quantile
from seelike.studies import Design, Minibatch
from seelike.studies.attention import fold as fold_module
from seelike.studies.attention import weights as weights_module
from seelike.studies.attention.findings import early_blocks, head_spread, most_local
from seelike.studies.base import judge

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def _timm(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, pretrained=False, **options)


def _hf(kind: str, attention: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = {"ViT": transformers.ViTConfig, "CLIPVision": transformers.CLIPVisionConfig}[kind](
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    config._attn_implementation = attention
    return getattr(transformers, f"{kind}Model")(config)


def _torchvision() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    ).requires_grad_(False)


def cells(height: int, width: int, image: float) -> Tensor:
    """Centres of a grid on a square image, row by row."""
    rows = [((r + 0.5) * image / height, (c + 0.5) * image / width) for r in range(height) for c in range(width)]
    return torch.tensor(rows, dtype=torch.float64)


def grid(prefix: int, side: int = 4, image: float = 32) -> Callable[[int], tuple[Tensor, Tensor, int]]:
    """Queries, keys and prefix tokens of a plain ViT, the same for every attention."""
    return lambda _: (cells(side, side, image), cells(side, side, image), prefix)


def pvt(index: int) -> tuple[Tensor, Tensor, int]:
    """64 pixels: grids of 16, 8, 4, 2, keys reduced to 2 x 2 in all."""
    return cells(*[16 >> index] * 2, 64), cells(2, 2, 64), 0


def swin(index: int) -> tuple[Tensor, Tensor, int]:
    """56 pixels: windows of 7 x 7 with patches of 4, then 8 pixels."""
    return cells(7, 7, 28 << (index >= 2)), cells(7, 7, 28 << (index >= 2)), 0


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, Callable[[int], tuple[Tensor, Tensor, int]]]] = {
    "timm vit": (lambda: _timm("vit_tiny_patch16_224", **SMALL), 32, grid(1)),
    "timm vit gap": (lambda: _timm("vit_tiny_patch16_224", **SMALL, class_token=False, global_pool="avg"), 32, grid(0)),
    "deit distilled": (lambda: _timm("deit_tiny_distilled_patch16_224", **SMALL), 32, grid(2)),
    "dinov2 registers": (lambda: _timm("vit_small_patch14_reg4_dinov2", **SMALL), 32, grid(5)),
    "beit": (lambda: _timm("beit_base_patch16_224", **SMALL), 32, grid(1)),
    "torchvision vit": (_torchvision, 32, grid(1)),
    "hf vit": (lambda: _hf("ViT", "sdpa"), 32, grid(1)),
    "hf vit eager": (lambda: _hf("ViT", "eager"), 32, grid(1)),
    "hf clip": (lambda: _hf("CLIPVision", "sdpa"), 32, grid(1)),
    "swin": (
        lambda: _timm("swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(2, 2), num_heads=(2, 4)),
        56,
        swin,
    ),
    "pvt v2": (lambda: _timm("pvt_v2_b0", depths=(1, 1, 1, 1)), 64, pvt),
}
PROJECTIONS = ("qkv", "in_proj", "query", "key", "q_proj", "k_proj", ".q.", ".kv.")


def sharpen(module: nn.Module) -> nn.Module:
    """Random weights attend to everything alike; larger queries and keys make attention look somewhere."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if any(word in name for word in PROJECTIONS) and name.endswith("weight"):
                parameter.normal_(std=2.5 * parameter.shape[-1] ** -0.5)
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


def expected(module: nn.Module, images: Tensor, where: Any, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Distance, entropy, prefix share of single images per attention, (3, n, heads), in float64."""
    module = module.double()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), recorded(monkeypatch) as seen:
            module(images.double())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    module.float()
    found = []
    for index, a in enumerate(seen):
        queries, keys, prefix = where(index)
        between = torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")
        distance = (a[:, :, prefix:, prefix:] * between).sum(-1).mean(-1)
        entropy = -torch.where(a > 0, a * a.clamp(min=1e-300).log(), 0.0)[:, :, prefix:].sum(-1).mean(-1)
        share = a[:, :, prefix:, :prefix].sum(-1).mean(-1)
        each = torch.stack([distance, entropy, share])  # (3, n * windows, heads)
        found.append(each.reshape(3, len(images), -1, a.shape[1]).mean(2).numpy())
    return found


SLOW = ("beit", "hf vit eager", "timm vit gap")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FAMILIES])
def test_equals_eager_float64_attention(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, size, where = FAMILIES[name]
    torch.manual_seed(0)
    module, images = sharpen(build()), pictures(9, size)
    inputs = "pixel_values" if name.startswith("hf") else None
    model = seelike.Model(module, (3, size, size), "model", input_name=inputs)
    result = seelike.compare(model, images, [seelike.AttentionDistance()], minibatch=4, batch=4)["attention/model"]
    truth = expected(module, images, where, monkeypatch)
    assert len(truth) == result.sizes["block"]
    for index, values in enumerate(truth):
        heads = int(result["heads"][index])
        assert heads == values.shape[-1]
        for variable, each in zip(("distance", "entropy", "prefix_share"), values, strict=True):
            ours = result[variable].values[index]
            np.testing.assert_allclose(ours[:heads], each.mean(0), rtol=3e-5, atol=1e-7)
            assert np.isnan(ours[heads:]).all()
            error = result[f"{variable}_error"].values[index, :heads]
            np.testing.assert_allclose(error, each.std(0, ddof=1) / 3, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(result["distance_sd"].values[index, :heads], values[0].std(0, ddof=1), rtol=1e-3)
    assert float(result["relative_entropy"].min()) < 0.95  # not so alike that anything would pass


@pytest.fixture(scope="module")
def vit() -> seelike.Model:
    return seelike.Model(sharpen(tiny_vit(depth=5, num_heads=4)), (3, 32, 32), "vit")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pictures(40)


def measure(model: seelike.Model, images: Tensor, **options: Any) -> Any:
    study = seelike.AttentionDistance(options.pop("renormalize", False))
    return seelike.compare(model, images, [study], **({"minibatch": 8} | options))[f"attention/{model.name}"]


@pytest.mark.parametrize("options", [{"minibatch": 20}, {"minibatch": 8, "batch": 3}, {"minibatch": 10, "batch": 40}])
def test_minibatches_and_forward_batches_do_not_matter(options: dict[str, int], vit: Any, images: Tensor) -> None:
    one, other = measure(vit, images), measure(vit, images, **options)
    for name in ("distance", "distance_error", "distance_sd", "entropy", "prefix_share"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, err_msg=name)


def test_chunks_do_not_matter(vit: Any, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(vit, images)
    for size in (17 * 17 * 4 * 9, 1):  # two images at a time; a head at a time
        monkeypatch.setattr(weights_module, "CHUNK_BYTES", size)
        np.testing.assert_allclose(whole["distance"], measure(vit, images)["distance"], rtol=1e-5)


def test_two_halves_make_the_whole(vit: Any, images: Tensor) -> None:
    """Tallies add: folding all minibatches into one, or half of them into each of two."""
    fold = seelike.AttentionDistance().begin({"vit": vit.anatomy}, Design(repeats=1, groups=5, largest=8))
    parts, whole = [fold.empty(), fold.empty()], fold.empty()

    def show(index: int, tally: dict[str, Tensor]) -> None:
        minibatch = Minibatch(index, 0, index, 8, "")
        some = images[8 * index : 8 * index + 8]
        for each in fold.readings("vit"):
            held: dict[str, Tensor] = {}
            with torch.no_grad():
                vit.anatomy.run((some,), {p: (lambda t, p=p, h=held: h.__setitem__(p, t)) for p in each.points})
            fold.read("vit", each, tuple(held[p] for p in each.points), minibatch, 8)
        fold.finish(minibatch, tally)

    for index in range(5):
        show(index, whole)
        show(index, parts[index % 2])
    summed = {key: parts[0][key] + parts[1][key] for key in whole}
    assert fold.results(summed)["attention/vit"].equals(fold.results(whole)["attention/vit"])
    assert fold.results(whole)["attention/vit"].attrs["images"] == 40


def test_what_was_read_before_memory_ran_out_does_not_count(vit: Any, images: Tensor, monkeypatch: Any) -> None:
    whole = measure(vit, images)
    calls = []
    distance = fold_module.attention_distance

    def fail_once(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 7:
            raise MemoryError
        return distance(*args, **options)

    monkeypatch.setattr(fold_module, "attention_distance", fail_once)
    again = measure(vit, images, batch=8)
    np.testing.assert_allclose(whole["distance"], again["distance"], rtol=1e-5)


def test_renormalised_is_further_and_knows_its_reference(vit: Any, images: Tensor) -> None:
    plain, renormalized = measure(vit, images), measure(vit, images, renormalize=True)
    assert (renormalized["distance"] > plain["distance"]).all()
    np.testing.assert_allclose(renormalized["uniform"], plain["uniform"] * 17 / 16)


def test_error_is_that_of_fresh_draws(vit: Any) -> None:
    """Standard errors cover the spread of the mean over independent samples of images."""
    means = []
    errors = []
    for seed in range(30):
        result = measure(vit, pictures(16, seed=seed + 1))
        means.append(result["distance"].values)
        errors.append(result["distance_error"].values)
    spread = np.std(means, axis=0, ddof=1)
    ratio = np.sqrt(np.mean(np.square(errors), 0)) / spread
    assert 0.85 < np.median(ratio) < 1.2


def test_repeats_of_the_same_images_have_the_error_of_one(vit: Any, images: Tensor) -> None:
    once, thrice = measure(vit, images), measure(vit, images, repeats=3)
    np.testing.assert_allclose(once["distance"], thrice["distance"], rtol=1e-5)
    np.testing.assert_allclose(once["distance_error"], thrice["distance_error"], rtol=1e-3)


def test_recomputed_weights_that_do_not_give_the_output_are_refused(images: Tensor, monkeypatch: Any) -> None:
    model = seelike.Model(sharpen(tiny_vit()), (3, 32, 32), "vit")
    sites = model.anatomy.attentions
    wrong: list[AttentionSite] = [AttentionSite(**{**vars(site), "scale": site.scale * 1.01}) for site in sites]
    monkeypatch.setattr(model.anatomy, "attentions", tuple(wrong))
    with pytest.raises(SeelikeError, match=r"vit: attention recomputed at blocks\.0\.attn differs"):
        measure(model, images)


def test_end_to_end_with_a_convolutional_network(tmp_path: Any, vit: Any, images: Tensor) -> None:
    gap = seelike.Model(tiny_vit(class_token=False, global_pool="avg"), (3, 32, 32), "gap")
    net = seelike.Model(small_net(), (3, 32, 32), "net")
    tree = seelike.compare([vit, gap, net], images, [seelike.AttentionDistance()], tmp_path, minibatch=8)
    assert set(tree["attention"].children) == {"vit", "gap"}
    data = seelike.open_results(tmp_path)["attention/vit"]
    assert data["distance"].dims == ("block", "head")
    assert list(data["block"].values) == [f"blocks.{i}.attn" for i in range(5)]
    assert data["distance"].attrs["units"] == "pixels"
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {"attention-heads", "attention-depth"}
    assert "net has no attention sites" in tree.attrs["run"]
    findings = json.loads(tree.attrs["findings"])
    assert [f["models"] for f in findings] == [["vit"]] * 3 + [["gap"]] * 3 + [["vit", "gap"]]
    least = data["relative_distance"].values
    local = next(f for f in findings if f["statistic"].startswith("least") and f["models"] == ["vit"])
    assert local["value"] == pytest.approx(least[-2:].min() - least[:2].min(), rel=1e-9)
    assert local["verdict"] == judge(local["value"], local["error"], t_quantile(5))
    spread = next(f for f in findings if f["statistic"].startswith("spread") and f["models"] == ["vit"])
    assert spread["value"] == pytest.approx(least[0].std(ddof=1) - least[-1].std(ddof=1), rel=1e-9)


def test_models_without_attention_alone_are_refused() -> None:
    net = seelike.Model(small_net(), (3, 32, 32), "net")
    with pytest.raises(SeelikeError, match="net has no attention sites; give a model with attention, for example timm"):
        measure(net, pictures(8))


def test_nan_in_the_activations_is_named(images: Tensor) -> None:
    net = tiny_vit()
    nn.init.constant_(net.blocks[1].attn.qkv.bias, math.nan)
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in broken at blocks\.1\.attn"):
        measure(seelike.Model(net, (3, 32, 32), "broken"), images)


def test_statistics_of_ragged_heads() -> None:
    relative = torch.tensor([[0.5, 0.9, math.nan, math.nan], [0.8, 0.9, 1.0, 1.1]], dtype=torch.float64)
    assert most_local(relative) == 0.5
    torch.testing.assert_close(head_spread(relative), torch.tensor([0.08, 1 / 60]).double().sqrt())
    assert [early_blocks(n) for n in (1, 2, 3, 4, 12)] == [1, 1, 1, 2, 2]


def test_memory_is_a_chunk_and_chunks_cover_everything_once() -> None:
    for shape in ((64, 6, 197, 197), (3, 16, 577, 577), (2, 3, 3136, 3136)):
        covered = torch.zeros(shape[:2])
        for rows, heads in weights_module._parts(shape, 4):
            covered[rows, heads] += 1
            some = covered[rows, heads].numel() * shape[2] * shape[3] * 4
            assert some <= weights_module.CHUNK_BYTES or covered[rows, heads].numel() == 1
        assert (covered == 1).all()
