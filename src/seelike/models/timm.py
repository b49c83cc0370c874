"""``timm:NAME``: models of the timm library, each with its own data config."""

from __future__ import annotations

from typing import Any

from torch import nn

from seelike.errors import SeelikeError, close_matches
from seelike.models.architectures import register
from seelike.models.hub import loading
from seelike.models.model import Model
from seelike.models.preprocess import MODES
from seelike.models.provenance import provenance, random_weights
from seelike.models.seeding import seeded
from seelike.models.spec import ModelSpec
from seelike.models.weights import fit_checkpoint

SOURCES = ("hf-hub:", "local-dir:")
"""Prefixes by which timm itself names models outside its registry."""


def library() -> Any:
    """Import timm, and let it know our architectures."""
    import timm

    register()
    return timm


def names() -> list[str]:
    """Names of timm's architectures, and of ours (`seelike.models.architectures`)."""
    return list(library().list_models())


def pretrained_names() -> list[str]:
    """Names of timm's pretrained weights, ``architecture.tag``."""
    import timm

    return list(timm.list_pretrained())


def knows(name: str) -> bool:
    """Whether timm has the architecture of `name`, its tag left aside."""
    return bool(library().is_model(name.partition(".")[0]))


def load(spec: ModelSpec) -> Model:
    """Build the model; its preprocessing is timm's evaluation transform for its data config."""
    check_name(spec.name)
    seed = spec.seed
    pretrained = spec.weights is None
    out = f"use timm:{spec.name}@random, a checkpoint timm:{spec.name}@FILE, or an HF_HOME that holds it"
    source = _source(spec.name) if pretrained else {}
    with loading(spec.text, out, **source), seeded(seed or 0):
        module = build(spec, pretrained)
    weights: str | dict[str, str]
    if pretrained:
        origin: Any = module.pretrained_cfg
        weights = f"pretrained {origin.get('hf_hub_id') or origin.get('url') or spec.name}"
    elif seed is not None:
        weights = random_weights(seed)
    else:
        weights = fit_checkpoint(module, spec.weights or "", model=spec.built, classes_option="num_classes")
    config = data_config(spec, module)
    transform, note = _transform(config)
    return Model(
        module,
        config["input_size"],
        spec.label,
        preprocess=transform,
        preprocess_note=note,
        spec=spec.text,
        provenance=provenance(spec, weights, "timm"),
    )


def check_name(name: str) -> None:
    """Raise `SeelikeError` with close matches when timm does not know an architecture or its tag."""
    timm = library()
    if name.startswith(SOURCES):
        return
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise SeelikeError(f"timm knows no model {architecture!r}{close_matches(architecture, names())}")
    if tag:
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
        if tag not in tags:
            known = ", ".join(tags) or "none"
            raise SeelikeError(f"timm has no weights {tag!r} for {architecture}; it has: {known}")


def _source(name: str) -> dict[str, Any]:
    """Tell `loading` where timm will look for the pretrained weights of `name`."""
    import timm

    if name.startswith(SOURCES):
        return {"hub": name.startswith("hf-hub:")}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.hf_hub_id:
        return {"hub": True}
    if config is not None and config.url:
        return {"url": config.url}
    raise SeelikeError(f"timm has no pretrained weights for {name}; use timm:{name}@random or timm:{name}@FILE")


def build(spec: ModelSpec, pretrained: bool) -> nn.Module:
    """Call timm's builder, with ``?input_size=`` as `img_size` where the architecture takes one."""
    arguments: dict[str, Any] = dict(spec.arguments)
    if spec.input_size is not None and len(spec.input_size) == 3:
        arguments.setdefault("in_chans", spec.input_size[0])
    if spec.input_size is not None and "img_size" not in arguments:
        try:
            return _create(spec.name, pretrained, arguments | {"img_size": spec.input_size[-2:]})
        except TypeError as error:
            if "img_size" not in str(error):
                raise
    return _create(spec.name, pretrained, arguments)


def _create(name: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    import timm

    module: nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
    return module


def data_config(spec: ModelSpec, module: nn.Module) -> dict[str, Any]:
    """Return timm's data config with the size of the spec.

    Grey models get the mean over colours of the colour model's normalisation.
    """
    import timm

    config: dict[str, Any] = timm.data.resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    side = spec.arguments.get("img_size")
    if isinstance(side, int):
        height = width = side
    elif isinstance(side, tuple):
        height, width = side
    in_chans = spec.arguments.get("in_chans")
    channels = in_chans if isinstance(in_chans, int) else channels
    config["input_size"] = spec.size((channels, height, width))
    if config["input_size"][0] == 1:
        config["mean"], config["std"] = ((sum(config[k]) / len(config[k]),) for k in ("mean", "std"))
    return config


def _transform(config: dict[str, Any]) -> tuple[Any, str | None]:
    """Return timm's evaluation transform and a note; nothing for unusual numbers of channels."""
    import timm

    channels, height, width = config["input_size"]
    if channels not in MODES:
        return None, None
    mean, std = (tuple(round(v, 4) for v in config[k]) for k in ("mean", "std"))
    note = (
        f"timm: resize by crop_pct {config['crop_pct']} ({config['interpolation']}), {config['crop_mode']} "
        f"crop {height} x {width}, mean {mean}, std {std}"
    )
    return timm.data.create_transform(**config, is_training=False), note
