"""`seelike paper`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from seelike import train as training
from seelike.cli.options import DeviceOption
from seelike.cli.terminal import PassBar, TrainingBar, err, out, show_bar
from seelike.cli.verdicts import VERDICT_COLOURS
from seelike.interrupts import Interrupted
from seelike.paper import ALSO, FIGURES, SCALES, Paper, make_paper, missing_recipes
from seelike.paper.cast import TRAINED


def paper(
    figures: Annotated[
        list[str] | None,
        typer.Argument(help="Figures, as in fig2 figC3; `--list` lists them.", show_default="all of the scale"),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="; ".join(f"{each.name}: {each.about}" for each in SCALES.values()) + ".")
    ] = "lab",
    images: Annotated[
        str | None, typer.Option(help="Images, as for `seelike compare`.", show_default="those of the scale")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Most images of a run.", show_default="by scale")] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Random in place of published weights, to try it without a network.")
    ] = False,
    train: Annotated[bool, typer.Option("--train", help=f"First train what is missing, into {TRAINED}.")] = False,
    data: Annotated[
        list[str], typer.Option(metavar="NAME=SPEC", help="With --train: where a data set lies; may be repeated.")
    ] = [],  # noqa: B006
    device: DeviceOption = "auto",
    batch: Annotated[int | None, typer.Option(help="Images per forward pass.", show_default="from memory")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page.", show_default="runs/paper-SCALE")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the figures.")] = False,
) -> None:
    """Make figures of the paper with their claims; without arguments all of them, on one page.

    Given again it goes on: passes that are finished in --out are not run again.
    """
    if listing:
        _list()
        return
    chosen = Paper(scale, images, limit, random, device, batch)
    try:
        if train:
            _train(figures or [], chosen, data)
        with show_bar(PassBar) as progress:
            page = make_paper(figures or [], folder or Path(f"runs/paper-{scale}"), chosen, progress)
    except Interrupted as stopped:  # here, because typer swallows every KeyboardInterrupt on its way up
        err.print(f"{escape(str(stopped))}; the same `seelike paper` goes on by itself", soft_wrap=True)
        raise typer.Exit(130) from None
    _report(page)


def _list() -> None:
    others = {entry: ", ".join(other for other in ALSO if ALSO[other] == entry) for entry in FIGURES}
    table = Table("figure", "shows", "also", box=None, pad_edge=False)
    for name, figure in FIGURES.items():
        table.add_row(name, figure.title, others[name])
    out.print(table)


def _train(figures: list[str], chosen: Paper, data: list[str]) -> None:
    for each in missing_recipes(figures, chosen):
        err.print(f"training {each.recipe}: {escape(each.expects)}", soft_wrap=True)
        with show_bar(TrainingBar) as progress:
            recipe = training.load_recipe(each.recipe)
            training.train(
                recipe,
                chosen.trained / each.recipe,
                name=each.recipe,
                data=data,
                device=chosen.device,
                resume=True,
                progress=progress,
            )


def _report(page: Path) -> None:
    """Print the claims."""
    table = Table("figure", "claim", "value", "verdict", box=None, pad_edge=False)
    for each in json.loads((page.parent / "findings.json").read_text(encoding="utf-8")):
        if each["verdict"]:
            colour = VERDICT_COLOURS[each["verdict"]]
            value = f"{each['value']:.3f} ± {each['error']:.3f}"
            table.add_row(each["figure"], escape(each["claim"]), value, f"[{colour}]{each['verdict']}[/]")
    out.print(table)
    out.print(f"page: {escape(str(page))}", soft_wrap=True)
