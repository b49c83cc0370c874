"""`seelike train` as its user meets it, in processes of their own where that matters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import seelike.cli


def run(monkeypatch, capsys, *arguments: str, status: int = 0) -> str:
    monkeypatch.setattr(sys, "argv", ["seelike", "train", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        seelike.cli.main()
    captured = capsys.readouterr()
    assert (ended.value.code or 0) == status, captured.err
    return captured.out + captured.err


@pytest.fixture
def command(monkeypatch, capsys):
    return lambda *arguments, status=0: run(monkeypatch, capsys, *arguments, status=status)


def test_recipes_are_listed(command) -> None:
    for arguments in ((), ("--list",)):
        printed = command(*arguments)
        assert "vit-cls-cut6" in printed
        assert "what to expect" in printed


def test_a_recipe_becomes_a_folder(command, toy_file: Path, toy_data, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--out", str(out), "--data", toy_data[0], "--device", "cpu", "--set", "steps=3")
    printed = command(str(toy_file), *options)
    assert "test accuracy" in printed
    assert {p.name for p in out.iterdir()} == {"weights.safetensors", "summary.json", "log.csv"}
    assert "holds a finished run" in command(str(toy_file), *options, status=2)


def test_accuracy_can_be_measured_again(command, toy_data) -> None:
    printed = command("--evaluate", "timm:seelike_vit_lab?img_size=16@random", "--on", "toy", "--data", toy_data[0])
    assert "(40 images)" in printed
    model = "timm:seelike_vit_lab?num_classes=9@random"
    assert "gives (9,) outputs" in command("--evaluate", model, "--on", "toy", "--data", toy_data[0], status=2)
    assert "name a data set" in command("--evaluate", model, status=2)


def test_mistakes_end_in_one_sentence(command, toy_file: Path, toy_data) -> None:
    printed = command(str(toy_file), "--set", "stpes=3", status=2)
    assert printed == "error: --set: a recipe has no key stpes (did you mean steps?)\n"


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "seelike.cli", "train", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str], status: int = 0) -> None:
    """Wait for the end of a process, which must have this status."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == status, said


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_gone_on_with(toy_file: Path, toy_data, tmp_path: Path, how: signal.Signals) -> None:
    common = (str(toy_file), "--data", toy_data[0], "--device", "cpu", "--set", "steps=1500", "--set", "batch=30")
    end(start(*common, "--out", str(tmp_path / "whole")))
    folder = tmp_path / "killed"
    process = start(*common, "--out", str(folder))
    log, limit = folder / "log.csv", time.monotonic() + 300
    while not (log.exists() and len(log.read_text().splitlines()) > 30):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(how)
    end(process, -9 if how is signal.SIGKILL else 130)
    assert not (folder / "summary.json").exists()
    end(start(*common, "--out", str(folder), "--resume"))
    one, two = (load_file(path / "weights.safetensors") for path in (tmp_path / "whole", folder))
    assert all(bool((one[key] == two[key]).all()) for key in one)


@pytest.mark.slow
def test_two_processes_share_each_batch(toy_file: Path, toy_data, tmp_path: Path) -> None:
    for devices in ("1", "2"):
        out = ("--out", str(tmp_path / devices), "--devices", devices, "--device", "cpu")
        end(start(str(toy_file), "--data", toy_data[0], *out))
    one, two = (load_file(tmp_path / devices / "weights.safetensors") for devices in ("1", "2"))
    for key in one:
        scale = one[key].abs().max()
        assert (one[key] - two[key]).abs().max() < 1e-3 * scale + 1e-5, key
