"""Names of tensor operations, sorted by what they mean to the reader of a graph."""

from __future__ import annotations

import torch
from torch import fx


def named(text: str) -> frozenset[str]:
    """Operations by their names in a row."""
    return frozenset(text.split())


RELABEL = named(
    "view _unsafe_view reshape view_as permute transpose swapaxes movedim moveaxis t flatten unflatten squeeze "
    "unsqueeze contiguous clone alias detach lift_fresh_copy dropout feature_dropout alpha_dropout to _to_copy "
    "type_as slice narrow pad constant_pad_nd expand expand_as numpy_T mT roll"
)
"""Operations that, when the number of values, the dtype and the batch stay, hold the same numbers in other order."""

MOVES = RELABEL | frozenset(["float", "flip"])
"""Operations that compute nothing: a skip that passes through them is still a skip."""

PIECES = named("getitem slice select narrow chunk split split_with_sizes unbind tensor_split")
"""Operations that take a part of a tensor."""

CONVOLUTIONS = named("conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d")
LINEARS = frozenset(["linear", "addmm"])
PRODUCTS = frozenset(["matmul", "bmm", "mm", "baddbmm", "einsum"])
FUSED_ATTENTION = frozenset(["scaled_dot_product_attention"])
POOLS = named(
    "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool2d adaptive_max_pool1d max_pool2d_with_indices lp_pool2d"
)
CONTRACTIONS = CONVOLUTIONS | LINEARS | PRODUCTS | FUSED_ATTENTION | POOLS | frozenset(["lstm", "gru", "rnn_tanh"])
"""Operations that mix positions or channels: what a residual branch must contain at least one of."""

NORMS = named(
    "batch_norm _native_batch_norm_legit_no_training native_batch_norm layer_norm native_layer_norm group_norm "
    "native_group_norm instance_norm rms_norm _fused_rms_norm cudnn_batch_norm"
)
ACTIVATIONS = named(
    "relu relu6 gelu silu hardswish hardtanh hardsigmoid sigmoid tanh leaky_relu elu selu celu mish softplus "
    "prelu rrelu log_sigmoid softsign tanhshrink glu"
)
GATES = frozenset(["sigmoid", "hardsigmoid"])
SOFTMAXES = frozenset(["softmax", "_softmax", "_safe_softmax"])
ADDITIONS = frozenset(["add", "add_"])
ELEMENTWISE = (
    ACTIVATIONS
    | ADDITIONS
    | SOFTMAXES
    | named("mul mul_ sub div div_ neg pow sqrt rsqrt exp square clamp where lerp abs erf addcmul")
)
"""Operations that leave every dimension in its place."""


def operation(node: fx.Node) -> str:
    """Bare name of what a node does: ``linear``, ``add``, ``getitem``, ``placeholder``, ``get_attr``."""
    if node.op != "call_function":
        return node.op
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.split("::")[1]
    return str(getattr(node.target, "__name__", node.target))
