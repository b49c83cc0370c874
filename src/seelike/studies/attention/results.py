"""The labelled result of one model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from seelike.anatomy import Anatomy, AttentionSite
from seelike.anatomy.positions import PlacedAttention
from seelike.studies.attention.estimate import HeadEstimate


def distance_dataset(
    estimate: HeadEstimate, model: str, anatomy: Anatomy, placed: Sequence[PlacedAttention], *, renormalize: bool
) -> xr.Dataset:
    """What the attention of every head does, averaged over images.

    Variables (block, head): ``distance`` in pixels with ``distance_error`` (standard error) and ``distance_sd``
    (standard deviation over images), ``relative_distance`` (over ``uniform``), ``entropy`` in nats with
    ``entropy_error``, ``relative_entropy`` (over the logarithm of the number of keys), ``prefix_share`` with
    ``prefix_share_error``. (block): ``uniform``, the distance of uniform attention. NaN stands for no head.
    """
    dataset = xr.Dataset(coords=block_coordinates(anatomy, placed, estimate.mean.shape[-1]))
    dims = ("block", "head")
    (distance, entropy, share), (distance_error, entropy_error, share_error) = (
        values.numpy() for values in (estimate.mean, estimate.error)
    )
    keys = np.array([site.site.key_tokens for site in placed])
    uniform = estimate.uniform.numpy()

    def put(name: str, values: np.ndarray, units: str, meaning: str) -> None:
        dataset[name] = (dims[: values.ndim], values, {"units": units, "long_name": meaning})

    put("distance", distance, "pixels", "mean attention distance")
    put("distance_error", distance_error, "pixels", "standard error of the mean attention distance")
    put("distance_sd", estimate.spread[0].numpy(), "pixels", "standard deviation of attention distance over images")
    put("uniform", uniform, "pixels", "mean attention distance of uniform attention")
    put("relative_distance", distance / uniform[:, None], "1", "mean attention distance over that of uniform attention")
    put("entropy", entropy, "nats", "entropy of attention")
    put("entropy_error", entropy_error, "nats", "standard error of the entropy of attention")
    put("relative_entropy", entropy / np.log(keys)[:, None], "1", "entropy over that of uniform attention")
    put("prefix_share", share, "1", "share of attention that goes to prefix tokens")
    put("prefix_share_error", share_error, "1", "standard error of the share on prefix tokens")
    height, width = anatomy.input_size[1:]
    return dataset.assign_attrs(
        study="attention",
        model=model,
        estimator="mean over queries of the sum over keys of weight times distance (Dosovitskiy et al. 2021, "
        "Raghu et al. 2021); prefix tokens dropped",
        renormalize=int(renormalize),
        error="standard error of the mean over images",
        images=int(estimate.means.images.sum(1).max()),
        image_height=height,
        image_width=width,
        patch_height=placed[0].patch[0],
        patch_width=placed[0].patch[1],
    )


def block_coordinates(anatomy: Anatomy, placed: Sequence[PlacedAttention], heads: int) -> dict[str, object]:
    """Coordinates of the dims ``block`` (attention sites, in execution order) and ``head``."""
    sites = [each.site for each in placed]
    text = {
        "block": [site.name for site in sites],
        "module": [site.block or site.name for site in sites],
    }
    counts = {
        "heads": [each.heads for each in placed],
        "windows": [each.windows for each in placed],
        "query_tokens": [site.query_tokens for site in sites],
        "key_tokens": [site.key_tokens for site in sites],
        "prefix_tokens": [each.key_prefix for each in placed],
    }
    numbers = {
        "relative_depth": [relative_depth(anatomy, site) for site in sites],
        "query_patch": [each.patch[0] for each in placed],
    }
    return {
        **{name: ("block", np.array(values, dtype=object)) for name, values in text.items()},
        **{name: ("block", np.array(values)) for name, values in {**counts, **numbers}.items()},
        "head": ("head", np.arange(heads)),
    }


def relative_depth(anatomy: Anatomy, site: AttentionSite) -> float:
    """Place of an attention among the model's layers: 0 at the input, 1 at the output."""
    for layer in anatomy.layers:
        if site.name in (layer.name, *layer.aliases) or layer.point == site.output:
            return layer.relative_depth
    inside = [layer.relative_depth for layer in anatomy.layers if site.block and layer.block == site.block]
    order = anatomy.attentions.index(site) / max(len(anatomy.attentions) - 1, 1)
    return max(inside) if inside else order
