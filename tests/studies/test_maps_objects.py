"""What falls on the object: against a count of pixels, picture by picture, and pairs of pictures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import seelike
from seelike.images import Scenes
from seelike.measures import t_quantile
from seelike.studies.base import judge

N = 12


@pytest.fixture(scope="module")
def tree() -> Any:
    study = seelike.AttentionMaps(images=N, blocks=(0, 11))
    return seelike.compare("zoo:vit-cls", f"scenes:test?n={N}", [study], minibatch=4)


def covers(indices: list[int], side: int = 8, fine: int = 480) -> np.ndarray:
    """Share of each of side x side cells that is in the box, by counting points."""
    truths = Scenes("test", n=N).truths(indices)
    at = (np.arange(fine) + 0.5) / fine
    down, across = (abs(at[None] - truths[name][:, None]) <= truths["size"][:, None] / 2 for name in ("row", "column"))
    inside = (down[:, :, None] & across[:, None]).astype(float)
    return inside.reshape(len(indices), side, fine // side, side, fine // side).mean((2, 4))


def test_shares_areas_and_chance_by_counting(tree: Any) -> None:
    data = tree["maps/vit-cls"].to_dataset()
    cover = covers([int(str(name).split(":")[-1]) for name in data["image"].values])
    close = {"rtol": 3e-3}  # points counted
    area = cover.mean((1, 2))
    np.testing.assert_allclose(data["object_area"], area.mean(), **close)
    np.testing.assert_allclose(data["object_area_error"], area.std(ddof=1) / N**0.5, rtol=2e-2)

    def unit(maps: np.ndarray) -> np.ndarray:
        return maps / maps.sum((-2, -1), keepdims=True)

    heads = (unit(data["map"].values) * cover[:, None, None]).sum((-2, -1))
    np.testing.assert_allclose(data["object_share"], heads.mean(0), **close)
    np.testing.assert_allclose(data["object_share_error"], heads.std(0, ddof=1) / N**0.5, rtol=2e-2)
    for kind, maps in (("rollout", unit(data["rollout"].values)), ("last", unit(data["map"].values[:, 1].mean(1)))):
        pairs = np.einsum("irc,jrc->ij", maps, cover)  # share of picture i's map on the box of picture j
        np.testing.assert_allclose(data[f"{kind}_object_share"], pairs.diagonal().mean(), **close)
        np.testing.assert_allclose(data[f"{kind}_object_chance"], pairs.mean(), **close)
    assert data.attrs["images"] == N


def test_findings_say_it_with_its_error(tree: Any) -> None:
    data = tree["maps/vit-cls"].to_dataset()
    rollout, last = json.loads(tree.attrs["findings"])
    for finding, kind in ((rollout, "rollout"), (last, "last")):
        share, chance = float(data[f"{kind}_object_share"]), float(data[f"{kind}_object_chance"])
        assert finding["value"] == pytest.approx(share - chance)
        assert finding["verdict"] == judge(finding["value"], finding["error"], t_quantile(3))
    assert "looks at (blocks.11.attn, mean over heads)" in last["statement"]


def test_a_single_picture_has_no_others_to_be_compared_with() -> None:
    tree = seelike.compare("zoo:vit-cls", "scenes:test?n=1", [seelike.AttentionMaps(blocks=(0,))])
    assert json.loads(tree.attrs["findings"]) == []
    assert np.isnan(tree["maps/vit-cls"]["object_area_error"])


def test_pictures_are_the_scenes(tree: Any) -> None:
    data = tree["maps/vit-cls"].to_dataset()
    indices = [int(str(name).split(":")[-1]) for name in data["image"].values]
    assert np.array_equal(data["picture"].values, Scenes("test", n=N).batch(indices))
    assert set(data["picture_scale"].values) == {"scaled to [-1, 1]"}


@pytest.mark.slow
def test_error_of_the_difference_is_that_of_fresh_draws() -> None:
    """Standard errors of share minus chance cover its spread over independent samples of pictures."""
    values, errors = [], []
    model = seelike.load_model("zoo:vit-cls")
    for seed in range(24):
        study = seelike.AttentionMaps(images=1, blocks=(11,))
        tree = seelike.compare(model, f"scenes:test?n=80,seed={seed + 1}", [study], minibatch=8)
        finding = json.loads(tree.attrs["findings"])[0]
        values.append(finding["value"])
        errors.append(finding["error"])
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(values, ddof=1)
    assert 0.7 < ratio < 1.45  # 24 draws tell a standard deviation to 15 %
