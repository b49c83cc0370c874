"""The skip study against hooks and float64, and what its numbers must obey."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
import xarray as xr
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn

import seelike
from ctrl_c import StopAfter
from nets import pictures, small_net, tiny_vit
from seelike.anatomy import read_anatomy
from seelike.errors import SeelikeError
from seelike.passes import Interrupted
from seelike.studies import Design
from seelike.studies.means import mean_from_sums

Sums = dict[str, tuple[Tensor, Tensor]]
"""Residual sum -> skip and branch, both (images, tokens, channels) float64."""


def vit_sums(net: Any, x: Tensor) -> Sums:
    """Skips and branches of a timm ViT, block by block with its own modules."""
    found: Sums = {}
    x = net.patch_embed(x)
    x = net.norm_pre(net._pos_embed(x))
    for number, block in enumerate(net.blocks):
        branch = block.ls1(block.attn(block.norm1(x)))
        found[f"blocks.{number}.+attention"] = (x, branch)
        x = x + branch
        branch = block.ls2(block.mlp(block.norm2(x)))
        found[f"blocks.{number}.+mlp"] = (x, branch)
        x = x + branch
    return found


def net_sums(net: Any, x: Tensor) -> Sums:
    """Those of `small_net`, positions of the map as tokens row by row."""
    found: Sums = {}
    x = net.stem(x)
    for number, unit in enumerate(net.units):
        branch = unit.bn2(unit.conv2(torch.relu(unit.bn1(unit.conv1(x)))))
        found[f"units.{number}.+conv"] = tuple(t.flatten(2).mT for t in (x, branch))  # type: ignore[assignment]
        x = torch.relu(x + branch)
    return found


def brute(sums: Sums) -> dict[str, dict[str, np.ndarray]]:
    """Measures (images, tokens) of every residual sum."""
    found = {}
    for name, (z, f) in sums.items():
        z, f = z.detach().numpy(), f.detach().numpy()
        a, b, t = (np.sqrt((v**2).sum(-1)) for v in (z, f, z + f))
        cosine_output, cosine_branch = (z * (z + f)).sum(-1) / (a * t), (z * f).sum(-1) / (a * b)
        found[name] = {"ratio": a / b, "cosine_output": cosine_output, "cosine_branch": cosine_branch}
        found[name] |= {"skip_norm": a, "branch_norm": b}
    return found


N = 26


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pictures(N)


@pytest.fixture(scope="module")
def tree(images: Tensor, vit_model: seelike.Model, net_model: seelike.Model) -> xr.DataTree:
    return seelike.compare([vit_model, net_model], images, [seelike.SkipRatio()], minibatch=8)


@pytest.fixture(scope="module")
def truth(images: Tensor) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    x = images.double()
    with torch.no_grad():
        return {
            "vit": brute(vit_sums(tiny_vit().double(), x)),
            "net": brute(net_sums(small_net().double(), x)),
        }


@pytest.mark.parametrize("model", ["vit", "net"])
def test_equals_brute_force_in_float64(model: str, tree: xr.DataTree, truth: Any) -> None:
    result = tree[f"skip/{model}"].to_dataset()
    assert list(result["residual"].values) == list(truth[model])
    prefix = {"vit": 1, "net": 0}[model]
    for name, measures in truth[model].items():
        row = result.sel(residual=name)
        for measure, values in measures.items():
            for stem, per_image in (
                (measure, values),
                (f"{measure}_spatial", values[:, prefix:].mean(1)),
                *([(f"{measure}_prefix", values[:, :1].mean(1))] if prefix else []),
            ):
                np.testing.assert_allclose(row[stem], per_image.mean(0), rtol=1e-5, atol=1e-5)
                error = per_image.std(0, ddof=1) / np.sqrt(N)
                np.testing.assert_allclose(row[f"{stem}_error"], error, rtol=2e-3, atol=1e-7)
        a, b = measures["skip_norm"], measures["branch_norm"]
        np.testing.assert_allclose(row["ratio_of_means"], a.mean(0) / b.mean(0), rtol=1e-5)
        residual = (a - a.mean(0) / b.mean(0) * b) / b.mean(0)
        np.testing.assert_allclose(row["ratio_of_means_error"], residual.std(0, ddof=1) / np.sqrt(N), rtol=2e-3)
        spread = measures["ratio"][:, prefix:].mean(1).std(ddof=1)
        assert float(row["ratio_spatial_sd"]) == pytest.approx(spread, rel=2e-3)


def test_error_of_a_ratio_of_means_is_that_of_the_bootstrap(tree: xr.DataTree, truth: Any) -> None:
    measures = truth["vit"]["blocks.1.+mlp"]
    a, b = measures["skip_norm"][:, 0], measures["branch_norm"][:, 0]
    draws = np.random.default_rng(0).integers(0, N, (20000, N))
    by_bootstrap = (a[draws].mean(1) / b[draws].mean(1)).std()
    error = float(tree["skip/vit"]["ratio_of_means_error"].sel(residual="blocks.1.+mlp")[0])
    assert error == pytest.approx(by_bootstrap * np.sqrt(N / (N - 1)), rel=0.03)


def findings(tree: xr.DataTree) -> list[dict[str, Any]]:
    return json.loads(tree.attrs["findings"])


def run_of(tree: xr.DataTree) -> dict[str, Any]:
    return json.loads(tree.attrs["run"])


def test_findings_respect_that_the_same_images_are_in_both_sides(tree: xr.DataTree, truth: Any) -> None:
    per_image = {n: m["ratio"] for n, m in truth["vit"].items()}
    change = per_image["blocks.0.+mlp"][:, 0] - per_image["blocks.2.+mlp"][:, 0]
    (found,) = (f for f in findings(tree) if f["statistic"] == "ratio_prefix early - late (mlp)")
    assert found["value"] == pytest.approx(change.mean(), rel=1e-5)
    assert found["error"] == pytest.approx(change.std(ddof=1) / np.sqrt(N), rel=1e-3)
    assert found["verdict"] == ("holds" if change.mean() > 0 else "does not hold")  # many errors away from 0
    assert abs(found["value"]) > 5 * found["error"]

    above = np.mean([r[:, 1:].mean(1) for r in per_image.values()], 0)
    above = above - np.mean([m["ratio"].mean(1) for m in truth["net"].values()], 0)
    (pair,) = (f for f in findings(tree) if f["models"] == ["vit", "net"])
    assert pair["value"] == pytest.approx(above.mean(), rel=1e-5)
    assert pair["error"] == pytest.approx(above.std(ddof=1) / np.sqrt(N), rel=1e-3)


def test_claims_about_prefix_tokens_are_not_put_to_a_resnet(tree: xr.DataTree) -> None:
    (alone,) = (f for f in findings(tree) if f["models"] == ["net"])
    assert (alone["verdict"], alone["claim"]) == (None, "")
    assert len([f for f in findings(tree) if f["models"] == ["vit"] and f["verdict"]]) == 4


@pytest.mark.parametrize("options", [{"batch": 3}, {"batch": 64}, {"minibatch": 26}, {"minibatch": 5}])
def test_batches_and_minibatches_do_not_matter(
    options: dict[str, int], tree: xr.DataTree, images: Tensor, vit_model: seelike.Model, net_model: seelike.Model
) -> None:
    other = seelike.compare([vit_model, net_model], images, [seelike.SkipRatio()], **({"minibatch": 8} | options))
    for model in ("vit", "net"):
        xr.testing.assert_allclose(other[f"skip/{model}"].to_dataset(), tree[f"skip/{model}"].to_dataset(), rtol=1e-4)
    for ours, theirs in zip(findings(tree), findings(other), strict=True):
        assert theirs["value"] == pytest.approx(ours["value"], rel=1e-5)
        assert theirs["error"] == pytest.approx(ours["error"], rel=1e-3)


def test_repeating_the_same_images_makes_no_error_smaller(
    tree: xr.DataTree, images: Tensor, vit_model: seelike.Model
) -> None:
    once = tree["skip/vit"].to_dataset()
    again = seelike.compare(vit_model, images, [seelike.SkipRatio()], minibatch=8, repeats=4)["skip/vit"].to_dataset()
    for name in ("ratio", "ratio_error", "ratio_of_means_error", "cosine_output_error", "ratio_prefix_error"):
        np.testing.assert_allclose(again[name], once[name], rtol=1e-4)
    assert again.attrs["images"] == N


@pytest.mark.parametrize("available", [50, 100, 10**6])
def test_errors_over_repeats_are_those_of_many_experiments(available: int) -> None:
    """4 repeats of 50 of so many images, 4000 experiments at once: the error is the spread of the mean over them."""
    generator = torch.Generator().manual_seed(0)
    population = torch.randn(min(available, 400), 4000, generator=generator, dtype=torch.float64) + 3
    if available > 400:
        rows = torch.arange(200).reshape(4, 50)
    else:
        rows = torch.stack([torch.randperm(available, generator=generator)[:50] for _ in range(4)])
    x = population[rows]  # (repeats, images, experiments)
    counts = torch.full((4, 1), 50.0, dtype=torch.float64)
    mean = mean_from_sums(counts, x.sum(1), x.square().sum(1))
    assert float(mean.error.square().mean().sqrt() / mean.value.std()) == pytest.approx(1, abs=0.04)
    assert float(mean.spread.mean()) == pytest.approx(1, abs=0.01)


def test_resnets_have_projected_skips_and_maps_that_shrink(images: Tensor) -> None:
    torch.manual_seed(0)
    net = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [2, 1, 1, 1], num_classes=4).eval()
    result = seelike.compare(seelike.Model(net, (3, 32, 32), "r"), images[:8], [seelike.SkipRatio()], minibatch=4)
    data = result["skip/r"].to_dataset()
    assert data["kind"].values.tolist() == ["identity", "identity", "projected", "projected", "projected"]
    assert data["tokens"].values.tolist() == [64, 64, 16, 4, 1]
    assert data["block_index"].values.tolist() == [0, 1, 2, 3, 4]
    assert np.isfinite(data["ratio"].values[2, :16]).all()
    assert np.isnan(data["ratio"].values[2, 16:]).all()
    assert np.isnan(data["ratio_prefix"]).all()
    with torch.no_grad():
        x = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(images[:8])))))
        block = net.layer2[0]
        branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
        ratio = block.downsample(x).norm(dim=1) / branch.norm(dim=1)  # (images, 4, 4)
    np.testing.assert_allclose(data["ratio"].values[2, :16], ratio.mean(0).flatten(), rtol=1e-4)


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, **options)


_VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}

FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, list[tuple[int, int]]]] = {
    "deit distilled": (_timm("deit_tiny_distilled_patch16_224", **_VIT), 32, [(18, 2)] * 6),
    "registers": (_timm("vit_small_patch14_reg4_dinov2", **(_VIT | {"depth": 1})), 32, [(21, 5)] * 2),
    "vit gap": (_timm("vit_tiny_patch16_224", **_VIT, global_pool="avg", class_token=False), 32, [(16, 0)] * 6),
    "swin": (
        _timm("swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(1, 1), num_heads=(2, 4)),
        56,
        [(196, 0)] * 2 + [(49, 0)] * 2,
    ),
    "convnext": (_timm("test_convnext"), 32, [(64, 0)] + [(16, 0)] * 2 + [(4, 0)] * 4 + [(1, 0)] * 2),
    "resnet50": (_timm("resnet50"), 64, [(256, 0)] * 3 + [(64, 0)] * 4 + [(16, 0)] * 6 + [(4, 0)] * 3),
    "pvt, one token left": (
        _timm("pvt_v2_b0", depths=(1, 1, 1, 1)),
        32,
        [(t, 0) for t in (64, 16, 4, 1) for _ in "ab"],
    ),
    "class attention": (
        _timm("cait_xxs24_224", img_size=32, patch_size=8, depth=1, embed_dim=32, num_heads=2),
        32,
        [(16, 0)] * 2 + [(1, 1)] * 4,
    ),
    "mixer": (lambda: MlpMixer(img_size=32, patch_size=8, num_blocks=2, embed_dim=24), 32, [(16, 0)] * 4),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_residual_sums_and_tokens_of_families(name: str) -> None:
    """2 x blocks for transformers, one per unit for convolutional networks; prefix tokens counted."""
    build, size, expected = FAMILIES[name]
    anatomy = read_anatomy(build().eval(), (torch.randn(2, 3, size, size),), name=name)
    fold = seelike.SkipRatio().begin({name: anatomy}, Design(1, 1, 8))
    assert [(place.tokens, place.prefix_tokens) for place in fold.places[name]] == expected
    assert fold.notes == []


def test_prefix_tokens_stand_in_front(images: Tensor) -> None:
    torch.manual_seed(0)
    net = FAMILIES["deit distilled"][0]().eval()
    for parameter in net.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    data = seelike.compare(seelike.Model(net, (3, 32, 32), "d"), images[:8], [seelike.SkipRatio()], minibatch=4)[
        "skip/d"
    ].to_dataset()
    with torch.no_grad():
        tokens = torch.cat([net.cls_token, net.dist_token], 1) + net.pos_embed[:, :2]
        patches = net.patch_embed(images[:8]) + net.pos_embed[:, 2:]
        norms = torch.cat([tokens.expand(8, -1, -1), patches], 1).norm(dim=-1).mean(0)
    np.testing.assert_allclose(data["skip_norm"].sel(residual="blocks.0.+attention"), norms, rtol=1e-5)
    ratio = data["ratio"]
    np.testing.assert_allclose(data["ratio_prefix"], ratio[:, :2].mean("token"), rtol=1e-9)
    np.testing.assert_allclose(data["ratio_spatial"], ratio[:, 2:].mean("token"), rtol=1e-9)


class LastChannels(nn.Module):
    """A map whose channels come last, as in Swin and ConvNeXt, with a branch that is known at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 8, 8)
        self.mix = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1)
        return self.head((x + self.mix(x)).mean((1, 2)))


