"""Studies by name, with their parameters as text: what the command line and registries of figures are written in."""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from seelike.errors import SeelikeError, close_matches
from seelike.studies.base import Study


def make_studies(names: Iterable[str], settings: Sequence[str], known: Mapping[str, type[Study]]) -> list[Study]:
    """Make studies from their names and ``STUDY.PARAMETER=VALUE`` settings.

    Args:
        names: of studies, in the order of the results; a name given twice counts once.
        settings: values as in Python or bare words; the parts of a tuple are separated by commas
            (``probe.shots=10``, ``similarity.layers=blocks``, ``maps.query=3,4``).
        known: all studies by name.

    Raises:
        SeelikeError: an unknown study or parameter (with close matches), a value that does not fit, a setting for a
            study that is not asked for.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in known:
            raise SeelikeError(f"no study named {name!r}{close_matches(name, known)}; there are: {', '.join(known)}")
    given: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for setting in settings:
        study, parameter, value = _split(setting)
        if study not in given:
            raise SeelikeError(
                f"--set {setting}: the study {study!r} is not asked for{close_matches(study, given)}; there are: "
                f"{', '.join(given)} (--studies)"
            )
        given[study][parameter] = parse_parameter(known[study], parameter, value)
    return [known[name](**given[name]) for name in chosen]


def _split(setting: str) -> tuple[str, str, str]:
    key, equals, value = setting.partition("=")
    study, dot, parameter = key.strip().partition(".")
    if not (equals and dot and study and parameter):
        raise SeelikeError(f"--set {setting} is not STUDY.PARAMETER=VALUE; for example: --set similarity.pool=mean")
    return study, parameter, value.strip()


def parse_parameter(study: type[Study], parameter: str, text: str) -> Any:
    """Read one value as the field `parameter` of `study` has it. Raises `SeelikeError`."""
    fields = [field.name for field in dataclasses.fields(study)]  # type: ignore[arg-type]
    if parameter not in fields:
        has = f"it has: {', '.join(fields)}" if fields else "it has none"
        raise SeelikeError(
            f"the study {study.name} has no parameter {parameter!r}{close_matches(parameter, fields)}; {has}"
        )
    hint = typing.get_type_hints(study)[parameter]
    choices = _choices(hint)
    if str in choices and "," not in text:  # one word is a word, not a list of one
        choices = [choice for choice in choices if choice is str or not _is_list(choice)]
    for choice in choices:
        fits, value = _read(text, choice)
        if fits:
            return value
    words = " or ".join(_word(choice) for choice in _choices(hint))
    raise SeelikeError(f"--set {study.name}.{parameter}={text}: the value must be {words}")


def _choices(hint: Any) -> list[Any]:
    """The members of a union, text last, since everything is text."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    members = list(typing.get_args(hint)) if union else [hint]
    return sorted(members, key=lambda member: member is str)


def _read(text: str, kind: Any) -> tuple[bool, Any]:
    """Whether `text` can be read as `kind`, and its value."""
    if typing.get_origin(kind) is Literal:
        return next(((True, choice) for choice in typing.get_args(kind) if text == str(choice)), (False, None))
    if _is_list(kind):
        return _read_tuple(text, typing.get_args(kind))
    if kind is str:
        return True, text
    try:
        value = {"true": True, "false": False, "none": None}.get(text.lower()) if text.isalpha() else None
        value = ast.literal_eval(text) if value is None and text.lower() != "none" else value
    except (ValueError, SyntaxError):
        return False, None
    if kind is float and type(value) is int:
        return True, float(value)
    return type(value) is kind, value


def _is_list(kind: Any) -> bool:
    return kind in (tuple, list) or typing.get_origin(kind) in (tuple, list, Sequence)


def _read_tuple(text: str, kinds: tuple[Any, ...]) -> tuple[bool, Any]:
    parts = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
    each = [kinds[0]] * len(parts) if kinds[1:] in ((), (Ellipsis,)) and kinds else list(kinds) or [str] * len(parts)
    if len(each) != len(parts):
        return False, None
    read = [
        next(((fits, value) for kind in _choices(hint) for fits, value in [_read(part, kind)] if fits), (False, None))
        for part, hint in zip(parts, each, strict=True)
    ]
    return all(fits for fits, _ in read), tuple(value for _, value in read)


def _word(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(str(choice) for choice in typing.get_args(kind))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", types.NoneType: "none"}
    return words.get(kind, "a list with commas")
