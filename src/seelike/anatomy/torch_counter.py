"""What torch's own counter says of a model: the outside oracle of `multiply_adds`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.multiply_adds import MultiplyAdds
from seelike.anatomy.ops import CONVOLUTIONS


def torch_multiply_adds(anatomy: Anatomy) -> dict[str, int]:
    """Multiply-adds of one image by `torch.utils.flop_counter`, which counts kernels while the model runs once.

    Returns:
        ``convolution`` and ``product`` (linear layers, matrix products, attention): half of torch's operations.
    """
    ((shape, dtype, device),) = anatomy._wanted.values()
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_unknown_to_torch()) as counter:
        anatomy.run(anatomy.inputs(torch.zeros((1, *shape), dtype=dtype, device=device)), {}, keep=False)
    found = {"convolution": 0, "product": 0}
    for kernel, operations in counter.get_flop_counts().get("Global", {}).items():
        found["convolution" if "conv" in str(kernel) else "product"] += int(operations) // 2
    return found


def _unknown_to_torch() -> dict[Any, Callable[..., int]]:
    """The fused attention of CPUs, which torch 2.11's counter passes over; later ones know it."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return {} if kernel in flop_registry else {kernel: _attention}


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Operations of an attention by the shapes of its operands, by torch's formula."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def disagreement(counted: MultiplyAdds, torch_says: dict[str, int]) -> str:
    """One sentence on where torch's count differs from ours; empty when they agree."""
    ours = {"convolution": 0, "product": 0}
    for each in counted.operations:
        ours["convolution" if each.op in CONVOLUTIONS else "product"] += each.multiply_adds
    differing = [
        f"{name}s {ours[name]:,} here and {torch_says[name]:,} there" for name in ours if ours[name] != torch_says[name]
    ]
    return f"torch's counter does not agree: {', '.join(differing)}" if differing else ""
