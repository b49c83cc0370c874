"""Data sets by name: recipes say ``cifar10``, and where that lies is the business of the machine they run on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from seelike.errors import SeelikeError, close_matches
from seelike.images import Images, load_images

VARIABLE = "SEELIKE_DATA"
"""Environment variable with NAME=SPEC pairs, separated by semicolons."""


KNOWN = {
    "scenes": {
        "train": "scenes:train?n=50000",
        "validation": "scenes:validation?n=2000",
        "test": "scenes:test?n=10000",
    },
    "scenes-texturesB": {
        "train": "scenes:train?n=50000,textures=B",
        "validation": "scenes:validation?n=2000,textures=B",
        "test": "scenes:test?n=10000,textures=B",
    },
    "cifar10": {"train": "hf:uoft-cs/cifar10/train", "test": "hf:uoft-cs/cifar10/test"},
    "cifar100": {"train": "hf:uoft-cs/cifar100/train", "test": "hf:uoft-cs/cifar100/test"},
    "mnist": {"train": "hf:ylecun/mnist/train", "test": "hf:ylecun/mnist/test"},
}
"""Where the splits of a data set lie. Without one for validation, recipes hold out training images."""


def places(pairs: Iterable[str] = ()) -> dict[str, str]:
    """Read ``NAME=SPEC`` pairs, those of the environment variable SEELIKE_DATA before those given.

    Raises `SeelikeError` for pairs without ``=`` and specs without ``{split}``.
    """
    stored = [pair for pair in os.environ.get(VARIABLE, "").split(";") if pair.strip()]
    found = {}
    for pair in [*stored, *pairs]:
        name, equals, spec = pair.strip().partition("=")
        if not equals or not name or "{split}" not in spec:
            raise SeelikeError(
                f"data {pair!r} is not NAME=SPEC with {{split}} in the SPEC; write for example "
                "cifar10=parquet:data/cifar10/{split}.parquet"
            )
        found[name] = spec
    return found


def open_split(name: str, split: str, where: Mapping[str, str]) -> Images | None:
    """Open ``train``, ``validation`` or ``test`` of a data set; None when it has no split for validation.

    Raises `SeelikeError` when the name is unknown (with close matches) or the images have no labels.
    """
    if name not in where and name not in KNOWN:
        raise SeelikeError(
            f"no data set is called {name!r}{close_matches(name, KNOWN)}; say where it lies with "
            f"--data '{name}=SPEC', such as --data '{name}=folder:DIR/{{split}}'"
        )
    own = KNOWN.get(name, {"train": "", "test": ""})
    if split not in own:
        return None
    spec = where[name].replace("{split}", split) if name in where else own[split]
    try:
        images = load_images(spec)
    except SeelikeError as error:
        if name in where:
            raise
        raise SeelikeError(
            f"{error} (to use a copy of your own: --data '{name}=SPEC', with {{split}} in it)"
        ) from error
    if images.labels is None:
        raise SeelikeError(f"the images of {spec} have no labels, so nothing can be learnt from them")
    return images