def test_half_the_skip_gives_two_at_every_position_of_a_channels_last_map(images: Tensor) -> None:
    net = LastChannels()
    nn.init.eye_(net.mix.weight).data.mul_(0.5)
    tree = seelike.compare(seelike.Model(net, (3, 32, 32), "last"), images, [seelike.SkipRatio()], minibatch=8)
    data = tree["skip/last"].to_dataset()
    assert data["ratio"].shape == (1, 16)
    np.testing.assert_allclose(data["ratio"], 2, rtol=1e-6)
    np.testing.assert_allclose(data["cosine_output"], 1, rtol=1e-6)
    np.testing.assert_allclose(data["ratio_error"], 0, atol=1e-6)
    assert data["block_index"].values.tolist() == [-1]


def test_a_branch_that_is_exactly_zero_is_named_and_has_no_ratio(images: Tensor) -> None:
    torch.manual_seed(0)
    net = timm.create_model("resnet18", pretrained=False, zero_init_last=True)
    last = net.layer2[0].bn2
    nn.init.ones_(last.weight)
    tree = seelike.compare(seelike.Model(net, (3, 32, 32), "r"), images[:8], [seelike.SkipRatio()], minibatch=4)
    data = tree["skip/r"].to_dataset()
    defined = ~np.isnan(data["ratio_spatial"].values)
    assert data["residual"].values[defined].tolist() == ["layer2.0.+conv"]
    assert np.isnan(data["ratio_of_means"].values[~defined]).all()
    np.testing.assert_allclose(data["cosine_output_spatial"].values[~defined], 1, rtol=1e-6)
    (note,) = (n for n in run_of(tree)["notes"] if "branch is exactly zero, so no ratio" in n)
    assert "layer1.0.+conv (512 positions of images)" in note
    assert "layer2.0.+conv" not in note


