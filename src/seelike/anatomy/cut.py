"""Cut skips out of a model that has them: ``z + f(z)`` becomes ``f(z)`` in the blocks chosen (Figure 8 of the paper).

The graph is edited, so any model whose residual sums are found can be cut, without its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Literal, get_args

import torch
from torch import fx

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.functional import IN_PLACE
from seelike.anatomy.sites import ResidualSite
from seelike.errors import SeelikeError

Sublayers = Literal["both", "attention", "mlp"]
"""Which skips of a block: all of them, or those around one kind of branch."""


def cut_skips(anatomy: Anatomy, block: int, sublayers: Sublayers = "both") -> Anatomy:
    """The anatomy of the same model without the skips of one block.

    Its graph runs, and has gradients, as if the block had been written without them; weights are the model's own. Its
    sites are those of the model, but for the residual sums that are sums no more; what they made, the branches make.

    Args:
        anatomy: of a model with residual sums.
        block: place among `anatomy.blocks`, from 0.
        sublayers: ``both`` cuts every skip of the block (a unit of a ResNet has one), ``attention`` or ``mlp`` one.

    Raises:
        SeelikeError: a block that does not exist, or that has no such skip.
    """
    chosen = skips_of(anatomy, block, sublayers)
    cut = copy(anatomy)
    cut._graph = anatomy._graph.edited(lambda graph: _remove(graph, chosen, anatomy.name))
    cut.name = f"{anatomy.name} without {_listed(chosen)}"
    cut.residuals = tuple(site for site in anatomy.residuals if site not in chosen)
    cut.notes = (*anatomy.notes, f"Cut: the skips of {_listed(chosen)}")
    return cut


def skips_of(anatomy: Anatomy, block: int, sublayers: Sublayers = "both") -> tuple[ResidualSite, ...]:
    """The residual sums that `cut_skips` would cut. Raises as it does."""
    if not anatomy.blocks:
        raise SeelikeError(f"{anatomy.name} has no blocks with residual sums, so there is no skip to cut")
    if isinstance(block, bool) or not isinstance(block, int) or not 0 <= block < len(anatomy.blocks):
        last = len(anatomy.blocks) - 1
        raise SeelikeError(
            f"{anatomy.name} has no block {block}; its blocks are counted from 0 ({anatomy.blocks[0]}) to {last} "
            f"({anatomy.blocks[last]})"
        )
    if sublayers not in get_args(Sublayers):
        raise SeelikeError(f"sublayer {sublayers!r} is none of {', '.join(get_args(Sublayers))}")
    path = anatomy.blocks[block]
    own = [site for site in anatomy.residuals if site.block == path]
    chosen = tuple(site for site in own if sublayers in ("both", site.branch_kind))
    if not chosen:
        raise SeelikeError(
            f"block {block} of {anatomy.name} ({path}) has no skip around a branch of {sublayers}; it has "
            f"{_listed(own)}: choose both"
        )
    return chosen


def _remove(graph: fx.Graph, sites: Sequence[ResidualSite], name: str) -> None:
    nodes = {node.name: node for node in graph.nodes}
    for site in sites:
        total, branch = nodes[site.sum], nodes[site.branch]
        target = total.target
        in_place = isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable
        if in_place or total.kwargs.get("alpha", 1) != 1 or branch not in total.args:
            raise SeelikeError(
                f"{name}: the skip of {site.name} cannot be cut: the model writes the sum over a tensor that it uses "
                "again, or scales it on the way; write it as skip + branch"
            )
        # Memory of its own, as the sum had: what the model does in place afterwards must not reach the branch.
        total.target = torch.ops.aten.clone.default
        total.args, total.kwargs = (branch,), {}
        total.meta.pop(IN_PLACE, None)


def _listed(sites: Sequence[ResidualSite]) -> str:
    return " and ".join(site.name for site in sites)
