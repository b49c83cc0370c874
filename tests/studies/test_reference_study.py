"""The reference study: the diagonal of the map of two trainings, its trend, and who can be compared."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from tests.nets import pictures, small_net, tiny_vit

import seelike
from seelike.errors import SeelikeError
from seelike.models import Model
from seelike.studies.reference.results import trend


def as_model(module: torch.nn.Module, name: str) -> Model:
    return Model(module, (3, 32, 32), name=name)


def other_end() -> torch.nn.Module:
    """The ViT of `tiny_vit` with a last block of other weights."""
    vit: Any = tiny_vit()
    torch.manual_seed(5)
    for parameter in vit.blocks[2].parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return vit


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [as_model(tiny_vit(), "first"), as_model(tiny_vit(), "same"), as_model(other_end(), "end")]


@pytest.fixture(scope="module")
def results(models: list[Model]) -> Any:
    return seelike.compare(
        models, pictures(48), [seelike.ReferenceSimilarity(), seelike.Similarity("blocks")], minibatch=8
    )


def test_it_is_the_diagonal_of_the_map_of_the_two(results: Any) -> None:
    for model in ("same", "end"):
        mine, map_ = results[f"reference/{model}"], results[f"similarity/first/{model}"]
        np.testing.assert_array_equal(mine["cka"].values, np.diag(map_["cka"].values))
        np.testing.assert_array_equal(mine["cka_error"].values, np.diag(map_["cka_error"].values))
        assert list(mine["layer"].values) == list(map_["layer"].values)


def test_a_copy_is_alike_to_the_last_bit_and_another_end_differs_there_only(results: Any) -> None:
    assert results["reference/same"]["cka"].values.tolist() == [1.0, 1.0, 1.0]
    end = results["reference/end"]["cka"].values
    assert end[:2].tolist() == [1.0, 1.0]
    assert end[2] < 0.9
    assert float(results["reference/end"]["trend"]) == pytest.approx(end[2] - 1)


def test_trend_compares_thirds() -> None:
    assert float(trend(torch.tensor([1.0, 0.8, 0.5, 0.5, 0.3, 0.1]))) == pytest.approx(0.2 - 0.9)
    assert float(trend(torch.tensor([1.0, torch.nan, 0.5, 0.5, 0.3, 0.1]))) == pytest.approx(0.2 - 1.0)


def test_the_finding_says_whether_late_layers_differ_more(results: Any) -> None:
    found = [each for each in json.loads(results.attrs["findings"]) if each["study"] == "reference"]
    verdicts = {each["models"][0]: each["verdict"] for each in found}
    assert verdicts == {"same": "cannot tell", "end": "holds"}


@pytest.mark.parametrize(
    ("others", "said"), [(["net"], "first has 3 of them and net 2"), ([], "compares other trainings with first")]
)
def test_models_that_cannot_be_compared(models: list[Model], others: list[str], said: str) -> None:
    known = {"net": as_model(small_net(), "net")}
    with pytest.raises(SeelikeError, match=said):
        seelike.compare(
            [models[0], *(known[name] for name in others)], pictures(8), [seelike.ReferenceSimilarity()], minibatch=8
        )


def test_a_pooling_that_fits_no_layer_is_said() -> None:
    nets = [as_model(small_net(), name) for name in ("net", "other")]
    with pytest.raises(SeelikeError, match=r"net: reference.pool cls fits none of the 2 layers .* has no prefix token"):
        seelike.compare(nets, pictures(8), [seelike.ReferenceSimilarity(pool="cls")], minibatch=8)
