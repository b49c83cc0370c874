"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

LayersOption = Annotated[
    list[str],
    typer.Option(
        "--layers", help="sublayers (what the paper captures), blocks, all, or globs over layer names; may be repeated."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
ModelArgument = Annotated[str, typer.Argument(help="A model, as for `seelike compare`.")]


def flat(texts: Sequence[str]) -> list[str]:
    """The words of options that may be repeated and hold several words with commas."""
    return [part for text in texts for part in text.split(",") if part]
