"""The localization study: networks whose answer is known, an independent float64 computation, end to end."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import seelike
from nets import pictures, small_net, tiny_vit
from seelike.errors import SeelikeError
from seelike.studies import Design, Minibatch
from seelike.studies.localization.places import joining_factor


def localize(
    net: nn.Module, images: Tensor, name: str = "net", minibatch: int = 16, layout: Any = None, **options: Any
):
    model = seelike.Model(net, tuple(images.shape[1:]), name, layout=layout)
    tree = seelike.compare(model, images, [seelike.Localization(**options)], minibatch=minibatch)
    return tree[f"localization/{name}"].to_dataset()


def noise(n: int, size: int = 16) -> Tensor:
    """Images whose pixels know nothing of each other."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Cuts images into 16 patches and turns each; `order` says which patch stands in each place."""

    def __init__(self, order: list[int] | None = None, prefix: int = 0, average: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 48, 4, 4, bias=False)
        nn.init.orthogonal_(self.embed.weight.view(48, 48))
        self.prefix = nn.Parameter(torch.randn(1, prefix, 48)) if prefix else None
        self.register_buffer("order", torch.tensor(order if order is not None else range(16)))
        self.last = nn.Linear(48, 48)
        nn.init.orthogonal_(self.last.weight)
        self.average = average

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)[:, self.order]
        if self.prefix is not None:
            x = torch.cat([self.prefix.expand(x.shape[0], -1, -1), x], 1)
        if self.average:
            x = x.mean(1, keepdim=True).expand_as(x)
        return self.last(x)


def test_a_network_that_copies_patches_has_hit_rate_one() -> None:
    data = localize(Tokens(), noise(64), layers="last")
    assert data["cka"].shape == (1, 16, 16)
    np.testing.assert_allclose(np.diag(data["cka"][0]), 1, atol=1e-5)  # an orthogonal map of the pixels
    assert np.abs(data["cka"].values[0][~np.eye(16, dtype=bool)]).max() < 0.3
    one = data.sel(part="all").isel(layer=0)
    assert (float(one["hit_rate"]), float(one["hit_rate_error"])) == (1, 0)
    assert (float(one["mean_rank"]), float(one["mean_distance"])) == (1, 0)
    assert float(one["hit_rate_chance"]) == pytest.approx(1 / 16)
    assert float(one["mean_rank_chance"]) == pytest.approx(8.5)


def test_a_network_that_averages_all_is_at_the_chance_level() -> None:
    data = localize(Tokens(average=True), noise(64), layers="last")
    cka = data["cka"].values[0]
    np.testing.assert_allclose(cka, np.broadcast_to(cka[:1], cka.shape), atol=1e-6)  # no token is like its patch only
    one = data.sel(part="all").isel(layer=0)
    assert float(one["hit_rate"]) == pytest.approx(1 / 16)
    assert float(one["mean_rank"]) == pytest.approx(8.5)
    assert abs(float(one["mean_margin"])) < 1e-6


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_tokens_in_a_known_order_behind_prefix_tokens(prefix: int) -> None:
    """Each token's peak is at the patch that was put in its place: a shift by one would show."""
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3)).tolist()
    layout = {"prefix_tokens": prefix, "grid": (4, 4)}
    data = localize(Tokens(order, prefix), noise(64), layers="last", layout=layout)
    assert data["cka"].values[0].argmax(1).tolist() == order
    assert data["hit"].values[0].tolist() == [float(place == patch) for place, patch in enumerate(order)]
    own = np.array([np.divmod(place, 4) for place in range(16)])
    there = np.array([np.divmod(patch, 4) for patch in order])
    np.testing.assert_allclose(data["distance"].values[0], 4 * np.linalg.norm(own - there, axis=1))
    assert data["token_row"].values[0].tolist() == own[:, 0].tolist()
    assert int(data["prefix_tokens"][0]) == prefix


@pytest.mark.parametrize("options", [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}])
def test_layout_of_vits_is_read_off_the_model(options: dict[str, Any]) -> None:
    net = tiny_vit(**options)
    data = localize(net, pictures(32), layers="pos_drop", of="embedding")
    np.testing.assert_allclose(np.diag(data["cka"][0]), 1, atol=1e-4)  # the position embedding is a constant
    assert float(data["hit_rate"].sel(part="all")[0]) == 1
    assert data.attrs["patches"] == "patch_embed"


def song(x: np.ndarray, y: np.ndarray) -> float:
    n, one = len(x), np.ones(len(x))
    k, l = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    return float(np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ l @ one)


def by_hand(tokens: np.ndarray, patches: np.ndarray, minibatches: list[np.ndarray]) -> np.ndarray:
    """Minibatch CKA of every token with every patch, one pair and minibatch at a time in float64."""
    count = tokens.shape[1]
    found = np.zeros((count, count))
    own = [sum(song(tokens[m, t], tokens[m, t]) for m in minibatches) for t in range(count)]
    other = [sum(song(patches[m, p], patches[m, p]) for m in minibatches) for p in range(count)]
    for t in range(count):
        for p in range(count):
            cross = sum(song(tokens[m, t], patches[m, p]) for m in minibatches)
            found[t, p] = cross / np.sqrt(own[t] * other[p])
    return found


