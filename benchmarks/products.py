"""Speed of one Gram product by width and number of examples: the BLAS, oneDNN, oneDNN in bfloat16 with its rounding.

    python benchmarks/products.py

Prints GFLOP/s as if the whole matrix were wanted, so that a method that leaves out what lies below the diagonal can
seem faster than the machine. ``error`` is the largest error of an entry over the largest entry, against float64.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from seelike.measures.gram import write_gram

SECONDS = 0.1


def per_call(call: Callable[[], object]) -> float:
    """Seconds of a call, warmed up."""
    for _ in range(5):
        call()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        call()
        calls += 1
    return (time.perf_counter() - started) / calls


def measure(n: int, width: int) -> dict[str, tuple[float, float]]:
    """GFLOP/s and error by method, on shifted features (n, width); rounding and shifting are in the time."""
    x = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    origin, shifted = x[0].clone(), torch.empty_like(x)
    rounded, out = torch.empty(n, width, dtype=torch.bfloat16), torch.empty(n, n)

    def blas() -> Tensor:
        torch.sub(x, origin, out=shifted)
        return torch.mm(shifted, shifted.T, out=out)

    def onednn() -> Tensor:
        torch.sub(x, origin, out=shifted)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(shifted, shifted, None, "none", [], "")
        return product

    def bfloat16() -> Tensor:
        torch.sub(x, origin, out=rounded)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rounded, rounded, None, "none", [], "")
        return product

    def seelike() -> Tensor:
        write_gram(x, out)
        return out

    exact = (x - x[0]).double()
    exact = (exact @ exact.T).triu()
    found = {}
    for method in (blas, onednn, bfloat16, seelike):
        error = (method().double().triu() - exact).abs().max() / exact.max()
        found[method.__name__] = (2 * n * n * width / per_call(method) / 1e9, float(error))
    return found


def main() -> None:
    """Print the table."""
    print("| n | width | method | GFLOP/s | error |\n|---|---|---|---|---|")
    with torch.inference_mode():
        for n in (32, 64, 128):
            for width in (512, 2048, 16384):
                for method, (speed, error) in measure(n, width).items():
                    print(f"| {n} | {width} | {method} | {speed:.0f} | {error:.0e} |", flush=True)


if __name__ == "__main__":
    main()
