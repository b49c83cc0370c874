"""Choose layers by word or by glob."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

from seelike.anatomy.sites import LayerSite
from seelike.errors import SeelikeError, close_matches


def select_layers(layers: Sequence[LayerSite], choice: str | Sequence[str], model: str) -> tuple[LayerSite, ...]:
    """Layers named by ``blocks``, ``sublayers``, ``all``, or globs over names and aliases, in execution order."""
    words = [choice] if isinstance(choice, str) else list(choice)
    if not words:
        raise SeelikeError(f"{model}: no layers asked for; say blocks, sublayers, all, or a glob such as 'blocks.*'")
    taken = set()
    for word in words:
        taken |= {site.index for site in _matching(layers, word, model)}
    return tuple(site for site in layers if site.index in taken)


def _matching(layers: Sequence[LayerSite], word: str, model: str) -> list[LayerSite]:
    if word == "all":
        return list(layers)
    if word == "sublayers":
        return [site for site in layers if site.is_sublayer]
    if word == "blocks":
        found = [site for site in layers if site.is_block_output]
        if not found:
            raise SeelikeError(
                f"{model} has no blocks: none of its modules owns a residual sum. "
                "Take the layers 'sublayers' or 'all', or globs over module names"
            )
        return found
    pattern = re.compile(translate(word))
    found = [site for site in layers if any(pattern.match(name) for name in (site.name, *site.aliases))]
    if not found:
        names = [name for site in layers for name in (site.name, *site.aliases)]
        raise SeelikeError(
            f"{model} has no layer that matches {word!r}{close_matches(word.replace('*', ''), names)}. "
            "Take 'blocks', 'sublayers', 'all', or a glob over module names such as "
            f"'{layers[len(layers) // 2].name if layers else 'blocks.*'}'"
        )
    return found
