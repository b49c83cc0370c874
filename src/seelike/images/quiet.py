"""Keep other libraries from talking while they work: progress bars live in the command line only."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Silence `datasets` and `huggingface_hub` (bars, logs, warnings) and set them back afterwards.

    What goes wrong still comes out, once, as the exception.
    """
    import datasets
    import huggingface_hub.utils

    hub: Any = huggingface_hub.utils

    logs = datasets.logging.get_verbosity(), hub.logging.get_verbosity()
    bars = not datasets.are_progress_bars_disabled(), not hub.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        hub.logging.set_verbosity(hub.logging.CRITICAL)
        datasets.disable_progress_bars()
        hub.disable_progress_bars()
        try:
            yield
        finally:
            datasets.logging.set_verbosity(logs[0])
            hub.logging.set_verbosity(logs[1])
            if bars[0]:
                datasets.enable_progress_bars()
            if bars[1]:
                hub.enable_progress_bars()
