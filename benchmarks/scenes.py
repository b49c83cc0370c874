"""How hard scenes are: nearest neighbour and a linear model on pixels, a small CNN; and how fast they are made.

python benchmarks/scenes.py    # about 5 minutes on one core
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import Tensor, nn

from seelike.images import Scenes

CLASSES = 10


def speed(size: int, count: int) -> None:
    scenes = Scenes("train", count, size)
    scenes.batch(range(min(count, 64)))
    start = time.process_time()
    scenes.batch(range(count))
    print(f"{size} px: {count / (time.process_time() - start):,.0f} images per second and core", flush=True)


def flat(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255


def nearest(x: Tensor, y: Tensor, test: Tensor) -> Tensor:
    """The class of the nearest training image by Euclidean distance of pixels."""
    distances = (x * x).sum(1) - 2 * flat(test) @ x.T
    return y[distances.argmin(1)]


def ridge(x: Tensor, y: Tensor, test: Tensor, strength: float) -> Tensor:
    """Least squares on one-hot classes; `strength` is relative to the mean variance of a pixel."""
    x, mean = x - x.mean(0), x.mean(0)
    gram = x.T @ x
    gram.diagonal().add_(strength * gram.diagonal().mean())
    weights = torch.linalg.solve(gram, x.T @ (nn.functional.one_hot(y, CLASSES) - 1 / CLASSES))
    return ((flat(test) - mean) @ weights).argmax(1)


def network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside, stride in ((3, 24, 1), (24, 48, 2), (48, 64, 1), (64, 96, 2), (96, 128, 1)):
        layers += [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES))


def fit(model: nn.Module, images: Tensor, y: Tensor, epochs: int, size: int = 128, rate: float = 3e-3) -> None:
    """AdamW, one cycle, flips and quarter turns of whole batches."""
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    steps = len(y) // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps, pct_start=0.1)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(y))
        total = 0.0
        for step in range(steps):
            batch = order[step * size : (step + 1) * size]
            x = torch.rot90(images[batch], int(torch.randint(4, ())), (2, 3))
            x = x.flip(3) if torch.rand(()) < 0.5 else x
            loss = nn.functional.cross_entropy(model(x.float() / 64 - 2), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"  epoch {epoch + 1} of {epochs}: mean loss {total / steps:.3f}", flush=True)
    model.eval()


def predict(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part.float() / 64 - 2).argmax(1) for part in images.split(500)])


def tensors(scenes: Scenes) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(scenes.batch(range(len(scenes)))).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(scenes.labels)


def report(name: str, predicted: Tensor, y: Tensor) -> None:
    accuracy = (predicted == y).float().mean().item()
    error = np.sqrt(accuracy * (1 - accuracy) / len(y))
    print(f"{name}: {100 * accuracy:.1f} +- {100 * error:.1f} % of {len(y)} test images", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, help="training images (default: all)")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for size, count in ((32, 4096), (64, 1024), (224, 128)):
        speed(size, count)
    images, y = tensors(Scenes("train", options.train))
    tuning, z = tensors(Scenes("validation"))
    test, truth = tensors(Scenes("test"))
    print(f"{len(y)} training images of 32 px")
    x = flat(images)
    report("nearest neighbour on pixels", nearest(x, y, test), truth)
    strengths = [10.0**power for power in range(-4, 2)]
    right = [(ridge(x, y, tuning, strength) == z).sum().item() for strength in strengths]
    best = strengths[int(np.argmax(right))]
    report(f"linear on pixels (ridge {best:g}, best on validation)", ridge(x, y, test, best), truth)
    del x
    model = network()
    print(f"CNN: 5 convolutions, {sum(p.numel() for p in model.parameters()):,} parameters")
    start = time.time()
    fit(model, images, y, options.epochs)
    report(f"CNN after {options.epochs} epochs, {time.time() - start:.0f} s on one core", predict(model, test), truth)
    others, _ = tensors(Scenes("test", textures="B"))
    report("the same CNN on the same scenes with textures=B", predict(model, others), truth)


if __name__ == "__main__":
    main()
