"""Lightning Fabric, an optional dependency: devices, processes and mixed precision of a loop that stays ours."""

from __future__ import annotations

import logging
from typing import Any

from seelike.errors import SeelikeError
from seelike.train.recipe import PRECISIONS


def fabric(device: str, devices: int, precision: str) -> Any:
    """Start Fabric on `devices` devices of a kind (``auto``, ``cpu``, ``cuda``, ``mps``).

    With more than one, every process runs the command from its beginning, as under torchrun.

    Raises `SeelikeError` when the library is missing or there are no such devices.
    """
    try:
        import lightning_fabric
    except ImportError as error:
        raise SeelikeError("training needs Lightning Fabric: pip install 'seelike[train]'") from error
    if devices < 1:
        raise SeelikeError(f"the number of devices must be at least 1, not {devices}")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision
    kind, _, number = device.partition(":")
    chosen: Any = [int(number)] if number.isdecimal() and devices == 1 else devices
    try:
        started = lightning_fabric.Fabric(accelerator=kind, devices=chosen, precision=PRECISIONS[precision])
        started.launch()
    except (RuntimeError, ValueError, TypeError) as error:
        said = str(error).strip().split("\n")[0]
        raise SeelikeError(f"cannot train on {devices} x {device}: {said}; try --device cpu") from error
    return started
