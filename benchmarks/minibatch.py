"""How the standard error and the time of CKA depend on the minibatch, at equal numbers of images, on trained networks.

    python benchmarks/trained.py ../shared/data/cifar10 runs/trained
    python benchmarks/minibatch.py ../shared/data/cifar10 runs/trained

For every n: many draws of the same number of images, each cut into minibatches of n; the spread of each cell of the
three maps over the draws, and the time of the passes over that of the plain forward passes.
What a user feels is time times variance: the time to a given standard error.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import seelike
from trained import ARCHITECTURES, SIZE, load_cifar, trained


def cells(tree: xr.DataTree, variable: str) -> np.ndarray:
    """A variable of all maps as one vector, diagonals (always 1) left out."""
    parts = []
    for a, first in tree["similarity"].children.items():
        for b, second in first.children.items():
            values = second[variable].values
            keep = ~np.eye(len(values), dtype=bool) if a == b else np.ones(values.shape, dtype=bool)
            parts.append(values[keep])
    return np.concatenate(parts)


def plain_seconds(models: list[seelike.Model], images: torch.Tensor, batch: int = 64) -> float:
    """Seconds of the forward passes alone, per image."""
    with torch.inference_mode():
        for warm in (True, False):
            started = time.perf_counter()
            for x in images[: 512 if warm else 4096].split(batch):
                for model in models:
                    model.module(x)
    return (time.perf_counter() - started) / min(4096, len(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--n", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512, 1024])
    parser.add_argument("--figure", type=Path, help="where to draw the curve")
    arguments = parser.parse_args()
    models = [seelike.Model(trained(name, arguments.weights), SIZE, name) for name in ARCHITECTURES]
    images, _ = load_cifar(arguments.data, "test")
    spreads, rows = {}, []
    for n in sorted(arguments.n, reverse=True):
        forward = plain_seconds(models, images)
        tree = seelike.compare(
            models, images, limit=arguments.images, repeats=arguments.draws, minibatch=n, batch=max(n, 64)
        )
        seconds = json.loads(tree.attrs["run"])["seconds"] / (arguments.draws * arguments.images)
        spreads[n] = cells(tree, "cka_repeat_sd")
        rows.append((n, seconds / forward, np.median(spreads[n]), cells(tree, "cka").mean()))
        print(f"n = {n}: {rows[-1]}", flush=True)
    largest = max(spreads)
    costs = {n: ratio * np.median((spreads[n] / spreads[largest]) ** 2) for n, ratio, _, _ in rows}
    print("| n | time / forward | median sd | sd / sd at largest n: median (5-95 %) | time to equal error | mean CKA |")
    print("|---|---|---|---|---|---|")
    for n, ratio, spread, mean in rows[::-1]:
        low, middle, high = np.quantile(spreads[n] / spreads[largest], (0.05, 0.5, 0.95))
        cost = costs[n] / min(costs.values())
        print(f"| {n} | {ratio:.2f} | {spread:.4f} | {middle:.2f} ({low:.2f}-{high:.2f}) | {cost:.2f} | {mean:.4f} |")
    if arguments.figure:
        draw(rows[::-1], spreads, costs, arguments.figure)


def draw(
    rows: list[tuple[int, float, float, float]], spreads: dict[int, np.ndarray], costs: dict[int, float], path: Path
) -> None:
    """Error, time, and their product against n."""
    from matplotlib.figure import Figure

    n = [row[0] for row in rows]
    largest = max(spreads)
    relative = np.array([np.quantile(spreads[i] / spreads[largest], (0.05, 0.5, 0.95)) for i in n])
    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.fill_between(n, relative[:, 0], relative[:, 2], alpha=0.25, label="5-95 % of layer pairs")
    left.plot(n, relative[:, 1], marker="o", label="median")
    left.set(title=f"standard error, n = {largest} is 1", xlabel="minibatch n", xscale="log", ylim=(0, None))
    left.legend(fontsize=7)
    middle.plot(n, [row[1] for row in rows], marker="o")
    middle.set(title="time, plain forward passes are 1", xlabel="minibatch n", xscale="log", ylim=(0, None))
    right.plot(n, [costs[i] / min(costs.values()) for i in n], marker="o")
    right.set(title="time to the same error, best is 1", xlabel="minibatch n", xscale="log", ylim=(0, None))
    for axes in (left, middle, right):
        axes.set_xticks(n, labels=[str(i) for i in n], fontsize=7)
        axes.minorticks_off()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
