"""Read one model of every architecture in timm, torchvision and transformers, and count what is found.

Random weights, re-randomised so that zero-initialised branches hide nothing. Expected counts are by hand: residual
sums from each family's code ('-' where branches are summed that are no skips by any reading: NAS cells,
re-parameterised convolutions), attentions over tokens that have queries and keys.

    python benchmarks/coverage.py [--only PATTERN] [--out docs/coverage.md] [--csv FILE]
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import gc
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from seelike.anatomy import Anatomy, read_anatomy

COMMAND = "python benchmarks/coverage.py --out docs/coverage.md"
CHECKSUM_TOLERANCE = 1e-3
HEADINGS = ["family", "model", "difference", "layers", "sublayers", "names right", "blocks", "residuals", "attentions"]
HEADINGS += ["read (s)", "note"]

MODELS = """
beit timm beit_base_patch16_224 224 24 12 ; byoanet timm halonet_h1 256 19 19 ; byobnet timm test_byobnet 160 4 0
cait timm cait_xxs24_224 224 52 26 ; coat timm coat_tiny 224 78 0 ; convit timm convit_tiny 224 24 12
convmixer timm convmixer_768_32 224 32 0 ; convnext timm test_convnext 160 9 0 ; cpubone timm cpubone_nano 224 9 3
crossvit timm crossvit_tiny_240 240 36 21 ; csatv2 timm csatv2 512 68 4 ; cspnet timm cs3darknet_focus_s 256 9 0
cspnext timm cspnext_tiny 224 3 0 ; davit timm davit_tiny 224 48 6 ; deepseek_vit timm deepseek_vit_412m 546 64 32
deit timm deit_tiny_patch16_224 224 24 12 ; densenet timm densenet121 224 0 0 ; dla timm dla46x_c 224 12 0
dpn timm dpn48b 224 16 0 ; edgenext timm edgenext_xx_small 256 15 0 ; efficientformer timm efficientformer_l1 224 30 1
efficientformer_v2 timm efficientformerv2_s0 224 19 5 ; efficientnet timm test_efficientnet 160 0 0
efficientvim timm efficientvim_m1 224 28 0 ; efficientvit_mit timm efficientvit_b0 224 11 0
efficientvit_msra timm efficientvit_m0 224 38 24 ; eva timm vit_tiny_patch16_dinov3_qkvb 256 24 12
fasternet timm fasternet_t0 224 13 0 ; fastvit timm fastvit_t8 256 - 0 ; focalnet timm focalnet_tiny_srf 224 24 0
gcvit timm gcvit_xxtiny 224 35 12 ; gemma4_vit timm gemma4_vit_167m 768 32 16 ; ghostnet timm ghostnet_050 224 16 0
hardcorenas timm hardcorenas_b 224 12 0 ; hgnet timm hgnetv2_b0 224 1 0 ; hiera timm hiera_tiny_224 224 24 12
hieradet_sam2 timm sam2_hiera_tiny 896 24 12 ; hrnet timm hrnet_w18_small 224 23 0 ; iformer timm iformer_t 224 26 5
inception_next timm inception_next_atto 224 12 0 ; inception_resnet_v2 timm inception_resnet_v2 299 40 0
inception_v3 timm inception_v3 299 0 0 ; inception_v4 timm inception_v4 299 0 0 ; lcnetv2 timm lcnetv2_small 224 - 0
levit timm levit_128s 224 20 11 ; lowformer timm lowformer_b0 224 21 7 ; mambaout timm test_mambaout 160 6 0
maxxvit timm test_coatnet 160 8 3 ; metaformer timm poolformerv2_s12 224 24 0 ; mlp_mixer timm gmlp_ti16_224 224 30 0
mobilenetv3 timm mobilenetv3_small_050 224 7 0 ; mobilenetv5 timm mobilenetv5_base 256 35 13
mobilevit timm mobilevit_xxs 256 21 9 ; mvitv2 timm mvitv2_tiny 224 30 10
naflexvit timm naflexvit_base_patch16_parfac_gap 384 24 12 ; nasnet timm nasnetalarge 331 - 0
nest timm nest_tiny 224 24 12 ; nextvit timm nextvit_small 224 44 4 ; nfnet timm test_nfnet 160 4 0
pit timm pit_ti_224 224 24 12 ; pnasnet timm pnasnet5large 331 - 0 ; pvt_v2 timm pvt_v2_b0 224 16 8
qwen3_vit timm qwen3_vit_88m 768 24 12 ; rdnet timm rdnet_tiny 224 0 0 ; regnet timm regnetx_002 224 13 0
repghost timm repghostnet_050 224 - 0 ; repvit timm repvit_m1 224 - 0 ; res2net timm res2next50 224 16 0
resnest timm resnest14d 224 4 0 ; resnet timm test_resnet 160 4 0 ; resnetv2 timm resnetv2_18 224 8 0
rexnet timm rexnet_100 224 11 0 ; selecsls timm selecsls42 224 0 0 ; senet timm legacy_seresnet18 224 8 0
sequencer timm sequencer2d_s 224 36 0 ; shvit timm shvit_s1 224 39 9 ; sknet timm skresnet18 224 8 0
starnet timm starnet_s050 224 6 0 ; swiftformer timm swiftformer_xs 224 24 0
swin_transformer timm swin_tiny_patch4_window7_224 224 24 12
swin_transformer_v2 timm swinv2_tiny_window8_256 256 24 12 ; swin_transformer_v2_cr timm swinv2_cr_tiny_224 224 24 12
tiny_vit timm tiny_vit_5m_224 224 22 10 ; tnt timm tnt_s_legacy_patch16_224 224 48 24
tresnet timm tresnet_m 224 21 0 ; twins timm twins_svt_small 224 40 18 ; vgg timm vgg11 224 0 0
visformer timm visformer_tiny 224 23 8 ; vision_transformer timm test_vit 160 12 6
vision_transformer_hybrid timm vit_tiny_r_s16_p8_224 224 24 12
vision_transformer_relpos timm test_vit_relpos 160 18 9
vision_transformer_sam timm samvit_base_patch16_224 224 24 12 ; vitamin timm vitamin_small_224 224 34 14
volo timm volo_d1_224 224 40 16 ; vovnet timm ese_vovnet19b_slim_dw 224 0 0 ; xception timm legacy_xception 299 12 0
xception_aligned timm xception41p 299 12 0 ; xcit timm xcit_nano_12_p8_224 224 40 2
tv_vit_b_16 tv vit_b_16 224 24 12 ; tv_swin_t tv swin_t 224 24 12 ; tv_resnet50 tv resnet50 224 16 0
tv_convnext_tiny tv convnext_tiny 224 18 0 ; tv_efficientnet_b0 tv efficientnet_b0 224 9 0
tv_swin_v2_t tv swin_v2_t 256 24 12 ; tv_maxvit_t tv maxvit_t 224 55 22 ; tv_inception_v3 tv inception_v3 299 0 0
tv_mobilenet_v3_small tv mobilenet_v3_small 224 6 0 ; tv_densenet121 tv densenet121 224 0 0
tv_googlenet tv googlenet 224 0 0 ; tv_shufflenet_v2_x0_5 tv shufflenet_v2_x0_5 224 0 0
hf_ViTModel hf ViTModel 224 6 3 ; hf_Dinov2Model hf Dinov2Model 224 6 3 ; hf_SwinModel hf SwinModel 224 12 6
hf_ResNetModel hf ResNetModel 224 8 0 ; hf_CLIPVisionModel hf CLIPVisionModel 224 6 3
"""
"""family, library, model, image size, residual sums expected, attentions expected; models parted by ``;``"""

HF_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViTModel": ("ViTConfig", {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 3}),
    "Dinov2Model": ("Dinov2Config", {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 3}),
    "SwinModel": ("SwinConfig", {"depths": [2, 2, 2], "num_heads": [2, 4, 8], "embed_dim": 24}),
    "ResNetModel": (
        "ResNetConfig",
        {"depths": [2, 2, 2, 2], "embedding_size": 16, "hidden_sizes": [32, 48, 64, 96], "layer_type": "basic"},
    ),
    "CLIPVisionModel": ("CLIPVisionConfig", {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 3}),
}


@dataclass
class Row:
    """What came of one model."""

    family: str
    library: str
    model: str
    exports: bool = False
    difference: float = float("nan")
    """Largest difference of the output from eager's, over the largest output."""
    layers: int = 0
    sublayers: int = 0
    names: int = 0
    """Module outputs that have a name."""
    names_right: int = 0
    """Of these, those whose tensor has the checksum that a forward hook finds."""
    blocks: int = 0
    residuals: int = 0
    residuals_expected: int | None = None
    attentions: int = 0
    attentions_expected: int = 0
    seconds: float = float("nan")
    note: str = ""


