"""Which layers the paper looks at.

Figure 1 of Raghu et al. (2021) shows about 75 layers of a 12-block ViT and 122 of a ResNet-50: not only block
outputs but also 'the normalization layers and the hidden activations'. The rule here gives exactly 6 per block and 3
besides for a ViT (LN1, attention after its projection, LN2, MLP hidden after the activation, MLP output, block
output; embedding, embedding with position, final norm) and 7 per bottleneck unit, 2 per projection and 2 for the
stem of a ResNet (convolution and norm three times, unit output after the last ReLU). A tensor is taken if it is

1. the output of a norm;
2. the output of a convolution or linear layer; of a linear layer (not a convolution) that goes into an activation
   only, the activation's output in its stead;
3. the output of a block;
4. the embedding with position and class token, as it enters the first block;

except, for 1 and 2,

* what lies inside an attention before its output: the projections to queries, keys and values with all that is
  between them and the product with the values, and the attention module's own inner layers; a norm that queries,
  keys and values are all made from stays;
* what is not made of a module's output (layer scale, drop path: the branch's output is that of its linear layer);
* gates: what is squeezed to one position per image, or goes through a sigmoid only;
* the classifier: a convolution or linear layer whose output the model returns;
* tensors without positions (a vector per image), unless no tensor of the model has positions (a toy MLP).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from seelike.anatomy.attention import Attention, attention_core
from seelike.anatomy.flow import Flow
from seelike.anatomy.ops import ACTIVATIONS, CONVOLUTIONS, ELEMENTWISE, GATES, LINEARS, NORMS
from seelike.anatomy.values import Value, consumers

PROJECTIONS = CONVOLUTIONS | LINEARS

LONGEST_ACTIVATION = 6
"""Operations in a row that an activation may be written out in."""


@dataclass(frozen=True)
class Places:
    """What the rule needs to know besides the values."""

    attentions: list[Attention]
    block_outputs: frozenset[int]
    embedding: int | None
    model_outputs: frozenset[int]
    blocks: frozenset[str]
    module_types: dict[str, str]


def choose_sublayers(
    flow: Flow, values: dict[int, Value], positions: Callable[[Value], int], places: Places
) -> set[int]:
    """Origins of the values that the rule above takes."""
    inside = inside_attentions(flow, places)
    chosen: set[int] = set()
    for origin, value in values.items():
        if inside >> origin & 1 or not _is_norm_or_projection(flow, value, values, places):
            continue
        node = flow[origin]
        if node.op in PROJECTIONS and origin in places.model_outputs:
            continue
        users = consumers(flow, origin)
        if node.op in PROJECTIONS and users and all(user.op in GATES for user in users):
            continue
        activated = activation_of(flow, origin, values.keys()) if node.op in LINEARS else None
        chosen.add(origin if activated is None else activated)
    chosen |= places.block_outputs & values.keys()
    if places.embedding is not None and places.embedding in values:
        chosen.add(places.embedding)
    placed = {origin for origin in values if positions(values[origin]) > 1}
    return chosen & placed if placed else chosen


def _is_norm_or_projection(flow: Flow, value: Value, values: dict[int, Value], places: Places) -> bool:
    """Whether a norm, convolution or linear layer computes the value, or a module named so from parts."""
    if flow[value.origin].op in NORMS or flow[value.origin].op in PROJECTIONS:
        return True
    norms = [name.path for name in value.names if "norm" in places.module_types.get(name.path, "").lower()]
    return any(not _holds_a_norm(flow, path, values) for path in norms)


def _holds_a_norm(flow: Flow, path: str, values: dict[int, Value]) -> bool:
    """Whether the output of a norm operation inside module `path` has a name of its own (BatchNorm with activation)."""
    return any(
        flow[origin].op in NORMS and any(name.path == path or name.path.startswith(f"{path}.") for name in value.names)
        for origin, value in values.items()
    )


def activation_of(flow: Flow, origin: int, named: Collection[int]) -> int | None:
    """The first named tensor that is an activation of a value, where the value goes nowhere else.

    An activation may be written out (``x * sigmoid(1.7 x)``): all elementwise functions of the value alone are
    followed, and one of them must be an activation.
    """
    functions, activates = {origin}, False
    for user in _down(flow, origin):
        above = [p for p in flow[user].parents if flow[p].dependent]
        if not all(p in functions for p in above) or not (flow[user].op in ELEMENTWISE or flow.relabels(user)):
            continue
        functions.add(user)
        activates = activates or flow[user].op in ACTIVATIONS
        if activates and user in named:
            return user if all(u.index in functions for u in consumers(flow, origin)) else None
    return None


def _down(flow: Flow, origin: int) -> list[int]:
    """The nodes shortly below a node, in execution order."""
    found, level = set[int](), {origin}
    for _ in range(LONGEST_ACTIVATION):
        level = {user for index in level for user in flow.users[index] if flow[user].dependent}
        found |= level
    return sorted(found)


def inside_attentions(flow: Flow, places: Places) -> int:
    """Bitmask of what lies inside an attention before its output."""
    by_path: dict[str, int] = {}
    for node in flow.nodes:
        if node.dependent:
            by_path[node.path] = by_path.get(node.path, 0) | 1 << node.index
    mask = 0
    for attention in places.attentions:
        mask |= attention_core(flow, attention)
        owner = flow[attention.output].path
        if owner and owner not in places.blocks:
            own = sum(m for path, m in by_path.items() if path == owner or path.startswith(f"{owner}."))
            above = [flow.ancestors[part] for part in (attention.query, attention.key, attention.value)]
            mask |= own & flow.ancestors[attention.output] & ~(above[0] & above[1] & above[2])
            mask &= ~(1 << attention.output)
    return mask
