"""Time and memory of the attention distance study against the plain forward pass.

    python benchmarks/attention.py
    python benchmarks/attention.py --model deit_base_patch16_224 --images 32 --rounds 5

Both run in turn, round after round, on the same images, each in a process of its own so that its peak memory is its
own; the ratio is taken within a round and the median is quoted. Only what grows with the number of images is timed:
the model is loaded, read and warmed up before. Aim (ViT-S/16, 224 pixels): at most 1.5 times the forward pass.
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


def plain(name: str, images: int, batch: int) -> Callable[[], Any]:
    """The forward pass and nothing else."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    pictures = torch.randn(images, *model.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(1))

    def run() -> None:
        with torch.inference_mode():
            for part in pictures.split(batch):
                model(part)

    return run


def study(name: str, images: int, batch: int) -> Callable[[], Any]:
    """The attention distance study in a pass over the same images."""
    import timm
    import torch

    import seelike
    from seelike.images import as_images
    from seelike.passes import Pass, PassOptions, make_plan

    torch.manual_seed(0)
    module = timm.create_model(name).eval()
    size = module.pretrained_cfg["input_size"]
    pictures = torch.randn(images, *size, generator=torch.Generator().manual_seed(1))
    model = seelike.Model(module, size, name)
    options = PassOptions(minibatch=batch, batch=batch)
    plan = make_plan(images, options)
    fold = seelike.AttentionDistance().begin({name: model.anatomy}, plan.design)
    return lambda: Pass({name: model}, [fold], as_images(pictures), plan, options).run()


METHODS = {"plain": plain, "study": study}


def work(method: str, name: str, images: int, batch: int) -> None:
    """Run a round per line of standard input, answer each with a line of JSON."""
    warnings.filterwarnings("ignore")
    run = METHODS[method](name, images, batch)
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
        command = [sys.executable, __file__, "--worker", method, *options]
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
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.model, given.images, given.batch)
        return
    options = ["--model", given.model, "--images", str(given.images), "--batch", str(given.batch)]
    workers = {method: Worker(method, options) for method in METHODS}
    rounds = [{method: worker.round() for method, worker in workers.items()} for _ in range(given.rounds)]
    for worker in workers.values():
        worker.stop()
    ratios = [each["study"]["seconds"] / each["plain"]["seconds"] for each in rounds]
    forward = statistics.median(each["plain"]["seconds"] for each in rounds)
    peak = {method: max(each[method]["peak"] for each in rounds) / 2**20 for method in METHODS}
    print(f"{given.model}, {given.images} images in batches of {given.batch}, {given.rounds} rounds")
    print(f"forward pass {forward:.2f} s; study {statistics.median(ratios):.2f} times that", end=" ")
    print(f"({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"peak memory {peak['plain']:.0f} MiB plain, {peak['study']:.0f} MiB study")


if __name__ == "__main__":
    main()
