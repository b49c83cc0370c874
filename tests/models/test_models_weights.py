"""Checkpoint files: what is in them arrives; what does not fit, or is no checkpoint, is said in one sentence."""

from __future__ import annotations

import argparse
import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seelike.errors import SeelikeError
from seelike.models import load_model
from seelike.models.weights import fit_checkpoint


def net(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def refusal(file: Path, module: nn.Module | None = None, **options: Any) -> str:
    with pytest.raises(SeelikeError) as caught:
        fit_checkpoint(module or net(), str(file), model="net", **options)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    source, target, file = net(), net(), tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(source.state_dict(), file)
    kept = fit_checkpoint(target, str(file), model="net")
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
    assert kept["weights"] == f"file w{suffix}"
    assert kept["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model."])
def test_wrappings_are_taken_off(tmp_path: Path, key: str, prefix: str) -> None:
    source, target, file = net(), net(), tmp_path / "w.pt"
    state = {prefix + k: v for k, v in source.state_dict().items()}
    torch.save({"epoch": 3, key: state, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}}, file)
    assert fit_checkpoint(target, str(file), model="net")["weights_key"] == key
    assert all(torch.equal(target.state_dict()[k], v) for k, v in source.state_dict().items())


def test_a_prefix_that_the_model_has_itself_stays(tmp_path: Path) -> None:
    source, target = nn.ModuleDict({"module": nn.Linear(2, 2)}), nn.ModuleDict({"module": nn.Linear(2, 2)})
    torch.save(source.state_dict(), tmp_path / "w.pt")
    fit_checkpoint(target, str(tmp_path / "w.pt"), model="net")
    assert torch.equal(target.state_dict()["module.weight"], source.state_dict()["module.weight"])


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    source, target, file = net(), net(), tmp_path / "old.pt"
    torch.save({k: v for k, v in source.state_dict().items() if "num_batches" not in k}, file)
    fit_checkpoint(target, str(file), model="net")
    assert torch.equal(target[3].weight, source[3].weight)  # type: ignore[arg-type]


def test_another_number_of_classes_is_recognised(tmp_path: Path) -> None:
    torch.save(net(10).state_dict(), tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt", classes_option="num_classes")
    assert "does not fit model net: 2 of 9 tensors differ in shape" in message
    assert "3.weight: file (10, 4), model (3, 4)" in message
    assert "add ?num_classes=10" in message
    assert "with 10 classes: build the model" in refusal(tmp_path / "w.pt")


def test_missing_and_unknown_keys_are_counted_and_named(tmp_path: Path) -> None:
    state = net().state_dict()
    del state["0.weight"]
    torch.save(state | {f"extra{i}": torch.ones(1) for i in range(5)}, tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt")
    assert "1 of 9 tensors are missing in the file (0.weight)" in message
    assert "5 of the file's 13 are unknown to the model (extra0, extra1, extra2, and 2 more)" in message
    assert "name the architecture" in message


def test_a_file_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    target = net()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    torch.save(net(10).state_dict(), tmp_path / "w.pt")
    refusal(tmp_path / "w.pt", target)
    assert all(torch.equal(target.state_dict()[k], v) for k, v in before.items())


class Dangerous:
    """Would write a file if it were unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.trace,)


def test_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"state_dict": net().state_dict(), "x": Dangerous(tmp_path / "trace")}, tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt")
    assert "needs Python code to be run on loading" in message
    assert "save_file" in message
    assert not (tmp_path / "trace").exists()


def test_a_whole_module_is_code(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    assert "torch.nn.modules" in refusal(tmp_path / "w.pt")


def test_other_pickles(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    assert "another kind of pickle" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"this is no checkpoint", b"half"])
def test_broken_files(tmp_path: Path, suffix: str, content: bytes) -> None:
    file = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(net().state_dict(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    assert "is corrupt or no checkpoint" in refusal(file)


def test_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.pt")
    assert "is a directory" in refusal(tmp_path)
    assert "before the @" in refusal(tmp_path / "none.pt?num_classes=3")


@pytest.mark.parametrize("content", [{"epoch": 3, "loss": 0.5}, [1, 2]])
def test_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt")
    assert ("its keys are: epoch, loss" if isinstance(content, dict) else "holds a list") in message


@pytest.mark.parametrize("kind", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_specs_with_files(tmp_path: Path, kind: str) -> None:
    source = load_model(f"{kind}?num_classes=7@random:5")
    file = tmp_path / "best@epoch?3.safetensors"
    save_file(source.module.state_dict(), file)
    loaded = load_model(f"{kind}?num_classes=7@{file}")
    x = source.example()
    assert torch.equal(loaded.module(x), source.module(x))
    assert loaded.provenance["weights_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(SeelikeError, match=rf"does not fit model {kind}: .* add \?num_classes=7"):
        load_model(f"{kind}@{file}")
