"""A hub that cannot be reached: one sentence with the ways out, soon, and the cache still serves."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from seelike.errors import SeelikeError
from seelike.models import hub, load_model

NOBODY = "http://127.0.0.1:9"  # the discard port: connections are refused


@pytest.fixture
def no_network(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Empty caches, online mode, and servers that refuse. Returns the hub's cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(hub, "PAUSE_SECONDS", 0.0)

    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("connection refused")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return hub_cache


@pytest.mark.parametrize(
    ("spec", "ways_out"),
    [
        ("timm:resnet18", ["timm:resnet18@random", "timm:resnet18@FILE", "HF_HOME"]),
        ("torchvision:resnet18", ["torchvision:resnet18@random", "torchvision:resnet18@FILE", "TORCH_HOME"]),
        ("hf:org/some-vit", ["hf:DIR", "HF_HOME"]),
    ],
)
def test_one_sentence_with_the_ways_out(no_network: Path, spec: str, ways_out: list[str]) -> None:
    if spec.startswith("hf:"):
        pytest.importorskip("transformers")
    with pytest.raises(SeelikeError) as caught:
        load_model(spec)
    message = str(caught.value)
    assert message.startswith(f"{spec} is not in the local cache and ")
    assert "cannot be reached (" in message
    assert "refused" in message
    assert "\n" not in message
    assert all(way in message for way in ways_out)
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("spec", ["timm:resnet18", "hf:org/some-vit"])
def test_offline_mode_is_named(hub_cache: Path, spec: str) -> None:
    with pytest.raises(SeelikeError, match=r"cannot be reached \(offline mode is set by HF_HUB_OFFLINE\)"):
        load_model(spec)


def test_the_cache_serves_without_a_network(
    no_network: Path, tmp_path: Path, put_in_cache: Callable[[str, Path], None]
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    source = timm.create_model("test_vit")
    save_file(source.state_dict(), files / "model.safetensors")
    put_in_cache("timm/test_vit.r160_in1k", files)
    model = load_model("timm:test_vit")
    x = model.example()
    assert torch.equal(model.module(x), source.eval()(x))


def test_a_server_that_answered_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(hub, "_alive", set())
    assert hub._silence("https://hub.test", asked.append) is None
    assert hub._silence("https://hub.test", asked.append) is None
    assert asked == ["https://hub.test"]


def test_one_failure_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_alive", set())
    monkeypatch.setattr(hub, "PAUSE_SECONDS", 0.0)
    failures = [ConnectionError("once")]

    def ask(_: str) -> None:
        if failures:
            raise failures.pop()

    assert hub._silence("https://hub.test", ask) is None


def test_an_answer_of_any_kind_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: Any, **__: Any) -> None:
        raise urllib.error.HTTPError("https://hub.test", 403, "Forbidden", None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(urllib.request, "urlopen", forbid)
    monkeypatch.setattr(hub, "_alive", set())
    assert hub._silence("https://hub.test", hub._ask_url) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError("peer gone"), "cannot be reached (peer gone); do this"),
        (TimeoutError("timed out"), "cannot be reached (timed out); do this"),
        (ValueError("odd\nmore"), "thing cannot be loaded: ValueError: odd"),
        (OSError(28, "No space left on device"), "cannot be loaded: OSError: [Errno 28] No space left on device"),
    ],
)
def test_other_failures_are_told_as_what_they_are(error: Exception, words: str) -> None:
    with pytest.raises(SeelikeError) as caught, hub.loading("thing", "do this"):
        raise error
    assert words in str(caught.value)
    assert caught.value.__cause__ is error


def test_our_own_errors_pass() -> None:
    with pytest.raises(SeelikeError, match=r"^as it was$"), hub.loading("thing", "do this"):
        raise SeelikeError("as it was")


def test_memory_errors_pass() -> None:
    with pytest.raises(MemoryError), hub.loading("thing", "do this"):
        raise MemoryError
