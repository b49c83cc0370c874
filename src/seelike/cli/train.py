"""`seelike train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import seelike
from seelike import train as training
from seelike.cli.options import DeviceOption
from seelike.cli.terminal import TrainingBar, err, out, show_bar
from seelike.comparison import choose_device
from seelike.interrupts import Interrupted


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe, or a YAML file; without one, the recipes are listed.")
    ] = None,
    changes: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/train/RECIPE")
    ] = None,
    data: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=SPEC",
            help="Where a data set lies, as in cifar10=parquet:DIR/{split}.parquet; may be repeated.",
        ),
    ] = [],  # noqa: B006
    device: DeviceOption = "auto",
    devices: Annotated[int, typer.Option(help="How many devices share each batch.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in --out.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    evaluated: Annotated[
        str | None,
        typer.Option("--evaluate", metavar="MODEL", help="Train nothing: measure the test accuracy of a model."),
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="With --evaluate: the data set.", show_default="what a zoo model was trained on")
    ] = None,
) -> None:
    """Train a small model by its recipe, or measure the accuracy of one."""
    if evaluated is not None:
        loaded = seelike.load_model(evaluated).to(choose_device(device))
        out.print(f"{escape(evaluated)}: test accuracy {training.evaluate(loaded, on, data)}", soft_wrap=True)
        return
    if recipe is None or listing:
        table = Table("recipe", "what to expect", box=None, pad_edge=False)
        for shipped in training.list_recipes():
            table.add_row(escape(shipped.name), escape(shipped.expects))
        out.print(table)
        return
    folder = out_dir or Path("runs/train") / Path(recipe).stem
    chosen = training.load_recipe(recipe, changes)
    name = " ".join([Path(recipe).stem, *changes])
    try:
        with show_bar(TrainingBar) as progress:
            summary = training.train(
                chosen, folder, name=name, data=data, device=device, devices=devices, resume=resume, progress=progress
            )
    except Interrupted as stopped:  # here, because typer swallows every KeyboardInterrupt on its way up
        err.print(f"{escape(str(stopped))}; go on with the same command and --resume", soft_wrap=True)
        raise typer.Exit(130) from None
    if summary.get("test_accuracy") is not None:  # only the first of several processes measures
        accuracy = training.Accuracy(summary["test_accuracy"], summary["test_images"])
        out.print(f"test accuracy {accuracy}, {summary['training_seconds']:.0f} s of training")
        out.print(f"weights: {escape(str(folder / 'weights.safetensors'))}", soft_wrap=True)
