"""Time and memory of a forward pass against the number of tokens, beside the multiply-adds counted from the graph.

    python benchmarks/cost.py
    python benchmarks/cost.py --models vit_small_patch16_224 --sizes 224 448 --written-out --figure cost.png

Every model is built anew (random weights) for images of every size and measured in a process of its own, one after the
other: median seconds of a forward pass over some rounds, and the peak of the memory that the pass takes beside model
and images (resident memory on a CPU, allocated memory on a GPU). With `--written-out` timm's attentions multiply
queries and keys as they stand, instead of calling a fused kernel that never holds all weights at once.

A study gets models as they are and cannot build them for another size; that is why this is not part of
`seelike compare --studies cost`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

MODELS = ("vit_small_patch16_224", "pvt_v2_b0", "resnet50")
SIZES = (112, 160, 224, 320, 448)
COLOURS = ("#000000", "#e69f00", "#009e73", "#cc79a7", "#0072b2")


def measure(name: str, side: int, images: int, rounds: int, device: str) -> dict[str, Any]:
    """Build one model for images of one size, count its multiply-adds, run it."""
    import torch

    from seelike import load_model
    from seelike.anatomy.multiply_adds import count_multiply_adds
    from seelike.anatomy.torch_counter import torch_multiply_adds

    model = load_model(f"timm:{name}?input_size={side}x{side}@random")
    module = model.to(device).module
    batch = torch.randn(images, *model.input_size, generator=torch.Generator().manual_seed(0)).to(device)
    gpu = batch.is_cuda
    with torch.inference_mode():
        module(batch[:1])  # what libraries allocate once
        before = _start_of_peak(gpu)
        seconds = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            module(batch)
            if gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    peak = _peak(gpu) - before  # before anything else takes memory
    counted = count_multiply_adds(model.anatomy)
    attentions = model.anatomy.attentions
    tokens = max((site.batch_factor * site.query_tokens for site in attentions), default=0)
    torch_total = sum(torch_multiply_adds(model.anatomy).values())
    each = [second / images for second in seconds[1:]]
    return {
        "model": name,
        "side": side,
        "tokens": tokens,
        "multiply_adds": counted.total,
        "torch": torch_total,
        "seconds": statistics.median(each),
        "fastest": min(each),
        "slowest": max(each),
        "peak": peak / images,
    }


def _start_of_peak(gpu: bool) -> int:
    """Forget the peak so far; bytes in use now."""
    if gpu:
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with suppress(OSError):  # Linux alone can; elsewhere the peak of what came before counts as in use
        Path("/proc/self/clear_refs").write_text("5")
    return _peak(gpu)


def _peak(gpu: bool) -> int:
    """Bytes: the largest number allocated (GPU), or resident (CPU)."""
    if gpu:
        import torch

        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def draw(rows: list[dict[str, Any]], path: Path, written_out: bool) -> None:
    """Seconds and memory against the side of the image, measured; dashes: in proportion to the multiply-adds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(row["model"] for row in rows))
    for name, colour in zip(names, COLOURS, strict=False):
        own = [row for row in rows if row["model"] == name]
        sides = [row["side"] for row in own]
        middle = [1000 * row["seconds"] for row in own]
        below = [1000 * (row["seconds"] - row["fastest"]) for row in own]
        above = [1000 * (row["slowest"] - row["seconds"]) for row in own]
        left.errorbar(sides, middle, [below, above], color=colour, marker="o", markersize=4, capsize=3, label=name)
        scale = middle[-1] / own[-1]["multiply_adds"]
        left.plot(sides, [scale * row["multiply_adds"] for row in own], color=colour, linestyle="--", linewidth=1)
        right.plot(sides, [row["peak"] / 2**20 for row in own], color=colour, marker="o", markersize=4, label=name)
    for axes, what in ((left, "milliseconds per image"), (right, "peak memory per image (MiB)")):
        axes.set(xscale="log", yscale="log", xlabel="side of the image (pixels)", ylabel=what)
        axes.set_xticks(sorted({row["side"] for row in rows}))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    left.set_title(
        "Forward pass: median, fastest and slowest round\ndashes: multiply-adds, scaled to the last", fontsize=9
    )
    kernel = "attention written out" if written_out else "fused attention"
    right.set_title(f"Memory beside weights and images ({kernel})", fontsize=9)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    print(f"figure: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="timm models, random weights")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="sides of the images in pixels")
    parser.add_argument("--images", type=int, default=8, help="images in a forward pass")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--written-out", action="store_true", help="no fused attention kernels")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        warnings.filterwarnings("ignore")
        told = measure(given.models[0], given.sizes[0], given.images, given.rounds, given.device)
        print(json.dumps(told))
        return
    environment = os.environ | ({"TIMM_FUSED_ATTN": "0"} if given.written_out else {})
    same = ["--images", str(given.images), "--rounds", str(given.rounds), "--device", given.device, "--worker"]
    rows = []
    print("| model | side | most tokens | G multiply-adds (graph) | (torch) | ms per image | MiB per image |")
    print("|---|---|---|---|---|---|---|")
    for name in given.models:
        for side in given.sizes:
            command = [sys.executable, __file__, "--models", name, "--sizes", str(side), *same]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            print(
                f"| {name} | {side} | {row['tokens'] or '-'} | {row['multiply_adds'] / 1e9:.3f} | "
                f"{row['torch'] / 1e9:.3f} | {1000 * row['seconds']:.1f} ({1000 * row['fastest']:.1f} to "
                f"{1000 * row['slowest']:.1f}) | {row['peak'] / 2**20:.1f} |",
                flush=True,
            )
    if given.figure:
        draw(rows, given.figure, given.written_out)


if __name__ == "__main__":
    main()
