"""Recipes: what they may say, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from seelike.errors import SeelikeError
from seelike.models.zoo import members
from seelike.train import Recipe, list_recipes, load_recipe

from .conftest import TOY


def test_every_shipped_recipe_can_be_read_and_says_what_to_expect() -> None:
    shipped, zoo = list_recipes(), members()
    assert {"vit-cls", "resnet", "vit-gap", "mixer", "vit-cls-10", "resnet-cifar10"} <= {r.name for r in shipped}
    for recipe in shipped:
        assert isinstance(load_recipe(recipe.name), Recipe)
        told = f"{100 * zoo[recipe.name].test_accuracy:.1f} %" if recipe.name in zoo else "not measured yet"
        assert told in recipe.expects, f"{recipe.name}: benchmarks/train_zoo.py --tell writes what to expect"


def test_a_base_is_another_recipe_with_some_keys_changed(tmp_path: Path, toy_file: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text("base: toy.yaml\nmodel:\n  arguments:\n    depth: 3\nimages:\n  fraction: 0.5\n")
    made, base = load_recipe(child), load_recipe(toy_file)
    assert made.model.arguments == {"embed_dim": 16, "depth": 3, "num_heads": 2}
    assert made.images.fraction == 0.5
    assert made.images.name == base.images.name
    assert made.optimisation == base.optimisation


def test_shipped_variants_differ_from_their_base_in_one_thing_only() -> None:
    full, tenth, cut = (load_recipe(n) for n in ("vit-cls", "vit-cls-10", "vit-cls-cut6"))
    assert tenth.images.fraction == 0.1
    assert (tenth.model, tenth.optimisation, tenth.augmentation) == (full.model, full.optimisation, full.augmentation)
    assert dict(cut.model.arguments) == {**full.model.arguments, "cut": 6}
    assert (cut.images, cut.optimisation) == (full.images, full.optimisation)


@pytest.mark.parametrize(
    ("change", "section", "key", "value"),
    [
        ("optimisation.steps=7", "optimisation", "steps", 7),
        ("steps=7", "optimisation", "steps", 7),
        ("rate=1e-4", "optimisation", "rate", 1e-4),
        ("fraction=1", "images", "fraction", 1.0),
        ("images.seed=3", "images", "seed", 3),
        ("init=zoo:vit-cls", "model", "init", "zoo:vit-cls"),
        ("turn=true", "augmentation", "turn", True),
    ],
)
def test_set_changes_one_key(toy, change: str, section: str, key: str, value: object) -> None:
    found = getattr(getattr(toy(change), section), key)
    assert found == value
    assert type(found) is type(value)


def test_set_without_a_section_prefers_the_recipes_own_key(toy) -> None:
    made = toy("seed=5")
    assert (made.seed, made.images.seed) == (5, 0)


def test_set_reaches_arguments_of_the_builder(toy) -> None:
    assert toy("model.arguments.depth=4").model.arguments["depth"] == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("steps: 12", "stpes: 12"), r"unknown key optimisation\.stpes \(did you mean steps\?\)"),
        (("optimisation:", "optimization:"), r"unknown key optimization \(did you mean optimisation"),
        (("steps: 12", "steps: many"), r"optimisation\.steps must be a whole number, not 'many'"),
        (("steps: 12", "steps: 12.5"), r"optimisation\.steps must be a whole number, not 12\.5"),
        (("steps: 12", "steps: true"), r"optimisation\.steps must be a whole number, not True"),
        (("steps: 12", "steps: 0"), r"optimisation\.steps must be at least 1, not 0"),
        (("rate: 0.003", "rate: 3e-3"), r"optimisation\.rate must be a number, not '3e-3'; .* write 0\.003"),
        (("rate: 0.003", "rate: .nan"), r"optimisation\.rate must be at least 0, not nan"),
        (("  steps: 12\n", ""), r"optimisation\.steps must be given"),
        (("name: toy", "name: toy\n  fraction: 0"), r"fraction must lie in \(0, 1\], not be 0\.0"),
        (("name: toy", "name: toy\n  fraction: 10"), r"fraction must lie in \(0, 1\], not be 10\.0"),
        (("precision: fp32", "precision: fp8"), r"precision must be one of fp32, bf16, fp16, not 'fp8'"),
        (("precision: fp32", "augmentation: 3"), r"cannot be read|must be a mapping"),
        (("name: toy", "- toy"), r"cannot be read|must be a mapping"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changed: tuple[str, str], message: str) -> None:
    path = tmp_path / "bad.yaml"
    assert changed[0] in TOY
    path.write_text(TOY.replace(*changed))
    with pytest.raises(SeelikeError, match=message) as raised:
        load_recipe(path)
    assert "bad.yaml" in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stpes=3", r"no key stpes \(did you mean steps\?\)"),
        ("optimisation.stpes=3", r"unknown key optimisation\.stpes \(did you mean steps\?\)"),
        ("steps", "is not key=value"),
        ("fraction=1.5", r"must lie in \(0, 1\], not be 1\.5"),
        ("seed.x=1", "seed must be a whole number, not {'x': 1}"),
        ("model.architecture.x=1", "architecture is no section"),
        ("steps=[1", "is not a YAML value"),
    ],
)
def test_bad_changes_are_named(toy, change: str, message: str) -> None:
    with pytest.raises(SeelikeError, match=message):
        toy(change)


def test_unknown_recipes_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SeelikeError, match=r"no recipe 'vit-cl' \(did you mean vit-cls"):
        load_recipe("vit-cl")
    with pytest.raises(SeelikeError, match=r"no recipe file .*none\.yaml"):
        load_recipe(tmp_path / "none.yaml")
    round_trip = tmp_path / "a.yaml"
    round_trip.write_text("base: a.yaml\n")
    with pytest.raises(SeelikeError, match="is its own base"):
        load_recipe(round_trip)