def test_a_branch_zero_for_one_image_leaves_nan_and_not_a_mean_of_the_rest(images: Tensor) -> None:
    class Gate(LastChannels):
        def forward(self, x: Tensor) -> Tensor:
            bright = x.amax((1, 2, 3)) > 50
            x = self.embed(x).permute(0, 2, 3, 1)
            return self.head((x + self.mix(x) * (~bright)[:, None, None, None]).mean((1, 2)))

    x = images.clone()
    x[5, 0, 0, 0] = 99
    tree = seelike.compare(seelike.Model(Gate(), (3, 32, 32), "gate"), x, [seelike.SkipRatio()], minibatch=8)
    data = tree["skip/gate"].to_dataset()
    assert np.isnan(data["ratio"]).all()
    assert np.isfinite(data["ratio_of_means"]).all()
    assert np.isfinite(data["cosine_branch"]).all()
    assert any("(16 positions of images)" in note for note in run_of(tree)["notes"])


def test_nan_in_an_activation_ends_the_run_by_name(images: Tensor) -> None:
    net = tiny_vit()
    nn.init.constant_(net.blocks[1].mlp.fc2.bias, torch.nan)
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in vit at blocks\.1\.\+mlp \(17, 32\)"):
        seelike.compare(seelike.Model(net, (3, 32, 32), "vit"), images, [seelike.SkipRatio()], minibatch=8)


