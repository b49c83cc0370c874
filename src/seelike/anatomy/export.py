"""Turn a module into a graph, and learn which node is the output of which submodule.

`torch.export` records one forward pass with a symbolic batch size. Module paths are not read off the graph's own
metadata, which knows about four in five of them: forward hooks that run during the export ask the tracer which
node holds the tensor that a module has just returned.
"""

from __future__ import annotations

import contextlib
import io
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.utils import _pytree as pytree

from seelike.errors import SeelikeError

Inputs = dict[str, Tensor] | tuple[Tensor, ...]


@dataclass(frozen=True)
class ModuleOutput:
    """One tensor that one call of a module returned: the `output`-th of the `call`-th call of `path`."""

    path: str
    call: int
    output: int
    node: str
    """Name of the graph node that made the tensor."""
    moment: str
    """Name of the last node in the graph when the module returned."""


@dataclass(frozen=True)
class Exported:
    """A module as a graph: the graph module shares its parameters with the model."""

    graph_module: fx.GraphModule
    outputs: tuple[ModuleOutput, ...]
    module_types: dict[str, str]
    """Class name of every module path."""


def unwrap(module: nn.Module) -> nn.Module:
    """Take off what `torch.compile` and the data-parallel wrappers put around a model."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def export(module: nn.Module, example: Inputs, *, name: str = "model") -> Exported:
    """Export `module` in eval mode with a dynamic batch dimension (dim 0 of every input).

    The module keeps its own training flags afterwards. An example of batch 1 is doubled, because a batch of one
    would be frozen into the graph.

    Raises:
    ------
    SeelikeError
        If torch cannot turn the model into a graph; it names the model, what torch said, and what to try.
    """
    module = unwrap(module)
    if isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise SeelikeError(
            f"{name} is a TorchScript module, which torch.export cannot read: "
            "give the Python model that it was scripted or traced from, with the same weights"
        )
    with torch.inference_mode(False):  # copies made here can be traced, whatever mode the caller is in
        args, kwargs = _example(example, name)
    batch = Dim("batch", min=1, max=65536)
    shapes: Any = {key: {0: batch} for key in kwargs} if kwargs else tuple({0: batch} for _ in args)
    recorder = _Recorder()
    try:
        with _eval_mode(module), recorder.hooks(module), _tracing_switches(), contextlib.redirect_stderr(io.StringIO()):
            program = torch.export.export(module, args, kwargs or None, dynamic_shapes=shapes, strict=False)
            graph_module = program.module(check_guards=False)
    except Exception as error:  # torch raises many kinds, and each means the same to the user
        raise SeelikeError(_why_not(name, error)) from error
    if not isinstance(graph_module, fx.GraphModule):  # a promise of torch's documentation
        raise SeelikeError(f"{name}: torch.export gave no graph module but a {type(graph_module).__name__}")
    types = {path: type(child).__name__ for path, child in module.named_modules()}
    return Exported(graph_module, tuple(recorder.outputs), types)


def _example(example: Inputs, name: str) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Split the example into arguments and keyword arguments, of batch 2 or more."""
    values = list(example.values()) if isinstance(example, dict) else list(example)
    if not values or not all(isinstance(v, Tensor) and v.ndim > 0 and v.shape[0] > 0 for v in values):
        raise SeelikeError(f"{name}: the example must be one or more tensors with the batch in dim 0")

    def at_least_two(value: Tensor) -> Tensor:
        value = value.detach()
        return torch.cat([value, value]) if value.shape[0] == 1 else value.clone()

    if isinstance(example, dict):
        return (), {key: at_least_two(value) for key, value in example.items()}
    return tuple(at_least_two(value) for value in example), {}


def _why_not(name: str, error: Exception) -> str:
    """Word a failed export: the model, the first line of what torch said, and what to try."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = f"{type(error).__name__}: {lines[0] if lines else '(no message)'}"
    said = said if len(said) <= 300 else said[:297] + "..."
    return (
        f"{name} cannot be read as a graph by torch.export ({said}). "
        "Usual causes: the forward pass branches on the values of a tensor (.item(), boolean indexing), works only "
        "for one batch size, or does not take an input of this shape. Try another input size, the model without "
        "its post-processing (detection heads), or wrap the part that you want to look at in a module of its own"
    )


class _Recorder:
    """Forward hooks that note, while the export runs, which node each module returns."""

    def __init__(self) -> None:
        self.outputs: list[ModuleOutput] = []
        self._calls: Counter[str] = Counter()

    @contextlib.contextmanager
    def hooks(self, module: nn.Module) -> Iterator[None]:
        handles = [child.register_forward_hook(self._hook(path)) for path, child in module.named_modules()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            mode = get_proxy_mode()
            if mode is None:  # a call outside the trace: torch sometimes runs a module to look at it
                return
            tracer: Any = mode.tracer
            call = self._calls[path]
            self._calls[path] += 1
            tensors = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
            for number, tensor in enumerate(tensors):
                slot: Any = get_proxy_slot(tensor, tracer, None)
                if slot is not None:
                    last = next(iter(reversed(tracer.graph.nodes))).name
                    self.outputs.append(ModuleOutput(path, call, number, slot.proxy.node.name, last))

        return note


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    """Put every submodule in eval mode, and give each its own flag back."""
    flags = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in flags:
            child.training = training


@contextlib.contextmanager
def _tracing_switches() -> Iterator[None]:
    """Trace as in plain eager code, whatever the caller's modes are.

    The fast path of `nn.MultiheadAttention` is one opaque operation without queries or keys; it is taken when no
    parameter needs a gradient, so it is switched off here.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def strip_assertions(graph_module: fx.GraphModule) -> None:
    """Take out the run-time assertions that export leaves: they cost time and forbid autocast."""
    graph = graph_module.graph
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and "_assert" in getattr(node.target, "__name__", "") and not node.users:
            graph.erase_node(node)
        elif node.target in _SYMBOL_ARITHMETIC and not node.users:
            graph.erase_node(node)  # what only an assertion has read


_SYMBOL_ARITHMETIC = {operator.eq, operator.ge, operator.gt, operator.le, operator.lt, operator.ne}
