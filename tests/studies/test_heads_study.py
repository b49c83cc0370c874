"""Similarity of heads: subsets, an independent float64 implementation on many families, and end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
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
from seelike.measures import t_quantile, u_centre
from seelike.measures.ranks import ranks, spearman
from seelike.studies import Design, Minibatch
from seelike.studies.attention.estimate import ImageMeans
from seelike.studies.base import judge
from seelike.studies.heads.estimate import HeadEstimate
from seelike.studies.heads.subsets import choose_subsets, subset_width
from seelike.studies.similarity.estimate import PairEstimate

N, SIZE = 24, 8
"""Images, and in a minibatch."""


def test_ranks_and_their_correlation() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]
    x = torch.tensor([1.0, 2.0, 4.0, 9.0])
    assert spearman(x, x.exp()).item() == pytest.approx(1)
    assert spearman(x, -x).item() == pytest.approx(-1)
    assert spearman(x, torch.tensor([2.0, 1.0, 4.0, 3.0])).item() == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert spearman(x, torch.ones(4)).isnan()
    assert spearman(x, torch.tensor([1.0, math.nan, 2.0, 3.0])).isnan()


def test_rank_correlation_equals_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 6, (20, 9), generator=generator).double()
    y = torch.randn(20, 9, generator=generator, dtype=torch.float64)
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(spearman(x, y).numpy(), expected, atol=1e-12)


DISTANCE = torch.tensor([3.0, 1.0, 2.0, 4.0])
SUBSETS: list[tuple[Any, int, list[set[int]]]] = [
    ("sliding", 1, [{1}, {2}, {0}, {3}]),
    ("sliding", 2, [{1, 2}, {2, 0}, {0, 3}]),
    ("disjoint", 2, [{1, 2}, {0, 3}]),
    ("nested", 1, [{1}, {1, 2}, {1, 2, 0}, {0, 1, 2, 3}]),
    ("nested", 2, [{1, 2}, {0, 1, 2, 3}]),
    ("all", 3, [{1, 2, 0}, {1, 2, 3}, {1, 0, 3}, {2, 0, 3}]),
]


@pytest.mark.parametrize(("rule", "width", "expected"), SUBSETS)
def test_subsets_go_from_near_to_far(rule: Any, width: int, expected: list[set[int]]) -> None:
    members = choose_subsets(DISTANCE, rule, width)
    assert [set(row.nonzero().flatten().tolist()) for row in members] == expected


def test_the_paper_s_windows_of_sixteen_heads() -> None:
    width = subset_width(16, "sliding", None, "vit")
    assert width == 4
    assert len(choose_subsets(torch.arange(16.0), "sliding", width)) == 13
    assert [subset_width(h, "sliding", None, "vit") for h in (2, 3, 4, 7, 8)] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("heads", "rule", "width", "message"),
    [
        (1, "sliding", None, "vit has one head"),
        (4, "sliding", 4, "the width of sliding subsets is 1 to 3, not 4"),
        (4, "disjoint", 3, "1 to 2, not 3"),
        (4, "nested", 0, "1 to 3, not 0"),
        (32, "all", 8, "more than 1000"),
    ],
)
def test_widths_that_make_no_sense(heads: int, rule: Any, width: int | None, message: str) -> None:
    with pytest.raises(SeelikeError, match=message):
        subset_width(heads, rule, width, "vit")


SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}


def _hf() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        num_hidden_layers=2, hidden_size=32, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    config._attn_implementation = "eager"
    return transformers.ViTModel(config)


def _torchvision() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64
    ).requires_grad_(False)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "timm": (lambda: tiny_vit(depth=2, num_heads=4), 32, "blocks.1.attn.proj"),
    "registers": (lambda: timm.create_model("vit_small_patch14_reg4_dinov2", **SMALL), 32, "blocks.1.attn.proj"),
    "torchvision": (_torchvision, 32, ""),
    "hf eager": (_hf, 32, "layers.1.attention.o_proj"),
    "swin": (
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(2, 2), num_heads=(4, 4)
        ),
        56,
        "layers.0.blocks.1.attn.proj",
    ),
    "pvt": (
        lambda: timm.create_model("pvt_v2_b0", depths=(1, 1, 1, 1)),
        64,
        "stages.1.blocks.0.attn.proj",
    ),
}


def sharpen(module: nn.Module) -> nn.Module:
    """Larger queries and keys make heads look somewhere, and in different ways."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if any(word in name for word in ("qkv", "in_proj", "query", "key", ".q.", ".kv.")) and "weight" in name:
                parameter.normal_(std=2.5 * parameter.shape[-1] ** -0.5)
    return module.eval()


