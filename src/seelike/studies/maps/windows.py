"""Which position every token of every window is: windows of one model are alike, but a map needs the right one."""

from __future__ import annotations

import torch
from torch import Tensor

from seelike.anatomy import Anatomy
from seelike.anatomy.positions import PlacedAttention
from seelike.anatomy.windows import Example, _reached, attention_residuals


def window_cells(anatomy: Anatomy, placed: PlacedAttention, example: Example, grid: tuple[int, int]) -> Tensor:
    """Cell of every token of every window, (windows, tokens), cells counted row by row.

    Read as `anatomy.windows.trace_window` does, which keeps one window only: by gradients, the number of a token bit
    by bit. The site has been placed, so its windows are known to tile the grid.
    """
    site = placed.site
    residual = next(r for r in attention_residuals(anatomy, site) if r.layout.grid == grid)
    query = example.tensors[site.query]
    tokens = site.batch_factor * site.query_tokens
    number = torch.arange(tokens, device=query.device).reshape(site.batch_factor, 1, site.query_tokens, 1)
    number = (number if query.dim() == 4 else number.squeeze(1)).repeat(2, *[1] * (query.dim() - 1))
    token_of = torch.zeros(grid, dtype=torch.long, device=query.device)
    for bit in range(max(1, (tokens - 1).bit_length())):
        token_of += _reached(example, site, residual, number >> bit & 1 == 1, grid)[0].long() << bit
    return token_of.flatten().argsort().cpu().reshape(site.batch_factor, site.query_tokens)
