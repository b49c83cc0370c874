"""CKA between every token of a layer and every patch of the image (Figures 9, 10 and D.1-D.3; paper.md 3).

A token's features over the images of a minibatch are one representation, a patch's pixels another. All pairs of both
cost one matrix product per layer: Gram matrices stacked as (tokens, n (n - 1) / 2) times (patches, n (n - 1) / 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seelike.measures.gram import float64_device
from seelike.measures.products import GramSums, gram_sums

CHUNK_BYTES = 1 << 23
"""Bytes of features shifted and multiplied at a time."""


@dataclass(frozen=True)
class TokenSums:
    """Gram matrices of every token of one minibatch, ready for `hsic_products`.

    Attributes:
        sums: the Grams; size: (tokens,) float64, squared norm of one example's features times n.
    """

    sums: GramSums
    size: Tensor

    @property
    def own(self) -> Tensor:
        """``n (n - 3) HSIC_1`` of every token with itself, (tokens,) float64: the diagonal of `hsic_products`."""
        n = self.sums.rows.shape[-1]
        total = self.sums.rows.sum(-1)
        own = 2 * self.sums.upper.square().sum(-1) - (2 / (n - 2)) * self.sums.rows.square().sum(-1)
        return own + total.square() / ((n - 1) * (n - 2))


def token_sums(features: Tensor) -> TokenSums:
    """Gram matrices of all tokens at once, with the first example as origin (see `measures.gram`).

    Args:
        features: (n, tokens, d), n >= 4, any floating dtype. Products are in float32 (float64 stays), sums in float64.

    Raises:
        ValueError: fewer than 4 examples.
    """
    n, tokens, d = features.shape
    work = features.dtype if features.dtype == torch.float64 else torch.float32
    grams = torch.empty(tokens, n, n, dtype=work, device=features.device)
    step = max(1, CHUNK_BYTES // max(1, n * d * work.itemsize))
    for first in range(0, tokens, step):
        part = features[:, first : first + step].to(work)
        part = (part - part[0]).transpose(0, 1).contiguous()  # (some tokens, n, d)
        torch.bmm(part, part.mT, out=grams[first : first + step])
    norms = torch.linalg.vector_norm(features[0].to(work), dim=-1).to(float64_device(features.device), torch.float64)
    return TokenSums(gram_sums(grams), norms.square() * n)


def patches_of(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut images into a grid of patches, row by row.

    Args:
        images: (n, channels, height, width); grid: (rows, columns), at most height and width.

    Returns:
        (n, rows * columns, channels * patch height * patch width). Where the grid does not divide the image, row r
        has the pixels from ``r * height // rows`` on, and the shorter patches end in zeros, which no Gram matrix sees.
    """
    n, channels = images.shape[:2]
    (ys, cut_y), (xs, cut_x) = (_places(size, cells) for size, cells in zip(images.shape[2:], grid, strict=True))
    if cut_y or cut_x:
        images = F.pad(images, (0, 1, 0, 1))
    rows = images[:, :, ys.to(images.device)]  # (n, channels, rows, patch height, width)
    cells = rows[..., xs.to(images.device)]  # (n, channels, rows, patch height, columns, patch width)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(n, grid[0] * grid[1], channels * ys.shape[1] * xs.shape[1])


def _places(size: int, cells: int) -> tuple[Tensor, bool]:
    """Pixels (cells, longest) of every cell along one side, `size` standing for none; whether there is any such."""
    edges = torch.arange(cells + 1) * size // cells
    lengths = edges[1:] - edges[:-1]
    steps = torch.arange(int(lengths.max()))
    places = torch.where(steps < lengths[:, None], edges[:-1, None] + steps, size)
    return places, bool((places == size).any())


def join_positions(features: Tensor, grid: tuple[int, int], factor: int) -> Tensor:
    """Put squares of neighbouring positions together, so that a fine map has a coarser grid.

    Args:
        features: (n, rows * columns, d), row by row; factor: side of a square, which divides both.

    Returns:
        (n, rows / factor * columns / factor, factor^2 d)
    """
    if factor == 1:
        return features
    n, _, d = features.shape
    rows, columns = (side // factor for side in grid)
    squares = features.reshape(n, rows, factor, columns, factor, d).transpose(2, 3)
    return squares.reshape(n, rows * columns, factor * factor * d)


def counted_tokens(cka: Tensor) -> Tensor:
    """Tokens (..., tokens) that have a CKA with their own patch, from CKA (..., tokens, patches)."""
    return ~cka.diagonal(dim1=-2, dim2=-1).isnan()


def own_patch_hit(cka: Tensor) -> Tensor:
    """1 where a token's largest CKA is with its own patch, else 0.

    Args:
        cka: (..., tokens, patches), as many patches as tokens; NaN where one does not vary.

    Returns:
        (..., tokens), NaN for tokens that are not counted.
    """
    best = cka.nan_to_num(nan=-torch.inf).argmax(-1)
    hit = (best == torch.arange(cka.shape[-1], device=cka.device)).to(cka)
    return hit.masked_fill(~counted_tokens(cka), torch.nan)


def own_patch_rank(cka: Tensor) -> Tensor:
    """Rank of a token's own patch among all by CKA, 1 first, ties in the middle; shapes as in `own_patch_hit`."""
    own = cka.diagonal(dim1=-2, dim2=-1)[..., None]
    rank = (cka > own).sum(-1) + ((cka == own).sum(-1) + 1) / 2
    return rank.to(cka).masked_fill(~counted_tokens(cka), torch.nan)


def peak_distance(cka: Tensor, distances: Tensor) -> Tensor:
    """Distance between a token's own patch and the patch of its largest CKA; shapes as in `own_patch_hit`.

    Args:
        cka: (..., tokens, patches); distances: (tokens, patches) between middles of patches, in pixels.
    """
    best = cka.nan_to_num(nan=-torch.inf).argmax(-1, keepdim=True)
    found = distances.to(cka).expand_as(cka).gather(-1, best)[..., 0]
    return found.masked_fill(~counted_tokens(cka), torch.nan)


def own_patch_margin(cka: Tensor) -> Tensor:
    """CKA of a token with its own patch minus the mean with all others; shapes as in `own_patch_hit`."""
    own = cka.diagonal(dim1=-2, dim2=-1)
    others = (~cka.isnan()).sum(-1) - 1
    return own - (cka.nansum(-1) - own) / others


def grid_distances(grid: tuple[int, int], height: int, width: int) -> Tensor:
    """Distances in pixels between the middles of all cells of a grid on an image, (cells, cells) float64."""
    sides = [torch.arange(cells + 1) * size // cells for cells, size in zip(grid, (height, width), strict=True)]
    y, x = ((edges[:-1] + edges[1:] - 1) / 2 for edges in sides)
    middles = torch.cartesian_prod(y, x).double()
    return torch.cdist(middles, middles, compute_mode="donot_use_mm_for_euclid_dist")


def on_border(grid: tuple[int, int]) -> Tensor:
    """Whether a cell lies on the edge of its grid, (cells,)."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    edge = (rows == 0) | (rows == grid[0] - 1) | (columns == 0) | (columns == grid[1] - 1)
    return edge.flatten()
