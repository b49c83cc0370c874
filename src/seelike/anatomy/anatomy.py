"""The anatomy of a model: its sites, and the run that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx

from seelike.anatomy.attention import probabilities
from seelike.anatomy.export import Inputs
from seelike.anatomy.select import select_layers
from seelike.anatomy.sites import AttentionSite, LayerSite, Point, ResidualSite
from seelike.anatomy.tapping import Receiver, TappedGraph
from seelike.errors import SeelikeError, close_matches


class Anatomy:
    """All sites of a model in execution order, and a way to read them.

    Made by `read_anatomy`. The graph is frozen in eval mode, on one device, in one dtype and for one image size;
    it shares its parameters with the model, and its batch size is free.
    """

    def __init__(
        self,
        name: str,
        *,
        layers: tuple[LayerSite, ...],
        residuals: tuple[ResidualSite, ...],
        attentions: tuple[AttentionSite, ...],
        blocks: tuple[str, ...],
        notes: tuple[str, ...],
        graph: TappedGraph,
        example: Inputs,
        live_bytes: int,
    ) -> None:
        self.name = name
        self.layers = layers
        self.residuals = residuals
        self.attentions = attentions
        self.blocks = blocks
        self.notes = notes
        """What could not be found or was guessed, one sentence each."""
        self._graph = graph
        self._live_bytes = live_bytes
        self._wanted = {key: (value.shape[1:], value.dtype, value.device) for key, value in _items(example)}

    def __repr__(self) -> str:
        return (
            f"Anatomy({self.name!r}: {len(self.layers)} layers, {len(self.blocks)} blocks, "
            f"{len(self.residuals)} residual sums, {len(self.attentions)} attentions)"
        )

    def select(self, layers: str | Sequence[str] = "sublayers") -> tuple[LayerSite, ...]:
        """Layers in execution order: ``blocks``, ``sublayers``, ``all``, or globs over names and aliases.

        Raises:
        ------
        SeelikeError
            If a glob matches nothing (with close matches), or ``blocks`` is asked of a model without residual sums.
        """
        return select_layers(self.layers, layers, self.name)

    def run(self, inputs: Inputs, taps: Mapping[Point, Receiver], *, keep: bool = True) -> Any:
        """Run the model once, handing each tapped tensor on the moment it exists; return the model's output.

        `taps` maps points of sites to functions of one tensor, called exactly once each, in execution order. The
        tensor is the model's own and is freed after its last use in the forward pass unless the function keeps it;
        it may be kept (no later operation writes to it) but must not be written to. Receivers that keep nothing say
        `keep=False`: the operations that the model does in place may then overwrite a tensor after its receiver has
        returned, which takes the memory and time of the model as it was written. Gradients and autograd modes are
        those of the caller.

        Raises:
        ------
        SeelikeError
            If a point is not in the graph, or an input has not the shape, dtype or device that the model was read
            with.
        """
        self._check(inputs)
        self._check_points(taps)
        if isinstance(inputs, dict):
            return self._graph.run((), inputs, taps, in_place=not keep)
        return self._graph.run(tuple(inputs), {}, taps, in_place=not keep)

    def run_until(self, inputs: Inputs, points: Sequence[Point]) -> dict[Point, Tensor]:
        """Run the model only as far as `points` need, and return their tensors.

        For gradients of a site with respect to the input: early layers cost a part of a forward pass. Errors as
        those of `run`.
        """
        self._check_points(points)
        held: dict[Point, Tensor] = {}
        last = max(points, key=self._graph.order.__getitem__)

        def receiver(point: Point) -> Receiver:
            def receive(tensor: Tensor) -> None:
                held[point] = tensor
                if point == last:
                    raise _Reached

            return receive

        with suppress(_Reached):
            self.run(inputs, {point: receiver(point) for point in points})
        return held

    def inputs(self, images: Tensor) -> Inputs:
        """A batch (n, channels, height, width) under the name or in the place where the model takes it."""
        (key,) = self._wanted
        return {key: images} if isinstance(key, str) else (images,)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that the model was read with."""
        ((shape, _, _),) = self._wanted.values()
        channels, height, width = shape
        return channels, height, width

    @property
    def graph(self) -> fx.Graph:
        """The graph of the model in functional form, to be read and not to be changed."""
        return self._graph.graph_module.graph

    @property
    def output(self) -> tuple[Point, tuple[int, ...]] | None:
        """Where the model's output is made, and its shape for one image; None where it returns several tensors."""
        nodes = next(iter(reversed(self.graph.nodes))).all_input_nodes
        if len(nodes) != 1 or not isinstance(nodes[0].meta.get("val"), Tensor):
            return None
        return nodes[0].name, tuple(nodes[0].meta["val"].shape[1:])

    def parameter(self, name: str) -> Tensor:
        """The parameter or buffer that a node of the graph gets by `name`."""
        found = attrgetter(name)(self._graph.graph_module)
        assert isinstance(found, Tensor)
        return found

    def live_bytes_per_image(self) -> int:
        """Peak of live activations in one forward pass of one image, in bytes (views share memory).

        The image itself is in it; weights, workspace of kernels and waste of the allocator are not, so plan with
        twice as much.
        """
        return self._live_bytes

    def attention_probabilities(
        self, site: AttentionSite, query: Tensor, key: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Probabilities (..., heads, queries, keys) of a fused attention from what its points gave.

        ``softmax(scale * q k^T + mask)``; times the values it is the fused output to rounding.
        """
        return probabilities(site, query, key, mask)

    def _check_points(self, points: Iterable[Point]) -> None:
        unknown = [point for point in points if point not in self._graph.points]
        if unknown:
            raise SeelikeError(
                f"{self.name} has no point {unknown[0]!r}{close_matches(unknown[0], self._graph.points)}; "
                "take points from its layers, residuals and attentions"
            )

    def _check(self, inputs: Inputs) -> None:
        given = dict(_items(inputs))
        if given.keys() != self._wanted.keys():
            raise SeelikeError(
                f"{self.name} was read with inputs {_list(self._wanted)} and is now given {_list(given)}"
            )
        for key, value in given.items():
            shape, dtype, device = self._wanted[key]
            autocast = torch.is_autocast_enabled(device.type)
            if value.shape[1:] != shape or value.device != device or (value.dtype != dtype and not autocast):
                raise SeelikeError(
                    f"{self.name} was read with input {key} of shape (n, {_sizes(shape)}), {dtype} on {device} and is "
                    f"now given {tuple(value.shape)}, {value.dtype} on {value.device}: "
                    "prepare the images alike, or read the model's anatomy anew for this input"
                )


class _Reached(Exception):
    """The last point of a run that goes no further."""


def _items(inputs: Inputs) -> list[tuple[str | int, Tensor]]:
    return list(inputs.items()) if isinstance(inputs, dict) else list(enumerate(inputs))


def _list(keys: Mapping[str | int, Any]) -> str:
    return "(" + ", ".join(str(key) for key in keys) + ")"


def _sizes(shape: torch.Size) -> str:
    return ", ".join(str(size) for size in shape)
