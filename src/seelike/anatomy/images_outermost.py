"""Make sure that the rows of windowed tensors belong to images one after the other.

Windows and positions are folded into the batch by some models. (images * windows, ...) can be read per image,
(windows * images, ...) cannot, and the symbolic shape is the same. Mostly the graph proves it: a row-major reshape
keeps the images outermost. Where it does not, the model is run twice, on two random images in both orders: what
belongs to an image must follow it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seelike.anatomy.export import Inputs
from seelike.anatomy.flow import Flow, FlowNode, argument
from seelike.anatomy.ops import CONVOLUTIONS, ELEMENTWISE, LINEARS, NORMS, named
from seelike.anatomy.tapping import TappedGraph
from seelike.anatomy.values import Name, listed

TOLERANCE = 1e-2
"""Largest difference, relative to the largest value: kernels may round differently with the place in a batch."""


def split_by_image(flow: Flow, names: list[Name], graph: TappedGraph, example: Inputs) -> list[str]:
    """Drop the names of tensors whose rows mix images (in place), and say so in one note."""
    proven = _proven(flow)
    doubtful = {flow[n.node].point for n in names if _has_windows(flow, n) and not proven[n.node]}
    if not doubtful:
        return []
    mixed = _mixed(flow, doubtful, graph, example)
    lost = [name.text for name in names if flow[name.node].point in mixed]
    names[:] = [name for name in names if flow[name.node].point not in mixed]
    if not lost:
        return []
    return [f"{listed(lost)}: images and windows lie interleaved in the batch; not among the layers"]


def mixing_note(flow: Flow) -> list[str]:
    """Say so if something is computed between the images of a batch (timm's csatv2 attends from image to image)."""
    first = next((node for node in flow.nodes if node.dependent and node.growing > 1), None)
    if first is None:
        return []
    where = first.path or "its forward pass"
    return [f"{where} compares the images of a batch: what is read depends on which images share one"]


def _has_windows(flow: Flow, name: Name) -> bool:
    node = flow[name.node]
    return node.dependent and node.floating and node.batch_dim is not None and node.batch_factor > 1


def _proven(flow: Flow) -> list[bool]:
    """For each node, whether the graph alone shows that images are outermost along the batch dimension."""
    found: list[bool] = []
    for node in flow.nodes:
        if not node.dependent or node.batch_factor == 1:
            found.append(True)
        else:
            above = [flow[p] for p in node.parents if flow[p].dependent]
            found.append(all(found[p.index] for p in above) and _keeps_images_outermost(node, above))
    return found


def _keeps_images_outermost(node: FlowNode, above: list[FlowNode]) -> bool:
    """Whether an operation leaves images outermost, given that they are so in its operands."""
    if node.op in _MOVE_DIMENSIONS:
        return True
    if node.op in _RESHAPE:
        return all(p.batch_dim == 0 and node.batch_dim in (None, 0) for p in above)
    if node.op in ("chunk", "split", "split_with_sizes"):
        return (argument(node, 2, "dim") or 0) not in {p.batch_dim for p in above}
    if node.op in ("cat", "concat"):
        dim = argument(node, 1, "dim") or 0
        return dim >= 0 and dim != node.batch_dim
    return node.op in _TREAT_ROWS_ALONE


_MOVE_DIMENSIONS = named(
    "permute transpose swapaxes unsqueeze squeeze contiguous clone alias dropout to getitem unbind"
)
_RESHAPE = frozenset(["view", "_unsafe_view", "reshape", "flatten", "unflatten"])
_TREAT_ROWS_ALONE = frozenset(
    [
        "scaled_dot_product_attention",
        "matmul",
        "bmm",
        "avg_pool2d",
        "max_pool2d",
        "upsample_bilinear2d",
        "linalg_vector_norm",
    ]
) | (ELEMENTWISE | LINEARS | CONVOLUTIONS | NORMS)


def _mixed(flow: Flow, points: set[str], graph: TappedGraph, example: Inputs) -> set[str]:
    first, second = _two_images(example)
    there: dict[str, Tensor] = {}
    mixed: set[str] = set()

    def keep(point: str, tensor: Tensor) -> None:
        there[point] = tensor.movedim(flow[flow.by_point[point]].batch_dim or 0, 0)

    def compare(point: str, tensor: Tensor) -> None:
        here, before = tensor.movedim(flow[flow.by_point[point]].batch_dim or 0, 0), there.pop(point)
        half = here.shape[0] // 2
        swapped = torch.cat([before[half:], before[:half]])
        if not (here - swapped).abs().max() <= TOLERANCE * before.abs().max():
            mixed.add(point)

    with torch.no_grad():
        for inputs, receive in ((first, keep), (second, compare)):
            taps = {point: (lambda tensor, p=point, r=receive: r(p, tensor)) for point in sorted(points)}
            if isinstance(inputs, dict):
                graph.run((), inputs, taps)
            else:
                graph.run(inputs, {}, taps)
    return mixed


def _two_images(example: Inputs) -> tuple[Inputs, Inputs]:
    """Two different random images in both orders, shaped as the example."""
    generator = torch.Generator().manual_seed(0)

    def pair(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return torch.cat([value[:1], value[:1]])
        noise = torch.randn((2, *value.shape[1:]), generator=generator)
        return noise.to(device=value.device, dtype=value.dtype)

    if isinstance(example, dict):
        named = {key: pair(value) for key, value in example.items()}
        return named, {key: value.flip(0) for key, value in named.items()}
    given = tuple(pair(value) for value in example)
    return given, tuple(value.flip(0) for value in given)
