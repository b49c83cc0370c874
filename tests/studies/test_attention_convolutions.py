"""The receptive fields of convolutional models that stand beside attention distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import seelike
from nets import pictures, small_net, tiny_vit
from seelike.anatomy.theory import theoretical_fields
from seelike.studies import Design


def beside(net: nn.Module) -> Any:
    """Result of a ViT on 32 pixels beside a network."""
    models = [seelike.Model(tiny_vit(), (3, 32, 32), "vit"), seelike.Model(net, (3, 32, 32), "net")]
    return seelike.compare(models, pictures(8), [seelike.AttentionDistance()])


def test_half_the_side_of_stem_and_units_in_pixels() -> None:
    """Patches of 4 pixels, then units of two 3 x 3 convolutions, each 16 pixels more."""
    tree = beside(small_net())
    data = tree["attention/vit"].to_dataset()
    assert data["field_radius"].values.tolist() == [2, 10, 18]
    assert data["field_layer"].values.tolist() == ["stem.0", "units.0", "units.1"]
    assert set(data["field_model"].values) == {"net"}
    assert (np.diff(data["field_depth"]) > 0).all()
    assert data["field_radius"].attrs["units"] == "pixels"
    assert "net has no attention sites" in tree.attrs["run"]
    (axes,) = seelike.AttentionDistance().figures(tree)["attention-depth"].axes
    (line,) = (line for line in axes.lines if str(line.get_label()).startswith("net: half the side"))
    np.testing.assert_allclose(line.get_ydata(), [2, 10, 18])
    np.testing.assert_allclose(line.get_xdata(), 2 * data["field_depth"])  # blocks 0 to 2
    assert axes.get_ylim()[1] < 18  # beyond what attention can reach the line is cut, not the heads made small


def test_group_norm_is_overlooked_here_and_not_in_the_theory_of_fields() -> None:
    net = small_net()
    net.stem[1] = nn.GroupNorm(2, 8)
    assert beside(net)["attention/vit"]["field_radius"].values.tolist() == [2, 10, 18]
    anatomy = seelike.Model(net, (3, 32, 32), "net").anatomy
    assert len(theoretical_fields(anatomy)) < len(theoretical_fields(anatomy, through_norms=True))


def test_fields_are_put_beside_distances_of_the_same_image_only() -> None:
    vit = seelike.Model(tiny_vit(), (3, 32, 32), "vit").anatomy
    nets = {size: seelike.Model(small_net(), (3, size, size), "net").anatomy for size in (32, 64)}
    for size, there in ((32, True), (64, False)):
        fold = seelike.AttentionDistance().begin({"vit": vit, "net": nets[size]}, Design(1, 1, 8))
        tally = {key: torch.ones_like(value) for key, value in fold.empty().items()}
        assert ("field_radius" in fold.results(tally)["attention/vit"]) == there


def test_without_a_convolutional_model_nothing_is_added() -> None:
    models = [seelike.Model(tiny_vit(), (3, 32, 32), name) for name in ("one", "two")]
    tree = seelike.compare(models, pictures(8), [seelike.AttentionDistance()])
    assert all("field_radius" not in node for node in tree["attention"].children.values())
