"""The language in which models are named: ``KIND:NAME[?key=value&key=value][@WEIGHTS]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seelike.errors import SeelikeError

Value = int | float | bool | str | tuple[int, ...] | None

PYTHON_NAME = re.compile(r"(?P<name>.+?\.py:[A-Za-z_]\w*)(?P<rest>[?@].*)?", re.DOTALL)


@dataclass(frozen=True)
class ModelSpec:
    """One parsed spec.

    `arguments` go to the builder; `input_size` is (height, width) or (channels, height, width).
    """

    text: str
    kind: str
    name: str
    arguments: Mapping[str, Value]
    input_size: tuple[int, ...] | None
    weights: str | None

    @property
    def seed(self) -> int | None:
        """Seed of random weights: 0 for ``@random``, 7 for ``@random:7``, None for other weights."""
        if self.weights is None or not re.fullmatch(r"random(:.*)?", self.weights):
            return None
        _, _, seed = self.weights.partition(":")
        if self.weights == "random" or seed.isdecimal():
            return int(seed or 0)
        raise SeelikeError(f"{self.text}: the seed after @random: must be a whole number, not {seed!r}")

    @property
    def built(self) -> str:
        """The spec without its weights."""
        return self.text if self.weights is None else self.text[: -len(self.weights) - 1]

    @property
    def label(self) -> str:
        """A short name for tables: the last part of the name, and the weights where they are given."""
        if self.kind == "py":
            file, _, function = self.name.rpartition(":")
            short = f"{Path(file).stem}:{function}"
        else:
            short = Path(self.name).name or self.name
        if self.weights is None:
            return short
        return f"{short}@{self.weights if self.seed is not None else Path(self.weights).name}"

    def size(self, default: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return (channels, height, width): `default` with what ``?input_size=`` says put in its place."""
        if self.input_size is None:
            return default
        *channels, height, width = self.input_size
        return (channels[0] if channels else default[0], height, width)


def parse_spec(text: str) -> ModelSpec:
    """Parse `text`. Raises `SeelikeError` that shows the grammar when it does not follow it.

    Files may hold ``@``, ``?`` and ``:``: of an `hf:` directory the longest prefix that exists is taken as
    the name, a `py:` name ends with the function after ``.py:``, and everything after the ``@`` is the
    weights.
    """
    kind, _, rest = text.strip().partition(":")
    if kind == "py":
        match = PYTHON_NAME.fullmatch(rest)
        name, rest = (match["name"], match["rest"] or "") if match else _cut(rest, 0)
    else:
        name, rest = _cut(rest, _existing_prefix(rest) if kind == "hf" else 0)
    query, at, weights = rest.partition("@")
    if not name or (at and not weights):
        missing = "no name after the colon" if not name else "nothing after the @"
        raise SeelikeError(f"model {text!r}: {missing}; write KIND:NAME[?key=value&key=value][@WEIGHTS]")
    arguments = _parse_query(query.removeprefix("?"), text) if query else {}
    size = _input_size(arguments.pop("input_size"), text) if "input_size" in arguments else None
    if weights.startswith("random?"):
        raise SeelikeError(f"model {text!r}: write the ?key=value before the @, as in NAME?{weights[7:]}@random")
    return ModelSpec(text.strip(), kind, name, arguments, size, weights or None)


def _cut(rest: str, start: int) -> tuple[str, str]:
    """Split before the first ``?`` or ``@`` from `start` on."""
    match = re.search(r"[?@]", rest[start:])
    end = start + match.start() if match else len(rest)
    return rest[:end], rest[end:]


def _existing_prefix(rest: str) -> int:
    """Length of the longest prefix that is a directory and ends before ``?``, ``@`` or the end, or 0."""
    ends = [len(rest)] + [m.start() for m in reversed(list(re.finditer(r"[?@]", rest)))]
    return next((end for end in ends if end and Path(rest[:end]).expanduser().is_dir()), 0)


def _parse_query(query: str, text: str) -> dict[str, Value]:
    arguments: dict[str, Value] = {}
    for part in re.split(r"[&,]", query):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise SeelikeError(f"model {text!r}: {part!r} is not key=value; write ?key=value&key=value")
        if key in arguments:
            raise SeelikeError(f"model {text!r}: {key} is given twice")
        arguments[key] = _parse_value(value)
    return arguments


def _parse_value(text: str) -> Value:
    """Read an int, a float, true or false, none, a size such as 32x48, or else a string."""
    words: dict[str, Value] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if re.fullmatch(r"\d+(x\d+)+", text):
        return tuple(map(int, text.split("x")))
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _input_size(value: Value, text: str) -> tuple[int, ...]:
    """Read 32 as (32, 32), 32x48 as (height, width), 1x28x28 as (channels, height, width)."""
    size = (value, value) if type(value) is int else value
    if not isinstance(size, tuple) or len(size) not in (2, 3) or min(size) < 1:
        raise SeelikeError(
            f"model {text!r}: input_size must be a side, HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH, "
            f"such as 224, 224x160 or 1x28x28, not {value!r}"
        )
    return size
