"""Fitting: the same weights twice, the same weights after a kill, and what goes wrong."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from seelike.errors import SeelikeError
from seelike.interrupts import Interrupted
from seelike.train import evaluate, train
from seelike.train import fit as fitting_module
from seelike.train.finish import as_model
from seelike.train.prepare import build_model
from seelike.train.progress import Silent


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_same_recipe_and_seed_give_the_same_weights(toy, toy_data, tmp_path: Path) -> None:
    for name, changes in {"one": (), "two": (), "other": ("seed=1",)}.items():
        torch.rand(3)  # what others drew must not matter
        train(toy(*changes), tmp_path / name, data=toy_data, device="cpu")
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "other"))


@pytest.mark.parametrize("changes", [(), ("precision=bf16", "ema=0", "model.arguments.drop_path_rate=0.2")])
def test_a_killed_run_goes_on_as_if_nothing_had_been(toy, toy_data, tmp_path: Path, recorder, changes) -> None:
    recipe, options = toy(*changes), {"data": toy_data, "device": "cpu", "checkpoint_steps": 5}
    train(recipe, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", progress=recorder(stop_at=8), **options)
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    watcher = recorder()
    train(recipe, tmp_path / "cut", resume=True, progress=watcher, **options)
    assert watcher.first == 5
    assert watcher.said == ["going on after step 5"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    told = [
        [(row["step"], row["loss"], row["validation_accuracy"]) for row in log(tmp_path / n)] for n in ("whole", "cut")
    ]
    assert told[0] == told[1]
    assert [int(step) for step, _, _ in told[0]] == list(range(1, 13))
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()


class PressesCtrlC(Silent):
    """Interrupts its process in the middle of training."""

    def step(self, done: int) -> None:
        if done == 8:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_after_a_step_and_loses_none(toy, toy_data, tmp_path: Path, recorder) -> None:
    recipe, options = toy(), {"data": toy_data, "device": "cpu"}
    train(recipe, tmp_path / "whole", **options)
    with pytest.raises(Interrupted, match="stopped after step 8 of 12"):
        train(recipe, tmp_path / "cut", progress=PressesCtrlC(), **options)
    watcher = recorder()
    summary = train(recipe, tmp_path / "cut", resume=True, progress=watcher, **options)
    assert watcher.said == ["going on after step 8"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert summary["cpu_seconds"] > 0


def test_a_full_disk_leaves_the_checkpoint_before(toy, toy_data, tmp_path: Path, recorder, monkeypatch) -> None:
    recipe, options = toy(), {"data": toy_data, "device": "cpu", "checkpoint_steps": 4}
    train(recipe, tmp_path / "whole", **options)
    written = []

    def save(state: dict[str, Any], stream: Any) -> None:
        written.append(state["step"])
        if len(written) == 2:
            stream.write(b"half of it")
            raise OSError(28, "No space left on device")
        real(state, stream)

    real = torch.save
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(SeelikeError, match=r"checkpoint\.pt cannot be written .*No space left.*--resume"):
        train(recipe, tmp_path / "full", **options)
    assert written == [4, 8]
    assert {path.name for path in (tmp_path / "full").iterdir()} == {"checkpoint.pt", "log.csv"}
    watcher = recorder()
    train(recipe, tmp_path / "full", resume=True, progress=watcher, **options)
    assert watcher.first == 4
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "full"))


@pytest.fixture
def colours(tmp_path: Path) -> list[str]:
    """Red, green and blue images, which anything can learn to tell apart."""
    random = np.random.default_rng(0)
    for split, number in {"train": 30, "test": 20}.items():
        for channel, name in enumerate(("red", "green", "blue")):
            folder = tmp_path / "colours" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = random.integers(0, 120, (20, 24, 3))
                pixels[..., channel] += 100
                PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return [f"toy=folder:{tmp_path / 'colours'}/{{split}}"]


def test_what_can_be_learnt_is_learnt(toy, colours, tmp_path: Path) -> None:
    recipe = toy("steps=60", "batch=30", "images.held_out=15", "keep=5", "fraction=0.8", "ema=0.9")
    summary = train(recipe, tmp_path / "run", data=colours, device="cpu")
    assert summary["test_accuracy"] == 1
    assert (summary["test_images"], summary["training_images"]) == (60, 60)  # 0.8 of 90 - 15
    assert summary["classes"] == ["blue", "green", "red"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == json.loads(json.dumps(summary))
    losses = [float(row["loss"]) for row in log(tmp_path / "run")]
    assert losses[-1] < 0.2 < 1 < losses[0]
    kept = sorted((tmp_path / "run" / "epochs").iterdir())
    assert [path.stem for path in kept] == ["0005", "0010", "0015", "0020", "0025", "0030"]
    module, _ = build_model(recipe.model, 3, 1)
    module.load_state_dict(weights(tmp_path / "run"))
    found = evaluate(as_model(module, 16, "again"), "toy", colours)
    assert (found.value, found.images, found.error) == (1, 60, 0)
    start = toy("steps=1", f"init={tmp_path / 'run' / 'weights.safetensors'}", "ema=0", "rate=0", "images.held_out=15")
    assert train(start, tmp_path / "tuned", data=colours, device="cpu")["test_accuracy"] == 1


def test_a_classifier_of_other_classes_starts_anew(toy, toy_data, colours, tmp_path: Path) -> None:
    train(toy("steps=2", "images.held_out=15"), tmp_path / "three", data=colours, device="cpu")
    part = toy(f"init={tmp_path / 'three' / 'weights.safetensors'}").model
    module, _ = build_model(part, 10, 0)
    old, new = weights(tmp_path / "three"), module.state_dict()
    assert new["head.weight"].shape[0] == 10
    assert all(torch.equal(old[key], new[key]) for key in old if not key.startswith("head."))
    with pytest.raises(SeelikeError, match=r"model\.init: .*do(es)? not fit"):
        build_model(toy(f"init={tmp_path / 'three' / 'weights.safetensors'}", "model.arguments.depth=3").model, 3, 0)


def test_a_loss_that_is_not_finite_stops_the_run(toy, toy_data, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fitting_module, "normalise", lambda pixels, *_: torch.full((len(pixels), 3, 16, 16), torch.nan))
    with pytest.raises(SeelikeError, match=r"the loss became nan between steps 0 and 1, .*smaller optimisation\.rate"):
        train(toy(), tmp_path / "run", data=toy_data, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("model.arguments.num_classes=7",), r"num_classes is 7, but the images have 10 classes"),
        (("model.input_size=18",), r"images of 18 pixels cannot be cut into patches of 4; .*\(16 or 20\)"),
        (("model.arguments.num_heads=3",), r"embed_dim 16 is not divisible by num_heads 3"),
        (("model.arguments.dpeth=3",), r"seelike_vit_lab cannot be built with .*dpeth"),
        (("model.architecture=seelike_vit_lba",), r"no architecture 'seelike_vit_lba' \(did you mean seelike_vit_lab"),
        (("images.name=cifra10",), r"no data set is called 'cifra10' \(did you mean cifar10"),
        (("init=zoo:vit-clss",), r"the zoo has no model 'vit-clss' \(did you mean vit-cls"),
    ],
)
def test_what_does_not_fit_is_named(toy, toy_data, tmp_path: Path, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(SeelikeError, match=message):
        train(toy(*changes), tmp_path / "run", data=toy_data, device="cpu")


def test_folders_of_other_runs_are_left_alone(toy, toy_data, tmp_path: Path, recorder) -> None:
    options = {"data": toy_data, "device": "cpu", "checkpoint_steps": 3}
    with pytest.raises(KeyboardInterrupt):
        train(toy(), tmp_path, progress=recorder(stop_at=4), **options)
    with pytest.raises(SeelikeError, match="unfinished run; go on with --resume"):
        train(toy(), tmp_path, **options)
    with pytest.raises(SeelikeError, match="belongs to another recipe"):
        train(toy("rate=0.5"), tmp_path, resume=True, **options)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK nonsense")
    with pytest.raises(SeelikeError, match=r"checkpoint\.pt cannot be read"):
        train(toy(), tmp_path, resume=True, **options)
    (tmp_path / "checkpoint.pt").unlink()
    train(toy(), tmp_path, resume=True, **options)  # nothing to go on from: from the start
    with pytest.raises(SeelikeError, match="holds a finished run"):
        train(toy(), tmp_path, resume=True, **options)


def test_training_needs_its_extra(toy, toy_data, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightning_fabric", None)
    with pytest.raises(SeelikeError, match=r"pip install 'seelike\[train\]'"):
        train(toy(), tmp_path, data=toy_data, device="cpu")


def test_images_without_labels_are_named(toy, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        PIL.Image.new("RGB", (16, 16)).save(tmp_path / split / "one.png")
    with pytest.raises(SeelikeError, match=r"folder:.*train have no labels"):
        train(toy(), tmp_path / "run", data=[f"toy=folder:{tmp_path}/{{split}}"], device="cpu")


def test_devices_that_are_not_there_are_named(toy, toy_data, tmp_path: Path) -> None:
    with pytest.raises(SeelikeError, match=r"cannot train on 1 x abacus: .*--device cpu"):
        train(toy(), tmp_path, data=toy_data, device="abacus")
    with pytest.raises(SeelikeError, match="at least 1, not 0"):
        train(toy(), tmp_path, data=toy_data, device="cpu", devices=0)


@pytest.mark.parametrize("pair", ["toy", "toy=", "=folder:x/{split}", "toy=folder:x"])
def test_places_are_checked(toy, tmp_path: Path, pair: str) -> None:
    with pytest.raises(SeelikeError, match=r"is not NAME=SPEC with \{split\}"):
        train(toy(), tmp_path, data=[pair], device="cpu")


def test_places_may_lie_in_the_environment(toy, toy_data, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEELIKE_DATA", f"other=folder:x/{{split}};{toy_data[0]}")
    assert train(toy("steps=1"), tmp_path, device="cpu")["training_images"] == 30
