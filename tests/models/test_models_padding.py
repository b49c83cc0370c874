"""Networks without zeros around their maps."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

import seelike
from nets import small_net, tiny_vit
from seelike.errors import SeelikeError
from seelike.models.padding import padded, without_zero_padding


def zoo() -> nn.Module:
    return seelike.load_model("zoo:resnet").module


def stride_one(net: nn.Module) -> nn.Module:
    """Shifts of a pixel must be shifts of every map."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return net


def features(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return net.forward_features(x) if hasattr(net, "forward_features") else net(x)


CONVOLUTIONS: dict[str, Any] = {
    "plain": lambda: nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 5, padding="same")),
    "standardised weights": lambda: stride_one(zoo()),
    "zero-padding layer": lambda: nn.Sequential(nn.ZeroPad2d((0, 2, 1, 1)), nn.Conv2d(3, 4, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_circular_maps_turn_with_the_image(name: str) -> None:
    """Rolling the image rolls the maps: no position is special any more. With zeros it does not."""
    net = CONVOLUTIONS[name]().eval()
    x = torch.randn(2, 3, 12, 12)
    turned = torch.roll(x, (3, 5), (2, 3))
    with torch.no_grad():
        circular = without_zero_padding(net)
        torch.testing.assert_close(
            features(circular, turned), torch.roll(features(circular, x), (3, 5), (2, 3)), rtol=1e-3, atol=1e-4
        )
        away = features(net, turned) - torch.roll(features(net, x), (3, 5), (2, 3))
        assert away.abs().max() > 0.01


def test_the_given_network_stays_and_weights_are_the_same() -> None:
    net = small_net()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = net(x)
        changed = without_zero_padding(net, "reflect")
        assert torch.equal(net(x), before)
        assert (changed(x) - before).abs().max() > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), changed.parameters(), strict=True))
    assert changed.units[0].conv1.padding_mode == "reflect"
    assert changed.stem[0].padding_mode == "zeros"  # adds none


def test_inside_the_image_nothing_changes() -> None:
    """Away from the edges a convolution sees no padding, whatever it is."""
    for build in (CONVOLUTIONS["plain"], lambda: timm.layers.StdConv2d(3, 6, 3)):
        net, x = build(), torch.randn(1, 3, 20, 20)
        with torch.no_grad():
            one, other = net(x), without_zero_padding(net, "replicate")(x)
        torch.testing.assert_close(one[..., 4:-4, 4:-4], other[..., 4:-4, 4:-4])
        assert (one - other).abs().max() > 1e-3


def test_a_model_of_the_zoo_keeps_its_preprocessing() -> None:
    model, before = padded("zoo:resnet", "circular"), seelike.load_model("zoo:resnet")
    assert (model.name, model.provenance["padding"]) == ("resnet-circular", "circular instead of zeros")
    image = seelike.load_images("scenes:test?n=4").read(0)
    assert torch.equal(model.preprocess(image), before.preprocess(image))
    assert type(model.preprocess.transform) is type(before.preprocess.transform)


def test_the_graph_is_that_of_the_changed_network() -> None:
    net = without_zero_padding(nn.Sequential(timm.layers.StdConv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)))
    model = seelike.Model(net, (3, 12, 12), "net")
    x = torch.randn(3, 3, 12, 12)
    seen: dict[str, torch.Tensor] = {}
    last = model.anatomy.select("2")[0]
    with torch.no_grad():
        model.anatomy.run((x,), {last.point: lambda tensor: seen.__setitem__("last", tensor)})
        torch.testing.assert_close(seen["last"], net(x))
        torch.testing.assert_close(net(torch.roll(x, 4, 2)), torch.roll(seen["last"], 4, 2), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_changed() -> None:
    with pytest.raises(SeelikeError, match="no convolution of this VisionTransformer adds zeros"):
        without_zero_padding(tiny_vit())
    with pytest.raises(SeelikeError, match="circular, reflect, replicate, not 'none'"):
        without_zero_padding(small_net(), "none")  # type: ignore[arg-type]
    with pytest.raises(SeelikeError, match="0 is a Conv2dSame, which pads in a way of its own"):
        without_zero_padding(nn.Sequential(timm.layers.Conv2dSame(3, 4, 3)))
