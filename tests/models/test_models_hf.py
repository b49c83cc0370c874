"""`hf:` models out of local directories and the hub's cache; nothing is asked of the network."""

from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from seelike.errors import SeelikeError
from seelike.models import load_model

transformers = pytest.importorskip("transformers")


def run(model: Any, images: torch.Tensor) -> Any:
    return model.module(**model.inputs(images))


def test_a_classifier(tiny_hf: Path, photo: PIL.Image.Image) -> None:
    model = load_model(f"hf:{tiny_hf}/vit")
    reference = transformers.ViTForImageClassification.from_pretrained(tiny_hf / "vit").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tiny_hf / "vit")
    pixels = processor(photo, return_tensors="pt")["pixel_values"]
    assert torch.equal(model.preprocess(photo), pixels[0])
    assert torch.equal(run(model, pixels).logits, reference(pixels).logits)
    assert (model.input_size, model.name) == ((3, 32, 32), "vit")
    assert "ViTImageProcessor" in model.preprocess_note
    assert model.provenance["class"] == "ViTForImageClassification"
    assert model.provenance["library"] == f"transformers {transformers.__version__}"
    assert len(model.anatomy.attentions) == 2
    again = pickle.loads(pickle.dumps(model.preprocess))  # worker processes get it so
    assert torch.equal(again(photo), pixels[0])


def test_the_vision_tower_of_two(tiny_hf: Path, photo: PIL.Image.Image) -> None:
    model = load_model(f"hf:{tiny_hf}/clip")
    reference = transformers.CLIPModel.from_pretrained(tiny_hf / "clip").eval()
    images = model.preprocess(photo)[None]
    expected = reference.vision_model(pixel_values=images).last_hidden_state
    assert torch.equal(run(model, images).last_hidden_state, expected)
    assert type(load_model(f"hf:{tiny_hf}/clip@random").module) is transformers.CLIPVisionModel


def test_random_weights_and_arguments(tiny_hf: Path) -> None:
    first, same, other = (load_model(f"hf:{tiny_hf}/vit?num_labels=7@random{s}") for s in ("", ":0", ":1"))
    x = first.example()
    assert run(first, x).logits.shape == (2, 7)
    assert torch.equal(run(first, x).logits, run(same, x).logits)
    assert not torch.equal(run(first, x).logits, run(other, x).logits)


def test_weights_out_of_a_file(tiny_hf: Path) -> None:
    file = tiny_hf / "bare" / "model.safetensors"
    loaded, reference = load_model(f"hf:{tiny_hf}/vit@{file}"), load_model(f"hf:{tiny_hf}/bare")
    x = reference.example()
    assert torch.equal(run(loaded, x).logits, run(reference, x).logits)
    assert loaded.provenance["weights"] == "file model.safetensors"


def test_without_an_image_processor(tiny_hf: Path) -> None:
    model = load_model(f"hf:{tiny_hf}/bare")
    assert model.preprocess_note.startswith("default")
    assert model.input_size == (3, 32, 32)


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ("vit?input_size=48@random", (3, 48, 48)),
        ("vit?input_size=48x32@random", (3, 48, 32)),
        ("clip?input_size=48@random", (3, 48, 48)),
        ("resnet", (3, 64, 64)),
        ("resnet?input_size=32", (3, 32, 32)),
    ],
)
def test_sizes(tiny_hf: Path, photo: PIL.Image.Image, spec: str, size: tuple[int, int, int]) -> None:
    model = load_model(f"hf:{tiny_hf}/{spec}")
    images = model.preprocess(photo)[None]
    assert images.shape[1:] == model.input_size == size
    assert run(model, images) is not None


def test_another_size_keeps_the_ratio_of_resize_to_crop(tiny_hf: Path, photo: PIL.Image.Image) -> None:
    model = load_model(f"hf:{tiny_hf}/clip?input_size=48@random")
    resized = {"size": {"shortest_edge": 60}, "crop_size": {"height": 48, "width": 48}}  # 48 * 40 / 32
    expected = transformers.CLIPImageProcessor(**resized)(photo, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(model.preprocess(photo), expected)


def test_a_repository_out_of_the_cache(tiny_hf: Path, put_in_cache: Callable[[str, Path], None]) -> None:
    put_in_cache("org/tiny-vit", tiny_hf / "vit")
    model, local = load_model("hf:org/tiny-vit"), load_model(f"hf:{tiny_hf}/vit")
    x = local.example()
    assert torch.equal(run(model, x).logits, run(local, x).logits)
    assert model.name == "tiny-vit"
    assert model.provenance["weights"].startswith("pretrained org/tiny-vit, commit 0123456789")
    assert "ViTImageProcessor" in model.preprocess_note


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("vit?num_lables=7", "its config has no num_lables (did you mean num_labels"),
        ("vit?num_labels=7", "classifier.bias: there (5,), here (7,)"),
        ("vit@{folder}/clip/model.safetensors", "classifier.bias is missing"),
        ("bert", "no model of transformers takes images alone for config 'bert'"),
        ("none", "there is no directory"),
        ("", "has no config.json"),
        ("resnet?input_size=32x48", "its ConvNextImageProcessor cannot make images of (3, 32, 48)"),
    ],
)
def test_what_is_wrong_is_said(tiny_hf: Path, spec: str, words: str) -> None:
    with pytest.raises(SeelikeError) as caught:
        load_model(f"hf:{tiny_hf}/{spec.format(folder=tiny_hf)}")
    assert words in str(caught.value)


def test_the_library_is_an_extra(tiny_hf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "transformers":
            raise ImportError(name)
        return ordinary(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SeelikeError, match=r"pip install 'seelike\[hf\]'"):
        load_model(f"hf:{tiny_hf}/vit")
