"""Time of the probe study beside the forward passes: 12 layers x 5 poolings x 20 lambdas x 3 draws on 10,000 images.

    python benchmarks/probe.py                       # ViT-S/16 at 224 px; forward passes of 256 images, scaled up
    python benchmarks/probe.py --classes 10 --threads 1

The study's own code gets features of the right size (their values do not matter to the time), minibatch by minibatch:
fits of 10 shots per class and draw, as many held-out images, the rest evaluated. What it takes is printed by phase,
beside the time of the same images through the model (ViT-S/16: 12 blocks, 384 features).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import torch

import seelike
from seelike.anatomy import LayerSite, Layout
from seelike.images import partition
from seelike.studies import Design, Minibatch, Samples
from seelike.studies.probe.fold import ProbeFold
from seelike.studies.probe.split import make_split
from seelike.studies.probe.store import Unit
from seelike.studies.probe.views import make_view

POOLINGS = 5
LAMBDAS = tuple(2.0**power for power in range(-10, 10))
MINIBATCH = 64


def sites(layers: int, features: int) -> list[LayerSite]:
    layout = Layout("tokens", 0, (1, POOLINGS))
    return [
        LayerSite(
            f"blocks.{i}", (), f"point{i}", i, i / layers, None, None, "sum", "Block", (POOLINGS, features), layout
        )
        for i in range(layers)
    ]


def forward_seconds(spec: str, images: int, batch: int) -> float:
    """Seconds per image of the plain model, the median of three rounds."""
    model = seelike.load_model(spec)
    pixels = torch.randn(batch, *model.input_size)
    rounds = []
    with torch.inference_mode():
        model.module(pixels)
        for _ in range(3):
            started = time.perf_counter()
            for _ in range(max(1, images // batch)):
                model.module(pixels)
            rounds.append((time.perf_counter() - started) / (max(1, images // batch) * batch))
    return sorted(rounds)[1]


def probe_seconds(images: int, classes: int, layers: int, features: int, shots: int) -> Counter[str]:
    """Seconds of the study's work, by phase."""
    labels = [i % classes for i in range(images)]
    order = tuple(i for part in partition(images, MINIBATCH) for i in part)
    samples = Samples("benchmark", [str(i) for i in range(images)], labels, None, None, (order,))
    design = Design(1, 20, MINIBATCH + MINIBATCH // 2, MINIBATCH, 0, samples)
    split = make_split(samples, shots, 3, 0.8)
    chosen = sites(layers, features)
    units = tuple(Unit("vit", make_view(site, None), "tokens", split) for site in chosen)
    fold = ProbeFold({"vit": units}, split, LAMBDAS, shots, design, [])
    tally, part = fold.empty(), split.parts[0]
    tensor = torch.randn(design.largest, POOLINGS, features)
    seconds: Counter[str] = Counter()
    for number, rows in enumerate(partition(images, MINIBATCH)):
        minibatch = Minibatch(number, 0, number % 20, len(rows), "", tuple(rows))
        held, fits = part.held_out[list(rows)].any(), (part.draw[list(rows)] >= 0).any()
        phase = "solving" if held and not fold._readers else "choosing" if held else "fitting" if fits else "evaluating"
        started = time.perf_counter()
        for site in chosen:
            fold.see("vit", site, tensor[: len(rows)], minibatch)
        fold.finish(minibatch, tally)
        seconds[phase] += time.perf_counter() - started
    print("images per fit, held out, evaluated:", part.counts)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm:vit_small_patch16_224@random")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--forward", type=int, default=256, help="images to time the forward pass on")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    forward = options.images * forward_seconds(options.model, options.forward, 32)
    parts = probe_seconds(options.images, options.classes, options.layers, options.features, options.shots)
    total = sum(parts.values())
    print(f"forward passes of {options.images} images: {forward:.1f} s ({options.model})")
    for phase in ("fitting", "solving", "choosing", "evaluating"):
        print(f"  {phase}: {parts[phase]:.2f} s")
    print(f"probes in all: {total:.1f} s, {100 * total / forward:.1f} % of the forward passes")


if __name__ == "__main__":
    main()