def test_equals_an_independent_float64_computation() -> None:
    net, images = tiny_vit(), pictures(24)
    data = localize(net, images, minibatch=12)
    order = seelike.images.partition(24, 12)
    minibatches = [np.array(each) for each in order]
    held: dict[str, Tensor] = {}
    for name, block in net.double().blocks.named_children():
        block.register_forward_hook(lambda _, __, out, name=name: held.__setitem__(f"blocks.{name}", out))
    with torch.no_grad():
        net(images.double())
    pixels = images.double().numpy().reshape(24, 3, 4, 8, 4, 8).transpose(0, 2, 4, 1, 3, 5).reshape(24, 16, -1)
    assert data["layer"].values.tolist() == list(held)
    for number, tensor in enumerate(held.values()):
        expected = by_hand(tensor[:, 1:].detach().numpy(), pixels, minibatches)
        np.testing.assert_allclose(data["cka"].values[number], expected, rtol=2e-4, atol=2e-5)
        hits = expected.argmax(1) == np.arange(16)
        assert float(data["hit_rate"].sel(part="all")[number]) == pytest.approx(hits.mean())
        inside = [5, 6, 9, 10]
        assert float(data["hit_rate"].sel(part="interior")[number]) == pytest.approx(hits[inside].mean())
        rank = (expected >= np.diag(expected)[:, None]).sum(1)
        np.testing.assert_array_equal(data["rank"].values[number], rank)


