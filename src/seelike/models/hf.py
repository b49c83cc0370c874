"""``hf:REPO_OR_LOCAL_DIR``: vision models of the transformers library, each with its image processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import PIL.Image
import torch
from torch import Tensor, nn

from seelike.errors import SeelikeError, close_matches
from seelike.models.hub import loading
from seelike.models.model import Model
from seelike.models.preprocess import MODES
from seelike.models.provenance import provenance, random_weights
from seelike.models.seeding import seeded
from seelike.models.spec import ModelSpec
from seelike.models.weights import read_checkpoint

HUB_ARGUMENTS = ("revision",)
"""Arguments of a spec that choose files on the hub; all others set fields of the model's config."""


@dataclass(frozen=True)
class ProcessorTransform:
    """An image processor as a function of one image; `sizes` are given to it on every call."""

    processor: Any
    sizes: dict[str, Any]

    def __call__(self, image: PIL.Image.Image) -> Tensor:
        """Return the pixel values of one image, (channels, height, width)."""
        values: Tensor = self.processor(image, return_tensors="pt", **self.sizes)["pixel_values"][0]
        return values


def load(spec: ModelSpec) -> Model:
    """Build the model that a config names, its vision tower if it also reads text."""
    transformers = library()
    name, local = _place(spec)
    hub_arguments = {k: v for k, v in spec.arguments.items() if k in HUB_ARGUMENTS}
    overrides = {k: v for k, v in spec.arguments.items() if k not in HUB_ARGUMENTS}
    seed = spec.seed
    out = "give a local directory hf:DIR that holds it, or set HF_HOME to a cache that does"
    weights: str | dict[str, str]
    with loading(spec.text, out, hub=not local), quiet(transformers), seeded(seed or 0):
        config, unknown = transformers.AutoConfig.from_pretrained(
            name, return_unused_kwargs=True, **hub_arguments, **overrides
        )
        if unknown:
            near = close_matches(next(iter(unknown)), [*config.to_dict(), "num_labels"])
            raise SeelikeError(f"{spec.text}: its config has no {', '.join(unknown)}{near}")
        chosen, vision_config = model_class(transformers, config, spec)
        if spec.weights is not None:
            _set_size(vision_config, spec)
        if seed is not None:
            module, weights = chosen(vision_config), random_weights(seed)
        elif spec.weights is not None:
            state, weights = read_checkpoint(spec.weights)
            module = _with_weights(chosen, None, vision_config, spec, {"state_dict": state})
        else:
            module = _with_weights(chosen, name, vision_config, spec, hub_arguments)
            weights = f"pretrained {name}" + ("" if local else _commit(name, hub_arguments.get("revision")))
        processor = image_processor(transformers, name, hub_arguments)
    transform, note, size = preprocessing(processor, vision_config, spec)
    kept = provenance(spec, weights, "transformers") | {"class": type(module).__name__}
    return Model(
        module,
        size,
        spec.label,
        preprocess=transform,
        preprocess_note=note,
        spec=spec.text,
        provenance=kept,
        input_name="pixel_values",
    )


def library() -> ModuleType:
    """Import transformers, an optional dependency."""
    try:
        import transformers
    except ImportError as error:
        raise SeelikeError("models of kind hf: need the transformers library: pip install 'seelike[hf]'") from error
    module: ModuleType = transformers
    return module


