"""`seelike cut`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape

import seelike
from seelike import train as training
from seelike.cli.options import DeviceOption
from seelike.cli.terminal import out
from seelike.comparison import choose_device
from seelike.errors import SeelikeError
from seelike.models.cut import cut_model


class Sublayer(StrEnum):
    """Which skips of a block."""

    both = "both"
    attention = "attention"
    mlp = "mlp"


def cut(
    model: Annotated[str, typer.Argument(help="A trained model, as for `seelike compare`.")],
    block: Annotated[int, typer.Option(help="Which block, counted from 0; `seelike anatomy` lists them.")],
    sublayer: Annotated[Sublayer, typer.Option(help="Which of its skips.")] = Sublayer.both,
    images: Annotated[
        str | None, typer.Option(help="Images with labels.", show_default="the test images of a zoo model")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure what a trained model loses without the skips of one block (nothing is trained again)."""
    whole = seelike.load_model(model).to(choose_device(device))
    without = cut_model(whole, block, sublayer.value)
    source = seelike.load_images(images) if images is not None else None
    if source is not None and source.labels is None:
        raise SeelikeError(f"images {source.name} have no labels, and accuracy needs them")
    for each in (whole, without):
        accuracy = training.evaluate(each) if source is None else training.accuracy_on(each, source)
        out.print(f"{escape(each.name)}: accuracy {accuracy}", soft_wrap=True)