def build(library: str, model: str) -> nn.Module:
    """Make a model with random weights."""
    module: nn.Module
    if library == "timm":
        import timm

        module = timm.create_model(model, pretrained=False)
    elif library == "tv":
        import torchvision

        options = {"init_weights": True} if model in ("googlenet", "inception_v3") else {}
        module = torchvision.models.get_model(model, weights=None, **options)
    else:
        import transformers

        config, options = HF_MODELS[model]
        module = getattr(transformers, model)(getattr(transformers, config)(**options))
    randomise(module)
    return module.eval()


def randomise(module: nn.Module) -> None:
    """Move every weight and every running statistic a little away from its initial value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.dtype) * 0.02)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(torch.randn(buffer.shape, generator=generator) * 0.1)
            if name.endswith("running_var"):
                buffer.mul_(torch.rand(buffer.shape, generator=generator) + 0.5)


def checksum(tensor: Tensor) -> tuple[float, float]:
    """Two numbers that do not depend on the order of the values."""
    values = tensor.detach().double()
    return float(values.sum()), float(values.abs().sum())


def hook_checksums(module: nn.Module, inputs: Any) -> tuple[Any, dict[str, tuple[float, float]]]:
    """Run eagerly; checksum of every module output at the moment it is returned, by name."""
    found: dict[str, tuple[float, float]] = {}
    calls: Counter[str] = Counter()

    def hook(path: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            call = calls[path]
            calls[path] += 1
            tensors = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
            for number, tensor in enumerate(tensors):
                if tensor.is_floating_point():
                    name = (path or "output") + (f"@{call}" if call else "") + (f":{number}" if number else "")
                    found[name] = checksum(tensor)

        return note

    handles = [child.register_forward_hook(hook(path)) for path, child in module.named_modules()]
    try:
        output = module(**inputs) if isinstance(inputs, dict) else module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return output, found


def check(row: Row, module: nn.Module, inputs: Any) -> None:
    """Read the model, compare it with eager, fill in the row."""
    start = time.perf_counter()
    anatomy = read_anatomy(module, inputs, name=row.model)
    row.seconds = time.perf_counter() - start
    row.exports = True
    with torch.no_grad():
        eager, by_hook = hook_checksums(module, inputs)
        by_tap: dict[str, tuple[float, float]] = {}
        output = anatomy.run(inputs, {site.point: _note(by_tap, site.point) for site in anatomy.layers})
    row.difference = difference(output, eager)
    row.layers, row.sublayers = (
        len(anatomy.layers),
        len(anatomy.select("all")) and sum(site.is_sublayer for site in anatomy.layers),
    )
    row.blocks, row.residuals, row.attentions = (
        len(anatomy.blocks),
        len(anatomy.residuals),
        len(anatomy.attentions),
    )
    compare_names(row, anatomy, by_hook, by_tap)
    row.note = " ".join(anatomy.notes)


def _note(found: dict[str, tuple[float, float]], point: str) -> Callable[[Tensor], None]:
    def receive(tensor: Tensor) -> None:
        found[point] = checksum(tensor)

    return receive


def compare_names(
    row: Row, anatomy: Anatomy, by_hook: dict[str, tuple[float, float]], by_tap: dict[str, tuple[float, float]]
) -> None:
    """Count the names that a hook has seen too, and those for which both found the same numbers."""
    for site in anatomy.layers:
        total, size = by_tap[site.point]
        for name in (site.name, *site.aliases):
            if name in by_hook:
                row.names += 1
                hook_total, hook_size = by_hook[name]
                near = abs(size - hook_size) <= CHECKSUM_TOLERANCE * max(hook_size, 1e-6)
                row.names_right += near and abs(total - hook_total) <= CHECKSUM_TOLERANCE * max(hook_size, 1e-6)


def difference(output: Any, eager: Any) -> float:
    """Largest difference between two outputs over the largest value of the second."""
    found = 0.0
    for a, b in zip(pytree.tree_leaves(output), pytree.tree_leaves(eager), strict=True):
        if isinstance(b, Tensor) and b.is_floating_point() and b.numel():
            found = max(found, float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)))
    return found


def study(line: str) -> Row:
    """One line of `MODELS` to one row of the table."""
    family, library, model, size, residuals, attentions = line.split()
    row = Row(family, library, model, attentions_expected=int(attentions))
    row.residuals_expected = None if residuals == "-" else int(residuals)
    torch.manual_seed(0)
    try:
        module = build(library, model)
        images = torch.randn(2, 3, int(size), int(size))
        check(row, module, {"pixel_values": images} if library == "hf" else (images,))
    except Exception as error:  # a benchmark reports what fails and goes on
        row.note = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return row


NOT_COUNTED = """## What is not an attention here

