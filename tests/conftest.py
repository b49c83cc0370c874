"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import seelike
from nets import small_net, tiny_vit

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each: more threads than cores slow every test down
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real images (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def vit_model() -> seelike.Model:
    return seelike.Model(tiny_vit(), (3, 32, 32), name="vit")


@pytest.fixture(scope="session")
def net_model() -> seelike.Model:
    return seelike.Model(small_net(), (3, 32, 32), name="net")
