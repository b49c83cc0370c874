"""The position study: networks that know where things are and such that cannot, and scikit-like oracles."""

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
from seelike.measures.ridge import LAMBDAS, RidgeSums, ridge_path
from seelike.models.padding import without_zero_padding
from seelike.studies import Design, Minibatch, Samples
from seelike.studies.position.findings import pads_with_zeros
from seelike.studies.position.readouts import quarters, token_places
from seelike.studies.position.solve import solve, squared_errors, total_squares
from seelike.studies.position.split import EVALUATE, FIT, TUNE, split_images


class Spots(seelike.Images):
    """Images with one bright spot, the place of which is known."""

    name = "spots"
    is_tensor = True

    def __init__(self, n: int, size: int = 16) -> None:
        generator = np.random.default_rng(77)  # not the seed that the images are shuffled with
        self.ids = [str(i) for i in range(n)]
        self.places = generator.integers(2, size - 2, (n, 2))
        self.pixels = 0.1 * generator.standard_normal((n, 3, size, size)).astype(np.float32)
        for image, (row, column) in zip(self.pixels, self.places, strict=True):
            image[:, row - 1 : row + 2, column - 1 : column + 2] += 2
        self.size = size

    def read(self, index: int) -> Tensor:
        return torch.from_numpy(self.pixels[index])

    def truths(self, indices: Any) -> dict[str, np.ndarray]:
        found = (self.places[list(indices)] + 0.5) / self.size
        return {"row": found[:, 0], "column": found[:, 1]}


class Weighted(nn.Module):
    """Multiplies pixels with their row and column, if it is told these; every token then knows them."""

    def __init__(self, knows: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.knows = knows
        self.first = nn.Conv2d(3, 8, 1)
        self.pool, self.last = nn.AvgPool2d(4), nn.Conv2d(8, 8, 1)
        where = torch.linspace(0, 1, 16)
        self.register_buffer("rows", where[:, None].expand(16, 16))
        self.register_buffer("columns", where.expand(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean(1, keepdim=True)
        if self.knows:
            x = torch.cat([bright, bright * self.rows, bright * self.columns], 1)
        return self.last(self.pool(self.first(x)))


def position(net: nn.Module, images: Any, name: str = "net", size: int = 16, **options: Any):
    model = seelike.Model(net, (3, size, size), name)
    study = seelike.Position(**({"layers": "last"} | options))
    return seelike.compare(model, images, [study], minibatch=16)[f"position/{name}"].to_dataset()


def test_a_network_that_is_told_the_place_of_the_object() -> None:
    """A sum over the map of brightness times row is the row; without it, the mean over a map knows no place."""
    told, blind = (position(Weighted(knows), Spots(240)).sel(pooling="mean").isel(layer=0) for knows in (True, False))
    assert (told["object_r2"].values > 0.95).all()
    assert (blind["object_r2"].values < 0.15).all()
    side = position(Weighted(False), Spots(240)).sel(pooling="quarters", axis="both")
    assert float(side["object_r2"][0]) > 0.6  # but its quarters do
    assert 0 < float(told.sel(axis="both")["object_r2_error"]) < 0.05


class Ramp(nn.Module):
    """Adds to every position its row and column, or nothing."""

    def __init__(self, share: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 6, 2, 2), nn.Conv2d(6, 6, 1)
        rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        direction = torch.randn(2, 6)
        self.register_buffer("ramp", share * torch.einsum("khw,kc->chw", torch.stack([rows, columns]), direction))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) + self.ramp)


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 0.95, 1.0), (0.0, -0.05, 0.05)])
def test_tokens_know_their_place_if_it_was_added_to_them(share: float, low: float, high: float) -> None:
    images = 0.3 * torch.randn(96, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    data = position(Ramp(share), images)
    assert low <= float(data["grid_r2"].sel(axis="both")[0]) <= high
    assert np.isnan(data["object_r2"].values).all()


def test_vit_tokens_carry_their_position_embedding() -> None:
    net = tiny_vit()
    with torch.no_grad():
        nn.init.normal_(net.pos_embed, std=3)
    with_it = position(net, pictures(80), "vit", 32, layers="pos_drop")
    with torch.no_grad():
        net.pos_embed.zero_()
    without = position(net, pictures(80), "vit", 32, layers="pos_drop")
    assert float(with_it["grid_r2"].sel(axis="both")[0]) > 0.98
    assert abs(float(without["grid_r2"].sel(axis="both")[0])) < 0.1


def test_zeros_around_maps_tell_positions_their_place() -> None:
    """Constant images: whatever a position knows of its place comes from the edges."""
    torch.manual_seed(0)
    layers = [layer for k in range(4) for layer in (nn.Conv2d(8 if k else 3, 8, 3, padding=1), nn.Tanh())]
    net = nn.Sequential(*layers, nn.Conv2d(8, 8, 1))
    images = 1 + 0.1 * torch.randn(60, 3, 1, 1).expand(-1, -1, 8, 8)
    models = [
        seelike.Model(each, (3, 8, 8), name) for name, each in (("zeros", net), ("circular", without_zero_padding(net)))
    ]
    assert [pads_with_zeros(model.anatomy.graph) for model in models] == [True, False]
    tree = seelike.compare(models, images, [seelike.Position(layers="8")], minibatch=10)
    zeros, circular = (float(tree[f"position/{m.name}"]["grid_r2"].sel(axis="both")[0]) for m in models)
    assert zeros > 0.2
    assert circular == pytest.approx(0, abs=1e-6)
    (finding,) = (f for f in json.loads(tree.attrs["findings"]) if f["claim"])
    assert finding["claim"] == "zero padding tells zeros where a position of its maps is"
    assert finding["value"] == pytest.approx(zeros - circular)
    assert finding["verdict"] == "holds"


def by_hand(net: nn.Module, spots: Spots, order: list[int], minibatch: int) -> tuple[float, float]:
    """R^2 and its jackknife error from all features at once, with lambda by the same rule."""
    with torch.no_grad():
        x = net.double()(torch.from_numpy(spots.pixels).double()).mean((2, 3)).numpy()
    net.float()
    y = np.stack(list(spots.truths(range(len(spots.ids))).values()), 1)
    x, y = x[order], y[order]
    half = len(order) // 2
    tuned = np.arange(half) % 5 == 4

    def fitted(rows: np.ndarray, penalty: float) -> Any:
        mean, std, bias = x[rows].mean(0), x[rows].std(0) + 1e-5, y[rows].mean(0)
        z = (x[rows] - mean) / std
        weights = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y[rows] - bias))
        return lambda some: (some - mean) / std @ weights + bias

    every = np.arange(half)
    missed = [np.square(y[every[tuned]] - fitted(every[~tuned], p)(x[every[tuned]])) for p in LAMBDAS]
    spread = np.square(y[every[tuned]] - y[every[tuned]].mean(0)).sum(0)
    scores = [-(each.sum(0) / spread).sum() for each in missed]
    best = max(range(len(LAMBDAS)), key=lambda k: (scores[k], k))
    read = fitted(every, LAMBDAS[best])
    groups = np.arange(len(order)) // minibatch

    def r2(rows: np.ndarray) -> float:
        return float(1 - np.square(y[rows] - read(x[rows])).sum() / np.square(y[rows] - y[rows].mean(0)).sum())

    rest = np.arange(half, len(order))
    left = [r2(rest[groups[rest] != g]) for g in np.unique(groups[rest])]
    error = np.sqrt((len(left) - 1) / len(left) * np.square(np.array(left) - np.mean(left)).sum())
    return r2(rest), float(error)


