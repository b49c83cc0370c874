"""Run a graph and hand tensors on the moment they exist.

A call of `hand_on` is inserted after each tapped node and the graph is compiled to Python anew. The generated code
drops every variable after its last use, so a tapped tensor lives as long as in the plain forward pass, unless the
receiver keeps it.

Why not a `torch.fx.Interpreter`: its cost per node is hidden where kernels are large, and shows where they are small.
Compiling a new set of taps costs once what the interpreter costs at every run.

A run that stops at a site is one whose last receiver raises (`Anatomy.run_until`): what comes after never runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from torch import Tensor, fx

from seelike.anatomy.functional import restore_in_place
from seelike.anatomy.sites import Point

Receiver = Callable[[Tensor], None]

KEPT_VERSIONS = 8
"""Compiled versions kept per model: one for each set of taps in turn."""

_receivers: ContextVar[Mapping[Point, Receiver]] = ContextVar("seelike_receivers")


def hand_on(tensor: Tensor, point: Point) -> None:
    """Give a tensor to whoever asked for it; called by the generated code."""
    _receivers.get()[point](tensor)


def hand_on_copy(tensor: Tensor, point: Point) -> None:
    """Give a copy of a tensor whose memory the model overwrites later."""
    _receivers.get()[point](tensor.clone())


class TappedGraph:
    """A graph module that runs with any set of taps."""

    def __init__(self, graph_module: fx.GraphModule, overwritten: frozenset[Point]) -> None:
        self.graph_module = graph_module
        self.order = {n.name: i for i, n in enumerate(graph_module.graph.nodes) if n.op != "output"}
        """Points in execution order."""
        self.points = frozenset(self.order)
        self._overwritten = overwritten
        self._versions: OrderedDict[tuple[frozenset[Point], bool], fx.GraphModule] = OrderedDict()

    def run(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], taps: Mapping[Point, Receiver], in_place: bool = False
    ) -> Any:
        """Run forward; each receiver in `taps` is called once, with the tensor of its point.

        With `in_place`, operations that the model does in place overwrite a tensor after its receiver has returned.
        """
        compiled = self._compiled(frozenset(taps), in_place)
        token = _receivers.set(taps)
        try:
            # Not compiled(...): that would print the generated code with every exception of a receiver.
            return compiled.forward(*args, **kwargs)
        finally:
            _receivers.reset(token)

    def edited(self, edit: Callable[[fx.Graph], None]) -> TappedGraph:
        """A copy whose graph `edit` has changed; parameters stay the model's own, points keep their names."""
        version = fx.GraphModule(self.graph_module, _copy(self.graph_module.graph))
        edit(version.graph)
        version.graph.lint()
        version.recompile()
        return TappedGraph(version, self._overwritten)

    def _compiled(self, points: frozenset[Point], in_place: bool) -> fx.GraphModule:
        version = self._versions.pop((points, in_place), None)
        if version is None:
            version = self._instrument(points, in_place)
        self._versions[points, in_place] = version
        while len(self._versions) > KEPT_VERSIONS:
            self._versions.popitem(last=False)
        return version

    def _instrument(self, points: frozenset[Point], in_place: bool) -> fx.GraphModule:
        """Copy the graph (parameters stay the model's own) with a call after each tapped node."""
        version = fx.GraphModule(self.graph_module, _copy(self.graph_module.graph))
        if in_place:
            restore_in_place(version.graph)
        last = None
        for node in list(version.graph.nodes):
            last = node if node.op == "placeholder" else last
        for node in list(version.graph.nodes):
            if node.name not in points:
                continue
            after = last if node.op in ("placeholder", "get_attr") and last is not None else node
            call = hand_on_copy if node.name in self._overwritten else hand_on
            with version.graph.inserting_after(after):
                version.graph.call_function(call, (node, node.name))
        version.recompile()
        return version


def _copy(graph: fx.Graph) -> fx.Graph:
    """Copy a graph with the names of its nodes, and with how it takes and returns its values."""
    new = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    output = new.graph_copy(graph, mapping)
    new.output(output)
    new.set_codegen(graph._codegen)
    return new