class Maps(nn.Module):
    """A map with its channels first, or last."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.last = nn.Conv2d(3, 6, 4, 4), nn.ReLU(), last

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.act(x.permute(0, 2, 3, 1)).mean((1, 2)) if self.last else self.act(x).mean((2, 3))


def test_maps_pair_positions_with_patches() -> None:
    first, last = (localize(Maps(last), noise(160), layers="act") for last in (False, True))
    assert first["kind"].values.tolist() == last["kind"].values.tolist() == ["map"]
    np.testing.assert_allclose(first["cka"], last["cka"], atol=1e-6)
    assert float(first["hit_rate"].sel(part="all")[0]) == 1


def test_fine_maps_are_joined_in_squares() -> None:
    net = nn.Sequential(nn.Conv2d(3, 12, 2, 2, bias=False))
    nn.init.orthogonal_(net[0].weight.view(12, 12))
    fine = localize(net, noise(32), layers="all")
    coarse = localize(net, noise(32), layers="all", finest=4)
    assert (fine.sizes["token"], coarse.sizes["token"], int(coarse["joined"][0])) == (64, 16, 2)
    np.testing.assert_allclose(np.diag(coarse["cka"][0]), 1, atol=1e-5)
    assert float(coarse["hit_rate_chance"].sel(part="all")[0]) == pytest.approx(1 / 16)
    assert [joining_factor((14, 14), f) for f in (16, 7, 6, 2)] == [1, 2, 7, 7]
    assert joining_factor((7, 7), 4) is None  # a single cell would be left
    assert joining_factor((8, 4), 4) == 2


def test_layers_of_several_grids_end_in_nan() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 2, 2))
    data = localize(net, noise(32), layers="all")
    assert data["grid_rows"].values.tolist() == [4, 2]
    assert np.isfinite(data["cka"].values[1, :4, :4]).all()
    assert np.isnan(data["cka"].values[1, 4:]).all()
    assert data["token_row"].values[1, :5].tolist() == [0, 0, 1, 1, -1]
    assert np.isnan(float(data["hit_rate"].sel(part="interior")[1]))  # four cells are all on the border


def test_constant_patches_and_tokens_are_named_and_not_counted() -> None:
    images = noise(32)
    images[:, :, :4, :4] = 0.25
    model = seelike.Model(Tokens(), (3, 16, 16), "net")
    tree = seelike.compare(model, images, [seelike.Localization(layers="last")], minibatch=16)
    data = tree["localization/net"].to_dataset()
    assert np.isnan(data["cka"].values[0, 0]).all()
    assert np.isnan(data["cka"].values[0, :, 0]).all()
    assert np.isnan(data["hit"].values[0, 0])
    assert float(data["hit_rate"].sel(part="all")[0]) == 1
    assert float(data["hit_rate_chance"].sel(part="all")[0]) == pytest.approx(1 / 15)
    notes = json.loads(tree.attrs["run"])["notes"]
    assert any("last (1 of 16 tokens), 1 of 4 x 4 patches of the image" in note for note in notes)


@pytest.mark.parametrize("of", ["pixels", "embedding"])
def test_the_forward_batch_does_not_matter(of: Any) -> None:
    images, study = pictures(32), seelike.Localization(of=of)
    model = seelike.Model(tiny_vit(), (3, 32, 32), "vit")
    one, other = (seelike.compare(model, images, [study], minibatch=16, batch=b)["localization/vit"] for b in (32, 5))
    np.testing.assert_allclose(one["cka"], other["cka"], atol=1e-5)


def test_repeats_of_the_same_images_share_their_luck() -> None:
    model = seelike.Model(tiny_vit(), (3, 32, 32), "vit")
    once, thrice = (
        seelike.compare(model, pictures(64), [seelike.Localization()], minibatch=8, repeats=r)["localization/vit"]
        for r in (1, 3)
    )
    ratio = float((thrice["mean_margin_error"] / once["mean_margin_error"]).sel(part="all").mean())
    assert 0.6 < ratio < 1.6  # not 1 / sqrt(3)
    np.testing.assert_allclose(thrice["mean_margin"], once["mean_margin"], atol=0.02)


def test_an_interrupted_run_gives_the_same_bits() -> None:
    """Everything is in the tally: half of it by one fold, the rest added by another."""
    model = seelike.Model(tiny_vit(), (3, 32, 32), "vit")
    images, study = pictures(32), seelike.Localization()
    design = Design(1, 4, 8)

    def fold_in(fold: Any, tally: dict[str, Tensor], minibatches: range) -> None:
        for index in minibatches:
            minibatch = Minibatch(index, 0, index, 8, "")
            some = images[8 * index : 8 * index + 8]
            fold.visit("vit", some[:5], minibatch, 0)
            fold.visit("vit", some[5:], minibatch, 5)
            sites = {site.point: site for site in fold.sites("vit")}
            taps = {p: (lambda t, s=s, m=minibatch: fold.see("vit", s, t, m)) for p, s in sites.items()}
            with torch.inference_mode():
                model.anatomy.run((some,), taps)
            fold.finish(minibatch, tally)

    whole, first, second = (study.begin({"vit": model.anatomy}, design) for _ in range(3))
    one, other = whole.empty(), first.empty()
    fold_in(whole, one, range(4))
    fold_in(first, other, range(2))
    fold_in(second, other, range(2, 4))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert whole.results(one)["localization/vit"].equals(second.results(other)["localization/vit"])


def test_figures_and_findings() -> None:
    gap = tiny_vit(class_token=False, global_pool="avg")
    models = [
        seelike.Model(net, (3, 32, 32), name)
        for name, net in (("cls", tiny_vit()), ("gap", gap), ("net", small_net(units=3)))
    ]
    study = seelike.Localization(finest=4)
    tree = seelike.compare(models, pictures(48), [study], minibatch=8)
    assert list(study.figures(tree)) == ["localization-maps", "localization-hits", "localization-depth"]
    found = json.loads(tree.attrs["findings"])
    claims = [f["claim"] for f in found if f["claim"]]
    expected = [
        "net (units.0) is more localised than net (units.2)",
        "cls (blocks.2) is more localised than gap (blocks.2)",
        "cls (blocks.2) is more localised than net (units.2)",
    ]
    assert claims == [c for claim in expected for c in (claim, f"{claim}, by the margin of CKA")]
    data = tree["localization/net"].to_dataset().sel(part="all")
    (finding,) = (f for f in found if f["claim"] == f"{expected[0]}, by the margin of CKA")
    margins = data["mean_margin"].values
    assert finding["value"] == pytest.approx(margins[0] - margins[2])
    assert finding["error"] > 0


def test_grids_that_differ_are_compared_without_chance() -> None:
    models = [seelike.Model(net, (3, 32, 32), n) for n, net in (("cls", tiny_vit()), ("net", small_net()))]
    tree = seelike.compare(models, pictures(32), [seelike.Localization()], minibatch=8)
    (finding,) = (f for f in json.loads(tree.attrs["findings"]) if f["models"] == ["cls", "net"])
    rates = [float(tree[f"localization/{name}"]["hit_rate"].sel(part="all")[-1]) for name in ("cls", "net")]
    above = [(rate - 1 / tokens) / (1 - 1 / tokens) for rate, tokens in zip(rates, (16, 64), strict=True)]
    assert finding["value"] == pytest.approx(above[0] - above[1])
    assert "chance taken out, as their grids differ (4 x 4 and 8 x 8)" in finding["statement"]


def test_bad_input_is_named() -> None:
    with pytest.raises(SeelikeError, match=r"net: the localization study needs layers with positions.*head \(5,\)"):
        localize(small_net(), pictures(16), layers="head")
    with pytest.raises(SeelikeError, match="of is pixels or embedding, not 'patches'"):
        seelike.Localization(of="patches")  # type: ignore[arg-type]
    with pytest.raises(SeelikeError, match="finest of the localization study must be at least 2, not 1"):
        seelike.Localization(finest=1)
    with pytest.raises(SeelikeError, match="net has no layer that matches 'blocs"):
        localize(small_net(), pictures(16), layers="blocs.1")
    net = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 1))
    with pytest.raises(SeelikeError, match="has 16 x 16 positions and the image only 8 x 8 pixels"):
        localize(net, noise(16, 8), layers="all")


def test_a_layer_with_nan_is_named() -> None:
    images = pictures(16)
    images[3, 0, 2, 2] = float("nan")
    with pytest.raises(SeelikeError, match="NaN or infinite values in net at the preprocessed image"):
        localize(small_net(), images)
