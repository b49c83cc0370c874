"""What single heads put out, and the Gram matrices of which that of any subset of heads is a sum.

Of concatenated heads the Gram matrix is the sum of theirs. Pushed through the output projection, heads add: with P_h
the contribution of head h, the Gram matrix of a subset is the sum of ``P_h P_g^T`` over all pairs of its heads.
So with one Gram matrix per head (or per pair of heads) the unbiased HSIC of every subset is a sum of products that are
known before the order of the heads is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from seelike.anatomy import Anatomy, AttentionSite
from seelike.anatomy.ops import MOVES, operation
from seelike.anatomy.positions import PlacedAttention
from seelike.errors import SeelikeError
from seelike.measures import write_gram
from seelike.studies.attention.weights import reading
from seelike.studies.base import Reading

Of = Literal["heads", "projected"]

NOISE_IMAGES = 2
"""Random images on which shapes and the order of heads are looked at."""


@dataclass(frozen=True)
class HeadSite:
    """The attention whose heads are compared.

    Attributes:
        placed: the attention, with the places of its queries and keys.
        reading: what is read of it: what its weights need, and its output.
        projection: (channels, heads * head_dim) the weight that its output meets; None where heads are concatenated.
    """

    placed: PlacedAttention
    reading: Reading
    projection: Tensor | None = None

    @property
    def heads(self) -> int:
        """How many heads."""
        return self.placed.heads

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Pairs of heads of the Gram matrices that are kept: each with itself, and under a projection all pairs."""
        if self.projection is None:
            return [(head, head) for head in range(self.heads)]
        return [(a, b) for a in range(self.heads) for b in range(a, self.heads)]

    def part_weights(self, members: Tensor) -> Tensor:
        """Which Gram matrices a subset is the sum of: (subsets, heads) -> (subsets, parts), of 0 and 1."""
        first, second = (torch.tensor(each) for each in zip(*self.parts, strict=True))
        return members[:, first] * members[:, second]

    def outputs(self, tensors: tuple[Tensor, ...], images: int) -> Tensor:
        """A_h V_h of every head, (images, heads, windows * tokens, head_dim), from what was read."""
        tensor = tensors[self.reading.points.index(self.placed.site.output)]
        _, tokens, width = tensor.shape[-3:]
        split = tensor.reshape(images, self.placed.windows, self.heads, tokens, width)
        return split.transpose(1, 2).reshape(images, self.heads, self.placed.windows * tokens, width)

    def write_grams(self, outputs: Tensor, grams: Tensor) -> None:
        """Write the Gram matrices of all parts into `grams` (parts, n, n), what lies below diagonals undefined.

        Args:
            outputs: (n, heads, tokens, head_dim) of a whole minibatch.
        """
        if self.projection is None:
            for head in range(self.heads):
                write_gram(outputs[:, head], grams[head])
            return
        n, outputs = len(outputs), outputs.to(grams.dtype)
        weight = self.projection.to(outputs).reshape(-1, self.heads, outputs.shape[-1])  # (channels, heads, head_dim)
        each = torch.einsum("nhtd,chd->hntc", outputs, weight)
        # The first example as origin, as everywhere: it keeps a large mean from eating digits.
        each = (each - each[:, :1]).flatten(2).flatten(0, 1)  # (heads * n, tokens * channels)
        together = torch.empty(len(each), len(each), dtype=grams.dtype, device=grams.device)
        write_gram(each, together)
        for part, (a, b) in enumerate(self.parts):
            block = together[a * n : (a + 1) * n, b * n : (b + 1) * n]
            grams[part] = block if a == b else block + block.T


def head_site(model: str, anatomy: Anatomy, placed: PlacedAttention, of: Of) -> HeadSite:
    """The heads of an attention, made sure to be readable.

    Raises:
        SeelikeError: the output does not have heads, tokens and channels in this order; with ``projected``, no linear
            layer follows that takes the heads one after the other.
    """
    points = reading(placed, shares=True).points
    site = placed.site
    points = points if site.output in points else (*points, site.output)
    weight, tensors = _look(anatomy, site)
    output = tensors[0]
    folded = output.dim() == 3 and placed.heads > 1
    if (
        output.dim() not in (3, 4)
        or output.shape[-2] != site.query_tokens
        or not (folded or output.shape[-3] == placed.heads)
    ):
        raise SeelikeError(
            f"{model}: the output of {site.name} {tuple(output.shape[1:])} cannot be read as {placed.heads} heads of "
            f"{site.query_tokens} tokens; choose another block (heads.block)"
        )
    found = HeadSite(placed, Reading(site.name, points))
    if of == "heads":
        return found
    if weight is None or not _takes_heads_in_order(found, tensors, weight):
        raise SeelikeError(
            f"{model}: no linear layer that takes the heads of {site.name} one after the other follows it; take "
            "heads.of=heads, which needs none"
        )
    return HeadSite(placed, found.reading, weight.detach())


def _look(anatomy: Anatomy, site: AttentionSite) -> tuple[Tensor | None, tuple[Tensor, ...]]:
    """Weight of the linear layer behind an attention; the attention's output and that layer's input on noise."""
    linear = _linear_behind(anatomy, site)
    points = [site.output] if linear is None else [site.output, linear.all_input_nodes[0].name]
    weights = (anatomy.parameter(str(node.target)) for node in anatomy.graph.nodes if node.op == "get_attr")
    like = next(weight for weight in weights if weight.is_floating_point())
    noise = torch.randn(NOISE_IMAGES, *anatomy.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        held = anatomy.run_until(anatomy.inputs(noise.to(like)), points)
    weight = None if linear is None else anatomy.parameter(str(linear.all_input_nodes[1].target))
    return weight, tuple(held[point] for point in points)


def _linear_behind(anatomy: Anatomy, site: AttentionSite) -> fx.Node | None:
    """The linear layer that an attention's output meets first, behind nothing but changes of shape."""
    node = next(node for node in anatomy.graph.nodes if node.name == site.output)
    while True:
        users = [user for user in node.users if operation(user) in MOVES or operation(user) == "linear"]
        if len(users) != 1:
            return None
        if operation(users[0]) == "linear":
            linear: fx.Node = users[0]
            return linear if linear.all_input_nodes[1].op == "get_attr" else None
        node = users[0]


def _takes_heads_in_order(found: HeadSite, tensors: tuple[Tensor, ...], weight: Tensor) -> bool:
    """Whether the features of a linear layer are the channels of the first head, then of the second, ...

    Whatever the order of images, windows and tokens: sums over all of them must agree.
    """
    output, features = tensors
    bare = HeadSite(found.placed, Reading(found.reading.name, (found.placed.site.output,)))
    heads = bare.outputs((output,), NOISE_IMAGES)  # (images, heads, tokens, head_dim)
    if not heads.shape[1] * heads.shape[3] == features.shape[-1] == weight.shape[1]:
        return False
    wanted, given = heads.double().sum((0, 2)).flatten(), features.double().flatten(0, -2).sum(0)
    return torch.allclose(wanted, given, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
