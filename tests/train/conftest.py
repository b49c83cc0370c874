"""A recipe that trains in a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seelike.train import Recipe, load_recipe

TOY = """\
# expected: nothing
model:
  architecture: seelike_vit_lab
  arguments: {embed_dim: 16, depth: 2, num_heads: 2}
  input_size: 16
images:
  name: toy
  held_out: 10
optimisation:
  steps: 12
  batch: 16
  rate: 0.003
  warmup: 3
augmentation:
  shift: 1
  colour: 0.1
precision: fp32
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads cost more than they help on tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def toy_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return path


@pytest.fixture
def toy(toy_file: Path) -> Callable[..., Recipe]:
    return lambda *changes: load_recipe(toy_file, changes)


@pytest.fixture(scope="session")
def toy_data() -> list[str]:
    """40 training images of 10 classes, 16 pixels wide."""
    return ["toy=scenes:{split}?n=40,size=16"]


class Recorder:
    """Keeps what a run tells; stops it in the middle when asked to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows: list[Any] = []
        self.said: list[str] = []
        self.stop_at = stop_at

    def start(self, steps: int, done: int) -> None:
        self.first = done

    def step(self, done: int) -> None:
        if done == self.stop_at:
            raise KeyboardInterrupt

    def row(self, row: Any) -> None:
        self.rows.append(row)

    def tell(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder
