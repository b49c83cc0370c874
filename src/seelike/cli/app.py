"""The command line, one file per command. Tables live here and progress bars in `terminal`, and nowhere below."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from seelike.cli import anatomy, compare, cut, models, paper, scenes, studies, train
from seelike.cli.terminal import err
from seelike.errors import SeelikeError

app = typer.Typer(
    help="Do two vision models see alike, and how does each of them see?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    *(compare.compare, paper.paper, studies.studies, anatomy.anatomy, models.models),
    *(cut.cut, train.train, scenes.scenes),
)
for command in COMMANDS:
    app.command()(command)


def run() -> None:
    """Run the command that the arguments name; bad input ends in one sentence and exit status 2."""
    try:
        app()
    except SeelikeError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except SystemExit as ended:  # typer turns a KeyboardInterrupt into a silent exit
        if ended.__context__ is not None and isinstance(ended.__context__.__cause__, KeyboardInterrupt):
            err.print("stopped")
        raise
