"""A photograph that is no photograph, and tiny models of transformers on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {**{k: TINY[k] for k in list(TINY)[:4]}, "vocab_size": 50, "eos_token_id": 2, "bos_token_id": 1}


@pytest.fixture(scope="session")
def photo() -> PIL.Image.Image:
    """200 x 140, smooth colours with some noise."""
    y, x = np.mgrid[0:140, 0:200]
    noise = np.random.default_rng(0).normal(0, 12, (140, 200, 3))
    colours = np.stack([x * 1.2, y * 1.7, (x + y) * 0.7], axis=-1) + noise
    return PIL.Image.fromarray(colours.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def tiny_hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of tiny pretrained directories: vit, clip, resnet, bert, and bare (a ViT without its processor)."""
    transformers: Any = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("hf")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = transformers.ViTConfig(**TINY, num_labels=5)
        for name in ("vit", "bare"):
            transformers.ViTForImageClassification(config).save_pretrained(folder / name)
        both = transformers.CLIPConfig(vision_config=TINY, text_config=TEXT, projection_dim=8)
        transformers.CLIPModel(both).save_pretrained(folder / "clip")
        small = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
        transformers.ResNetForImageClassification(transformers.ResNetConfig(**small)).save_pretrained(folder / "resnet")
        transformers.BertModel(transformers.BertConfig(**TEXT)).save_pretrained(folder / "bert")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    crop = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**crop).save_pretrained(folder / "clip")
    transformers.ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained(folder / "resnet")
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, in use for the length of a test."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def put_in_cache(hub_cache: Path) -> Callable[[str, Path], None]:
    """Lay a folder's files into the cache the way the hub's client does: ``put_in_cache(repository, folder)``."""

    def put(repository: str, files: Path) -> None:
        commit = "0123456789abcdef0123456789abcdef01234567"
        place = hub_cache / f"models--{repository.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(commit)
        snapshot = place / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for file in files.iterdir():
            (snapshot / file.name).write_bytes(file.read_bytes())

    return put
