"""seelike: do two vision models see alike, and how does each of them see?

import seelike
tree = seelike.compare(["timm:vit_small_patch16_224", "timm:resnet50"], "folder:my-images", limit=2048)
tree["similarity/vit_small_patch16_224/resnet50"]["cka"]
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seelike.anatomy import Anatomy
    from seelike.comparison import compare
    from seelike.errors import SeelikeError
    from seelike.images import Images, load_images
    from seelike.models import Model, list_models, load_model
    from seelike.report import open_results
    from seelike.studies import (
        STUDIES,
        AttentionDistance,
        AttentionMaps,
        AttentionSimilarity,
        Cost,
        Embeddings,
        Finding,
        HeadSimilarity,
        LinearProbe,
        Localization,
        Position,
        ReceptiveField,
        ReferenceSimilarity,
        Separation,
        Similarity,
        SkipCut,
        SkipRatio,
        Study,
    )

__version__ = version("seelike")

__all__ = [
    "STUDIES",
    "Anatomy",
    "AttentionDistance",
    "AttentionMaps",
    "AttentionSimilarity",
    "Cost",
    "Embeddings",
    "Finding",
    "HeadSimilarity",
    "Images",
    "LinearProbe",
    "Localization",
    "Model",
    "Position",
    "ReceptiveField",
    "ReferenceSimilarity",
    "SeelikeError",
    "Separation",
    "Similarity",
    "SkipCut",
    "SkipRatio",
    "Study",
    "__version__",
    "compare",
    "list_models",
    "load_images",
    "load_model",
    "open_results",
]

# Imported when first asked for, so that `import seelike.measures` does not wait for timm and datasets.
_HOMES = {
    "seelike.anatomy": ("Anatomy",),
    "seelike.comparison": ("compare",),
    "seelike.errors": ("SeelikeError",),
    "seelike.images": ("Images", "load_images"),
    "seelike.models": ("Model", "list_models", "load_model"),
    "seelike.report": ("open_results",),
    "seelike.studies": (
        "STUDIES",
        "AttentionDistance",
        "AttentionMaps",
        "AttentionSimilarity",
        "Cost",
        "Embeddings",
        "Finding",
        "HeadSimilarity",
        "LinearProbe",
        "Localization",
        "Position",
        "ReceptiveField",
        "ReferenceSimilarity",
        "Separation",
        "Similarity",
        "SkipCut",
        "SkipRatio",
        "Study",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'seelike' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
