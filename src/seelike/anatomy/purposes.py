"""What the projections and products of a graph are for: attention, or the MLP of a block."""

from __future__ import annotations

from dataclasses import dataclass

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.attention import attention_core, find_attentions
from seelike.anatomy.flow import Flow, FlowNode, Ref
from seelike.anatomy.ops import CONVOLUTIONS, FUSED_ATTENTION, LINEARS, PRODUCTS


@dataclass(frozen=True)
class PurposeMasks:
    """Bitmasks over the nodes of a flow.

    Attributes:
        products_of_data: products of two tensors that both come from the image, fused attention among them.
        projections: linear layers, convolutions and products that make queries, keys and values, or project the
            output of an attention; those of attention over channels among them, where it is a module.
        mlps: what lies in residual branches that are MLPs.
    """

    products_of_data: int
    projections: int
    mlps: int


def purpose_masks(flow: Flow, anatomy: Anatomy) -> PurposeMasks:
    """Read the purposes off the graph: how things hang together first, which module they are in second."""
    multiplying = flow.mask(CONVOLUTIONS | LINEARS | PRODUCTS)
    blocks = frozenset(anatomy.blocks)
    projections = products = 0
    for attention in find_attentions(flow):
        projections |= attention_core(flow, attention) | _after(flow, attention.output)
    owners = set()
    for node in flow.nodes:
        if node.dependent and _multiplies_data(flow, node):
            products |= 1 << node.index
            owners |= {node.path} - blocks - {""}
    # Attention over channels is none over tokens, but the module that multiplies data with data projects for it.
    for node in flow.nodes:
        if node.dependent and any(_within(node.path, owner) for owner in owners):
            projections |= 1 << node.index
    mlps = 0
    for residual in anatomy.residuals:
        if residual.branch_kind == "mlp":
            mlps |= flow.between(flow.by_point[residual.skip], flow.by_point[residual.branch])
    return PurposeMasks(products, projections & multiplying, mlps & multiplying)


def _after(flow: Flow, output: int) -> int:
    """The projections that take the output of an attention as it is."""
    mask, waiting = 0, [output]
    while waiting:
        for user in flow.users[waiting.pop()]:
            if flow[user].op in LINEARS | CONVOLUTIONS | PRODUCTS:
                mask |= 1 << user
            elif flow.relabels(user):
                waiting.append(user)
    return mask


def _within(path: str, owner: str) -> bool:
    return path == owner or path.startswith(f"{owner}.")


def _multiplies_data(flow: Flow, node: FlowNode) -> bool:
    if node.op in FUSED_ATTENTION:
        return True
    if node.op not in PRODUCTS:
        return False
    operands = node.args[1] if node.op == "einsum" else node.args
    return sum(isinstance(o, Ref) and flow[o.index].dependent for o in operands) >= 2
