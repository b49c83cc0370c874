"""`torchvision:` models, with the transforms of their weights."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest
import torch
import torchvision

from seelike.errors import SeelikeError
from seelike.models import load_model


def test_preprocessing_is_that_of_the_default_weights(photo: PIL.Image.Image) -> None:
    model = load_model("torchvision:mobilenet_v3_small@random")
    expected = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.transforms()(photo)
    assert torch.equal(model.preprocess(photo), expected)
    assert model.input_size == (3, 224, 224)
    assert "resized to 256 (bilinear)" in model.preprocess_note


def test_preprocessing_at_another_size_keeps_the_ratio(photo: PIL.Image.Image) -> None:
    model = load_model("torchvision:squeezenet1_1?input_size=56@random")
    expected = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms(crop_size=56, resize_size=64)(photo)
    assert torch.equal(model.preprocess(photo), expected)
    assert load_model("torchvision:squeezenet1_1?input_size=56x64@random").preprocess(photo).shape == (3, 56, 64)


def test_transformers_are_built_for_the_size() -> None:
    small = "hidden_dim=24&mlp_dim=24&num_layers=1&num_heads=2"
    with pytest.raises(SeelikeError, match="multiple values for"):  # torchvision sets these itself
        load_model(f"torchvision:vit_b_32?{small}&input_size=64@random")
    model = load_model("torchvision:vit_b_32?input_size=64&num_classes=3@random")
    assert model.module(model.example()).shape == (2, 3)
    with pytest.raises(SeelikeError, match="square images only"):
        load_model("torchvision:vit_b_32?input_size=32x64@random")


def test_seeds() -> None:
    first, same, other = (
        load_model(f"torchvision:shufflenet_v2_x0_5?input_size=32@random{s}") for s in ("", ":0", ":4")
    )
    x = first.example(1)
    assert torch.equal(first.module(x), same.module(x))
    assert not torch.equal(first.module(x), other.module(x))


@pytest.mark.parametrize("weights", ["", "@DEFAULT", "@IMAGENET1K_V1"])
def test_pretrained_weights_come_out_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "HASH_REGEX", None)
    source = torchvision.models.squeezenet1_1()
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    (tmp_path / "checkpoints").mkdir()
    torch.save(source.state_dict(), tmp_path / "checkpoints" / url.rsplit("/", 1)[1])
    model = load_model(f"torchvision:squeezenet1_1{weights}")
    x = model.example(1)
    assert torch.equal(model.module(x), source.eval()(x))
    assert model.provenance["weights"] == "pretrained SqueezeNet1_1_Weights.IMAGENET1K_V1"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("torchvision:resnet8@random", "torchvision knows no model 'resnet8' (did you mean resnet18"),
        ("torchvision:fcn_resnet50@random", "no image classifier (it belongs to torchvision.models.segmentation)"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no image classifier (it belongs to torchvision.models.detection)"),
        ("torchvision:r3d_18", "no image classifier (it belongs to torchvision.models.video)"),
        ("torchvision:quantized_resnet18", "no image classifier (it belongs to torchvision.models.quantization)"),
        ("torchvision:resnet50@IMAGENET1K_V7", "it has: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:squeezenet1_1@none.pth", "checkpoint none.pth does not exist"),
        ("torchvision:squeezenet1_1?num_class=3@random", "unexpected keyword argument 'num_class'"),
    ],
)
def test_what_is_wrong_is_said(spec: str, words: str) -> None:
    with pytest.raises(SeelikeError) as caught:
        load_model(spec)
    assert words in str(caught.value)
