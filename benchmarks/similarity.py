"""Time and memory of layer-by-layer CKA against the plain forward passes and against two other packages.

    python -m venv peers && peers/bin/pip install torch timm pytorch-cka torch-cka
    python benchmarks/similarity.py --peers peers/bin/python

All methods of a row run in turn, round after round, on the same images in one sitting; ratios are taken within a round
and their median is quoted. Each method is its own process, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from similarity_worker import PAIRS

WORKER = Path(__file__).with_name("similarity_worker.py")


@dataclass
class Worker:
    """A method's process, started and warmed up."""

    method: str
    process: subprocess.Popen[str]
    seconds: list[float]
    peak: float = 0
    loaded: float = 0

    @classmethod
    def start(cls, python: str, method: str, pair: str, n: int, images: int) -> Worker:
        process = subprocess.Popen(
            [python, str(WORKER), method, pair, str(n), str(images)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        worker = cls(method, process, [])
        if not worker._line().startswith("ready"):
            raise SystemExit(
                f"{method} did not start on {pair}; run its line of benchmarks/similarity_worker.py by hand"
            )
        return worker

    def round(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        told = json.loads(self._line())
        self.seconds.append(told["seconds"])
        self.peak, self.loaded = told["peak"], told["loaded"]
        return float(told["seconds"])

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.method} stopped; run its line of benchmarks/similarity_worker.py by hand")
        return line

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(pair: str, n: int, images: int, methods: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Median time ratio to the plain passes, and memory, of every method."""
    workers = [Worker.start(python, method, pair, n, images) for method, python in methods.items()]
    for worker in workers:
        worker.round()  # warm-up: caches, allocator, thread pools
        worker.seconds.clear()
    for _ in range(rounds):
        for worker in workers:
            worker.round()
    base = workers[0]
    rows = {}
    for worker in workers:
        ratios = [s / p for s, p in zip(worker.seconds, base.seconds, strict=True)]
        rows[worker.method] = {
            "ratio": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
            "peak": worker.peak / base.peak,
            # Small models peak while they are loaded, which leaves nothing to divide by.
            "working": (worker.peak - worker.loaded) / (base.peak - base.loaded or math.nan),
        }
        worker.stop()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="python of an environment with the other packages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS))
    parser.add_argument("--slow", action="store_true", help="torch_cka too, which takes minutes a round")
    arguments = parser.parse_args()
    print("| pair | n | method | time / forward passes | range | peak memory / forward | working memory / forward |")
    print("|---|---|---|---|---|---|---|")
    for pair in arguments.pairs:
        for n in arguments.n:
            methods = dict.fromkeys(("plain", "products", "seelike"), sys.executable)
            if "224" not in pair and n < 64:
                methods["plain-64"] = sys.executable
            if arguments.peers:
                methods["pytorch-cka"] = arguments.peers
                if arguments.slow:
                    methods["torch_cka"] = arguments.peers
            images = max(n, 64) if "224" in pair else 16 * n
            for method, row in measure(pair, n, images, methods, arguments.rounds).items():
                print(
                    f"| {pair} | {n} | {method} | {row['ratio']:.2f} | {row['low']:.2f}-{row['high']:.2f} "
                    f"| {row['peak']:.2f} | {row['working']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
