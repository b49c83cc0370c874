"""Two small networks trained on CIFAR-10 for a few minutes, for measurements that need trained ones.

    python benchmarks/trained.py ../shared/data/cifar10 runs/trained

Writes resnet.safetensors and vit.safetensors; a run that finds them leaves them alone. They are no models to be
proud of: enough epochs that layers differ in what they hold.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import datasets
import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import transforms

import seelike

SIZE = (3, 32, 32)


def resnet() -> nn.Module:
    """ResNet-18 at half width, stem without pooling so that 32 pixels are enough."""
    return timm.create_model("resnet18", num_classes=10, channels=(32, 64, 128, 256), stem_width=32)


def vit() -> nn.Module:
    """ViT with 64 tokens, 6 blocks, width 96."""
    return timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=4, embed_dim=96, depth=6, num_heads=3, num_classes=10
    )


ARCHITECTURES = {"resnet": (resnet, 1e-3), "vit": (vit, 1e-3)}


def load_cifar(folder: Path, split: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32) scaled to [-1, 1] and labels (n,)."""
    table = datasets.Dataset.from_parquet(str(folder / f"{split}.parquet"), cache_dir="runs/cache")
    table = table.cast_column("image", datasets.Image(decode=False))
    rows = table if limit is None else table.select(range(limit))
    pixels = [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows["image"]]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return images, torch.tensor(rows["label"])


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float, batch: int = 128) -> None:
    """AdamW, one-cycle schedule, flips and crops; prints the loss of every epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for epoch in range(epochs):
        started, losses = time.monotonic(), []
        for rows in torch.randperm(len(images))[: steps // epochs * batch].split(batch):
            x = images[rows]
            x = x.flip(3) if torch.rand(()) < 0.5 else x
            dy, dx = torch.randint(-3, 4, (2,)).tolist()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(x.roll((dy, dx), (2, 3))), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}, {time.monotonic() - started:.0f} s", flush=True)
    model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(labels)


def trained(name: str, weights: Path) -> nn.Module:
    """A network of this module with its trained weights."""
    model = ARCHITECTURES[name][0]()
    model.load_state_dict(load_file(weights / f"{name}.safetensors"))
    return model.eval()


def model(name: str, weights: str = "runs/trained") -> seelike.Model:
    """For the command line: ``py:benchmarks/trained.py:model?name=vit``."""
    preprocess = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    return seelike.Model(trained(name, Path(weights)), SIZE, name, preprocess=preprocess)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with train.parquet and test.parquet of CIFAR-10")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    arguments.weights.mkdir(parents=True, exist_ok=True)
    for name, (build, rate) in ARCHITECTURES.items():
        path = arguments.weights / f"{name}.safetensors"
        if path.exists():
            continue
        torch.manual_seed(0)
        model = build()
        train(model, *load_cifar(arguments.data, "train"), arguments.epochs, rate)
        print(f"{name}: test accuracy {accuracy(model, *load_cifar(arguments.data, 'test')):.3f}", flush=True)
        save_file(model.state_dict(), path)


if __name__ == "__main__":
    main()
