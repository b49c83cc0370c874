"""Error of float32 Gram matrices: what the origin of the features does to CKA on real networks.

python benchmarks/precision.py ../shared/data/imagenet-sample/validation.parquet
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

import seelike
from seelike.measures import gram_products, shifted_gram, write_gram

MODELS = ("timm:resnet50?num_classes=10@random", "timm:vit_small_patch16_224?num_classes=10@random")


def exact(x: Tensor) -> Tensor:
    x = x.double() - x.double().mean(0)
    return x @ x.T


def plain(x: Tensor) -> Tensor:
    return (x @ x.T).double()


def stored(x: Tensor) -> Tensor:
    """As the study keeps it: in float32."""
    out = torch.zeros(len(x), len(x))
    write_gram(x, out)
    return out


def mean(x: Tensor) -> Tensor:
    return shifted_gram(torch.cat([torch.zeros_like(x[:1]), x - x.mean(0)]))[1:, 1:]


def maps(features: list[Tensor], gram: Callable[[Tensor], Tensor]) -> Tensor:
    grams = torch.stack([gram(x) for x in features])
    products = gram_products(grams, grams)
    return products / (products.diagonal()[:, None] * products.diagonal()).sqrt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet")
    images = seelike.load_images(f"parquet:{parser.parse_args().parquet}")
    for spec in MODELS:
        model = seelike.load_model(spec)
        x = torch.stack([model.preprocess(images.read(i)) for i in range(32)])
        features: list[Tensor] = []
        sites = model.anatomy.select("sublayers")[::4]
        taps = {s.point: lambda t, s=s, into=features: into.append(s.batch_first(t).flatten(1).clone()) for s in sites}
        with torch.no_grad():
            model.anatomy.run(model.inputs(x), taps)
        for what in ("as they are", "first example 10 times too large"):
            truth = maps(features, exact)
            for name, gram in (("none", plain), ("first example", stored), ("mean", mean)):
                error = (maps(features, gram) - truth).abs().nan_to_num().max()
                print(f"{model.name}, {what}, origin {name}: largest error of CKA {error:.1e}", flush=True)
            for x in features:
                x[0] *= 10


if __name__ == "__main__":
    main()
