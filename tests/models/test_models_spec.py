"""Specs are read as they are meant, also around files with odd names."""

from __future__ import annotations

from pathlib import Path

import pytest

from seelike.errors import SeelikeError
from seelike.models import load_model
from seelike.models.spec import parse_spec


def test_all_parts() -> None:
    spec = parse_spec("timm:vit_tiny_patch16_224?img_size=64,num_classes=10&drop_rate=0.5@random:7")
    assert (spec.kind, spec.name) == ("timm", "vit_tiny_patch16_224")
    assert spec.arguments == {"img_size": 64, "num_classes": 10, "drop_rate": 0.5}
    assert (spec.weights, spec.seed) == ("random:7", 7)
    assert spec.built == "timm:vit_tiny_patch16_224?img_size=64,num_classes=10&drop_rate=0.5"


def test_name_alone() -> None:
    spec = parse_spec("timm:resnet50.a1_in1k")
    assert (spec.name, spec.arguments, spec.weights, spec.seed) == ("resnet50.a1_in1k", {}, None, None)


def test_values() -> None:
    spec = parse_spec("timm:x?a=1&b=-2.5&c=true&d=False&e=none&f=32x48&g=avg&h=1e-6")
    assert spec.arguments == {
        "a": 1,
        "b": -2.5,
        "c": True,
        "d": False,
        "e": None,
        "f": (32, 48),
        "g": "avg",
        "h": 1e-6,
    }


@pytest.mark.parametrize(("text", "size"), [("32", (32, 32)), ("32x48", (32, 48)), ("1x28x30", (1, 28, 30))])
def test_input_size_is_no_argument(text: str, size: tuple[int, ...]) -> None:
    spec = parse_spec(f"timm:x?input_size={text}&num_classes=3")
    assert spec.input_size == size
    assert spec.arguments == {"num_classes": 3}


def test_size_replaces_what_it_names() -> None:
    assert parse_spec("timm:x?input_size=32x48").size((3, 224, 224)) == (3, 32, 48)
    assert parse_spec("timm:x?input_size=1x28x30").size((3, 224, 224)) == (1, 28, 30)
    assert parse_spec("timm:x").size((3, 224, 224)) == (3, 224, 224)


@pytest.mark.parametrize("file", ["runs/a@b/w?1.pth", "C:/w.pth", "w.safetensors", "a=b&c.pt"])
def test_weights_may_hold_any_sign(file: str) -> None:
    spec = parse_spec(f"timm:resnet18?num_classes=2@{file}")
    assert (spec.weights, spec.arguments, spec.seed) == (file, {"num_classes": 2}, None)


def test_python_files_may_hold_any_sign() -> None:
    spec = parse_spec("py:me@work/what?/net.py:build?width=8@w@1.pth")
    assert (spec.name, spec.arguments, spec.weights) == ("me@work/what?/net.py:build", {"width": 8}, "w@1.pth")
    assert parse_spec("py:C:/code/net.py:Net").name == "C:/code/net.py:Net"


def test_directories_may_hold_any_sign(tmp_path: Path) -> None:
    odd = tmp_path / "vit@step?5"
    odd.mkdir()
    spec = parse_spec(f"hf:{odd}?num_labels=3@random")
    assert (spec.name, spec.arguments, spec.weights) == (str(odd), {"num_labels": 3}, "random")
    assert parse_spec(f"hf:{odd}").name == str(odd)
    assert parse_spec("hf:org/name@random").name == "org/name"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("timm:vit_tiny_patch16_224?img_size=64", "vit_tiny_patch16_224"),
        ("timm:resnet18@random:3", "resnet18@random:3"),
        ("timm:resnet18@runs/best.pth", "resnet18@best.pth"),
        ("torchvision:resnet50@IMAGENET1K_V2", "resnet50@IMAGENET1K_V2"),
        ("hf:google/vit-base", "vit-base"),
        ("py:code/net.py:build", "net:build"),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert parse_spec(text).label == label


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "name is empty"),
        ("timm:", "no name after the colon"),
        ("timm:resnet18@", "nothing after the @"),
        ("timm:resnet18?num_classes@random", "'num_classes' is not key=value"),
        ("timm:resnet18?a=1&a=2", "a is given twice"),
        ("timm:resnet18?input_size=big@random", "such as 224, 224x160 or 1x28x28, not 'big'"),
        ("timm:resnet18?input_size=0@random", "not 0"),
        ("timm:resnet18@random?num_classes=3", "as in NAME?num_classes=3@random"),
        ("timm:resnet18@random:x", "must be a whole number, not 'x'"),
        (
            "timn:resnet18",
            "unknown kind of model 'timn' in 'timn:resnet18' (did you mean timm?); kinds: timm:",
        ),
        ("resnet18@random", "did you mean timm:resnet18@random?"),
        ("mnasnet0_75", "did you mean torchvision:mnasnet0_75?"),
        ("google/vit-base", "did you mean hf:google/vit-base?"),
        ("code/net.py:build", "did you mean py:code/net.py:build?"),
        ("net.py", "did you mean py:net.py:FUNCTION?"),
        ("resnet_18", "no kind before a colon (did you mean resnet18"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(SeelikeError) as caught:
        load_model(text)
    assert words in str(caught.value)


def test_a_directory_without_a_kind(tmp_path: Path) -> None:
    with pytest.raises(SeelikeError, match="did you mean hf:"):
        load_model(str(tmp_path))
