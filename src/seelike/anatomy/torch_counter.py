"""What torch's own counter says of a model: the outside oracle of `multiply_adds`."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.multiply_adds import MultiplyAdds
from seelike.anatomy.ops import CONVOLUTIONS


def torch_multiply_adds(anatomy: Anatomy) -> dict[str, int]:
    """Multiply-adds of one image by `torch.utils.flop_counter`, which counts kernels while the model runs once.

    Returns:
        ``convolution`` and ``product`` (linear layers, matrix products, attention): half of torch's operations.
    """
    ((shape, dtype, device),) = anatomy._wanted.values()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        anatomy.run(anatomy.inputs(torch.zeros((1, *shape), dtype=dtype, device=device)), {}, keep=False)
    found = {"convolution": 0, "product": 0}
    for kernel, operations in counter.get_flop_counts().get("Global", {}).items():
        found["convolution" if "conv" in str(kernel) else "product"] += int(operations) // 2
    return found


def disagreement(counted: MultiplyAdds, torch_says: dict[str, int]) -> str:
    """One sentence on where torch's count differs from ours; empty when they agree."""
    ours = {"convolution": 0, "product": 0}
    for each in counted.operations:
        ours["convolution" if each.op in CONVOLUTIONS else "product"] += each.multiply_adds
    differing = [
        f"{name}s {ours[name]:,} here and {torch_says[name]:,} there" for name in ours if ours[name] != torch_says[name]
    ]
    return f"torch's counter does not agree: {', '.join(differing)}" if differing else ""
