"""What a training run tells while it goes: to whoever watches, and to a CSV file."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Row:
    """One line of the log. `loss` is the mean since the line before; rates are per second and for all devices."""

    step: int
    epoch: float
    loss: float
    rate: float
    images_per_second: float
    validation_accuracy: float | None = None


class Progress(Protocol):
    """Who watches a training run; bars live in the command line."""

    def start(self, steps: int, done: int) -> None:
        """Training begins, `done` of `steps` steps being done already."""

    def step(self, done: int) -> None:
        """So many steps are done."""

    def row(self, row: Row) -> None:
        """A line of the log was written."""

    def tell(self, sentence: str) -> None:
        """Something has to be said."""


class Silent:
    """Nobody watches."""

    def start(self, steps: int, done: int) -> None:
        """Say nothing."""

    def step(self, done: int) -> None:
        """Say nothing."""

    def row(self, row: Row) -> None:
        """Say nothing."""

    def tell(self, sentence: str) -> None:
        """Say nothing."""


class Log:
    """``log.csv`` of a run. Going on from a step forgets the lines after it, which will be written again."""

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        names = [field.name for field in fields(Row)]
        kept = []
        if step and path.exists():
            kept = [row for row in csv.DictReader(io.StringIO(path.read_text())) if int(row["step"]) <= step]
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def write(self, row: Row) -> None:
        """Append one line."""
        with self.path.open("a", newline="") as stream:
            values = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            csv.DictWriter(stream, list(values)).writerow(values)