def hsic(x: Tensor, y: Tensor) -> float:
    """n (n - 3) times the unbiased HSIC of features (n, ...), by U-centred Gram matrices in float64."""
    grams = [each.double().flatten(1) @ each.double().flatten(1).T for each in (x, y)]
    return float((u_centre(grams[0]) * u_centre(grams[1])).sum())


def minibatch_cka(x: Tensor, y: Tensor, order: list[int]) -> float:
    """Sums over minibatches first, then one division; images in the order of the pass."""
    parts = [order[i : i + SIZE] for i in range(0, len(order), SIZE)]
    cross, own, other = (sum(hsic(a[part], b[part]) for part in parts) for a, b in ((x, y), (x, x), (y, y)))
    return cross / math.sqrt(own * other)


def shown(images: Tensor, **options: Any) -> list[int]:
    """In which order a pass shows the images."""
    from seelike.passes import PassOptions, make_plan

    plan = make_plan(len(images), PassOptions(minibatch=SIZE, **options))
    return [index for portion in plan.portions for index in portion.images]


def head_outputs(model: seelike.Model, site: AttentionSite, images: Tensor) -> Tensor:
    """The attention's output (n, heads, tokens, head_dim), from queries, keys, values or weights as they are."""
    held: dict[str, Tensor] = {}
    points = [site.probabilities, site.value] if site.probabilities else [site.query, site.key, site.value]
    taps = {point: (lambda t, p=point: held.__setitem__(p, t)) for point in points if point}
    with torch.no_grad():
        model.anatomy.run(model.inputs(images), taps)
    if site.probabilities:
        found = held[site.probabilities] @ held[site.value]
    else:
        q, k, v = (held[p].double() for p in (site.query, site.key, site.value))
        found = ((q @ k.mT) * site.scale).softmax(-1) @ v
    windows = len(found) // len(images) if found.dim() == 4 else 1
    found = found.reshape(len(images), windows, -1, *found.shape[-2:])
    return found.transpose(1, 2).flatten(2, 3)


SLOW = ("hf eager", "pvt")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FAMILIES])
def test_equals_a_float64_reimplementation(name: str, net_model: seelike.Model) -> None:
    build, size, projection = FAMILIES[name]
    torch.manual_seed(0)
    module = sharpen(build())
    images = pictures(N, size)
    model = seelike.Model(module, (3, size, size), "vit", input_name="pixel_values" if name.startswith("hf") else None)
    net = seelike.Model(small_net(), (3, size, size), "net")
    studies = {of: seelike.HeadSimilarity(block=1, subset="nested", of=of) for of in ("heads", "projected")}
    found = {
        of: seelike.compare([model, net], images, [study], minibatch=SIZE)["heads/vit/net"]
        for of, study in studies.items()
    }
    anatomy = model.anatomy
    outputs = head_outputs(model, anatomy.attentions[1], images)
    if projection:
        weight = module.get_submodule(projection).weight
    else:
        weight = module.encoder.layers[1].self_attention.out_proj.weight
    units: dict[str, Tensor] = {}
    sites = net.anatomy.select("blocks")
    with torch.no_grad():
        net.anatomy.run((images,), {s.point: (lambda t, s=s: units.__setitem__(s.name, t)) for s in sites})
    order = shown(images)
    for of, data in found.items():
        assert list(data["layer"].values) == list(units)
        assert data["member"].values.sum(1).tolist() == list(range(1, outputs.shape[1] + 1))
        for row, member in enumerate(torch.from_numpy(data["member"].values)):
            if of == "heads":
                features = outputs[:, member]
            else:  # the other heads masked, heads side by side, through the projection
                masked = (outputs * member[:, None, None]).transpose(1, 2).flatten(2)
                features = masked @ weight.to(masked).T
            for column, unit in enumerate(units.values()):
                assert data["cka"].values[row, column] == pytest.approx(minibatch_cka(features, unit, order), abs=2e-5)
    # Under the projection heads are mixed: another quantity, not the same under another name.
    assert not np.allclose(found["heads"]["cka"], found["projected"]["cka"], atol=1e-3)


