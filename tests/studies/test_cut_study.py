"""The cut study: parts, similarity across a block, paired accuracies."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.nets import pictures, small_net, tiny_vit

import seelike
from seelike.errors import SeelikeError
from seelike.models import Model
from seelike.models.architectures.vit import CutBlock
from seelike.models.cut import cut_model
from seelike.studies.cut.estimate import _accuracy
from seelike.studies.cut.parts import find_cuts, part_at


def cut_vit(block: int) -> torch.nn.Module:
    """The ViT of `tiny_vit` as one would write it without the skips of a block."""
    vit: Any = tiny_vit()
    vit.blocks[block] = CutBlock(vit.blocks[block])
    return vit


def as_model(module: torch.nn.Module, name: str) -> Model:
    return Model(module, (3, 32, 32), name=name)


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [as_model(tiny_vit(), "whole"), as_model(cut_vit(1), "cut1"), as_model(cut_vit(2), "cut2")]


@pytest.fixture(scope="module")
def labelled() -> Any:
    labels = torch.arange(40) % 5
    return [(image, int(label)) for image, label in zip(pictures(40), labels, strict=True)]


@pytest.fixture(scope="module")
def results(models: list[Model], labelled: Any) -> Any:
    return seelike.compare(models, labelled, [seelike.SkipCut(), seelike.Similarity()], minibatch=8)


def test_the_cut_block_is_found_whether_written_or_cut_out_of_the_graph(models: list[Model]) -> None:
    whole = models[0]
    found = {each.name: each.anatomy for each in (cut_model(whole, 0), *models, cut_model(whole, 2, "mlp"))}
    cuts = find_cuts(found)
    assert cuts.whole == "whole"
    assert cuts.missing == {
        "whole-cut0": ("blocks.0",),
        "cut1": ("blocks.1",),
        "cut2": ("blocks.2",),
        "whole-cut2-mlp": ("blocks.2",),
    }


@pytest.mark.parametrize("model", ["whole", "cut1", "cut2"])
def test_within_and_across_are_means_over_the_map_of_the_similarity_study(results: Any, model: str) -> None:
    mine = results[f"cut/{model}"].to_dataset()
    map_ = results[f"similarity/{model}/{model}"].to_dataset()
    np.testing.assert_array_equal(mine["cka"].values, map_["cka"].values)
    names = list(map_["module"].values)  # with aliases
    for block in range(3):
        # By hand: the layers named after the block are in neither part.
        inside = [i for i, name in enumerate(names) if f"blocks.{block}" in name]
        before, after = range(inside[0]), range(inside[-1] + 1, len(names))
        across = np.mean([map_["cka"].values[i, j] for i in before for j in after])
        pairs = [(i, j) for part in (before, after) for i in part for j in part if i != j]
        within = np.mean([map_["cka"].values[pair] for pair in pairs])
        # Without its last skip, the output of a block is that of its MLP.
        assert len(inside) == (5 if model == f"cut{block}" else 6)
        assert mine["across"].values[block] == pytest.approx(across, abs=1e-12)
        assert mine["within"].values[block] == pytest.approx(within, abs=1e-12)
        assert mine["contrast"].values[block] == pytest.approx(within - across, abs=1e-12)


def test_changes_are_against_the_whole_model_and_nothing_for_itself(results: Any) -> None:
    whole, cut = results["cut/whole"], results["cut/cut1"]
    np.testing.assert_allclose(cut["across_change"], cut["across"].values - whole["across"].values, atol=1e-12)
    assert (whole["across_change"] == 0).all()
    assert (whole["across_change_error"] == 0).all()
    # The same images: the error of the difference is not that of two independent values.
    assert (cut["across_change_error"] > 0).all()


def test_a_block_is_marked_where_its_skips_are_missing(results: Any) -> None:
    assert results["cut/cut2"]["is_cut"].values.tolist() == [False, False, True]
    assert results["cut/whole"]["is_cut"].values.tolist() == [False, False, False]


def test_accuracy_is_that_of_the_models(results: Any, models: list[Model], labelled: Any) -> None:
    images = torch.stack([image for image, _ in labelled])
    labels = torch.tensor([label for _, label in labelled])
    with torch.no_grad():
        right = [(model.module(images).argmax(1) == labels).double() for model in models]
    for model, hits in zip(models, right, strict=True):
        mine = results[f"cut/{model.name}"]
        assert float(mine["accuracy"]) == pytest.approx(float(hits.mean()))
        difference = hits - right[0]
        assert float(mine["accuracy_change"]) == pytest.approx(float(difference.mean()))
        assert float(mine["accuracy_change_error"]) == pytest.approx(float(difference.std(correction=0)) / 40**0.5)


def test_repeats_of_the_same_images_do_not_shrink_the_error() -> None:
    hits = torch.tensor([[[30.0, 20.0], [20.0, 25.0]]], dtype=torch.float64)
    once = _accuracy(hits, torch.tensor([40.0]))
    thrice = _accuracy(hits.repeat(3, 1, 1), torch.tensor([40.0] * 3))
    for one, more in zip(once, thrice, strict=True):
        assert float(one.value) == pytest.approx(float(more.value))
        assert float(one.error) == pytest.approx(float(more.error))


def test_findings_name_the_cut_and_its_cost(models: list[Model], labelled: Any) -> None:
    tree = seelike.compare(models[:2], labelled, [seelike.SkipCut()], minibatch=8)
    findings = json.loads(tree.attrs["findings"])
    assert [finding["statistic"] for finding in findings] == [
        "CKA across the cut, change",
        "accuracy, change in points",
    ]
    assert "blocks.1, whose skips cut1 lacks" in findings[0]["statement"]
    assert findings[0]["value"] == pytest.approx(float(tree["cut/cut1"]["across_change"][1]))


def test_images_without_labels_give_no_accuracy(models: list[Model]) -> None:
    tree = seelike.compare(models[:2], pictures(16), [seelike.SkipCut()], minibatch=8)
    assert "accuracy" not in tree["cut/cut1"]
    assert "no accuracies beside the cuts: the images have no labels" in tree.attrs["run"]


def test_a_part_without_layers_has_no_similarity(models: list[Model]) -> None:
    sites = [site for site in models[0].anatomy.select("sublayers") if site.block == "blocks.0"]
    part = part_at(sites, "blocks.0")
    assert part.means(torch.ones(len(sites), len(sites))).isnan().all()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["whole"], "same skips in all of whole"),
        (["whole", "net"], "block units.0 of net is not in whole"),
        (["head"], "no residual sums in head"),
    ],
)
def test_models_that_cannot_be_compared(models: list[Model], names: list[str], said: str) -> None:
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 5))
    known = {"whole": models[0], "net": as_model(small_net(), "net"), "head": as_model(head, "head")}
    with pytest.raises(SeelikeError, match=said):
        seelike.compare([known[name] for name in names], pictures(8), [seelike.SkipCut()], minibatch=8)


def test_an_interrupted_run_goes_on_bit_for_bit(models: list[Model], labelled: Any, tmp_path: Path) -> None:
    class Stop:
        def start(self, images: int, done: int) -> None: ...

        def advance(self, images: int) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        def tell(self, sentence: str) -> None: ...

    options: dict[str, Any] = {"studies": [seelike.SkipCut()], "minibatch": 8, "batch": 8}
    whole = seelike.compare(models[:2], labelled, **options)
    with pytest.raises(KeyboardInterrupt):
        seelike.compare(models[:2], labelled, out=tmp_path / "run", progress=Stop(), **options)
    again = seelike.compare(models[:2], labelled, out=tmp_path / "run", resume=True, **options)
    for name, values in whole["cut/cut1"].data_vars.items():
        np.testing.assert_array_equal(again["cut/cut1"][name].values, values.values)
    assert (tmp_path / "run" / "figures" / "cut.png").stat().st_size > 1000
    assert (tmp_path / "run" / "figures" / "cut-across.png").stat().st_size > 1000
