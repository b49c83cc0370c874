"""Where in the image the queries and keys of an attention lie.

Tokens of the whole image are placed by the layouts read in the attention's block (prefix tokens first, then the grid,
row by row); spatially reduced keys by the map that they are made of. Windows are placed by what they are made of: the
gradient of a window's queries with respect to the block's input is zero at every position but theirs. What cannot
be placed is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.sites import AttentionSite, Layout, Point
from seelike.anatomy.windows import CannotPlace, Example, attention_residuals, check_images_outermost, trace_window


@dataclass(frozen=True)
class PlacedAttention:
    """An attention site whose queries and keys have places in the image.

    Attributes:
        site: the attention.
        queries: (query_tokens - query_prefix, 2) row and column of patch centres in pixels, float64; of windowed
            attention those of one window, all windows being alike up to a shift.
        keys: (key_tokens - key_prefix, 2) the same of the keys; reduced keys lie at the centres of their cells.
        query_prefix: leading queries without a place (class token, registers); key_prefix: leading keys without.
        heads: heads of the attention, those folded into the batch dimension too.
        windows: windows of one image.
        patch: height and width in pixels of what one query stands for.
        shared_mask: mask that is the same for all images, None where there is none or every image has its own.
        own_mask: point of a mask that every image has of its own.
    """

    site: AttentionSite
    queries: Tensor
    keys: Tensor
    query_prefix: int
    key_prefix: int
    heads: int
    windows: int
    patch: tuple[float, float]
    shared_mask: Tensor | None = None
    own_mask: Point | None = None


def place_attentions(anatomy: Anatomy) -> tuple[tuple[PlacedAttention, ...], tuple[str, ...]]:
    """Place all attentions of a model.

    Runs the model once, on two random images, if it has any attention.

    Returns:
        The sites that can be placed, in execution order, and a note on each reason why others cannot.
    """
    if not anatomy.attentions:
        return (), ()
    example = Example(anatomy)
    placed: list[PlacedAttention] = []
    reasons: dict[str, list[str]] = {}
    for site in anatomy.attentions:
        try:
            placed.append(_place(anatomy, site, example))
        except CannotPlace as reason:
            reasons.setdefault(str(reason), []).append(site.name)
    return tuple(placed), tuple(f"left out {', '.join(names)}: {reason}" for reason, names in reasons.items())


def _place(anatomy: Anatomy, site: AttentionSite, example: Example) -> PlacedAttention:
    if len(example.shapes[site.query]) not in (3, 4):
        raise CannotPlace(f"queries of {len(example.shapes[site.query])} dimensions, where 3 or 4 are understood")
    if site.batch_factor > 1:
        check_images_outermost(anatomy, site, example)
    layouts = list(dict.fromkeys(_layouts(anatomy, site)))
    image = anatomy.input_size[1:]
    found = _match(layouts, site.query_tokens, image)
    windows = 1
    if found is not None:
        queries, query_prefix, patch = found
        if site.batch_factor > 1 and len(example.shapes[site.query]) == 4:
            raise CannotPlace("several rows of the batch belong to one image, and each has all its tokens")
        keys, key_prefix = queries, query_prefix
        if site.key_tokens != site.query_tokens:
            keys, key_prefix = _match_keys(layouts, site, image)
    elif site.batch_factor > 1:
        grid = next((x.grid for x in layouts if _tiles(x, site)), None)
        if grid is None or site.key_tokens != site.query_tokens:
            raise CannotPlace("its windows do not tile the grid of the block")
        patch = (image[0] / grid[0], image[1] / grid[1])
        queries = keys = trace_window(anatomy, site, example, grid) * torch.tensor(patch, dtype=torch.float64)
        query_prefix = key_prefix = 0
        windows = site.batch_factor
    else:
        few = f"its {site.query_tokens} queries" if site.query_tokens > 1 else "its only query"
        raise CannotPlace(f"{few} cannot be matched with positions in the image")
    if (query_prefix or key_prefix) and any(note.startswith(PREFIX_BEHIND) for note in anatomy.notes):
        raise CannotPlace("learned tokens stand behind those of the image")
    folded = site.batch_factor > 1 and windows == 1
    mask = example.tensors[site.mask] if site.mask is not None else None
    own = mask is not None and mask.dim() == len(example.shapes[site.query]) and mask.shape[0] > 1
    return PlacedAttention(
        site,
        queries,
        keys,
        query_prefix,
        key_prefix,
        heads=site.batch_factor if folded else site.heads,
        windows=windows,
        patch=patch,
        shared_mask=mask.detach() if mask is not None and not own else None,
        own_mask=site.mask if own else None,
    )


PREFIX_BEHIND = "Learned tokens are put behind"
"""How the anatomy's note on such models begins."""


def _layouts(anatomy: Anatomy, site: AttentionSite) -> Iterator[Layout]:
    """Layouts with a grid that were read in an attention's block, that of its residual stream first."""
    owner = site.block or site.name
    yield from (r.layout for r in attention_residuals(anatomy, site) if r.layout.grid is not None)
    for layer in anatomy.layers:
        inside = layer.block == owner or layer.name == owner or layer.name.startswith(f"{owner}.")
        if inside and layer.layout.grid is not None:
            yield layer.layout


def _match(
    layouts: list[Layout], tokens: int, image: tuple[int, int]
) -> tuple[Tensor, int, tuple[float, float]] | None:
    """Centres in pixels, prefix tokens and patch of the first layout that has so many tokens, prefix counted."""
    for layout in layouts:
        height, width = layout.grid or (0, 0)
        prefix = layout.prefix_tokens if layout.kind == "tokens" else 0
        # A grid finer than the pixels was misread.
        if prefix + height * width == tokens and height <= image[0] and width <= image[1] and height * width > 1:
            patch = (image[0] / height, image[1] / width)
            return _centres(height, width) * torch.tensor(patch, dtype=torch.float64), prefix, patch
    return None


def _match_keys(layouts: list[Layout], site: AttentionSite, image: tuple[int, int]) -> tuple[Tensor, int]:
    found = _match(layouts, site.key_tokens, image)
    if found is None:
        raise CannotPlace(f"its {site.key_tokens} keys cannot be matched with positions in the image")
    return found[0], found[1]


def _centres(height: int, width: int) -> Tensor:
    """Rows and columns of the centres of all cells, (height * width, 2), in cells."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns], -1).reshape(-1, 2).to(torch.float64) + 0.5


def _tiles(layout: Layout, site: AttentionSite) -> bool:
    height, width = layout.grid or (0, 0)
    return layout.prefix_tokens == 0 and site.batch_factor * site.query_tokens == height * width
