"""`seelike models`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import seelike
from seelike.cli.terminal import out
from seelike.errors import SeelikeError
from seelike.models import zoo


def models(
    pattern: Annotated[str, typer.Argument(help="A glob or part of a name; timm:vit* searches one library.")] = "*",
) -> None:
    """List models that can be loaded by name."""
    if pattern.startswith("zoo:"):
        _zoo(seelike.list_models(pattern))
        return
    found = seelike.list_models(pattern)
    if not found:
        raise SeelikeError(f"no model matches {pattern!r}; try a shorter part of the name")
    for spec in found:
        out.print(escape(spec), soft_wrap=True)


def _zoo(found: list[str]) -> None:
    """Print members of the zoo with what they can do and where they come from."""
    members = zoo.members()
    table = Table("model", "images", "test accuracy", "parameters", "recipe", "trained", box=None, pad_edge=False)
    for spec in found:
        member = members[spec.removeprefix("zoo:")]
        images = f"{member.data_set}, {member.training_images:,} ({100 * member.fraction:g} %)"
        accuracy = f"{100 * member.test_accuracy:.1f} % of {member.test_images:,}"
        recipe = f"{member.recipe} {member.recipe_sha256[:8]}"
        trained = (
            f"{member.steps:,} steps, {member.training_seconds / 60:.0f} min on {member.device} "
            f"({member.threads} threads), torch {member.versions['torch']}"
        )
        table.add_row(spec, images, accuracy, f"{member.parameters / 1e6:.2f} M", recipe, trained)
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)