def test_equals_ridge_regression_on_all_features_at_once() -> None:
    spots, net = Spots(192), Weighted(True)
    data = position(net, spots).sel(pooling="mean", axis="both").isel(layer=0)
    order = [i for minibatch in seelike.images.partition(192, 16) for i in minibatch]
    value, error = by_hand(net, spots, order, 16)
    assert float(data["object_r2"]) == pytest.approx(value, abs=1e-5)
    assert float(data["object_r2_error"]) == pytest.approx(error, rel=1e-2)


def test_errors_from_sums_are_those_of_the_examples() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator, dtype=torch.float64) + 4
    y = x[:, :2] + torch.randn(60, 2, generator=generator, dtype=torch.float64)
    read = ridge_path(x[:30], y[:30]).at(3.0)
    sums = RidgeSums.of(x[30:], y[30:])
    torch.testing.assert_close(squared_errors(sums, read), (y[30:] - read(x[30:])).square().sum(0))
    torch.testing.assert_close(total_squares(sums), (y[30:] - y[30:].mean(0)).square().sum(0))


def test_noise_is_shrunk_to_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(100, d, generator=generator, dtype=torch.float64) for d in (40, 2))
    read, penalty = solve(RidgeSums.of(x[:80], y[:80]), RidgeSums.of(x[80:], y[80:]))
    assert penalty > 100
    new = torch.randn(500, 40, generator=generator, dtype=torch.float64)
    assert (read(new) - y.mean(0)).abs().max() < 0.5


def test_no_image_is_fitted_to_and_evaluated_on() -> None:
    order = [tuple(np.random.default_rng(1).permutation(400)[:300].tolist())]
    split = split_images(order, 0.5, 64)
    parts = [[i for i, part in split.images.items() if part == each] for each in (FIT, TUNE, EVALUATE)]
    assert [len(part) for part in parts] == [120, 30, 150]
    assert sorted(i for part in parts for i in part) == sorted(order[0])
    assert set(parts[2]) == set(order[0][150:])
    assert len(split.tokens) == 64
    assert all((split.images[i] == EVALUATE) == (part == EVALUATE) for i, part in split.tokens.items())
    places = sorted(order[0].index(i) for i in split.tokens)
    assert max(np.diff(places)) <= 5  # spread over all minibatches


def test_quarters_and_places_of_tokens() -> None:
    maps = torch.arange(2 * 4 * 6.0).reshape(2, 4, 6)
    found = quarters(maps.reshape(2, 24, 1), (4, 6))
    expected = [maps[:, r : r + 2, c : c + 3].mean((1, 2)) for r in (0, 2) for c in (0, 3)]
    torch.testing.assert_close(found, torch.stack(expected, 1))
    odd = quarters(maps.reshape(2, 24, 1)[:, :9], (3, 3))
    torch.testing.assert_close(odd[:, 0], maps.reshape(2, 24)[:, [0, 1, 3, 4]].mean(1))
    assert token_places((2, 4))[5].tolist() == [0.75, 0.375]


def test_an_interrupted_run_gives_the_same_bits() -> None:
    """A fold that begins after the fit solves it from the tally."""
    spots = Spots(96)
    model = seelike.Model(Weighted(True), (3, 16, 16), "net")
    order = tuple(range(96))
    samples = Samples(spots.name, spots.ids, truths=spots.truths, order=(order,))
    design = Design(1, 6, 16, 16, samples=samples)
    study = seelike.Position(layers="all")

    def fold_in(fold: Any, tally: dict[str, Tensor], minibatches: range) -> None:
        for index in minibatches:
            indices = order[16 * index : 16 * index + 16]
            minibatch = Minibatch(index, 0, index, 16, "", indices)
            images = torch.stack([spots.read(i) for i in indices])
            taps = {s.point: (lambda t, s=s, m=minibatch: fold.see("net", s, t, m)) for s in fold.sites("net")}
            with torch.inference_mode():
                model.anatomy.run((images,), taps)
            fold.finish(minibatch, tally)

    for cut in (2, 4):
        whole, first, second = (study.begin({"net": model.anatomy}, design) for _ in range(3))
        one, other = whole.empty(), first.empty()
        fold_in(whole, one, range(6))
        fold_in(first, other, range(cut))
        fold_in(second, other, range(cut, 6))
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert whole.results(one)["position/net"].equals(second.results(other)["position/net"])


def test_figure_and_findings_on_scenes() -> None:
    gap = tiny_vit(class_token=False, global_pool="avg")
    models = [
        seelike.Model(net, (3, 32, 32), name) for name, net in (("cls", tiny_vit()), ("gap", gap), ("net", small_net()))
    ]
    tree = seelike.compare(models, "scenes:test?n=96", [seelike.Position()], minibatch=12)
    assert list(seelike.Position().figures(tree)) == ["position-depth"]
    found = json.loads(tree.attrs["findings"])
    assert [f["claim"] for f in found if f["claim"]] == [
        "tokens of cls know their place better than those of gap in the last layer"
    ]
    data = tree["position/cls"].to_dataset()
    assert np.isfinite(data["object_r2"].sel(pooling="cls")).all()
    assert np.isnan(tree["position/gap"]["object_r2"].sel(pooling="cls")).all()
    assert data.attrs["evaluated_images"] == 48


def test_images_without_truths_are_noted() -> None:
    model = seelike.Model(small_net(), (3, 32, 32), "net")
    tree = seelike.compare(model, pictures(40), [seelike.Position()], minibatch=8)
    notes = json.loads(tree.attrs["run"])["notes"]
    assert any("does not tell where objects are" in note for note in notes)
    assert np.isfinite(tree["position/net"]["grid_r2"]).all()


def test_wide_layers_are_left_out() -> None:
    data_note = seelike.compare(
        seelike.Model(small_net(), (3, 32, 32), "net"), "scenes:test?n=40", [seelike.Position(widest=8)], minibatch=8
    )
    notes = json.loads(data_note.attrs["run"])["notes"]
    assert any("more than 8 features: quarters of units.0 (32), quarters of units.1 (32)" in note for note in notes)
    with pytest.raises(SeelikeError, match="all layers chosen have more than 4 features"):
        position(small_net(), pictures(40), size=32, layers="blocks", widest=4)


def test_bad_input_is_named() -> None:
    with pytest.raises(SeelikeError, match="needs at least 20 images"):
        position(small_net(), pictures(16), size=32, layers="blocks")
    with pytest.raises(SeelikeError, match="a pooling of the position study is mean, cls, quarters, not 'max'"):
        seelike.Position(poolings=("max",))
    with pytest.raises(SeelikeError, match=r"between 0 and 1, not 1\.5"):
        seelike.Position(fit=1.5)
    with pytest.raises(SeelikeError, match="the position study needs layers with positions"):
        position(small_net(), pictures(40), size=32, layers="head")
    images = pictures(40)
    images[3] = float("nan")
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in net at units\.0"):
        position(small_net(), images, size=32, layers="blocks")
