"""Time and memory of effective receptive fields against the bare backward passes that they need.

    python benchmarks/field.py                        # 32 images, 32 channels, all blocks: an hour on two cores
    python benchmarks/field.py --channels 16 --images 8 --rounds 2

The bare passes: one forward pass of the eager model with its blocks' outputs caught by hooks, then one backward pass
per block and channel, nothing done with the gradients. Both in turn on the same images, ratios within a round, median
quoted. What is read off the finished fields (radii, shares) is done once for all channels, so that few channels show
more of it than 32 do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import seelike
from seelike.passes import PassOptions, make_plan
from seelike.studies import Minibatch

MODELS = ("vit_small_patch16_224", "resnet50")


def bare(module: nn.Module, blocks: list[str], images: Tensor, channels: int) -> Callable[[], None]:
    """Forward once, backward once per block and channel."""

    def run() -> None:
        outputs: list[Tensor] = []
        handles = [
            module.get_submodule(b).register_forward_hook(lambda _m, _i, o, into=outputs: into.append(o))
            for b in blocks
        ]
        x = images.clone().requires_grad_()
        module(x)
        for handle in handles:
            handle.remove()
        for out in outputs:
            place = out[:, out.shape[1] // 2] if out.ndim == 3 else out[:, :, out.shape[2] // 2, out.shape[3] // 2]
            for channel in range(channels):
                torch.autograd.grad(place[:, channel].sum(), x, retain_graph=True)

    return run


def study(model: seelike.Model, images: Tensor, channels: int) -> Callable[[], None]:
    """The study's fold on the same images and blocks."""
    plan = make_plan(len(images), PassOptions(minibatch=len(images)))
    asked = seelike.ReceptiveField(layers="blocks", before=False, images=len(images), channels=channels)

    def run() -> None:
        fold = asked.begin({"model": model.anatomy}, plan.design)
        minibatch = Minibatch(0, 0, 0, len(images), "")
        tally = fold.empty()
        fold.visit("model", images, minibatch, 0)
        fold.finish(minibatch, tally)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="timm models, random weights")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("| model | blocks | images | channels | time / bare backward passes | range |")
    print("|---|---|---|---|---|---|")
    for name in arguments.models:
        torch.manual_seed(0)
        model = seelike.Model(timm.create_model(name).eval(), (3, 224, 224), "model")
        images = torch.randn(arguments.images, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        blocks = list(model.anatomy.blocks)
        runs = bare(model.module, blocks, images, arguments.channels), study(model, images, arguments.channels)
        ratios = []
        for number in range(arguments.rounds + 1):
            seconds = []
            for run in runs:
                started = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - started)
            if number:  # the first round warms up
                ratios.append(seconds[1] / seconds[0])
        print(
            f"| {name} | {len(blocks)} | {len(images)} | {arguments.channels} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f}-{max(ratios):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
