"""Accuracy of ViTs with different position encodings at other resolutions and with shuffled patches (CPVT, 5.4).

    python benchmarks/positions.py
    python benchmarks/positions.py --models vit-gap cpvt-gap --sizes 32 64 --images 10000

Models of the zoo that were trained on scenes of 32 pixels see the same 2,000 test scenes drawn at other sizes: their
patches stay 4 pixels, so objects cover more of them. Learned position embeddings are resampled (timm). Shuffled:
the patches of every image of 32 pixels in one random order, the same for all images and models.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn

import seelike
from seelike.images import Scenes
from seelike.models.zoo.transform import normalise

PATCH, BATCH = 4, 250


def pixels(images: Scenes, rows: range) -> Tensor:
    half = (0.5, 0.5, 0.5)
    return normalise(torch.from_numpy(images.batch(rows)), half, half)


def shuffled(x: Tensor, seed: int = 0) -> Tensor:
    """The patches of images (n, 3, side, side) in one random order."""
    patches = nn.functional.unfold(x, PATCH, stride=PATCH)  # (n, values, patches)
    order = torch.randperm(patches.shape[2], generator=torch.Generator().manual_seed(seed))
    return nn.functional.fold(patches[..., order], x.shape[-2:], PATCH, stride=PATCH)


@torch.inference_mode()
def accuracy(module: nn.Module, images: Scenes, shuffle: bool = False) -> float:
    labels, hits = torch.tensor(images.labels), 0
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        x = pixels(images, rows)
        found = module(shuffled(x) if shuffle else x).argmax(1)
        hits += int((found == labels[start : rows.stop]).sum())
    return hits / len(images)


def resized(name: str, size: int) -> nn.Module:
    """A zoo model for images of another size."""
    module = seelike.load_model(f"zoo:{name}").module
    if getattr(module, "pos_embed", None) is not None and size != 32:
        module.set_input_size(img_size=size)  # resamples the embedding
    return module.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vit-gap", "vit-nopos", "vit-sincos", "cpvt-gap"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 40, 48, 64])
    parser.add_argument("--images", type=int, default=2000)
    arguments = parser.parse_args()
    print(f"| % right of {arguments.images} | {' | '.join(f'{s} px' for s in arguments.sizes)} | 32 px, shuffled |")
    print("|---|" + "---|" * (len(arguments.sizes) + 1))
    for name in arguments.models:
        found = [accuracy(resized(name, s), Scenes("test", arguments.images, s)) for s in arguments.sizes]
        found.append(accuracy(resized(name, 32), Scenes("test", arguments.images, 32), shuffle=True))
        errors = [math.sqrt(p * (1 - p) / arguments.images) for p in found]
        cells = [f"{100 * p:.1f} ± {100 * e:.1f}" for p, e in zip(found, errors, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