def _place(spec: ModelSpec) -> tuple[str, bool]:
    """Return the repository or the directory, and whether it is a directory."""
    path = Path(spec.name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SeelikeError(f"{spec.text}: directory {path} has no config.json; save_pretrained writes one")
        return str(path), True
    if spec.name.startswith(("/", ".", "~")) or spec.name.count("/") > 1:
        raise SeelikeError(f"{spec.text}: there is no directory {path}")
    return spec.name, False


@contextmanager
def quiet(transformers: ModuleType) -> Iterator[None]:
    """Keep the library's reports about loading off the terminal; what matters in them is checked here."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def model_class(transformers: ModuleType, config: Any, spec: ModelSpec) -> tuple[Any, Any]:
    """Choose the class to build, and its config.

    The class that the config names, if it is a classifier of images, a backbone or a headless model that
    takes images alone; of a model of images and text (CLIP, SigLIP) the vision tower; else what `AutoModel`
    takes for the config.
    """
    auto = transformers.models.auto.modeling_auto
    tables = (auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, auto.MODEL_FOR_BACKBONE_MAPPING_NAMES)
    entries = [entry for table in (*tables, auto.MODEL_MAPPING_NAMES) for entry in table.values()]
    known = {name for entry in entries for name in _listed(entry)}
    wanted = (config.architectures or [""])[0]
    named = getattr(transformers, wanted, None) if wanted in known else None
    if not _takes_images(named):
        tower = getattr(config, "vision_config", None)
        config = config if tower is None or isinstance(tower, dict) else tower
        named = _listed(auto.MODEL_MAPPING[type(config)])[0] if type(config) in auto.MODEL_MAPPING else None
    if not _takes_images(named):
        what = config.model_type or type(config).__name__
        raise SeelikeError(
            f"{spec.text}: no model of transformers takes images alone for config {what!r}; build what you "
            "need of it in a file and give py:FILE.py:function"
        )
    return named, config


def _listed(entry: Any) -> list[Any]:
    return list(entry) if isinstance(entry, tuple | list) else [entry]


def _commit(repository: str, revision: Any) -> str:
    """Word the commit out of which a repository's config came, as the cache's paths tell it."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(repository, "config.json", revision=revision)
    return f", commit {Path(file).parent.name}" if isinstance(file, str) else ""


def _takes_images(model: Any) -> bool:
    return model is not None and model.main_input_name == "pixel_values"


def _set_size(config: Any, spec: ModelSpec) -> None:
    """Set the size and channels of the images in the config of a model with random weights."""
    if spec.input_size is None:
        return
    *channels, height, width = spec.input_size
    if hasattr(config, "image_size"):
        config.image_size = height if height == width else [height, width]
    if channels and hasattr(config, "num_channels"):
        config.num_channels = channels[0]


def _with_weights(chosen: Any, place: str | None, config: Any, spec: ModelSpec, options: dict[str, Any]) -> nn.Module:
    """Load weights as float32, from `place` or from a state dict in `options`.

    The library does it, for it knows under which older names weights were saved. Refuses a model of which
    parts would be left random.
    """
    module: nn.Module
    module, info = chosen.from_pretrained(
        place,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # looked at below, where they get a sentence of their own
        **options,
    )
    # Published towers often lack the pooler, which no site before it depends on.
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    words = [f"{key} is missing" for key in missing]
    mismatched = sorted(info["mismatched_keys"])
    words += [f"{key}: there {tuple(file)}, here {tuple(own)}" for key, file, own in mismatched]
    if words:
        raise SeelikeError(
            f"{spec.text}: {len(words)} of the weights there do not fit {chosen.__name__} as asked for "
            f"({'; '.join(words[:3])}); name the config and the arguments after ? that they were saved from "
            "(?num_labels=10 sets the number of classes), or use @random"
        )
    return module


def image_processor(transformers: ModuleType, name: str, hub_arguments: dict[str, Any]) -> Any:
    """Return the image processor that lies beside the weights, or None when there is none."""
    auto = transformers.models.auto.image_processing_auto
    if not auto.get_image_processor_config(name, **hub_arguments):
        return None
    return transformers.AutoImageProcessor.from_pretrained(name, **hub_arguments)


def preprocessing(processor: Any, config: Any, spec: ModelSpec) -> tuple[Any, str | None, tuple[int, int, int]]:
    """Return transform, note and input size: the processor's, at the spec's size if it names one."""
    config = getattr(config, "vision_config", config)
    channels = getattr(config, "num_channels", 3)
    side = getattr(config, "image_size", 224)
    height, width = (side, side) if isinstance(side, int) else tuple(side)[-2:]
    size = spec.size((channels if isinstance(channels, int) else 3, height, width))
    if processor is None:
        return None, None, size
    for sizes in _sizes(processor, size) if spec.input_size is not None else [{}]:
        transform = ProcessorTransform(processor, sizes)
        shapes = _shapes(transform, size[0])
        made = shapes.pop() if len(shapes) == 1 else None
        if made is not None and (spec.input_size is None or made == size):
            note = f"transformers: {type(processor).__name__}, {made[1]} x {made[2]}"
            return transform, note, (made[0], made[1], made[2])
    if spec.input_size is None:
        raise SeelikeError(
            f"{spec.text}: the size of what its image processor makes depends on the image; add "
            "?input_size=HEIGHTxWIDTH"
        )
    raise SeelikeError(f"{spec.text}: its {type(processor).__name__} cannot make images of {size}; name another size")


def _shapes(transform: ProcessorTransform, channels: int) -> set[tuple[int, ...]]:
    """Return the shapes that images lying and standing get; empty when the processor refuses the sizes."""
    blank = [PIL.Image.new(MODES.get(channels, "RGB"), sides) for sides in ((300, 200), (200, 300))]
    try:
        return {tuple(transform(image).shape) for image in blank}
    except (ValueError, TypeError, KeyError, AttributeError):
        return set()


def _sizes(processor: Any, size: tuple[int, int, int]) -> list[dict[str, Any]]:
    """List the ways to ask a processor for a size; the first keeps its ratio of resizing to cropping."""
    _, height, width = size
    exact = {"height": height, "width": width}
    crop, edge = getattr(processor, "crop_size", None), None
    if processor.size is not None:
        edge = processor.size.get("shortest_edge")
    ratio = edge / crop["height"] if edge and crop and crop.get("height") else 1.0
    return [
        {"size": {"shortest_edge": round(max(height, width) * ratio)}, "crop_size": exact},
        {"size": {"shortest_edge": height}},
        {"size": exact},
    ]
