"""`run:DIR`: what `seelike train` made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import seelike
from seelike.errors import SeelikeError
from seelike.models.architectures import build

ARGUMENTS = {"num_classes": 10, "img_size": 32, "depth": 2, "embed_dim": 16, "num_heads": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, as `seelike train` leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    (folder / "epochs").mkdir(parents=True)
    for seed, path in enumerate(["weights.safetensors", "epochs/0005.safetensors", "epochs/0010.safetensors"]):
        torch.manual_seed(seed)
        save_file(build("seelike_vit_lab", ARGUMENTS).state_dict(), folder / path)
    summary = {
        "recipe_name": "vit-cls",
        "recipe_sha256": "0" * 64,
        "recipe": {"model": {"architecture": "seelike_vit_lab", "input_size": 32}, "images": {"name": "scenes"}},
        "arguments": ARGUMENTS,
        "classes": [str(i) for i in range(10)],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "test_accuracy": 0.8,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.mark.parametrize(
    ("spec", "seed", "label"), [("", 0, "mine"), ("@5", 1, "mine@0005"), ("@0010", 2, "mine@0010")]
)
def test_the_weights_asked_for_are_loaded(run: Path, spec: str, seed: int, label: str) -> None:
    model = seelike.load_model(f"run:{run}{spec}")
    torch.manual_seed(seed)
    wanted = build("seelike_vit_lab", ARGUMENTS).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.module.state_dict().items())
    assert model.name == label
    assert model.provenance["data_set"] == "scenes"
    # The accuracy is that of the last weights and of no others.
    assert model.provenance.get("test_accuracy") == (0.8 if not spec else None)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("@7", r"epoch 7 was not kept.*kept are: 5, 10"),
        ("?depth=3", "takes no arguments"),
    ],
)
def test_what_a_run_does_not_have(run: Path, spec: str, said: str) -> None:
    with pytest.raises(SeelikeError, match=said):
        seelike.load_model(f"run:{run}{spec}")


def test_a_folder_without_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(SeelikeError, match=r"holds no finished run of `seelike train` \(there is no summary.json\)"):
        seelike.load_model(f"run:{tmp_path}")


def test_weights_that_do_not_fit_are_named(run: Path, tmp_path: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"arguments": ARGUMENTS | {"depth": 3}}))
    (tmp_path / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    with pytest.raises(SeelikeError, match="blocks"):
        seelike.load_model(f"run:{tmp_path}")
