"""One small model of each of a dozen families: output, counts, names, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models.mlp_mixer import MlpMixer
from torch import nn
from torch.utils import _pytree as pytree

from anatomy.anatomy_nets import all_taps, hooked, shake
from seelike.anatomy import Anatomy, Layout, read_anatomy


@dataclass
class Family:
    """How to build a model, and what must be found in it."""

    build: Any
    size: int
    residuals: int
    attentions: int
    sublayers: int | None
    blocks: int
    by_name: bool = False


def _timm(name: str, **options: Any) -> Any:
    return lambda: timm.create_model(name, pretrained=False, **options)


def _hf_vit() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return transformers.ViTModel(
        transformers.ViTConfig(
            num_hidden_layers=2,
            hidden_size=32,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
        )
    )


def _tv_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    ).requires_grad_(False)  # nn.MultiheadAttention hides its insides when nothing needs a gradient


_SMALL_VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 12, "num_heads": 2}

FAMILIES = {
    "vit": Family(_timm("vit_tiny_patch16_224", **_SMALL_VIT), 32, 24, 12, 75, 12),
    "deit distilled": Family(_timm("deit_tiny_distilled_patch16_224", **_SMALL_VIT), 32, 24, 12, 75, 12),
    "vit registers": Family(
        _timm("vit_small_patch14_reg4_dinov2", **(_SMALL_VIT | {"depth": 2})), 32, 4, 2, 2 * 6 + 3, 2
    ),
    "vit gap": Family(
        _timm("vit_tiny_patch16_224", **(_SMALL_VIT | {"depth": 2}), global_pool="avg", class_token=False),
        32, 4, 2, 2 * 6 + 2, 2,
    ),
    "swin": Family(
        _timm("swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(2, 2), num_heads=(2, 4)),
        56, 8, 4, None, 4,
    ),
    "convnext": Family(_timm("test_convnext"), 32, 9, 0, None, 9),
    "resnet18": Family(_timm("resnet18"), 64, 8, 0, 2 + 8 * 5 + 3 * 2, 8),
    "resnet50": Family(_timm("resnet50"), 64, 16, 0, 122, 16),
    "resnetv2": Family(_timm("resnetv2_18"), 32, 8, 0, None, 8),
    "mixer": Family(lambda: MlpMixer(img_size=32, patch_size=8, num_blocks=2, embed_dim=24), 32, 4, 0, None, 2),
    "pvt": Family(_timm("pvt_v2_b0", depths=(1, 1, 1, 1)), 64, 8, 4, None, 4),
    "efficientnet": Family(_timm("efficientnet_b0"), 32, 9, 0, None, 9),
    "torchvision vit": Family(_tv_vit, 32, 4, 2, 2 * 6 + 3, 2),
    "hf vit": Family(_hf_vit, 32, 4, 2, 2 * 6 + 3, 2, by_name=True),
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda name: name.replace(" ", "_"))
def read(request: pytest.FixtureRequest) -> tuple[Family, nn.Module, Anatomy, Any]:
    torch.manual_seed(0)
    family = FAMILIES[request.param]
    module = shake(family.build())
    images = torch.randn(2, 3, family.size, family.size)
    inputs: Any = {"pixel_values": images} if family.by_name else (images,)
    return family, module, read_anatomy(module, inputs, name=request.param), inputs


def _call(module: nn.Module, inputs: Any) -> Any:
    return module(**inputs) if isinstance(inputs, dict) else module(*inputs)


def test_counts(read: tuple[Family, nn.Module, Anatomy, Any]) -> None:
    family, _, anatomy, _ = read
    assert (len(anatomy.residuals), len(anatomy.attentions)) == (family.residuals, family.attentions)
    assert len(anatomy.blocks) == len(anatomy.select("blocks")) == family.blocks
    if family.sublayers is not None:
        assert len(anatomy.select("sublayers")) == family.sublayers


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_output_equals_eager_for_any_batch(read: tuple[Family, nn.Module, Anatomy, Any], batch: int) -> None:
    _, module, anatomy, inputs = read
    images = pytree.tree_map(lambda t: torch.randn(batch, *t.shape[1:]), inputs)
    _, taps = all_taps(anatomy)
    with torch.no_grad():
        ours, eager = anatomy.run(images, taps), _call(module, images)
    assert type(ours) is type(eager)
    for a, b in zip(pytree.tree_leaves(ours), pytree.tree_leaves(eager), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_every_name_belongs_to_its_tensor(read: tuple[Family, nn.Module, Anatomy, Any]) -> None:
    """What is tapped under a name is what a hook clones at the module's return: the same numbers, if not shape."""
    _, module, anatomy, inputs = read
    kept, taps = all_taps(anatomy)
    with torch.no_grad():
        anatomy.run(inputs, taps)
    by_hook = hooked(module, *inputs) if isinstance(inputs, tuple) else hooked(module, **inputs)
    checked = 0
    for site in anatomy.layers:
        ours = kept[site.point]
        for name in (site.name, *site.aliases):
            if name in by_hook:
                theirs = by_hook[name]
                if ours.shape != theirs.shape:
                    ours, theirs = ours.flatten().sort()[0], theirs.flatten().sort()[0]
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
                checked += 1
    assert checked >= len(by_hook) * 0.8  # the rest is not floating point, or does not depend on the image


