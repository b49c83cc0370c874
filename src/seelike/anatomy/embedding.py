"""The patch embedding of a model (or its stem convolution), as filters over pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.flow import Flow, FlowNode, Ref, argument, bits, read_flow
from seelike.anatomy.ops import CONVOLUTIONS, LINEARS, PRODUCTS, RELABEL, named

HARMLESS = RELABEL | named("sub mul div add pad constant_pad_nd batch_norm float")
"""What may happen to the pixels before the first convolution: they stay where they are."""

BASE = 128
"""Pixels are numbered in digits of this base, which half precision holds exactly."""


class CannotRead(Exception):
    """Why an embedding cannot be read: the end of a sentence that names the model."""


@dataclass(frozen=True)
class PatchEmbedding:
    """The first operation that mixes pixels, if it is a convolution or a linear layer of patches.

    Attributes:
        path: module that owns it; index: of its node in the flow.
        filters: (d, channels, height, width) float64, on the CPU.
        stride: rows and columns of pixels from one place to the next.
        grid: rows and columns of places.
    """

    path: str
    index: int
    filters: Tensor
    stride: tuple[int, int]
    grid: tuple[int, int]

    @property
    def cuts(self) -> bool:
        """Whether it cuts the image into patches: every pixel is seen once."""
        return tuple(self.filters.shape[2:]) == self.stride


def flow_of(anatomy: Anatomy) -> Flow:
    """The graph of a model as plain data."""
    graph_module = anatomy.graph.owning_module
    assert graph_module is not None  # the graph is that of a module that runs
    return read_flow(graph_module)


def constant(anatomy: Anatomy, point: str) -> Tensor:
    """What a node holds that does not depend on the image (at a batch of one), float64 on the CPU."""
    blank = _images(anatomy, torch.zeros(1, *anatomy.input_size))
    return anatomy.run_until(anatomy.inputs(blank), [point])[point].detach().double().cpu()


def read_patch_embedding(anatomy: Anatomy, flow: Flow) -> PatchEmbedding:
    """Find the first convolution or linear layer of the image, and its filters.

    Raises `CannotRead` when the first thing done to the pixels is neither, or they are rearranged before it in a way
    that cannot be followed.
    """
    first = next((n for n in flow.nodes if n.dependent and n.op in CONVOLUTIONS | LINEARS | PRODUCTS), None)
    if first is None or first.op == "addmm" or first.op in PRODUCTS or first.shape is None:
        raise CannotRead("its pixels go neither through a convolution nor through a linear layer first")
    source, weight = first.args[:2]
    if not isinstance(weight, Ref) or not isinstance(source, Ref) or flow[weight.index].dependent:
        raise CannotRead("the weights of its first layer are not fixed")
    with torch.no_grad():
        values = constant(anatomy, flow[weight.index].point)
        if first.op in CONVOLUTIONS:
            return _convolution(anatomy, flow, first, source.index, values)
        return _linear(anatomy, first, flow[source.index], values)


def _convolution(anatomy: Anatomy, flow: Flow, first: FlowNode, source: int, filters: Tensor) -> PatchEmbedding:
    rearranged = [n.op for n in map(flow.__getitem__, bits(flow.ancestors[source])) if n.op not in HARMLESS]
    channels = anatomy.input_size[0]
    if filters.ndim != 4 or rearranged != ["placeholder"] or filters.shape[1] != channels or first.shape is None:
        raise CannotRead("its pixels are rearranged, or taken apart by channel, before its first convolution")
    rows, columns = _pair(argument(first, 3, "stride") or 1)
    grid = (first.shape[2], first.shape[3])
    return PatchEmbedding(first.path, first.index, filters, (rows, columns), grid)


def _pair(value: int | list[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _linear(anatomy: Anatomy, first: FlowNode, source: FlowNode, weight: Tensor) -> PatchEmbedding:
    """Filters of a linear layer of patches; which feature is which pixel is read off an image of numbered pixels."""
    channels, height, width = anatomy.input_size
    number = torch.arange(channels * height * width).reshape(1, channels, height, width)
    digits = torch.cat([number // BASE**place % BASE for place in range(4)])
    images = _images(anatomy, digits)
    seen = anatomy.run_until(anatomy.inputs(images), [source.point])[source.point].double().cpu()
    if seen.ndim != 3 or len(seen) != len(digits) or bool((seen != seen.round()).any()):
        raise CannotRead("its pixels are not handed to its first linear layer as they are")
    pixel = sum(part * BASE**place for place, part in enumerate(seen.long()))  # (tokens, features)
    assert isinstance(pixel, Tensor)
    channel, row, column = pixel // (height * width), pixel // width % height, pixel % width
    top, left = row.amin(1), column.amin(1)
    size = int(row[0].max() - top[0]) + 1, int(column[0].max() - left[0]) + 1
    grid = (height // size[0], width // size[1])
    in_order = torch.cartesian_prod(torch.arange(grid[0]) * size[0], torch.arange(grid[1]) * size[1])
    whole = channels * size[0] * size[1] == pixel.shape[1] == len(set(pixel[0].tolist()))
    if not whole or not torch.equal(torch.stack([top, left], 1), in_order):
        raise CannotRead("its first linear layer does not take patches of the image, row by row")
    filters = torch.zeros(len(weight), channels, *size, dtype=torch.float64)
    filters[:, channel[0], row[0] - top[0], column[0] - left[0]] = weight
    return PatchEmbedding(first.path, first.index, filters, size, grid)


def _images(anatomy: Anatomy, values: Tensor) -> Tensor:
    """Values as images of the type and on the device that the model was read with."""
    ((_, dtype, device),) = anatomy._wanted.values()
    return values.to(device, dtype)
