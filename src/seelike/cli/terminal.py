"""The terminal: where to print, and the bars of passes and training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from seelike.train import Row

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Rate(ProgressColumn):
    """Images or steps per second."""

    def render(self, task: Task) -> Text:
        """Word the speed."""
        return Text(f"{task.speed:.1f} {task.description.partition(',')[0]}/s" if task.speed else "")


class PassBar:
    """Draws a bar on a terminal; elsewhere only says what must be said."""

    unit = "images"

    def __init__(self, bar: Bar | None) -> None:
        self.bar = bar
        self.task: Any = None

    def start(self, total: int, done: int) -> None:
        """Show the bar, `done` of `total` being done."""
        if self.bar is not None:
            self.task = self.bar.add_task(self.unit, total=total, completed=done)

    def advance(self, images: int) -> None:
        """So many more are done."""
        if self.bar is not None:
            self.bar.advance(self.task, images)

    def tell(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        (self.bar.console if self.bar is not None else err).print(escape(sentence), soft_wrap=True)


P = TypeVar("P", bound=PassBar)


class TrainingBar(PassBar):
    """The bar of `train`, in steps, with what the log says last."""

    unit = "steps"

    def step(self, done: int) -> None:
        """So many steps are done."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done)

    def row(self, row: Row) -> None:
        """Show the loss and, when it was measured, the accuracy."""
        if self.bar is not None:
            last = "" if row.validation_accuracy is None else f", {100 * row.validation_accuracy:.1f} % right"
            known = self.bar.tasks[self.task].description.partition(", ")[2].partition(", ")[2]
            self.bar.update(self.task, description=f"steps, loss {row.loss:.3f}{last or (known and ', ' + known)}")


@contextmanager
def show_bar(kind: type[P]) -> Iterator[P]:
    """Show a bar of this kind, on a terminal only."""
    if not err.is_terminal:
        yield kind(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Bar(*columns, console=err) as bar:
        yield kind(bar)
