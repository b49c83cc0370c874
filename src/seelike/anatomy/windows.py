"""Trace the windows of an attention to their positions in the image.

Windows lie in the batch dimension, and shapes do not tell windows of neighbours from grids of positions far apart
(MaxViT has both). Gradients do: that of a query with respect to the block's input is zero at every position that it is
not made of.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.sites import AttentionSite, Point, ResidualSite

EXAMPLE_SEED = 0


class CannotPlace(Exception):
    """Why a site has no places."""


class Example:
    """What a run on two random images shows of the attentions: shapes, masks, what windows are made of."""

    def __init__(self, anatomy: Anatomy) -> None:
        self.shapes: dict[Point, torch.Size] = {}
        self.tensors: dict[Point, Tensor] = {}
        kept: set[Point] = set()
        for site in anatomy.attentions:
            kept |= {site.mask} if site.mask is not None else set()
            if site.batch_factor > 1:
                kept |= {site.query, *(r.skip for r in attention_residuals(anatomy, site))}
        points = sorted(kept | {site.query for site in anatomy.attentions}, key=str)
        images = _random_images(anatomy)
        # Gradients are needed for windows only; elsewhere the run keeps nothing.
        windowed = any(site.batch_factor > 1 for site in anatomy.attentions)
        with torch.inference_mode(False), torch.set_grad_enabled(windowed):
            inputs = anatomy.inputs(images.requires_grad_(windowed))
            anatomy.run(inputs, {point: self._receiver(point, point in kept) for point in points})

    def _receiver(self, point: Point, keep: bool) -> Callable[[Tensor], None]:
        def receive(tensor: Tensor) -> None:
            self.shapes[point] = tensor.shape
            if keep:
                self.tensors[point] = tensor

        return receive


def _random_images(anatomy: Anatomy) -> Tensor:
    ((shape, dtype, device),) = anatomy._wanted.values()
    generator = torch.Generator().manual_seed(EXAMPLE_SEED)
    return torch.randn((2, *shape), generator=generator).to(device, dtype)


def attention_residuals(anatomy: Anatomy, site: AttentionSite) -> list[ResidualSite]:
    """Residual sums to which the attention's block adds it."""
    return [r for r in anatomy.residuals if r.block == site.block and r.branch_kind == "attention"]


def trace_window(anatomy: Anatomy, site: AttentionSite, example: Example, grid: tuple[int, int]) -> Tensor:
    """Centres of the tokens of one window, (query_tokens, 2) in cells.

    Raises:
        CannotPlace: the windows have no single positions, or are not alike.
    """
    places = window_cells(anatomy, site, example, grid)
    cells = torch.stack([places // grid[1], places % grid[1]], -1)
    return _alike(cells, grid).to(torch.float64) + 0.5


def window_cells(anatomy: Anatomy, site: AttentionSite, example: Example, grid: tuple[int, int]) -> Tensor:
    """Cell of every token of every window, (windows, query_tokens), cells counted row by row.

    Which token a position goes to is read in binary: with cotangents at the tokens whose number has a bit set, the
    gradient with respect to the block's input is zero at the positions of all others.

    Raises:
        CannotPlace: the windows overlap, are padded, or cannot be traced.
    """
    residual = next((r for r in attention_residuals(anatomy, site) if r.layout.grid == grid), None)
    if residual is None:
        raise CannotPlace("its block has no residual stream that its windows could be traced to")
    query = example.tensors[site.query]
    tokens = site.batch_factor * site.query_tokens
    number = torch.arange(tokens, device=query.device).reshape(site.batch_factor, 1, site.query_tokens, 1)
    number = (number if query.dim() == 4 else number.squeeze(1)).repeat(2, *[1] * (query.dim() - 1))
    token_of = torch.zeros(grid, dtype=torch.long, device=query.device)
    for bit in range(max(1, (tokens - 1).bit_length())):
        ones, zeros = (_reached(example, site, residual, number >> bit & 1 == value, grid)[0] for value in (1, 0))
        if not bool((ones ^ zeros).all()):
            raise CannotPlace("its windows overlap or are padded, so that their tokens are no single positions")
        token_of += ones.long() << bit
    if not bool((token_of.flatten().bincount(minlength=tokens) == 1).all()):
        raise CannotPlace("its windows are padded or repeat positions")
    return token_of.flatten().argsort().cpu().reshape(site.batch_factor, site.query_tokens)


def _alike(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """The window that does not wrap around, when all windows (windows, tokens, 2) are shifts of each other."""
    size = torch.tensor(grid)
    shifts = (cells - cells[:, :1]) % size
    if not bool((shifts == shifts[:1]).all()):
        raise CannotPlace("its windows differ in shape")
    extent = (cells.amax(1) - cells.amin(1)).sum(1)
    return cells[int(extent.argmin())]


def check_images_outermost(anatomy: Anatomy, site: AttentionSite, example: Example) -> None:
    """Make sure that the first half of the rows is made of the first of two images."""
    query = example.tensors[site.query]
    residual = next(iter(attention_residuals(anatomy, site)), None)
    if residual is None:
        raise CannotPlace("its block has no residual stream that its rows could be traced to")
    first = torch.arange(len(query), device=query.device) < len(query) // 2
    reached = _gradient(example, residual, site, first.reshape(-1, *[1] * (query.dim() - 1)))
    if bool(reached[1].any()):
        raise CannotPlace("images and windows lie interleaved in the batch")


def _reached(
    example: Example, site: AttentionSite, residual: ResidualSite, chosen: Tensor, grid: tuple[int, int]
) -> Tensor:
    """Which positions (2, height, width) of the block's input the chosen queries are made of."""
    gradient = _gradient(example, residual, site, chosen)
    layout = residual.layout
    if layout.kind == "map" and not layout.channels_last:
        return gradient.flatten(3).any(1) if gradient.dim() > 4 else gradient.any(1)
    return gradient.any(-1).reshape(2, *grid)


def _gradient(example: Example, residual: ResidualSite, site: AttentionSite, chosen: Tensor) -> Tensor:
    """Where the gradient of the chosen queries is not zero, (2, *residual.shape)."""
    query, skip = example.tensors[site.query], example.tensors[residual.skip]
    generator = torch.Generator().manual_seed(EXAMPLE_SEED)
    cotangent = torch.randn(query.shape, generator=generator).to(query) * chosen
    (gradient,) = torch.autograd.grad(query, skip, cotangent, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise CannotPlace("its queries are not made from the residual stream of its block")
    return residual.batch_first(gradient) != 0
