"""One way to compute layer-by-layer CKA, run on command: the other end of benchmarks/similarity.py.

Runs in any environment that has torch, timm and the package that it measures. Reads a line per round from standard
input, answers with a line of JSON: seconds of the round, peak memory so far. Only what grows with the number of images
is timed: models are loaded and read before.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

warnings.filterwarnings("ignore")

PAIRS = {
    "vit_small_patch16_224 x resnet50": (("vit_small_patch16_224", 224), ("resnet50", 224)),
    "resnet18 x resnet18": (("resnet18", 32), ("resnet18", 32)),
}


def models(pair: str) -> tuple[nn.Module, nn.Module, int]:
    """Both models of a pair with random weights, and their image size."""
    (a, size), (b, _) = PAIRS[pair]
    torch.manual_seed(0)
    return timm.create_model(a).eval(), timm.create_model(b).eval(), size


def plain(a: nn.Module, b: nn.Module, images: Tensor, n: int) -> Callable[[], Any]:
    """The two forward passes and nothing else."""

    def run() -> None:
        with torch.inference_mode():
            for x in images.split(n):
                a(x)
                b(x)

    return run


def plain_64(a: nn.Module, b: nn.Module, images: Tensor, n: int) -> Callable[[], Any]:
    """The same in batches of at least 64 images, which seelike chooses for small models: n is not its forward batch."""
    return plain(a, b, images, max(n, 64))


def seelike_all(a: nn.Module, b: nn.Module, images: Tensor, n: int) -> Callable[[], Any]:
    """seelike, every layer site of both models, all three maps, the forward batch as it chooses it."""
    import seelike
    from seelike.images import as_images
    from seelike.passes import Pass, PassOptions, make_plan

    size = tuple(images.shape[1:])
    loaded = {"a": seelike.Model(a, size, "a"), "b": seelike.Model(b, size, "b")}  # type: ignore[arg-type]
    anatomies = {label: model.anatomy for label, model in loaded.items()}
    options = PassOptions(minibatch=n)
    plan = make_plan(len(images), options)
    print(json.dumps({"layers": [len(x.layers) for x in anatomies.values()]}), file=sys.stderr)

    def run() -> Any:
        fold = seelike.Similarity("all").begin(anatomies, plan.design)
        return Pass(loaded, [fold], as_images(images), plan, options).run()

    return run


def firing(model: nn.Module, image: Tensor) -> list[str]:
    """Modules that run and return one tensor: what hook-based packages can take."""
    names: dict[str, bool] = {}
    handles = [
        m.register_forward_hook(lambda _m, _i, o, name=name: names.update({name: isinstance(o, Tensor)}))
        for name, m in model.named_modules()
        if name
    ]
    with torch.inference_mode():
        model(image)
    for handle in handles:
        handle.remove()
    return [name for name, fine in names.items() if fine]


def products(a: nn.Module, b: nn.Module, images: Tensor, n: int) -> Callable[[], Any]:
    """The forward passes and one float32 product ``X X^T`` per layer, thrown away: what exact CKA cannot do without."""
    out = torch.empty(n, n)

    def multiply(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        x = output.flatten(1)
        torch.mm(x, x.T, out=out)

    layers = [firing(m, images[:1]) for m in (a, b)]
    print(json.dumps({"layers": [len(x) for x in layers]}), file=sys.stderr)
    for model, names in zip((a, b), layers, strict=True):
        for name in names:
            model.get_submodule(name).register_forward_hook(multiply)
    return plain(a, b, images, n)


def pytorch_cka(a: nn.Module, b: nn.Module, images: Tensor, n: int) -> Callable[[], Any]:
    """pytorch-cka, every module that it can take."""
    from cka import compute_cka

    layers = [firing(m, images[:1]) for m in (a, b)]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), n)
    print(json.dumps({"layers": [len(x) for x in layers]}), file=sys.stderr)
    return lambda: compute_cka(a, b, loader, layers=layers[0], model2_layers=layers[1], device="cpu", progress=False)


def torch_cka(a: nn.Module, b: nn.Module, images: Tensor, n: int) -> Callable[[], Any]:
    """torch_cka, every module that it can take."""
    from torch_cka import CKA

    layers = [firing(m, images[:1]) for m in (a, b)]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, torch.zeros(len(images))), n)

    def run() -> None:
        cka = CKA(a, b, model1_layers=layers[0], model2_layers=layers[1], device="cpu")
        cka.compare(loader)

    return run


METHODS = {
    "plain": plain,
    "plain-64": plain_64,
    "products": products,
    "seelike": seelike_all,
    "pytorch-cka": pytorch_cka,
    "torch_cka": torch_cka,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("n", type=int)
    parser.add_argument("images", type=int)
    arguments = parser.parse_args()
    a, b, size = models(arguments.pair)
    images = torch.randn(arguments.images, 3, size, size, generator=torch.Generator().manual_seed(1))
    run = METHODS[arguments.method](a, b, images, arguments.n)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = sys.stdout
    sys.stdout = sys.stderr  # packages print; the answers must stay alone
    print("ready", file=answer, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": seconds, "peak": peak * 1024, "loaded": loaded * 1024}), file=answer, flush=True)


if __name__ == "__main__":
    main()
