"""Everything that changes while a model is fitted, as one thing that can be saved and restored."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from seelike.train.recipe import OptimisationPart


class Fitting:
    """Weights, their running mean, optimiser and counters.

    Args:
        fabric: a launched Fabric.
        module: the model; it is moved to Fabric's device.
        how: the recipe's section.
    """

    def __init__(self, fabric: Any, module: nn.Module, how: OptimisationPart) -> None:
        from timm.optim import param_groups_weight_decay
        from timm.utils import ModelEmaV3

        spared: set[str] = getattr(module, "no_weight_decay", set)()
        groups = param_groups_weight_decay(module, how.weight_decay, spared)
        on_cpu = fabric.device.type == "cpu"
        optimizer = torch.optim.AdamW(groups, lr=how.rate, fused=on_cpu)  # elsewhere torch knows better
        self.fabric = fabric
        self.module = module
        self.forward, self.optimizer = fabric.setup(module, optimizer)
        self.ema = ModelEmaV3(module, decay=how.ema, use_warmup=True) if how.ema else None
        self.step = 0
        self.seconds = 0.0  # of training, over all resumed parts
        self.cpu_seconds = 0.0  # of the processor, all threads of this process: other work does not lengthen it
        self.loss = torch.zeros((), device=fabric.device)  # summed over `steps_since` steps
        self.steps_since = 0

    @property
    def best(self) -> nn.Module:
        """The network to evaluate and keep."""
        return self.module if self.ema is None else self.ema.module

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, all of it tensors, numbers and text."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "loss": self.loss,
            "steps_since": self.steps_since,
            "module": self.module.state_dict(),
            "ema": {} if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # the scale of fp16's losses
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.step, self.seconds, self.cpu_seconds = state["step"], state["seconds"], state["cpu_seconds"]
        self.loss, self.steps_since = state["loss"].to(self.fabric.device), state["steps_since"]
        self.module.load_state_dict(state["module"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["precision"]:
            self.fabric.strategy.precision.load_state_dict(state["precision"])