def test_names_are_unique_and_layers_in_order(read: tuple[Family, nn.Module, Anatomy, Any]) -> None:
    _, _, anatomy, inputs = read
    names = [name for site in anatomy.layers for name in (site.name, *site.aliases)]
    assert len(names) == len(set(names))
    order: list[str] = []
    taps = {site.point: (lambda t, p=site.point: order.append(p)) for site in anatomy.layers}
    with torch.no_grad():
        anatomy.run(inputs, taps)
    assert order == [site.point for site in anatomy.layers]
    assert [site.index for site in anatomy.layers] == list(range(len(anatomy.layers)))


def test_layers_are_per_image(read: tuple[Family, nn.Module, Anatomy, Any]) -> None:
    """Row i of a layer is made from image i alone, windows or not."""
    _, _, anatomy, inputs = read
    other = pytree.tree_map(lambda t: torch.cat([t[:1], torch.randn(1, *t.shape[1:])]), inputs)
    first, taps = all_taps(anatomy)
    second, other_taps = all_taps(anatomy)
    with torch.no_grad():
        anatomy.run(inputs, taps)
        anatomy.run(other, other_taps)
    for site in anatomy.layers:
        a, b = site.batch_first(first[site.point]), site.batch_first(second[site.point])
        assert a.shape == (2, *site.shape)
        torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-4)
        if site.relative_depth < 0.5:  # far down a random network, images may become one
            assert not torch.allclose(a[1], b[1], rtol=1e-4, atol=1e-4)


def test_residual_sum_is_skip_plus_branch(read: tuple[Family, nn.Module, Anatomy, Any]) -> None:
    _, _, anatomy, inputs = read
    points = {point for site in anatomy.residuals for point in (site.skip, site.branch, site.sum)}
    kept: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        anatomy.run(inputs, {point: (lambda t, p=point: kept.__setitem__(p, t)) for point in points})
    for site in anatomy.residuals:
        torch.testing.assert_close(kept[site.skip] + kept[site.branch], kept[site.sum])


def test_attention_times_values_is_output(read: tuple[Family, nn.Module, Anatomy, Any]) -> None:
    """Probabilities, recomputed from queries and keys if fused, reproduce the product with the values."""
    _, _, anatomy, inputs = read
    kept: dict[str, torch.Tensor] = {}
    points = {p for s in anatomy.attentions for p in (s.query, s.key, s.value, s.output, s.probabilities, s.mask) if p}
    with torch.no_grad():
        anatomy.run(inputs, {point: (lambda t, p=point: kept.__setitem__(p, t)) for point in points})
    for site in anatomy.attentions:
        mask = kept[site.mask] if site.mask is not None else None
        if site.probabilities is not None:
            probabilities = kept[site.probabilities]
        else:
            probabilities = anatomy.attention_probabilities(site, kept[site.query], kept[site.key], mask)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1]))
        assert probabilities.shape[-3:] == (site.heads, site.query_tokens, site.key_tokens)
        torch.testing.assert_close(probabilities @ kept[site.value], kept[site.output], rtol=1e-5, atol=1e-5)


LAYOUTS = {
    "vit": ("norm", Layout("tokens", 1, (4, 4), source="model")),
    "deit distilled": ("norm", Layout("tokens", 2, (4, 4), source="model")),
    "vit registers": ("norm", Layout("tokens", 5, (4, 4), source="model")),
    "vit gap": ("blocks.1", Layout("tokens", 0, (4, 4), source="model")),
    "hf vit": ("layernorm", Layout("tokens", 1, (4, 4), source="graph")),
    "torchvision vit": ("encoder", Layout("tokens", 1, (4, 4), source="graph")),
    "swin": ("layers.0.blocks.1", Layout("map", 0, (14, 14), channels_last=True, source="graph")),
    "resnet18": ("layer2.1", Layout("map", 0, (8, 8), source="graph")),
    "pvt": ("stages.0.blocks.0", Layout("tokens", 0, (16, 16), source="graph")),
}


def test_layout(read: tuple[Family, nn.Module, Anatomy, Any]) -> None:
    _, _, anatomy, _ = read
    if anatomy.name not in LAYOUTS:
        pytest.skip("no layout written down")
    name, layout = LAYOUTS[anatomy.name]
    assert anatomy.select(name)[0].layout == layout
