"""`timm:` models: seeds, sizes, timm's own preprocessing, and what is said when something is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from seelike.errors import SeelikeError
from seelike.models import list_models, load_model


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_seed_names_the_weights() -> None:
    first, same, other = (load_model(f"timm:test_vit@random{s}").module for s in ("", ":0", ":1"))
    assert same_weights(first, same)
    assert not same_weights(first, other)


def test_weights_do_not_depend_on_what_was_drawn_before() -> None:
    first = load_model("timm:test_resnet@random").module
    torch.rand(7)
    assert same_weights(first, load_model("timm:test_resnet@random").module)


def test_nobody_elses_random_numbers_change() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    load_model("timm:test_vit@random:3")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_preprocessing_is_timms(photo: PIL.Image.Image, name: str) -> None:
    model = load_model(f"timm:{name}@random")
    config = resolve_model_data_config(timm.create_model(name))
    expected = create_transform(**config, is_training=False)(photo)
    assert model.input_size == tuple(config["input_size"]) == tuple(expected.shape)
    assert torch.equal(model.preprocess(photo), expected)
    assert str(config["crop_pct"]) in model.preprocess_note


def test_arguments_reach_the_builder() -> None:
    model = load_model("timm:test_vit?img_size=64&num_classes=10@random")
    assert model.input_size == (3, 64, 64)
    assert model.module(model.example()).shape == (2, 10)
    assert model.provenance["arguments"] == {"img_size": 64, "num_classes": 10}
    assert model.provenance["weights"] == "random, seed 0"
    assert model.provenance["library"] == f"timm {timm.__version__}"


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])  # one builder knows img_size, the other does not
def test_input_size_for_any_architecture(photo: PIL.Image.Image, name: str) -> None:
    model = load_model(f"timm:{name}?input_size=32x48@random")
    image = model.preprocess(photo)
    assert image.shape == (3, 32, 48)
    assert model.module(image[None]).shape == (1, 1000)


@pytest.mark.parametrize("spec", ["timm:test_vit?in_chans=1@random", "timm:test_vit?input_size=1x160x160@random"])
def test_grey_images(photo: PIL.Image.Image, spec: str) -> None:
    model = load_model(spec)
    assert model.input_size == (1, 160, 160)
    assert model.module(model.preprocess(photo)[None]).shape == (1, 1000)


def test_pretrained_weights_come_out_of_the_cache(tmp_path: Path, put_in_cache: Callable[[str, Path], None]) -> None:
    source = timm.create_model("test_vit")
    files = tmp_path / "files"
    files.mkdir()
    save_file(source.state_dict(), files / "model.safetensors")
    put_in_cache("timm/test_vit.r160_in1k", files)
    model = load_model("timm:test_vit.r160_in1k")
    assert same_weights(model.module, source)
    assert model.provenance["weights"] == "pretrained timm/test_vit.r160_in1k"
    assert model.name == "test_vit.r160_in1k"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("timm:test_vti@random", "timm knows no model 'test_vti' (did you mean test_vit"),
        ("timm:resnet18.a9@random", "timm has no weights 'a9' for resnet18; it has: a1_in1k"),
        ("timm:test_vit4", "no pretrained weights for test_vit4; use timm:test_vit4@random"),
        ("timm:test_resnet?numclasses=3@random", "unexpected keyword argument 'numclasses'"),
    ],
)
def test_what_is_wrong_is_said(spec: str, words: str) -> None:
    with pytest.raises(SeelikeError) as caught:
        load_model(spec)
    assert words in str(caught.value)


def test_listing() -> None:
    assert list_models("timm:test_vit?") == ["timm:test_vit2", "timm:test_vit3", "timm:test_vit4"]
    assert "torchvision:vit_b_16" in list_models("*vit_b_16")
    everywhere = list_models("resnet18")
    assert {"timm:resnet18", "torchvision:resnet18"} <= set(everywhere)
    assert "timm:vit_tiny_patch16_224" not in everywhere
    assert not [spec for spec in list_models() if "fcn_" in spec or "quantized" in spec]
    assert "timm:resnet50.a1_in1k" in list_models("timm:resnet50.*")
    assert list_models("timm:nothing_like_it") == []
    with pytest.raises(SeelikeError, match="did you mean torchvision"):
        list_models("torchvison:*")