Only a product of probabilities with values counts, where the probabilities are made from queries and keys and weigh
tokens. Left out on purpose: channel attention (xcit, half of davit, edgenext), factorised attention, which takes the
softmax of the keys alone (coat), weights that a linear layer predicts without keys (volo's outlook attention),
softmax gates (resnest, sknet, efficientvim), additive attention (swiftformer), linear attention (efficientvit_mit),
and an attention whose 'tokens' are the images of the batch (csatv2)."""


def markdown(rows: list[Row]) -> str:
    """The page: summary, what is miscounted, table."""
    lines = [*summary(rows), "", *miscounts(rows), "", NOT_COUNTED, "", *table(rows)]
    return "\n".join(lines) + "\n"


def summary(rows: list[Row]) -> list[str]:
    """The totals."""
    counted = [row for row in rows if row.residuals_expected is not None]
    right = [row for row in counted if row.residuals == row.residuals_expected]
    attentive = [row for row in rows if row.attentions == row.attentions_expected]
    exact = [row for row in rows if row.difference == 0]
    worst = max((row.difference for row in rows if row.exports), default=float("nan"))
    seconds = sorted(row.seconds for row in rows if row.exports)
    names, names_right = sum(row.names for row in rows), sum(row.names_right for row in rows)
    return [
        "# Coverage: what is read off one model of every architecture",
        "",
        f"Made by `{COMMAND}` with torch {torch.__version__.split('+')[0]} on a CPU; random weights, images of the",
        "model's own size, batch 2. Expected counts are by hand (see the script).",
        "",
        f"* models read: {sum(row.exports for row in rows)} of {len(rows)}",
        f"* output bit-identical to eager: {len(exact)}; largest relative difference: {worst:.1e}",
        f"* module outputs with a name: {names:,}; with the same numbers as a forward hook finds: {names_right:,}",
        f"* residual sums as expected: {len(right)} of {len(counted)} models that have an expectation",
        f"* attentions over tokens as expected: {len(attentive)} of {len(rows)} models",
        f"* seconds to read: median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f}" if seconds else "",
    ]


WHY = {
    "swiftformer": "additive attention adds its queries to its projected output: a skip by structure, not by name",
}


def miscounts(rows: list[Row]) -> list[str]:
    """Families whose counts differ from those by hand."""
    lines = ["## Still miscounted", ""]
    for row in rows:
        if row.residuals_expected not in (None, row.residuals):
            why = WHY.get(row.family, "")
            lines.append(f"* {row.family}: {row.residuals} residual sums, {row.residuals_expected} by hand. {why}")
        if row.attentions != row.attentions_expected:
            lines.append(f"* {row.family}: {row.attentions} attentions, {row.attentions_expected} by hand.")
        if row.names != row.names_right:
            lines.append(f"* {row.family}: {row.names - row.names_right} names whose numbers a hook does not find.")
        if not row.exports:
            lines.append(f"* {row.family} cannot be read: {row.note}")
    return lines


def table(rows: list[Row]) -> list[str]:
    """One line per model."""
    lines = [
        "## Table",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---" * len(HEADINGS) + "|",
    ]
    return lines + ["| " + " | ".join(cells(row)) + " |" for row in rows]


def cells(row: Row) -> list[str]:
    """One row of the table as text."""
    wanted = "-" if row.residuals_expected is None else row.residuals_expected
    values = [
        row.family,
        row.model,
        f"{row.difference:.1e}" if row.difference else "0",
        row.layers,
        row.sublayers,
        f"{row.names_right} / {row.names}",
        row.blocks,
        f"{row.residuals} / {wanted}",
        f"{row.attentions} / {row.attentions_expected}",
        f"{row.seconds:.1f}",
        row.note,
    ]
    return [str(value) for value in values]


def main() -> None:
    """Run what was asked for and write it down."""
    parser = argparse.ArgumentParser(description="Read one model of every architecture.")
    parser.add_argument("--only", default="*", help="glob over families")
    parser.add_argument("--out", type=Path, help="page to write")
    parser.add_argument("--csv", type=Path, help="table to write")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows = []
    for line in MODELS.replace(" ; ", "\n").strip().splitlines():
        if fnmatch.fnmatch(line.split()[0], options.only):
            rows.append(study(line))
            gc.collect()
            print(" | ".join(cells(rows[-1])), file=sys.stderr, flush=True)
    page = markdown(rows)
    if options.out:
        options.out.write_text(page, encoding="utf-8")
    else:
        print(page)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    main()
