"""`seelike studies`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from seelike.cli.terminal import out
from seelike.studies import STUDIES


def studies(
    parameters: Annotated[
        bool, typer.Option("--parameters", help="With the parameters of each, for `seelike compare --set`.")
    ] = False,
) -> None:
    """List the questions that can be asked."""
    table = Table("study", "question", box=None, pad_edge=False)
    for name, study in STUDIES.items():
        table.add_row(name, study.question)
        for field in dataclasses.fields(study) if parameters else ():  # type: ignore[arg-type]
            table.add_row("", escape(f"  {name}.{field.name} = {field.default!r}  ({field.type})"))
    out.print(table)