def plain() -> seelike.Model:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2))
    return seelike.Model(net, (3, 32, 32), "plain")


def test_a_model_without_residual_sums_is_noted(images: Tensor, net_model: seelike.Model) -> None:
    tree = seelike.compare([plain(), net_model], images, [seelike.SkipRatio()], minibatch=8)
    assert list(tree["skip"].children) == ["net"]
    assert "plain: no residual sums, so it is not in the skip study" in run_of(tree)["notes"]


def test_no_model_with_residual_sums_is_an_error(images: Tensor) -> None:
    with pytest.raises(SeelikeError, match=r"no residual sum .* in plain.*; give a model with skip connections"):
        seelike.compare(plain(), images, [seelike.SkipRatio()], minibatch=8)


def test_a_sum_whose_channels_are_unknown_is_left_out_and_said(images: Tensor) -> None:
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.branch = nn.Conv2d(3, 8, 8, 8), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).reshape(-1, 2, 4, 4, 4)
            return (x + self.branch(x)).flatten(1)

    with pytest.raises(SeelikeError, match=r"left out, as where their channels lie is not known: \+mlp \(2, 4, 4, 4\)"):
        seelike.compare(seelike.Model(Volume(), (3, 32, 32), "volume"), images, [seelike.SkipRatio()], minibatch=8)


def test_a_run_that_was_stopped_and_resumed_is_the_same_and_is_written(
    tmp_path: Path, tree: xr.DataTree, images: Tensor, vit_model: seelike.Model, net_model: seelike.Model
) -> None:
    options: dict[str, Any] = {"minibatch": 8, "batch": 8, "out": tmp_path / "run"}
    study, models = [seelike.SkipRatio()], [vit_model, net_model]
    with pytest.raises(Interrupted):
        seelike.compare(models, images, study, progress=StopAfter(16), **options)
    watcher = StopAfter(10**6)
    seelike.compare(models, images, study, resume=True, progress=watcher, **options)
    assert watcher.done == 16
    again = seelike.open_results(tmp_path / "run")
    for model in ("vit", "net"):
        xr.testing.assert_allclose(again[f"skip/{model}"].to_dataset(), tree[f"skip/{model}"].to_dataset(), rtol=1e-4)
    drawn = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert drawn == {"skip", "skip-cosine", "skip-tokens-vit", "skip-tokens-net"}
    assert "self-attention branches: at the CLS token" in (tmp_path / "run" / "report.html").read_text()
