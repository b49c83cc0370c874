"""Recipes: YAML files, the shipped ones beside this file.

A recipe's first comment says what to expect of it. ``base: NAME`` makes it another recipe with some keys changed.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seelike.errors import SeelikeError, close_matches
from seelike.train.checked import build
from seelike.train.recipe import Recipe

SHIPPED = Path(__file__).parent


@dataclass(frozen=True)
class Shipped:
    """A recipe that comes with seelike: its name, and what its first comment says to expect."""

    name: str
    expects: str


def list_recipes() -> list[Shipped]:
    """List the shipped recipes in alphabetical order."""
    return [Shipped(path.stem, _comment(path)) for path in sorted(SHIPPED.glob("*.yaml"))]


def load_recipe(name: str | Path, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe: a path to a YAML file, or the name of a shipped one.

    `changes` are ``key=value`` pairs laid over it; keys have dots (``optimisation.steps=100``), which may be left
    out where the last part is unmistakable (``steps=100``). Values are written as in YAML.

    Raises `SeelikeError` for files that are missing or no YAML, unknown keys (with close matches) and bad values.
    """
    tree = _read(recipe_path(name))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise SeelikeError(f"{change!r} is not key=value; write --set optimisation.steps=100")
        _put(tree, _full_key(key.strip()), _parse(value, change))
    return build(Recipe, tree, f"recipe {name}")


def recipe_path(name: str | Path, beside: Path | None = None) -> Path:
    """Find the file of a recipe, among the shipped ones or (for a base) beside the file that names it."""
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml"):
        path = path if beside is None or path.is_absolute() else beside / path
        if not path.is_file():
            raise SeelikeError(f"there is no recipe file {path}")
        return path
    shipped = SHIPPED / f"{name}.yaml"
    if not shipped.is_file():
        near = close_matches(str(name), [recipe.name for recipe in list_recipes()])
        raise SeelikeError(
            f"there is no recipe {str(name)!r}{near}; give one of `seelike train --list`, or a .yaml file"
        )
    return shipped


def _read(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file as nested dicts, its base underneath."""
    if path.resolve() in below:
        raise SeelikeError(f"recipe {path} is its own base, by way of {', '.join(p.name for p in below)}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SeelikeError(f"recipe {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise SeelikeError(f"recipe {path} must be a mapping of keys to values")
    base = tree.pop("base", None)
    if base is None:
        return tree
    return _merged(_read(recipe_path(str(base), path.parent), (*below, path.resolve())), tree)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _full_key(key: str) -> list[str]:
    """Complete a key that is given without its section."""
    if "." in key or key in {field.name for field in dataclasses.fields(Recipe)}:
        return key.split(".")
    sections = {n: h for n, h in typing.get_type_hints(Recipe).items() if dataclasses.is_dataclass(h)}
    keys = [(section, field.name) for section, hint in sections.items() for field in dataclasses.fields(hint)]
    found = [section for section, name in keys if name == key]
    if len(found) > 1:
        raise SeelikeError(
            f"--set {key} could mean {' or '.join(f'{section}.{key}' for section in found)}; write it out"
        )
    if not found:
        known = [*(f"{section}.{name}" for section, name in keys), "precision", "seed", "keep"]
        near = close_matches(key, known) or close_matches(key, [name for _, name in keys])
        raise SeelikeError(f"--set: a recipe has no key {key}{near}")
    return [found[0], key]


def _put(tree: dict[str, Any], key: list[str], value: Any) -> None:
    for part in key[:-1]:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SeelikeError(f"--set {'.'.join(key)}: {part} is no section of a recipe")
        tree = inner
    tree[key[-1]] = value


def _parse(text: str, change: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SeelikeError(f"--set {change}: {text!r} is not a YAML value") from error
    if isinstance(value, str):  # YAML wants 1.0e-3 where people write 1e-3
        try:
            return float(value)
        except ValueError:
            pass
    return value


def _comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    said = []
    for line in lines:
        if not line.startswith("#"):
            break
        said.append(line.lstrip("# ").strip())
    return " ".join(said)
