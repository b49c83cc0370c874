"""The command line as a user meets it: what it prints, where it writes, how it fails."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import seelike
from seelike.cli import main
from seelike.cli.app import app

SMALL = "timm:test_vit@random"
NET = "timm:test_resnet@random"
IMAGES = "scenes:test?n=40,size=160"


def run(*arguments: str, status: int = 0, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run `seelike ...` in this process; return what it printed on both streams."""
    monkeypatch.setattr(sys, "argv", ["seelike", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert (ended.value.code or 0) == status, captured.err
    return captured.out + captured.err


@pytest.fixture
def seelike_command(monkeypatch, capsys):
    return lambda *arguments, status=0: run(*arguments, status=status, monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize(
    "command", [(), ("compare",), ("models",), ("studies",), ("anatomy",), ("train",), ("scenes",), ("cut",)]
)
def test_help(command) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_compare_writes_a_run_that_can_be_opened(seelike_command, tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = seelike_command("compare", SMALL, NET, "--images", IMAGES, "--minibatch", "8", "--out", str(out))
    assert "memory plan: forward batch" in printed
    assert "is more uniform than" in printed
    assert f"page: {out / 'report.html'}" in printed
    names = {p.name for p in out.iterdir()}
    assert names == {"results.nc", "report.html", "figures", "findings.json", "run.json"}
    tree = seelike.open_results(out)
    cross = tree["similarity/test_vit-random/test_resnet-random"]
    assert cross["cka"].dims == ("layer", "other_layer")
    assert set(cross.coords) >= {"layer", "module", "block", "kind", "relative_depth", "other_layer", "other_module"}
    assert cross.attrs["images"] == 40
    assert cross.attrs["seed"] == 0
    record = json.loads((out / "run.json").read_text())
    assert record["command"].startswith("seelike compare timm:test_vit@random")
    assert record["options"]["minibatch"] == 8
    assert record["models"]["test_vit-random"]["spec"] == SMALL
    findings = json.loads((out / "findings.json").read_text())
    assert {f["verdict"] for f in findings} <= {None, "holds", "does not hold", "cannot tell"}
    stems = {p.stem for p in (out / "figures").iterdir()}
    assert {"similarity", "best-match-test_vit-random-test_resnet-random"} <= stems


def test_without_models_it_demonstrates_and_says_so(seelike_command, tmp_path: Path) -> None:
    printed = seelike_command("compare", "--limit", "16", "--minibatch", "8", "--out", str(tmp_path / "demo"))
    assert "compares zoo:vit-cls with zoo:resnet" in " ".join(printed.split())
    assert (tmp_path / "demo" / "report.html").exists()


def test_anatomy_prints_sites_and_what_it_did_not_find(seelike_command) -> None:
    printed = seelike_command("anatomy", NET)
    assert "0 attentions" in printed
    assert "residual sum" in printed
    line = next(line for line in printed.splitlines() if "layer1.0.bn1" in line or "stages.0" in line)
    assert " x " in line
    printed = seelike_command("anatomy", SMALL, "--layers", "blocks")
    assert "recomputed (fused)" in printed
    assert printed.count("blocks.") >= 2


def test_models_and_studies_are_listed(seelike_command) -> None:
    assert "timm:vit_small_patch16_224" in seelike_command("models", "timm:vit_small*")
    assert "similarity" in seelike_command("studies")
    assert "no model matches" in seelike_command("models", "no_such_thing_at_all", status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "timm:resnt18@random", "--images", IMAGES], "resnet18"),
        (["compare", NET, "--images", "folder:/no/such/place"], "/no/such/place"),
        (["compare", NET], "which images?"),
        (["compare", "--images", IMAGES], "no models"),
        (["compare", NET, "--images", IMAGES, "--studies", "similarty"], "did you mean similarity"),
        (["compare", NET, "--images", IMAGES, "--layers", "layer9.*"], "layer9.*"),
        (["compare", NET, "--images", IMAGES, "--minibatch", "2"], "at least 4, not 2"),
        (["compare", NET, "--images", IMAGES, "--pool", "cls"], "--pool cls"),
        (["compare", NET, "--images", IMAGES, "--device", "gpu0"], "--device gpu0"),
        (["anatomy", "zebra:resnet18"], "zebra"),
        (["cut", "zoo:vit-cls", "--block", "12"], "12"),
        (["cut", SMALL, "--block", "0"], "on which images?"),
        (["compare", NET, "--images", IMAGES, "--on-bad-image", "hide"], "hide"),
    ],
)
def test_bad_input_is_one_clear_error(seelike_command, tmp_path, monkeypatch, arguments, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    printed = seelike_command(*arguments, status=2)
    assert message in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.glob("runs/*/results.nc"))


def test_out_that_cannot_be_used(seelike_command, tmp_path: Path) -> None:
    arguments = ("compare", NET, "--images", IMAGES, "--limit", "8", "--minibatch", "4", "--out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "is not empty (thesis.txt)" in seelike_command(*arguments, str(tmp_path / "full"), status=2)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    (tmp_path / "file").write_text("")
    assert "cannot be written to" in seelike_command(*arguments, str(tmp_path / "file"), status=2)
    seelike_command(*arguments, str(tmp_path / "run"))
    assert "replace it with --overwrite" in seelike_command(*arguments, str(tmp_path / "run"), status=2)
    seelike_command(*arguments, str(tmp_path / "run"), "--overwrite")


COMMAND = [sys.executable, "-m", "seelike.cli", "compare", SMALL, NET, "--images", IMAGES, "--minibatch", "8"]


def interrupt(command: list[str], wait: float) -> tuple[int, str]:
    """Start a command, press Ctrl-C some time after its memory plan; return its status and what it said since."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "memory plan" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        return process.wait(), process.stderr.read()


def test_ctrl_c_leaves_a_state_that_resumes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [a.replace("n=40", "n=20000") for a in [*COMMAND, "--out", str(out)]]
    done = []
    for options, wait in (([], 1.0), (["--resume"], 0.0)):
        status, said = interrupt([*command, *options], wait)
        assert status == 130
        assert "go on with the same command and --resume" in said
        assert "Traceback" not in said
        assert [p.name for p in out.iterdir()] == ["state"]
        done.append(int(said.split("stopped after ")[1].split(" of")[0]))
    assert done[1] > done[0] >= 1


def test_cutting_a_skip_costs_accuracy(seelike_command) -> None:
    printed = seelike_command("cut", "zoo:vit-cls", "--block", "6", "--images", "scenes:test?n=100")
    values = [float(line.split("accuracy ")[1].split(" %")[0]) for line in printed.splitlines() if "accuracy" in line]
    assert len(values) == 2
    assert values[0] > values[1] + 20
    assert "vit-cls-cut6" in printed


def test_all_studies_in_one_pass(seelike_command, tmp_path: Path) -> None:
    names = "similarity,attention,attention-similarity,field,skip"
    arguments = ["--images", "scenes:test?n=16", "--studies", names, "--layers", "blocks", "--minibatch", "8"]
    out = tmp_path / "run"
    seelike_command("compare", "timm:seelike_vit_lab?depth=2,embed_dim=16@random", *arguments, "--out", str(out))
    assert set(seelike.open_results(out).children) == set(names.split(","))


def test_a_disk_that_fills_loses_nothing(tmp_path: Path) -> None:
    """No file may grow past 120 kB: the state fits, the results do not. Then there is room again."""
    out = tmp_path / "run"

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, resource.RLIM_INFINITY))

    command = [*COMMAND, "--layers", "blocks", "--out", str(out)]
    full = subprocess.run(command, preexec_fn=small_files, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert full.returncode == 2, full.stderr
    assert "could not be written" in full.stderr
    assert "--resume" in full.stderr
    assert not [p for p in out.rglob("*") if "partial" in p.name]
    assert (out / "state" / "pass.safetensors").exists()
    room = subprocess.run([*command, "--resume"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert room.returncode == 0, room.stderr
    assert seelike.open_results(out)["similarity/test_vit-random/test_resnet-random"].attrs["images"] == 40
    assert not (out / "state").exists()


def test_ctrl_c_says_that_it_stopped(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("def build():\n    raise KeyboardInterrupt\n")
    monkeypatch.setattr(sys, "argv", ["seelike", "anatomy", f"py:{tmp_path / 'slow.py'}:build"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_ctrl_c_while_torch_is_imported_says_that_it_stopped() -> None:
    code = "import builtins, sys\nreal = builtins.__import__\ndef stop(name, *a, **k):\n"
    code += "    if name == 'seelike.cli.app': raise KeyboardInterrupt\n    return real(name, *a, **k)\n"
    code += "builtins.__import__ = stop\nfrom seelike.cli import main\nmain()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_a_run_that_cannot_begin_leaves_nothing_and_loses_nothing(seelike_command, tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    wrong = ("compare", SMALL, "--images", "scenes:test?n=16,size=160", "--minibatch", "8", "--layers", "zzz")
    seelike_command(*wrong, "--out", str(new), status=2)
    assert not new.exists()
    right = (*wrong[:-1], "blocks")
    seelike_command(*right, "--out", str(old))
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    seelike_command(*wrong, "--out", str(old), "--overwrite", status=2)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    seelike_command(*right[:-2], "--studies", "skip", "--out", str(old), "--overwrite")
    assert {path.stem.partition("-")[0] for path in (old / "figures").iterdir()} == {"skip"}
