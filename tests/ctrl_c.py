"""A watcher of a pass that interrupts it."""

from __future__ import annotations

import os
import signal


class StopAfter:
    """Presses Ctrl-C once so many images are done, and remembers what it was told."""

    def __init__(self, images: int) -> None:
        self.left, self.done = images, 0
        self.told: list[str] = []

    def start(self, images: int, done: int) -> None:
        del images
        self.done = done

    def advance(self, images: int) -> None:
        self.left -= images
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGINT)

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)
