"""The cost study from end to end: without images, beside the formula and torch's counter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from torch import Tensor, nn

import seelike
from nets import small_net, tiny_vit
from seelike.studies.cost.findings import amount

PVT = {"depths": (1, 1, 1, 1)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.DataTree, Any]:
    models = [
        seelike.Model(tiny_vit(), (3, 32, 32), "vit"),
        seelike.Model(timm.create_model("pvt_v2_b0", **PVT), (3, 64, 64), "pvt"),
        seelike.Model(small_net(), (3, 32, 32), "net"),
    ]
    folder = tmp_path_factory.mktemp("cost") / "run"
    return seelike.compare(models, studies=[seelike.Cost()], out=folder), folder


def told(tree: xr.DataTree, *models: str) -> dict[str, dict[str, Any]]:
    return {f["statistic"]: f for f in json.loads(tree.attrs["findings"]) if f["models"] == list(models)}


def test_results(run: tuple[xr.DataTree, Any]) -> None:
    vit = run[0]["cost/vit"].to_dataset()
    assert vit["multiply_adds"].dims == ("block", "kind")
    blocks = vit.sel(block=vit["block"][vit["in_block"].values])
    n, c = 17, 32
    np.testing.assert_array_equal(blocks["multiply_adds"].sel(kind="projections"), blocks["formula_projections"])
    np.testing.assert_array_equal(blocks["multiply_adds"].sel(kind="attention"), blocks["formula_attention"])
    np.testing.assert_array_equal(blocks["query_projection"], [n * c * c] * 3)
    np.testing.assert_array_equal(blocks["scores"], [n * n * c] * 3)
    assert vit.attrs["total"] == vit.attrs["torch_total"] == int(vit["multiply_adds"].sum())
    assert int(vit["parameters"].sum()) == sum(p.numel() for p in tiny_vit().parameters())
    assert vit["scores"].isnull().values.tolist() == [True, False, False, False, True]
    net = run[0]["cost/net"].to_dataset()
    assert float(net["multiply_adds"].sel(kind="convolution").sum()) == 64 * 8 * (3 * 16 + 2 * 2 * 72)
    assert net.attrs["total"] == 64 * 8 * (3 * 16 + 2 * 2 * 72) + 8 * 5
    assert json.loads(run[0].attrs["run"])["notes"] == []


def test_spatial_reduction_divides_the_keys(run: tuple[xr.DataTree, Any]) -> None:
    pvt = run[0]["cost/pvt"].to_dataset()
    pvt = pvt.sel(block=pvt["block"][pvt["in_block"].values])
    queries = np.array([256, 64, 16, 4])
    np.testing.assert_array_equal(pvt["queries"], queries)
    np.testing.assert_array_equal(pvt["keys"], queries // np.array([8, 4, 2, 1]) ** 2)
    np.testing.assert_array_equal(pvt["width"], [32, 64, 160, 256])
    np.testing.assert_array_equal(pvt["formula_attention"], 2 * queries * pvt["keys"] * pvt["width"])


def test_findings_and_files(run: tuple[xr.DataTree, Any]) -> None:
    tree, folder = run
    vit = told(tree, "vit")
    n, c = 17, 32
    total = tree["cost/vit"].attrs["total"]
    assert vit["multiply-adds in 10^9"]["value"] == total / 1e9
    assert vit["share of the quadratic part"]["value"] == pytest.approx(3 * 2 * n * n * c / total)
    assert vit["largest keys / channels"]["value"] == n / c
    assert "in 0 of 3 attentions" in vit["largest keys / channels"]["statement"]
    assert "about 44 pixels" in vit["largest keys / channels"]["statement"]  # 32 * sqrt(32 / 17)
    assert list(told(tree, "net")) == ["multiply-adds in 10^9"]
    assert told(tree, "vit", "net")["multiply-adds, ratio"]["value"] == total / tree["cost/net"].attrs["total"]
    assert {path.name for path in (folder / "figures").glob("*.png")} == {"cost.png", "cost-size.png"}
    assert seelike.open_results(folder)["cost/vit"].attrs["total"] == total


class HeadsInTheBatch(nn.Module):
    """Attention by `bmm` with the heads folded into the batch dimension, and keys of half the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT  # (n, 16, 16)
        few = x.unflatten(1, (8, 2)).mean(2)
        q, k, v = (f(y).unflatten(2, (4, 4)).transpose(1, 2).flatten(0, 1) for f, y in
                   ((self.q, x), (self.k, few), (self.v, few)))  # fmt: skip
        weights = torch.bmm(q, k.mT).softmax(-1)
        return x + self.out(torch.bmm(weights, v).unflatten(0, (-1, 4)).transpose(1, 2).flatten(2))


def test_heads_in_the_batch_dimension() -> None:
    wrapped = nn.Sequential(HeadsInTheBatch())
    tree = seelike.compare(seelike.Model(wrapped, (3, 32, 32), "folded"), studies=[seelike.Cost()])
    one = tree["cost/folded"].to_dataset().sel(block="0")
    assert [int(one[name]) for name in ("queries", "keys", "width", "windows")] == [16, 8, 16, 1]
    assert float(one["formula_projections"]) == (2 * 16 + 2 * 8) * 16 * 16
    assert float(one["formula_attention"]) == 2 * 16 * 8 * 16
    assert int(one["multiply_adds"].sel(kind="attention")) == 2 * 16 * 8 * 16
    assert int(one["multiply_adds"].sel(kind="projections")) == (2 * 16 + 2 * 8) * 16 * 16


def test_says_where_formula_and_counter_differ() -> None:
    class Narrow(HeadsInTheBatch):
        def __init__(self) -> None:
            super().__init__()
            self.v, self.out = nn.Linear(16, 32), nn.Linear(32, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).flatten(2).mT
            weights = (self.q(x) @ self.k(x).mT).softmax(-1)
            y = x + self.out(weights @ self.v(x))
            with torch.autocast("cpu", enabled=False):
                return y @ y.mT

    tree = seelike.compare(seelike.Model(nn.Sequential(Narrow()), (3, 32, 32), "net"), studies=[seelike.Cost()])
    notes = json.loads(tree.attrs["run"])["notes"]
    assert any("not counted: wrap_with_autocast in 0" in note for note in notes)
    assert any("torch's counter does not agree: products" in note for note in notes)
    assert any("formula" in note and "in 1 of 1 blocks" in note for note in notes)
    assert "torch's counter says" in told(tree, "net")["multiply-adds in 10^9"]["statement"]
    assert "says the same" not in told(tree, "net")["multiply-adds in 10^9"]["statement"]


def test_amounts_in_words() -> None:
    assert [amount(n) for n in (17_563_000_000, 524_400_000, 1500, 12)] == ["17.56 G", "524.4 M", "1.5 k", "12"]
