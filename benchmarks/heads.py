"""Time of the head similarity study against the plain forward passes of its two models.

    python benchmarks/heads.py
    python benchmarks/heads.py --of projected --images 64 --rounds 5

Plain passes and the study run in turn, round after round, on the same images; the ratio is taken within a round and
the median is quoted. Models are loaded, read and warmed up before.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import timm
import torch

import seelike
from seelike.images import as_images
from seelike.passes import Pass, PassOptions, make_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_small_patch16_224", help="timm model with attention, random weights")
    parser.add_argument("--other", default="resnet50", help="timm model, random weights")
    parser.add_argument("--of", default="heads", choices=("heads", "projected"))
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64, help="minibatch and forward batch")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    modules = {name: timm.create_model(name).eval() for name in (given.model, given.other)}
    size = modules[given.model].pretrained_cfg["input_size"]
    pictures = torch.randn(given.images, *size, generator=torch.Generator().manual_seed(1))
    runs = {"plain": plain(modules, pictures, given.batch), "study": study(modules, pictures, given)}
    for run in runs.values():
        run()
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(given.rounds)]
    for name in runs:
        print(f"{name}: {statistics.median(r[name] for r in rounds):.2f} s for {given.images} images")
    print(f"study / plain: {statistics.median(r['study'] / r['plain'] for r in rounds):.2f}")


def plain(modules: dict[str, Any], pictures: torch.Tensor, batch: int) -> Callable[[], None]:
    """The forward passes and nothing else."""

    def run() -> None:
        with torch.inference_mode():
            for part in pictures.split(batch):
                for module in modules.values():
                    module(part)

    return run


def study(modules: dict[str, Any], pictures: torch.Tensor, given: argparse.Namespace) -> Callable[[], Any]:
    """The head similarity study in a pass over the same images."""
    models = {name: seelike.Model(module, tuple(pictures.shape[1:]), name) for name, module in modules.items()}
    options = PassOptions(minibatch=given.batch, batch=given.batch)
    plan = make_plan(len(pictures), options)
    anatomies = {name: model.anatomy for name, model in models.items()}
    fold = seelike.HeadSimilarity(of=given.of).begin(anatomies, plan.design)
    return lambda: Pass(models, [fold], as_images(pictures), plan, options).run()


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
