"""`py:` models: the user's file is run in peace, and its mistakes are told with file and line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seelike.errors import SeelikeError
from seelike.models import load_model

NET = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from seelike import Model

@dataclass
class Settings:
    width: int = 4

def build(width: int = 4, deep=False):
    settings = Settings(width)
    layers = [nn.Conv2d(3, settings.width, 3), nn.ReLU()]
    return nn.Sequential(*layers, *(layers if deep else []))

class Net(nn.Module):
    def forward(self, x):
        return x * 2

def ready():
    return Model(Net(), (3, 16, 16), "ready made")

def number():
    return 5

def breaks():
    return undefined_name

def _hidden():
    return Net()

CONSTANT = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def test_a_function_with_arguments(file: Path) -> None:
    model = load_model(f"py:{file}:build?width=6&input_size=1x9x9")
    assert model.module[0].weight.shape == (6, 3, 3, 3)  # type: ignore[index, union-attr]
    assert model.input_size == (1, 9, 9)
    assert model.name == "net:build"
    assert load_model(f"py:{file}:build").input_size == (3, 224, 224)


def test_weights_depend_on_the_seed_alone(file: Path) -> None:
    first, same, other = (load_model(f"py:{file}:build{s}").module[0].weight for s in ("", "@random", "@random:2"))  # type: ignore[index, union-attr]
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_weights_out_of_a_file(file: Path, tmp_path: Path) -> None:
    source = load_model(f"py:{file}:build@random:9").module
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    loaded = load_model(f"py:{file}:build@{tmp_path}/w.safetensors").module
    assert torch.equal(loaded[0].weight, source[0].weight)  # type: ignore[index, arg-type, union-attr]
    with pytest.raises(SeelikeError, match="does not fit model py:"):
        load_model(f"py:{file}:build?width=5@{tmp_path}/w.safetensors")


def test_a_class_and_a_ready_model(file: Path) -> None:
    assert torch.equal(load_model(f"py:{file}:Net").module(torch.ones(1)), torch.tensor([2.0]))
    model = load_model(f"py:{file}:ready")
    assert (model.name, model.input_size, model.spec) == ("ready made", (3, 16, 16), f"py:{file}:ready")
    with pytest.raises(SeelikeError, match="input_size"):
        load_model(f"py:{file}:ready?input_size=8")


def test_files_of_the_same_name_do_not_mix(tmp_path: Path) -> None:
    for folder, factor in (("a", 2), ("b", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts.py").write_text(
            f"from torch import nn\nclass Net(nn.Module):\n    def forward(self, x): return x * {factor}\n"
        )
        (tmp_path / folder / "net.py").write_text("from parts import Net\ndef build(): return Net()\n")
    modules = dict(sys.modules)
    path = list(sys.path)
    one, two = (load_model(f"py:{tmp_path}/{folder}/net.py:build").module for folder in "ab")
    assert (one(torch.ones(1)).item(), two(torch.ones(1)).item()) == (2, 3)
    assert sys.path == path
    assert {"parts", "net"}.isdisjoint(set(sys.modules) - set(modules))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("biuld", "has no function 'biuld' (did you mean build"),
        ("number", "must return a torch.nn.Module or a seelike.Model, not int"),
        ("breaks", "failed in line 28: NameError: name 'undefined_name' is not defined"),
        ("CONSTANT", "CONSTANT in"),
        ("build?depth=3", "cannot be called so: got an unexpected keyword argument 'depth'"),
    ],
)
def test_mistakes_are_told(file: Path, spec: str, words: str) -> None:
    with pytest.raises(SeelikeError) as caught:
        load_model(f"py:{file}:{spec}")
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ny = 1 / 0\n", "cannot be loaded in line 2: ZeroDivisionError"),
        ("def build(:\n", "cannot be loaded in line 1: SyntaxError"),
        ("import no_such_module_here\n", "cannot be loaded in line 1: ModuleNotFoundError"),
    ],
)
def test_files_that_cannot_be_run(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    path = list(sys.path)
    with pytest.raises(SeelikeError) as caught:
        load_model(f"py:{tmp_path}/bad.py:build")
    assert words in str(caught.value)
    assert sys.path == path


def test_a_file_or_a_function_that_is_missing(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SeelikeError, match=r"there is no file .*none.py; write py:FILE.py:function"):
        load_model(f"py:{tmp_path}/none.py:build")
    with pytest.raises(SeelikeError, match=r"name a function .*it has: Settings, build, Net, ready, number, breaks\)"):
        load_model(f"py:{file}")
