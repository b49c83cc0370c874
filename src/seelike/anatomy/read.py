"""Read the anatomy of a model: export, make functional, find the sites."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from seelike.anatomy.anatomy import Anatomy
from seelike.anatomy.attention import Attention, as_site, find_attentions
from seelike.anatomy.blocks import block_of, branch_kind, find_blocks, residual_names
from seelike.anatomy.export import Inputs, export, strip_assertions, unwrap
from seelike.anatomy.flow import Flow, read_flow
from seelike.anatomy.functional import make_functional
from seelike.anatomy.images_outermost import mixing_note, split_by_image
from seelike.anatomy.layers import Marks, make_layers, patch_projection
from seelike.anatomy.layout import LayoutHint, LayoutReader, model_layout, positions
from seelike.anatomy.memory import live_bytes
from seelike.anatomy.residuals import Residual, find_residuals
from seelike.anatomy.sites import AttentionSite, LayerSite, ResidualSite
from seelike.anatomy.sublayers import Places, choose_sublayers
from seelike.anatomy.tapping import TappedGraph
from seelike.anatomy.values import (
    Name,
    Value,
    calls_of,
    embedding_with_position,
    group_by_value,
    listed,
    module_names,
    name_activations,
    uncertain,
)


def read_anatomy(
    module: nn.Module, example: Inputs, *, name: str = "model", layout: LayoutHint | None = None
) -> Anatomy:
    """Read a model once as a graph of named sites.

    Parameters
    ----------
    module
        Any model of images. It is read in eval mode and keeps its own training flags; `torch.compile` and
        data-parallel wrappers are taken off. Its parameters are shared with the anatomy, not copied.

    Example:
        Inputs as the model takes them, positional or by name, on the device and in the dtype of later runs, the
        batch in dim 0. Their values do not matter, their sizes do: only the batch size stays free.
    name
        What error messages call the model.
    layout
        What the user knows about prefix tokens, grid and channel order, overriding what is found.

    Raises:
    ------
    SeelikeError
        If torch.export cannot turn the model into a graph.
    """
    exported = export(module, example, name=name)
    graph_module = exported.graph_module
    rewritten = make_functional(graph_module)
    strip_assertions(graph_module)
    flow = read_flow(graph_module)
    graph = TappedGraph(graph_module, frozenset(rewritten.overwritten))
    names, notes = module_names(flow, exported.outputs, rewritten)
    notes += split_by_image(flow, names, graph, example)
    reader = LayoutReader(flow, model_layout(unwrap(module)), layout)
    found = _Found.collect(flow, names, exported.module_types)
    notes += uncertain(flow, found.values) + mixing_note(flow)
    layers = found.layers(reader, _returned(flow, graph_module))
    return Anatomy(
        name,
        layers=layers,
        residuals=found.residual_sites(reader),
        attentions=found.attention_sites(),
        blocks=found.blocks,
        notes=tuple(notes + _layout_notes(reader, layers)),
        graph=graph,
        example=example,
        live_bytes=live_bytes(flow),
    )


def _returned(flow: Flow, graph_module: fx.GraphModule) -> frozenset[int]:
    """Origins of what the model returns."""
    output = next(iter(reversed(graph_module.graph.nodes)))
    return frozenset(flow.origin(flow.by_point[node.name]) for node in output.all_input_nodes)


def _layout_notes(reader: LayoutReader, layers: tuple[LayerSite, ...]) -> list[str]:
    notes = []
    unknown = [site.name for site in layers if site.is_sublayer and site.layout.kind == "other"]
    if unknown:
        notes.append(f"Where the positions of the image lie is not known for {listed(unknown)}")
    if reader.guessed:
        notes.append("The token grid is guessed to be square; say otherwise with the layout option")
    if reader.prefix_is_last():
        notes.append("Learned tokens are put behind those of the image; prefix_tokens counts them as if in front")
    return notes


@dataclass(frozen=True)
class _Found:
    """What has been found in a flow, by node indices."""

    flow: Flow
    values: dict[int, Value]
    residuals: list[Residual]
    residual_names: list[str]
    attentions: list[Attention]
    blocks: tuple[str, ...]
    block_outputs: dict[int, str]
    module_types: dict[str, str]

    @classmethod
    def collect(cls, flow: Flow, names: list[Name], module_types: dict[str, str]) -> _Found:
        attentions = find_attentions(flow)
        residuals = find_residuals(flow, attentions)
        calls = calls_of(names)
        returned = {path: flow.origin(outputs[0].node) for path, outputs in calls.items()}
        blocks = find_blocks(flow, residuals, returned)
        kinds = [branch_kind(flow, residual, attentions) for residual in residuals]
        titles = residual_names(flow, residuals, blocks, kinds)
        sums = [
            Name(title, flow[residual.sum].path, residual.sum, made=True)
            for title, residual in zip(titles, residuals, strict=True)
        ]
        values = group_by_value(flow, [*names, *sums])
        name_activations(flow, values)
        outputs = {flow.origin(call.node): path for path in blocks for call in calls.get(path, ())}
        return cls(flow, values, residuals, titles, attentions, blocks, outputs, module_types)

    def layers(self, reader: LayoutReader, returned: frozenset[int]) -> tuple[LayerSite, ...]:
        """The layer sites; names the embedding with position if no module returns it."""
        first = patch_projection(self.flow)
        embedding = self._embedding(first)
        places = Places(
            self.attentions,
            frozenset(self.block_outputs),
            embedding,
            returned,
            frozenset(self.blocks),
            self.module_types,
        )

        def count(value: Value) -> int:
            node = min((self.flow[name.node] for name in value.names), key=lambda node: node.batch_factor)
            return positions(reader.read(node.index), node.per_image or ())

        chosen = choose_sublayers(self.flow, self.values, count, places)
        marks = Marks(frozenset(chosen), self.block_outputs, embedding, first, self.attentions)
        return make_layers(self.flow, self.values, reader, marks, self.blocks, self.module_types)

    def _embedding(self, first: int | None) -> int | None:
        top = self.flow.origin(self.residuals[0].skip) if self.residuals else None
        embedding = embedding_with_position(self.flow, top, first)
        if embedding is not None and embedding not in self.values and self.flow[embedding].per_image is not None:
            path = self.flow[embedding].path
            title = f"{path}.+position" if path else "+position"
            self.values[embedding] = Value(embedding, [Name(title, path, embedding, made=True)])
        return embedding

    def residual_sites(self, reader: LayoutReader) -> tuple[ResidualSite, ...]:
        """The residual sites, in execution order."""
        flow, known = self.flow, frozenset(self.blocks)
        return tuple(
            ResidualSite(
                name=title,
                block=block_of(flow[found.sum].path, known) or "",
                kind=found.kind,
                branch_kind=branch_kind(flow, found, self.attentions),
                skip=flow[found.skip].point,
                branch=flow[found.branch].point,
                sum=flow[found.sum].point,
                shape=flow[found.sum].per_image or (),
                layout=reader.read(found.sum),
                batch_dim=flow[found.sum].batch_dim or 0,
                batch_factor=max(flow[found.sum].batch_factor, 1),
            )
            for found, title in zip(self.residuals, self.residual_names, strict=True)
        )

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        """The attention sites, in execution order, named after the modules that run them."""
        known, seen = frozenset(self.blocks), dict[str, int]()
        sites = []
        for found in self.attentions:
            path = self.flow[found.output].path
            title = path or "attention"
            again = seen.get(title, 0)
            seen[title] = again + 1
            sites.append(as_site(self.flow, found, f"{title}@{again}" if again else title, block_of(path, known)))
        return tuple(sites)