@pytest.fixture(scope="module")
def vit() -> seelike.Model:
    return seelike.Model(sharpen(tiny_vit(num_heads=8)), (3, 32, 32), "vit")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pictures(40)


def measure(vit: seelike.Model, net: seelike.Model, images: Tensor, **options: Any) -> Any:
    names = ("block", "subset", "width", "of", "layers", "renormalize")
    study = seelike.HeadSimilarity(**{name: options.pop(name) for name in names if name in options})
    return seelike.compare([vit, net], images, [study], **({"minibatch": 8} | options))[f"heads/{vit.name}/{net.name}"]


def test_distances_are_those_of_the_attention_study(vit: Any, net_model: Any, images: Tensor) -> None:
    data = measure(vit, net_model, images, block=2)
    attention = seelike.compare(vit, images, [seelike.AttentionDistance()], minibatch=8)["attention/vit"].isel(block=2)
    np.testing.assert_allclose(data["head_distance"], attention["distance"], rtol=1e-6)
    np.testing.assert_allclose(data["head_distance_error"], attention["distance_error"], rtol=1e-4)
    assert float(data["uniform"]) == pytest.approx(float(attention["uniform"]))
    assert data.attrs["width"] == 2
    assert data.sizes["subset"] == 7
    member, heads = data["member"].values, data["head_distance"].values
    np.testing.assert_allclose(data["distance"], [heads[row].mean() for row in member], rtol=1e-9)
    assert (np.diff(data["distance"]) > 0).all()


