"""``py:FILE.py:function``: a model that a function in a Python file builds."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from seelike.errors import SeelikeError, close_matches
from seelike.models.hub import first_line
from seelike.models.model import Model
from seelike.models.provenance import provenance
from seelike.models.seeding import seeded
from seelike.models.spec import ModelSpec
from seelike.models.weights import fit_checkpoint


def load(spec: ModelSpec) -> Model:
    """Call the function with the spec's arguments; it returns an `nn.Module` or a `Model`.

    Random numbers that it draws depend on the seed alone (``@random:SEED``, else 0).
    """
    file, colon, function = spec.name.rpartition(":")
    path = Path(file if colon else function).expanduser()
    if not path.is_file():
        raise SeelikeError(f"{spec.text}: there is no file {path}; write py:FILE.py:function")
    if not colon or not path.suffix:
        raise SeelikeError(f"{spec.text}: name a function of {path}: py:{path}:FUNCTION{_functions(path)}")
    seed = spec.seed
    with seeded(seed or 0):
        built = call(path, function, dict(spec.arguments))
    module = built.module if isinstance(built, Model) else built
    weights: str | dict[str, str] = f"as {function} built them, seed {seed or 0}"
    if spec.weights is not None and seed is None:
        weights = fit_checkpoint(module, spec.weights, model=spec.built)
    kept = provenance(spec, weights, "torch") | {"file_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if not isinstance(built, Model):
        return Model(module, spec.size((3, 224, 224)), spec.label, spec=spec.text, provenance=kept)
    if spec.input_size is not None and spec.size(built.input_size) != built.input_size:
        raise SeelikeError(
            f"{spec.text}: {function} returned a Model with input_size {built.input_size} and its own "
            "preprocessing; set the size there, or return a plain nn.Module"
        )
    built.spec, built.provenance = spec.text, built.provenance | kept
    return built


def call(path: Path, function: str, arguments: dict[str, Any]) -> nn.Module | Model:
    """Load the file as a module of its own and call one of its functions.

    Raises `SeelikeError` that names file, function, line and the original error.
    """
    with imported(path) as module:
        builder = getattr(module, function, None)
        if builder is None:
            raise SeelikeError(f"{path} has no function {function!r}{_functions(path, function)}")
        if not callable(builder):
            raise SeelikeError(f"{function} in {path} is no function but a {type(builder).__name__}")
        try:
            inspect.signature(builder).bind(**arguments)
        except (TypeError, ValueError) as error:
            raise SeelikeError(f"{function} in {path} cannot be called so: {first_line(error)}") from error
        try:
            built = builder(**arguments)
        except SeelikeError:
            raise
        except Exception as error:
            raise SeelikeError(f"{function} in {path} failed{_where(error, path)}") from error
    if not isinstance(built, nn.Module | Model):
        raise SeelikeError(
            f"{function} in {path} must return a torch.nn.Module or a seelike.Model, not {type(built).__name__}"
        )
    return built


@contextmanager
def imported(path: Path) -> Iterator[ModuleType]:
    """Run a file as a module under a name that clashes with none; its folder can be imported from meanwhile.

    Modules that the file imports out of its own folder are forgotten afterwards, so that the `model.py`
    beside one file is not taken for the `model.py` beside another.
    """
    path = path.resolve()
    name = f"_seelike_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise SeelikeError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(found)
    before = set(sys.modules)
    sys.modules[name] = module  # dataclasses look their own module up
    sys.path.insert(0, str(path.parent))
    try:
        try:
            found.loader.exec_module(module)
        except Exception as error:
            raise SeelikeError(f"{path} cannot be loaded{_where(error, path)}") from error
        yield module
    finally:
        sys.path.remove(str(path.parent))
        for new in set(sys.modules) - before - {name}:
            source = getattr(sys.modules[new], "__file__", None)
            if source and _beside(Path(source), path.parent):
                del sys.modules[new]


def _beside(source: Path, folder: Path) -> bool:
    """Whether a module lies in `folder` itself rather than in an environment of packages under it."""
    try:
        return "site-packages" not in source.resolve().relative_to(folder).parts
    except ValueError:
        return False


def _where(error: Exception, path: Path) -> str:
    """Word an exception out of the user's file, with the last line of that file that it passed."""
    line, trace = (
        getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None,
        error.__traceback__,
    )
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path.resolve()):
            line = trace.tb_lineno
        trace = trace.tb_next
    at = f" in line {line}" if line is not None else ""
    return f"{at}: {type(error).__name__}: {first_line(error)}"


def _functions(path: Path, wanted: str = "") -> str:
    """Word the functions that a file defines, close matches first, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ""
    defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
    if not defined:
        return " (it defines none)"
    return (close_matches(wanted, defined) if wanted else "") or f" (it has: {', '.join(defined)})"
