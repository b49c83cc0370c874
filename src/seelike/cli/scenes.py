"""`seelike scenes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seelike.cli.terminal import out
from seelike.errors import SeelikeError
from seelike.images.scenes import Scenes, contact_sheet


def scenes(
    split: Annotated[str, typer.Argument(help="train, validation or test.")] = "test",
    size: Annotated[int, typer.Option(help="Side of an image in pixels.")] = 32,
    seed: Annotated[int, typer.Option(help="Another seed gives other images.")] = 0,
    textures: Annotated[str, typer.Option(help="A or B: two sets of textures.")] = "A",
    columns: Annotated[int, typer.Option(help="Images of each class.")] = 12,
    path: Annotated[Path, typer.Option("--out", help="The picture to write.")] = Path("scenes.png"),
) -> None:
    """Draw a contact sheet of the images that `scenes:SPLIT` generates: a row per class."""
    # Every ten images hold each class once.
    drawn = Scenes(split, max(1, 10 * columns), size, seed, textures)
    try:
        contact_sheet(drawn, columns).save(path)
    except (OSError, ValueError) as error:  # ValueError: a suffix that PIL cannot write
        raise SeelikeError(f"the sheet cannot be written to '{path}': {error}") from error
    out.print(f"sheet: {escape(str(path))}", soft_wrap=True)
