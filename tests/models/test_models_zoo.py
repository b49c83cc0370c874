"""The zoo: its files are what its index says, and its members can do what it says they can."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from safetensors import safe_open

import seelike
from seelike.errors import SeelikeError
from seelike.models.spec import parse_spec
from seelike.models.zoo import load, members, names
from seelike.models.zoo.index import FOLDER, add, round_to_half
from seelike.models.zoo.transform import ZooTransform, normalise
from seelike.train import load_recipe, train
from seelike.train.evaluate import accuracy_on
from seelike.train.install import install

MEMBERS = members()


def test_the_members_that_everything_else_relies_on_are_there() -> None:
    assert {"vit-cls", "vit-gap", "resnet", "mixer"} <= set(MEMBERS)
    assert {f"{name}-cifar10" for name in ("vit-cls", "vit-gap", "resnet", "mixer")} <= set(MEMBERS)
    assert names() == list(MEMBERS)
    assert f"zoo:{names()[0]}" in seelike.list_models("zoo:")


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_what_the_index_says(name: str) -> None:
    member, model = MEMBERS[name], seelike.load_model(f"zoo:{name}")
    assert model.parameters == member.parameters
    assert model.dtype == torch.float32
    assert model.input_size == member.input_size
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        types = {str(file.get_slice(key).get_dtype()) for key in file.keys()}  # noqa: SIM118 - no dict
    assert {"F16"} <= types <= {"F16", "I64"}  # counters of a BatchNorm stay whole
    recipe = load_recipe(member.recipe)
    text = yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False)
    assert hashlib.sha256(text.encode()).hexdigest() == member.recipe_sha256, "the recipe is not the one it was made by"
    with torch.no_grad():
        assert model.module(model.example()).shape[1] == len(member.classes)


def test_the_zoo_is_small_and_holds_nothing_else() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 35e6
    assert {path.name for path in files} == {"index.json", *(f"{name}.safetensors" for name in MEMBERS)}


@pytest.mark.parametrize("name", ["vit-cls", "resnet"])
def test_accuracy_is_what_the_index_says(name: str) -> None:
    images = seelike.load_images("scenes:test?n=500")
    found = accuracy_on(seelike.load_model(f"zoo:{name}"), images)
    assert abs(found.value - MEMBERS[name].test_accuracy) < 4 * found.error


def test_random_weights_of_a_member() -> None:
    model, again = (seelike.load_model("zoo:vit-cls@random:3") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(model.module.parameters(), again.module.parameters(), strict=True))
    assert "test_accuracy" not in model.provenance
    assert model.provenance["weights"] == "random, seed 3"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A zoo of one, which a test may damage."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    shutil.copy(FOLDER / "vit-cls.safetensors", folder)
    index = json.loads((FOLDER / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({"vit-cls": index["vit-cls"]}))
    return folder


def test_a_file_with_another_hash_is_refused(copy: Path) -> None:
    weights = copy / "vit-cls.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SeelikeError, match=r"zoo:vit-cls: .*has SHA-256 .*but the zoo's index says .*seelike train"):
        load(parse_spec("zoo:vit-cls"), copy)
    weights.unlink()
    with pytest.raises(SeelikeError, match=r"is missing; .*seelike train vit-cls"):
        load(parse_spec("zoo:vit-cls"), copy)


def test_a_damaged_index_is_named(copy: Path) -> None:
    (copy / "index.json").write_text('{"vit-cls": {"architecture": "seelike_vit_lab"}}')
    with pytest.raises(SeelikeError, match=r"index\.json is damaged .*install seelike anew"):
        load(parse_spec("zoo:vit-cls"), copy)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("zoo:vit-clss", r"no model 'vit-clss' \(did you mean vit-cls"),
        ("zoo:vit-cls?depth=3", "takes no arguments or other weights"),
        ("zoo:vit-cls?input_size=64", "takes no arguments or other weights"),
        ("zoo:vit-cls@other.safetensors", "takes no arguments or other weights"),
    ],
)
def test_what_the_zoo_has_not_is_named(spec: str, message: str) -> None:
    with pytest.raises(SeelikeError, match=message):
        seelike.load_model(spec)


def test_installing_rounds_hashes_and_keeps_the_others(copy: Path) -> None:
    member = MEMBERS["resnet"]
    module = seelike.load_model("zoo:resnet@random:5").module
    images = torch.rand(2, *member.input_size)
    add("fresh", member, module, copy)
    assert set(members(copy)) == {"vit-cls", "fresh"}
    loaded = load(parse_spec("zoo:fresh"), copy).module
    with torch.no_grad():
        assert not torch.equal(loaded(images), module(images))  # half precision
        assert torch.equal(loaded(images), round_to_half(module)(images))
    add("fresh", member, module, copy)
    assert list(members(copy)) == ["vit-cls", "fresh"]


def test_a_finished_run_becomes_a_member(copy: Path, tmp_path: Path) -> None:
    changes = ("model.arguments.depth=1", "steps=2", "fraction=0.5", "name=toy", "held_out=10", "input_size=16")
    recipe = load_recipe("vit-cls", changes)
    data = ["toy=scenes:{split}?n=50,size=20"]
    summary = train(recipe, tmp_path / "run", data=data, device="cpu")
    member = install(tmp_path / "run", "toy", data=data, folder=copy)
    assert members(copy)["toy"] == dataclasses.replace(member, sha256=members(copy)["toy"].sha256)
    assert (member.training_images, member.test_images, member.steps) == (20, 50, 2)
    assert member.recipe_sha256 == summary["recipe_sha256"]
    model = load(parse_spec("zoo:toy"), copy)
    assert accuracy_on(model, seelike.load_images("scenes:test?n=50,size=20")).value == member.test_accuracy
    with pytest.raises(SeelikeError, match="holds no finished run"):
        install(tmp_path, "toy", folder=copy)


def test_preprocessing_is_that_of_training() -> None:
    """Resize and scale by hand, and the batch of training against the image of a study."""
    images = seelike.load_images("scenes:test?n=3,size=48")
    transform = ZooTransform((32, 32), (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    image = images.read(0)
    pixels = torch.from_numpy(np.array(image.resize((32, 32), PIL.Image.Resampling.BICUBIC))).permute(2, 0, 1)
    mean, std = torch.tensor(transform.mean)[:, None, None], torch.tensor(transform.std)[:, None, None]
    assert torch.allclose(transform(image), (pixels / 255 - mean) / std, atol=1e-5)
    grey = image.convert("L")
    assert transform(grey).shape == (3, 32, 32)
    batch = torch.from_numpy(np.array(image))[None]
    same = ZooTransform((48, 48), transform.mean, transform.std)
    assert torch.allclose(normalise(batch, transform.mean, transform.std)[0], same(image), atol=1e-6)
