"""Theoretical receptive fields."""

from __future__ import annotations

import torch
from torch import nn

import seelike
from nets import tiny_vit
from seelike.anatomy.theory import Extent, theoretical_fields

RESNET50 = [19, 27, 35, 43, 59, 75, 91, 107, 139, 171, 203, 235, 267, 299, 363, 427]  # paper.md 2.3


def test_resnet50_is_as_the_paper_lists_it() -> None:
    anatomy = seelike.load_model("torchvision:resnet50@random").anatomy
    fields = theoretical_fields(anatomy)
    by_name = {site.name: fields[site.point] for site in anatomy.layers if site.point in fields}
    assert by_name["conv1"][0].size == 7
    assert by_name["maxpool"][0].size == 11
    blocks = [by_name[site.name] for site in anatomy.select("blocks")]
    assert [rows.size for rows, _ in blocks] == RESNET50
    assert [columns.size for _, columns in blocks] == RESNET50
    assert blocks[-1][0].jump == 32
    assert "fc" not in by_name  # global pooling sees everything


def test_where_a_field_begins() -> None:
    """Against the gradient of an all-ones network: exactly the pixels of the extent, at every position."""
    net = nn.Sequential(
        nn.Conv2d(1, 1, (5, 3), 2, (2, 0), bias=False),
        nn.AvgPool2d(2, 2),
        nn.Conv2d(1, 1, 3, 1, 2, dilation=2, bias=False),
    )
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    model = seelike.Model(net, (1, 33, 41), "net")
    anatomy = model.anatomy
    fields = theoretical_fields(anatomy)
    x = torch.ones(1, 1, 33, 41, requires_grad=True)
    rows, columns = fields[anatomy.layers[-1].point]
    out = anatomy.run_until(anatomy.inputs(x), [anatomy.layers[-1].point])[anatomy.layers[-1].point]
    for i, j in ((0, 0), (3, 4), (out.shape[2] - 1, out.shape[3] - 1)):
        (gradient,) = torch.autograd.grad(out[0, 0, i, j], x, retain_graph=True)
        for extent, seen, place in ((rows, gradient[0, 0].any(1), i), (columns, gradient[0, 0].any(0), j)):
            pixels = seen.nonzero().flatten()
            first = extent.start + place * extent.jump
            assert int(pixels.min()) >= max(first, 0)
            assert int(pixels.max()) <= min(first + extent.size - 1, len(seen) - 1)
            if first > 0 and first + extent.size < len(seen):
                assert (int(pixels.min()), int(pixels.max())) == (first, first + extent.size - 1)


def test_a_sum_sees_what_either_operand_sees() -> None:
    assert Extent(3, 4, -1).joined(Extent(7, 4, -3)) == Extent(7, 4, -3)
    assert Extent(3, 4, -1).joined(Extent(3, 4, 5)) == Extent(9, 4, -1)
    assert Extent(3, 4, -1).joined(Extent(3, 2, -1)) is None


def test_attention_and_group_norm_of_maps_have_none() -> None:
    anatomy = seelike.Model(tiny_vit(), (3, 32, 32), "vit").anatomy
    fields = theoretical_fields(anatomy)
    assert not [site.name for site in anatomy.select("blocks") if site.point in fields]
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3, padding=1))
    anatomy = seelike.Model(net, (3, 8, 8), "net").anatomy
    known = [site.name for site in anatomy.layers if site.point in theoretical_fields(anatomy)]
    assert known == ["0"]


def test_standardised_weights_keep_their_kernel() -> None:
    anatomy = seelike.load_model("timm:seelike_resnet_lab@random").anatomy
    fields = theoretical_fields(anatomy)
    stem = anatomy.layers[0]
    assert fields[stem.point][0].size in (3, 5, 7)
