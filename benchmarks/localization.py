"""Time and memory of the localization study against the plain forward pass.

    python benchmarks/localization.py
    python benchmarks/localization.py --layers blocks.11 --images 32 --rounds 5
    python benchmarks/localization.py --model resnet50 --minibatch 64

All tokens of all blocks with all patches of the pixels. Both run in turn, round after round, on the same images, each
in a process of its own so that its peak memory is its own; the ratio is taken within a round and the median is quoted.
Only what grows with the number of images is timed: the model is loaded, read and warmed up before. Aim (all blocks of
ViT-S/16 at 224 pixels, 196 tokens with 196 patches each): at most 1.5 times the forward pass.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

METHODS = ("plain", "study")


def prepare(method: str, given: argparse.Namespace) -> Callable[[], Any]:
    """What one round of a method does."""
    import timm
    import torch

    import seelike
    from seelike.images import as_images
    from seelike.passes import Pass, PassOptions, make_plan

    torch.manual_seed(0)
    module = timm.create_model(given.model).eval()
    size = module.pretrained_cfg["input_size"]
    pictures = torch.randn(given.images, *size, generator=torch.Generator().manual_seed(1))

    def plain() -> None:
        with torch.inference_mode():
            for part in pictures.split(given.batch):
                module(part)

    if method == "plain":
        return plain
    model = seelike.Model(module, size, given.model)
    options = PassOptions(minibatch=given.minibatch, batch=given.batch)
    plan = make_plan(given.images, options)
    fold = seelike.Localization(layers=given.layers).begin({given.model: model.anatomy}, plan.design)
    return lambda: Pass({given.model: model}, [fold], as_images(pictures), plan, options).run()


def work(method: str, given: argparse.Namespace) -> None:
    """Run a round per line of standard input, answer each with a line of JSON."""
    warnings.filterwarnings("ignore")
    run = prepare(method, given)
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)


class Worker:
    """A method in its own process."""

    def __init__(self, method: str, options: list[str]) -> None:
        command = [sys.executable, __file__, *options, "--worker", method]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line("ready")

    def line(self, start: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise SystemExit("a worker stopped; its message stands above")

    def round(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        told: dict[str, float] = json.loads(self.line("{"))
        return told

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_small_patch16_224", help="timm model, random weights")
    parser.add_argument("--layers", default="blocks")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--minibatch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given)
        return
    workers = {method: Worker(method, sys.argv[1:]) for method in METHODS}
    rounds = [{method: worker.round() for method, worker in workers.items()} for _ in range(given.rounds)]
    for worker in workers.values():
        worker.stop()
    ratios = [each["study"]["seconds"] / each["plain"]["seconds"] for each in rounds]
    forward = statistics.median(each["plain"]["seconds"] for each in rounds)
    peak = {method: max(each[method]["peak"] for each in rounds) / 2**20 for method in METHODS}
    print(f"{given.model}, {given.images} images, minibatches of {given.minibatch}, {given.rounds} rounds")
    print(
        f"forward pass {forward:.2f} s; study of the layers {given.layers!r} {statistics.median(ratios):.2f} times that"
    )
    print(f"(from {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"peak memory {peak['plain']:.0f} MiB plain, {peak['study']:.0f} MiB study")


if __name__ == "__main__":
    main()