@pytest.mark.parametrize("of", ["heads", "projected"])
def test_forward_batches_do_not_matter(of: str, vit: Any, net_model: Any, images: Tensor) -> None:
    one = measure(vit, net_model, images, of=of)
    for batch in (3, 40):  # minibatches in pieces; all in one
        other = measure(vit, net_model, images, of=of, batch=batch)
        for name in ("cka", "cka_error", "distance", "near_minus_far"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_two_halves_make_the_whole(vit: Any, net_model: Any, images: Tensor) -> None:
    """Tallies add: folding all minibatches into one, or half of them into each of two."""
    anatomies = {"vit": vit.anatomy, "net": net_model.anatomy}
    fold = seelike.HeadSimilarity().begin(anatomies, Design(repeats=1, groups=5, largest=8))
    parts, whole = [fold.empty(), fold.empty()], fold.empty()

    def show(index: int, tally: dict[str, Tensor]) -> None:
        minibatch = Minibatch(index, 0, index, 8, "")
        some = images[8 * index : 8 * index + 8]
        (reading,) = fold.readings("vit")
        held: dict[str, Tensor] = {}
        with torch.no_grad():
            vit.anatomy.run((some,), {p: (lambda t, p=p: held.__setitem__(p, t)) for p in reading.points})
            sites = {s.point: (lambda t, s=s: fold.see("net", s, t, minibatch)) for s in fold.sites("net")}
            net_model.anatomy.run((some,), sites)
        fold.read("vit", reading, tuple(held[p] for p in reading.points), minibatch, 8)
        fold.finish(minibatch, tally)

    for index in range(5):
        show(index, whole)
        show(index, parts[index % 2])
    assert set(parts[0]) == set(whole)
    assert all(key.startswith("heads/") for key in whole)
    summed = fold.results({key: parts[0][key] + parts[1][key] for key in whole})["heads/vit/net"]
    expected = fold.results(whole)["heads/vit/net"]
    for name in ("cka", "cka_error", "distance", "rank_correlation"):
        np.testing.assert_allclose(summed[name], expected[name], rtol=1e-9, err_msg=name)


def test_what_was_read_before_memory_ran_out_does_not_count(vit: Any, net_model: Any, images: Any, monkeypatch: Any):
    from seelike.studies.heads import fold as fold_module

    whole = measure(vit, net_model, images, batch=8)
    calls = []
    distance = fold_module.attention_distance

    def fail_once(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return distance(*args, **options)

    monkeypatch.setattr(fold_module, "attention_distance", fail_once)
    again = measure(vit, net_model, images, batch=8)
    np.testing.assert_allclose(whole["cka"], again["cka"], atol=1e-5)
    np.testing.assert_allclose(whole["distance"], again["distance"], rtol=1e-5)


@pytest.mark.slow
def test_errors_are_those_of_fresh_draws(vit: Any, net_model: Any) -> None:
    """Standard errors cover the spread of CKA over independent samples of images."""
    draws = [measure(vit, net_model, pictures(64, seed=seed + 1), subset="nested") for seed in range(24)]
    for name, low, high in (("cka", 0.7, 1.5), ("distance", 0.7, 1.5), ("rank_correlation", 0.6, 2)):
        spread = np.std([d[name].values for d in draws], axis=0, ddof=1)
        errors = np.sqrt(np.mean([np.square(d[f"{name}_error"].values) for d in draws], axis=0))
        assert low < np.median(errors / spread) < high, name


def test_a_network_with_the_nearest_head_in_it_is_most_like_it(vit: Any, images: Tensor) -> None:
    """A planted answer: a network whose block puts out what the nearest, or the farthest, head of the ViT does."""

    class Planted(nn.Module):
        def __init__(self, head: int) -> None:
            super().__init__()
            self.stem = nn.Sequential(*[getattr(vit.module, name) for name in ("patch_embed",)])
            self.attn = vit.module.blocks[0].attn
            self.norm1 = vit.module.blocks[0].norm1
            self.head = head

        def forward(self, x: Tensor) -> Tensor:
            x = vit.module._pos_embed(self.stem(x))
            n, tokens, width = x.shape
            qkv = self.attn.qkv(self.norm1(x)).reshape(n, tokens, 3, 8, width // 8).permute(2, 0, 3, 1, 4)
            q, k, v = qkv[:, :, self.head]
            return (F.softmax(q @ k.mT * (width // 8) ** -0.5, -1) @ v).flatten(1)

    net = seelike.Model(small_net(), (3, 32, 32), "net")
    order = np.argsort(measure(vit, net, images)["head_distance"].values)
    for head, best in ((order[0], 0), (order[-1], 7)):
        planted = seelike.Model(Planted(int(head)).eval(), (3, 32, 32), "planted")
        last = planted.anatomy.layers[-1].name
        data = measure(vit, planted, images, width=1, layers=last)
        assert data["cka"].values[best, 0] == pytest.approx(1, abs=1e-5)
        assert int(data["cka"].values[:, 0].argmax()) == best


def test_end_to_end(tmp_path: Any, vit: Any, net_model: Any, images: Tensor) -> None:
    gap = seelike.Model(tiny_vit(num_heads=4, class_token=False, global_pool="avg"), (3, 32, 32), "gap")
    study = seelike.HeadSimilarity(layers="blocks")
    tree = seelike.compare([vit, net_model, gap], images, [study], tmp_path, minibatch=8)
    pairs = {(a, b) for a, node in tree["heads"].children.items() for b in node.children}
    assert pairs == {("vit", "net"), ("vit", "gap"), ("gap", "vit"), ("gap", "net")}
    data = seelike.open_results(tmp_path)["heads/vit/net"]
    assert data["cka"].dims == ("subset", "layer")
    assert data["distance"].attrs["units"] == "pixels"
    assert list(data["layer"].values) == ["units.0", "units.1"]
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {"heads"}
    found = [f for f in json.loads(tree.attrs["findings"]) if f["models"] == ["vit", "net"]]
    assert len(found) == 3
    for index, finding in enumerate(found[:2]):
        value = float(data["rank_correlation"][index])
        expected = spearman(torch.from_numpy(data["distance"].values), torch.from_numpy(data["cka"].values[:, index]))
        assert finding["value"] == pytest.approx(value) == pytest.approx(float(expected))
        assert finding["verdict"] == judge(-0.5 - value, finding["error"], t_quantile(5))
    assert found[2]["value"] == pytest.approx(float(data["rank_correlation"].max()))
    difference = data["cka"].values[0] - data["cka"].values[-1]
    np.testing.assert_allclose(data["near_minus_far"], difference, rtol=1e-9)


def test_ranks_of_what_cannot_be_told_apart_have_an_error() -> None:
    """Two subsets within each other's errors: the jackknife would say that their order is certain."""
    generator = torch.Generator().manual_seed(0)
    groups, true = 12, torch.tensor([[0.5, 1.0], [0.3, 2.0], [0.3001, 3.0]])
    each = true + 0.02 * torch.randn(groups, 3, 2, generator=generator, dtype=torch.float64)
    weights = torch.ones(1, groups, dtype=torch.float64)
    left_out = (each.sum(0) - each) / (groups - 1)
    table = PairEstimate(each.mean(0)[None], left_out[None], weights)
    estimate = HeadEstimate(ImageMeans(each[None, None, :, :, 1], weights), torch.eye(3), table)
    value, error = estimate.rank_correlation()
    assert float(value[0]) in (-1, -0.5)
    probability = float((1 + math.erf((table.maps[0, 1, 0] - table.maps[0, 2, 0]) / 0.02 / math.sqrt(4 / groups))) / 2)
    assert float(error[0]) == pytest.approx(0.5 * math.sqrt(probability * (1 - probability)), rel=0.3)


def test_layers_by_default_are_the_first_five_blocks(vit: Any) -> None:
    net = seelike.Model(small_net(units=7), (3, 32, 32), "net")
    fold = seelike.HeadSimilarity().begin({"vit": vit.anatomy, "net": net.anatomy}, Design(1, 5, 8))
    assert [site.name for site in fold.sites("net")] == [f"units.{i}" for i in range(5)]
    assert list(fold.sites("vit")) == []


def test_a_layer_that_does_not_vary_has_no_cka(vit: Any, images: Tensor) -> None:
    net = small_net()
    nn.init.zeros_(net.stem[1].weight)
    tree = seelike.compare([vit, seelike.Model(net, (3, 32, 32), "still")], images, [seelike.HeadSimilarity()])
    assert np.isnan(tree["heads/vit/still"]["cka"]).all()
    assert "units.0 of still" in tree.attrs["run"]
    assert "cannot tell" in tree.attrs["findings"]


def test_what_cannot_be_asked(vit: Any, net_model: Any, images: Tensor) -> None:
    other = seelike.Model(small_net(), (3, 32, 32), "other")
    with pytest.raises(SeelikeError, match="net and other have no attention sites; give a model with attention"):
        measure(net_model, other, images)
    with pytest.raises(SeelikeError, match=r"compares the heads of vit with layers of another model; give two"):
        seelike.compare(vit, images, [seelike.HeadSimilarity()])
    with pytest.raises(SeelikeError, match=r"vit has 3 attention blocks, 0 to 2: there is no block 3"):
        measure(vit, net_model, images, block=3)
    with pytest.raises(SeelikeError, match=r"vit: blocks\.0\.attn has 8 heads: the width of sliding .* 1 to 7, not 9"):
        measure(vit, net_model, images, width=9)
    with pytest.raises(SeelikeError, match=r"heads\.subset is sliding, disjoint, nested or all, not 'some'"):
        seelike.HeadSimilarity(subset="some")  # type: ignore[arg-type]
    with pytest.raises(SeelikeError, match="has no layer that matches 'unit'"):
        measure(vit, net_model, images, layers="unit")
    assert measure(vit, net_model, images, block=-1).attrs["attention"] == "blocks.2.attn"


def test_attention_without_a_place_is_refused_with_the_reason(net_model: Any, images: Tensor) -> None:
    cait = timm.create_model(
        "cait_xxs24_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=4, depth_token_only=1
    )
    model = seelike.Model(cait.eval(), (3, 32, 32), "cait")
    with pytest.raises(SeelikeError, match=r"cait: the attention of block 1, .* cannot be placed .*blocks that can: 0"):
        measure(model, net_model, images, block=1)


def test_nan_in_the_activations_is_named(net_model: Any, images: Tensor) -> None:
    net = tiny_vit()
    nn.init.constant_(net.blocks[0].attn.qkv.bias, math.nan)
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in broken at blocks\.0\.attn"):
        measure(seelike.Model(net, (3, 32, 32), "broken"), net_model, images)
