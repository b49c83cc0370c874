"""Claims that need several models of a run: what the studies cannot say of two models alone (paper.md 6).

Values of several layers or models come from the same images, and their errors are correlated in a way that result
files do not hold. A mean over layers is given the mean of their errors, as if they were wholly correlated, and a
difference the root of the sum of squares, as if models were independent: both err on the careful side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import xarray as xr

from seelike.studies import Finding
from seelike.studies.base import judge

Roles = Mapping[str, tuple[str, ...]]
"""Labels of the models that play each role of the run."""
Value = tuple[float, float]
"""A value and its standard error."""

NORMAL = 1.96


def top_third_matches_nothing(tree: xr.DataTree, roles: Roles) -> list[Finding]:
    """F2: the top third of the ViT has lower best matches in the ResNet than its first two thirds."""
    vit, resnet = roles["vit"][0], roles["resnet"][0]
    dataset, prefix = _pair(tree, vit, resnet)
    best, error = dataset[f"{prefix}best_match_cka"].values, _best_match_errors(dataset, prefix)
    third = len(best) // 3
    top, rest = _mean(best[-third:], error[-third:]), _mean(best[:-third], error[:-third])
    what = f"Best CKA with any layer of {resnet}: first two thirds of {vit}'s layers minus its top third"
    paper = "Figure 2: the top third of ViT layers matches no ResNet layer"
    return [_difference("similarity", (vit, resnet), what, rest, top, f"the top third of {vit} matches less", paper)]


def more_data_more_alike(tree: xr.DataTree, roles: Roles) -> list[Finding]:
    """F12: the mean CKA with the model trained on all data grows with the data."""
    (full, *_), (_, *fractions) = roles.values()
    paper = "Figure 12: similarity to the model trained on all data grows with the fraction"
    found = []
    for more, less in pairwise(fractions):
        what = f"Mean CKA with the same blocks of {full}, {more} minus {less}"
        a, b = (_scalar(tree[f"reference/{label}"].to_dataset(), "mean") for label in (more, less))
        found.append(
            _difference("reference", (more, less, full), what, a, b, f"{more} is more like {full} than {less}", paper)
        )
    return found


def less_alike_than_seeds(tree: xr.DataTree, roles: Roles) -> list[Finding]:
    """F12 with its control: less data costs more similarity than another seed does."""
    (full, *_), (control, *fractions) = roles.values()
    found = []
    for model in fractions:
        what = f"Mean CKA with the same blocks of {full}, other seed {control} minus {model}"
        a, b = (_scalar(tree[f"reference/{label}"].to_dataset(), "mean") for label in (control, model))
        claim = f"{model} is less like {full} than another seed on the same data is"
        found.append(_difference("reference", (model, control, full), what, a, b, claim, "Not in the paper"))
    return found


def more_data_better_middle(tree: xr.DataTree, roles: Roles) -> list[Finding]:
    """F13: the middle third of the layers probes better in the model trained on more data."""
    full = roles["vit"][0]
    paper = "Figure 13, left: with JFT the middle layers probe better already, by up to 30 points"
    found = []
    for model in roles.get("little-data", ()):
        more, less = (_middle_accuracy(tree[f"probe/{label}"].to_dataset()) for label in (full, model))
        what = f"Probe accuracy of the middle third of the layers, {full} minus {model}"
        claim = f"the middle of {full} probes better than that of {model}"
        found.append(_difference("probe", (full, model), what, more, less, claim, paper))
    return found


def far_data_changes_more(tree: xr.DataTree, roles: Roles) -> list[Finding]:
    """G: fine-tuning on images far from the first changes more than on near ones."""
    (before, *_), (near, far) = roles.values()
    a, b = (_scalar(tree[f"reference/{label}"].to_dataset(), "mean") for label in (near, far))
    what = f"Mean CKA with the same blocks of {before}, {near} minus {far}"
    paper = "Figure G.1: natural images change little, medical and satellite images more"
    return [_difference("reference", (near, far, before), what, a, b, f"{far} changed more than {near}", paper)]


def mixer_is_like_the_vit(tree: xr.DataTree, roles: Roles) -> list[Finding]:
    """H: the Mixer's layers find better matches in the ViT than in the ResNet."""
    mixer, vit, resnet = (roles[role][0] for role in ("mixer", "vit", "resnet"))
    values = []
    for other in (vit, resnet):
        dataset, prefix = _pair(tree, mixer, other)
        values.append(_mean(dataset[f"{prefix}best_match_cka"].values, _best_match_errors(dataset, prefix)))
    what = f"Mean best CKA of {mixer}'s layers, with {vit} minus with {resnet}"
    paper = "Appendix H: overall the Mixer is more like a ViT than like a ResNet"
    claim = f"{mixer} is more like {vit} than like {resnet}"
    return [_difference("similarity", (mixer, vit, resnet), what, values[0], values[1], claim, paper)]


