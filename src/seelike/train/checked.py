"""From nested mappings to dataclasses, with every mistake said in a sentence."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from seelike.errors import SeelikeError, close_matches

T = TypeVar("T")

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def build(kind: type[T], given: Any, where: str, path: str = "") -> T:
    """Make a dataclass of type `kind` from a mapping; `where` is the file, `path` the section, for messages.

    Raises `SeelikeError` for unknown keys (with close matches), missing keys and values of the wrong type.
    """
    if not isinstance(given, Mapping):
        raise SeelikeError(f"{where}: {path or 'a recipe'} must be a mapping of keys to values, not {given!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in given.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in fields:
            raise SeelikeError(
                f"{where}: unknown key {name}{close_matches(str(key), fields)}; "
                f"{path or 'a recipe'} has: {', '.join(fields)}"
            )
        values[key] = convert(value, hints[key], where, name)
    absent = (dataclasses.MISSING, dataclasses.MISSING)
    missing = [n for n, f in fields.items() if n not in values and (f.default, f.default_factory) == absent]
    if missing:
        names = ", ".join(f"{path}.{name}" if path else name for name in missing)
        raise SeelikeError(f"{where}: {names} must be given")
    try:
        return kind(**values)
    except SeelikeError as error:
        raise SeelikeError(f"{where}: {error}") from error


def convert(value: Any, hint: Any, where: str, name: str) -> Any:
    """Return `value` as `hint` asks for; whole numbers will do for floats, and nothing else for something else."""
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where, name)
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for choice in choices:
        if typing.get_origin(choice) is Mapping or choice is Mapping:
            if isinstance(value, Mapping):
                return dict(value)
        elif choice is float and type(value) in (int, float):
            return float(value)
        elif type(value) is choice:
            return value
    wanted = " or ".join(WORDS.get(choice, "a mapping") for choice in choices)
    raise SeelikeError(f"{where}: {name} must be {wanted}, not {value!r}{_hint(value, choices)}")


def _hint(value: Any, choices: tuple[Any, ...]) -> str:
    """YAML reads 1e-3 as text, which everybody who writes learning rates meets once."""
    if float in choices and isinstance(value, str):
        try:
            return f"; YAML reads that as text, write {float(value)!r}"
        except ValueError:
            pass
    return ""
