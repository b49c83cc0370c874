"""Effective receptive fields against known gradients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import seelike
from nets import pictures, small_net, tiny_vit
from seelike.anatomy.theory import theoretical_fields
from seelike.errors import SeelikeError
from seelike.studies.field.targets import grid_of


def field_of(
    net: nn.Module, pixels: Tensor, name: str = "net", minibatch: int = 8, batch: int | None = None, **options
):
    model = seelike.Model(net, tuple(pixels.shape[1:]), name)
    study = seelike.ReceptiveField(**{"layers": "all", "channels": None, "images": 8, **options})
    return seelike.compare(model, pixels, [study], minibatch=minibatch, batch=batch)[f"field/{name}"].to_dataset()


def test_a_linear_map_has_the_field_of_its_weights() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1))
    data = field_of(net, torch.randn(8, 3, 9, 9), location=(4, 3))
    expected = np.zeros((9, 9))
    expected[3:6, 2:5] = net[0].weight.abs().sum(1).mean(0).detach().numpy()
    np.testing.assert_allclose(data["field"].values[0], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(data["field_error"].values[0], 0, atol=1e-6)  # the same for every image
    assert data["theoretical"].values[0] == 3


def test_gaussian_combinations_estimate_the_norm_over_channels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1))
    data = field_of(net, torch.randn(8, 1, 5, 5), projection="gaussian", channels=2000)
    expected = net[0].weight.square().sum((0, 1)).sqrt().detach().numpy() * np.sqrt(2 / np.pi)
    np.testing.assert_allclose(data["field"].values[0, 1:4, 1:4], expected, rtol=0.04)
    assert data.attrs["projection"] == "gaussian"


def test_nothing_outside_the_theoretical_field() -> None:
    net = small_net(units=3)
    model = seelike.Model(net, (3, 64, 64), "net")
    theory = theoretical_fields(model.anatomy)
    sites = {site.name: site for site in model.anatomy.layers}
    data = field_of(net, pictures(8, 64))
    checked = 0
    for place, name in enumerate(data["layer"].values):
        if data["stage"].values[place] == "before" or np.isnan(data["theoretical"].values[place]):
            continue
        rows, columns = theory[sites[name].point]
        field = data["field"].values[place].copy()
        top = rows.start + int(data["location_row"][place]) * rows.jump
        left = columns.start + int(data["location_column"][place]) * columns.jump
        inside = field[max(top, 0) : top + rows.size, max(left, 0) : left + columns.size]
        assert inside.max() > 0
        inside[:] = 0
        assert np.count_nonzero(field) == 0, name
        checked += 1
    assert checked >= 10


def test_the_patch_embedding_sees_its_own_patch_only() -> None:
    data = field_of(tiny_vit(), pictures(8), "vit", layers="residuals", location=(1, 2))
    embedding = data["field"].values[0]
    assert embedding[8:16, 16:24].min() > 0
    assert embedding.sum() == pytest.approx(embedding[8:16, 16:24].sum(), rel=1e-12)
    assert float(data["centre_share"][0]) == pytest.approx(1)
    assert float(data["centre_share"].sel(layer="blocks.2")) < 1


def test_channels_are_not_summed_before_the_absolute_value() -> None:
    """The sum over channels of a norm with unit gain is constant: its gradient is zero, that of the layer is not."""
    net = tiny_vit()
    x = pictures(8)
    data = field_of(net, x, "vit", layers=("blocks.1.norm1",))
    assert float(data["field"].sum()) > 1e-3
    model = seelike.Model(net, (3, 32, 32), "vit")
    (site,) = model.anatomy.select("blocks.1.norm1")
    images = x.clone().requires_grad_()
    tensor = model.anatomy.run_until((images,), [site.point])[site.point]
    (gradient,) = torch.autograd.grad(tensor.sum(-1)[:, 5].sum(), images)
    assert float(gradient.abs().sum(1).mean(0).sum()) < 1e-3 * float(data["field"].sum())


def test_against_a_jacobian_of_the_eager_model() -> None:
    net, images = tiny_vit(), pictures(8)
    data = field_of(net, images, "vit", layers=("blocks.1",), before=False)

    def features(image: Tensor) -> Tensor:
        tokens = net.pos_drop(net._pos_embed(net.patch_embed(image[None])))
        return net.blocks[1](net.blocks[0](tokens))[0, 1 + 2 * 4 + 2]

    jacobians = [torch.autograd.functional.jacobian(features, image) for image in images]  # (channels, 3, h, w)
    expected = torch.stack([j.abs().sum(1).mean(0) for j in jacobians]).mean(0)
    np.testing.assert_allclose(data["field"].values[0], expected.numpy(), rtol=1e-4, atol=1e-7)


def test_random_channels_agree_with_all_within_their_error() -> None:
    images = pictures(1).expand(32, -1, -1, -1).contiguous()  # one image, so that only the draw differs
    exact = field_of(tiny_vit(), images, "vit", layers=("blocks.2",), images=32, before=False)
    drawn = field_of(tiny_vit(), images, "vit", layers=("blocks.2",), images=32, before=False, channels=8)
    away = (drawn["field"] - exact["field"]) / drawn["field_error"]
    assert 0.3 < float((away**2).mean()) < 3
    assert drawn.attrs["channels"] == "8"
    assert exact.attrs["channels"] == "all"
    most = field_of(tiny_vit(), images, "vit", layers=("blocks.2",), images=32, before=False, channels=10_000)
    assert most["field"].equals(exact["field"])


@pytest.mark.parametrize("batch", [16, 3])
def test_the_forward_batch_does_not_matter(batch: int) -> None:
    images = pictures(24)
    whole = field_of(small_net(), images, channels=3, images=12)
    other = field_of(small_net(), images, channels=3, images=12, batch=batch)
    assert whole.attrs["images"] == 12
    for name in ("field", "radius", "centre_share"):
        np.testing.assert_allclose(other[name].values, whole[name].values, rtol=1e-4, atol=1e-8)


def test_before_the_sum_is_the_branch_alone() -> None:
    data = field_of(small_net(), pictures(8), layers="residuals")
    assert [str(n) for n in data["layer"].values if "branch" in str(n)] == [f"units.{i}.+conv (branch)" for i in (0, 1)]
    after, before = (data["field"].values[data["stage"].values == s] for s in ("after", "before"))
    assert not np.allclose(after[-1], before[-1])
    assert field_of(small_net(), pictures(8), layers="residuals", before=False).sizes["layer"] == len(after)


def test_figures_and_findings_of_two_models(tmp_path: Path) -> None:
    models = [seelike.Model(tiny_vit(), (3, 32, 32), "vit"), seelike.Model(small_net(units=4), (3, 32, 32), "net")]
    tree = seelike.compare(models, pictures(16), [seelike.ReceptiveField(images=8, channels=4)], tmp_path, minibatch=8)
    stems = {p.stem for p in (tmp_path / "figures").glob("*.png")}
    assert stems == {"field-maps", "field-maps-branch", "field-radius", "field-centre-share"}
    claims = [f["claim"] for f in json.loads(tree.attrs["findings"])]
    assert claims == [
        "lower layers of vit see further than those of net",
        "late attention of vit loses the dominant centre patch before the residual sum",
    ]


def test_places_and_layers_that_do_not_exist() -> None:
    with pytest.raises(SeelikeError, match=r"net: location \(9, 0\) is outside the 8 x 8 positions of stem\.0"):
        field_of(small_net(), pictures(8), location=(9, 0))
    with pytest.raises(SeelikeError, match=r"needs a layer with positions.*head \(5,\)"):
        field_of(small_net(), pictures(8), layers=("head",))
    with pytest.raises(SeelikeError, match="images of the receptive field study must be at least 1, not 0"):
        seelike.ReceptiveField(images=0)


class Steps(nn.Module):
    """A network whose second layer has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).argmax(1, keepdim=True).float())


def test_a_layer_without_gradient_is_named() -> None:
    with pytest.raises(
        SeelikeError, match=r"net: last \(2, 8, 8\) cannot be differentiated .* leave it out with --layers"
    ):
        field_of(Steps(), pictures(8, 8))
    assert field_of(Steps(), pictures(8, 8), layers=("first",)).sizes["layer"] == 1


def test_grids_of_layouts() -> None:
    anatomy = seelike.Model(tiny_vit(), (3, 32, 32), "vit").anatomy
    (block,) = anatomy.select("blocks.0")
    assert grid_of(block.layout, block.shape) == (4, 4)
