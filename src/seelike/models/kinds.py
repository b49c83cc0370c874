"""The table of kinds of models: a new kind is one file and one line here."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from seelike.errors import SeelikeError, close_matches
from seelike.models import hf, python_file, timm, torchvision, trained_run, zoo
from seelike.models.model import Model
from seelike.models.spec import ModelSpec, parse_spec


@dataclass(frozen=True)
class Kind:
    """How one kind of model is loaded, and which names it knows beforehand."""

    load: Callable[[ModelSpec], Model]
    names: Callable[[], Iterable[str]] | None = None


KINDS: dict[str, Kind] = {
    "timm": Kind(timm.load, timm.names),
    "torchvision": Kind(torchvision.load, torchvision.names),
    "hf": Kind(hf.load),
    "py": Kind(python_file.load),
    "zoo": Kind(zoo.load, zoo.names),
    "run": Kind(trained_run.load),
}


def load(text: str) -> Model:
    """Load the model that `text` names; see `seelike.models.load_model`."""
    kind, colon, _ = text.strip().partition(":")
    if not colon or kind not in KINDS:
        raise SeelikeError(_unknown_kind(text.strip()))
    return KINDS[kind].load(parse_spec(text))


def list_models(pattern: str = "*") -> list[str]:
    """List the specs of known models that match a glob (``timm:vit*``, ``*resnet*``) or hold a piece of text.

    A pattern with a kind before a colon keeps to that kind. Hubs and files are not searched. timm's names
    are those of architectures; with a dot in the pattern (``timm:resnet50.*``) those of pretrained weights.
    """
    kind, colon, rest = pattern.partition(":")
    kinds = [kind] if colon else list(KINDS)
    if colon and kind not in KINDS:
        raise SeelikeError(f"unknown kind of model {kind!r}{close_matches(kind, KINDS)}; kinds: {', '.join(KINDS)}")
    wanted = rest if colon else pattern
    glob = wanted if any(c in wanted for c in "*?[") else f"*{wanted}*"
    found = []
    for each in kinds:
        list_names = KINDS[each].names
        names = sorted(list_names()) if list_names is not None else []
        if each == "timm" and "." in glob:
            names = sorted(timm.pretrained_names())
        found += [f"{each}:{name}" for name in names if fnmatch.fnmatchcase(name, glob)]
    return found


def _unknown_kind(text: str) -> str:
    """Say what a spec without a known kind may have meant."""
    if not text:
        return "the model's name is empty; write KIND:NAME[?key=value&key=value][@WEIGHTS]"
    kind, colon, _ = text.partition(":")
    name, arguments = text, ""
    for mark in "?@":
        head, sign, tail = name.partition(mark)
        name, arguments = head, sign + tail + arguments
    meant = None
    if ".py:" in text or name.endswith(".py"):
        meant = f"py:{text}" if ".py:" in text else f"py:{name}:FUNCTION{arguments}"
    elif Path(name).expanduser().is_dir() or (name.count("/") == 1 and not colon):
        meant = f"hf:{text}"
    elif timm.knows(name):
        meant = f"timm:{text}"
    elif name in torchvision.names():
        meant = f"torchvision:{text}"
    if meant is not None:
        return f"model {text!r} has no kind before a colon; did you mean {meant}?"
    kinds = ", ".join(f"{each}:" for each in KINDS)
    if colon:
        return f"unknown kind of model {kind!r} in {text!r}{close_matches(kind, KINDS)}; kinds: {kinds}"
    near = close_matches(name, timm.names())
    return f"model {text!r} has no kind before a colon{near}; write one of {kinds} before the name"
