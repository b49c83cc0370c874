"""Scenes as a user meets them: specs, truths, the contact sheet, a comparison."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import seelike
from seelike.cli import main
from seelike.errors import SeelikeError
from seelike.images import Scenes, load_batches, load_images
from seelike.images.scenes import CLASSES, contact_sheet


def test_a_spec_says_it_all() -> None:
    images = load_images("scenes:test?n=64,size=40&seed=2,textures=B")
    assert isinstance(images, Scenes)
    assert (len(images), images.size, images.seed, images.textures) == (64, 40, 2, "B")
    assert images.ids[17] == "scenes:test:seed2:40px:texturesB:17"
    assert images.read(17).size == (40, 40)
    again = load_images(images.name)
    assert list(again.ids) == list(images.ids)
    assert np.array_equal(again.batch([3]), images.batch([3]))


def test_a_split_alone_is_enough() -> None:
    sizes = {split: len(load_images(f"scenes:{split}")) for split in ("train", "validation", "test")}
    assert sizes == {"train": 50000, "validation": 2000, "test": 2000}
    images = load_images("scenes:test")
    assert images.ids[17] == "scenes:test:seed0:32px:17"
    assert tuple(images.class_names or ()) == CLASSES
    assert images.read(0).mode == "RGB"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("scenes:", r"says nothing after the colon; write scenes:SPLIT"),
        ("scenes:tset", r"no split 'tset' \(did you mean test\?\); there are: train, validation, test"),
        ("scenes:val", r"did you mean validation"),
        ("scenes:?n=3", r"no split ''"),
        ("scenes:test?sise=64", r"'sise' in 'scenes:test\?sise=64' .*did you mean size"),
        ("scenes:test?n=-3", r"'n=-3' .* is not a whole number"),
        ("scenes:test?n=", r"'n=' .* is not a whole number"),
        ("scenes:test?n=0", r"cannot generate 0 scenes .* 1 to 10,000,000 are possible"),
        ("scenes:test?n=10000001", r"cannot generate 10000001 scenes"),
        ("scenes:test?size=4", r"of 4 px.*8 to 4096 px"),
        ("scenes:test?size=5000", r"of 5000 px.*8 to 4096 px"),
        ("scenes:test?seed=18446744073709551616", r"with a seed from 0 to"),
        ("scenes:test?textures=C", r"no set of textures 'C'; there are: A, B"),
    ],
)
def test_specs_that_are_wrong(spec: str, said: str) -> None:
    with pytest.raises(SeelikeError, match=said):
        load_images(spec)


def test_images_that_are_not_there() -> None:
    scenes = Scenes("test", 5)
    for index in (-1, 5):
        with pytest.raises(IndexError, match="has images 0 to 4"):
            scenes.read(index)
        with pytest.raises(IndexError, match="has images 0 to 4"):
            scenes.truth(index)
    assert scenes.batch([]).shape == (0, 32, 32, 3)


def test_the_largest_seed_and_the_smallest_size() -> None:
    assert Scenes("train", 3, 8, 2**64 - 1).batch([2, 0]).shape == (2, 8, 8, 3)


def test_a_truth_is_a_row_of_the_truths_and_fit_for_json() -> None:
    scenes = Scenes("validation", 30)
    columns = scenes.truths([4, 29, 4])
    truth = scenes.truth(29)
    assert {name: column[1].item() for name, column in columns.items()} == truth
    assert json.loads(json.dumps(truth)) == truth
    assert truth["class"] == CLASSES[scenes.labels[29]]
    assert truth["label"] == scenes.labels[29]


def as_tensor(image: PIL.Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy())


def test_worker_processes_make_the_same_images() -> None:
    scenes = Scenes("test", 12)
    batches = list(load_batches(scenes, [[[7, 2, 9]], [[0, 11]]], [as_tensor], workers=2))
    assert np.array_equal(torch.cat([batch.inputs[0] for batch in batches]).numpy(), scenes.batch([7, 2, 9, 0, 11]))
    assert batches[0].labels == [scenes.labels[index] for index in (7, 2, 9)]


def test_models_are_compared_on_scenes() -> None:
    models = ["timm:test_vit?img_size=32,patch_size=8@random", "timm:test_resnet@random"]
    study = seelike.Similarity("blocks")
    tree = seelike.compare(models, "scenes:test?n=64", [study], minibatch=16)
    assert json.loads(tree.attrs["run"])["images"]["used"] == 64
    assert json.loads(tree.attrs["findings"])
    name = "similarity/test_vit-random/test_resnet-random"
    again = seelike.compare(models, Scenes("test", 64), [study], minibatch=16)
    assert np.isfinite(tree[name]["cka"]).all()
    assert np.array_equal(tree[name]["cka"], again[name]["cka"])


def test_a_sheet_has_a_row_for_each_class() -> None:
    scenes = Scenes("train", 100, 100, seed=4)
    sheet = np.asarray(contact_sheet(scenes, columns=3))
    for label in range(10):
        indices = [index for index, mine in enumerate(scenes.labels) if mine == label][:3]
        row = sheet[34 + label * 103 :][:100]
        images = scenes.batch(indices)
        left = next(x for x in range(60, 200) if np.array_equal(row[:, x : x + 100], images[0]))
        for column, image in enumerate(images):
            assert np.array_equal(row[:, left + column * 103 :][:, :100], image)
        assert row[:, : left - 10].min() < 100  # its name, in black


def test_a_sheet_of_too_few_images() -> None:
    with pytest.raises(SeelikeError, match="at least one image of each of the 10 classes"):
        contact_sheet(Scenes("test", 9))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["seelike", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_draws_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sheet.png"
    assert run(monkeypatch, "scenes", "validation", "--size", "40", "--columns", "2", "--out", str(path)) == 0
    assert str(path) in capsys.readouterr().out.replace("\n", "")
    expected = contact_sheet(Scenes("validation", 20, 40), 2)
    assert np.array_equal(np.asarray(PIL.Image.open(path)), np.asarray(expected))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vallidation",), "did you mean validation"),
        (("test", "--columns", "0"), "no sheet of 0 columns"),
        (("test", "--textures", "C"), "there are: A, B"),
        (("test", "--out", "nowhere/sheet.png"), "cannot be written to 'nowhere/sheet.png'"),
        (("test", "--out", "sheet.docx"), "cannot be written to 'sheet.docx'"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "scenes", *arguments) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())