def reattention_keeps_blocks_apart(tree: xr.DataTree, roles: Roles) -> list[Finding]:
    """DeepViT: neighbouring blocks attend less alike than in the plain ViT."""
    vit, deep = roles["vit"][0], roles["deepvit"][0]
    values = []
    for label in (vit, deep):
        dataset = tree[f"attention-similarity/{label}"].to_dataset()
        values.append(_mean(dataset["adjacent"].values, dataset["adjacent_error"].values))
    what = f"Mean cosine of the attention of neighbouring blocks, {vit} minus {deep}"
    paper = "DeepViT: blocks with similar attention, 5 of 16 in ViT, none in DeepViT"
    claim = f"blocks attend less alike in {deep} than in {vit}"
    return [_difference("attention-similarity", (vit, deep), what, values[0], values[1], claim, paper)]


def _difference(study: str, models: tuple[str, ...], what: str, a: Value, b: Value, claim: str, paper: str) -> Finding:
    """Judge ``a - b > 0``."""
    value, error = a[0] - b[0], math.hypot(a[1], b[1])
    statement = f"{what}: {a[0]:.3f} ± {a[1]:.3f} against {b[0]:.3f} ± {b[1]:.3f}, so {value:+.3f} ± {error:.3f}."
    return Finding(study, models, statement, what, value, error, claim, judge(value, error, NORMAL), paper)


def _mean(values: np.ndarray, errors: np.ndarray) -> Value:
    defined = values[np.isfinite(values)], errors[np.isfinite(errors)]
    value, error = (float(each.mean()) if len(each) else math.nan for each in defined)
    return value, error


def _scalar(dataset: xr.Dataset, name: str) -> Value:
    return float(dataset[name]), float(dataset[f"{name}_error"])


def _pair(tree: xr.DataTree, model: str, other: str) -> tuple[xr.Dataset, str]:
    """The map of two models in either order, and the prefix of `model`'s variables in it."""
    maps = tree["similarity"].children
    if model in maps and other in maps[model].children:
        return tree[f"similarity/{model}/{other}"].to_dataset(), ""
    return tree[f"similarity/{other}/{model}"].to_dataset(), "other_"


def _best_match_errors(dataset: xr.Dataset, prefix: str) -> np.ndarray:
    """Error of each layer's best CKA: that of the pair of layers that it is."""
    cka, error = (dataset[name].transpose("layer", "other_layer").values for name in ("cka", "cka_error"))
    cka, error = (cka.T, error.T) if prefix else (cka, error)
    best = np.nan_to_num(cka, nan=-np.inf).argmax(1)
    found: np.ndarray = np.take_along_axis(error, best[:, None], 1)[:, 0]
    return found


def _middle_accuracy(dataset: xr.Dataset) -> Value:
    """Accuracy of the pooled probe over the middle third of the layers."""
    pooled = dataset.sel(pooling="mean")
    layers = dataset.sizes["layer"]
    middle = slice(layers // 3, layers - layers // 3)
    return _mean(pooled["accuracy"].values[middle], pooled["accuracy_error"].values[middle])
