"""Hazards of reading: in-place layers, reuse, views, windows, wrappers, errors."""

from __future__ import annotations

import gc
import weakref

import pytest
import timm
import torch
from torch import Tensor, nn

from anatomy.anatomy_nets import (
    AcrossImages,
    InPlace,
    Nested,
    ToyMLP,
    WindowsFirst,
    WritesThroughView,
    WrittenOut,
    all_taps,
    hooked,
    shake,
)
from seelike.anatomy import read_anatomy
from seelike.errors import SeelikeError


def test_in_place_relu_does_not_corrupt_the_norm_before_it() -> None:
    net, images = shake(InPlace()), torch.randn(2, 3, 8, 8)
    anatomy = read_anatomy(net, (images,))
    kept, taps = all_taps(anatomy)
    anatomy.run((images,), taps)
    by_name = {name: kept[site.point] for site in anatomy.layers for name in (site.name, *site.aliases)}
    expected = net.bn(net.conv(images))
    torch.testing.assert_close(by_name["bn"], expected)
    assert (by_name["bn"] < 0).any()
    torch.testing.assert_close(by_name["relu"], expected.relu())
    torch.testing.assert_close(by_name["relu@1"], (expected.relu() - 0.5).relu())


def test_names_in_a_nested_network_with_reuse() -> None:
    net, tokens = shake(Nested()), torch.randn(2, 5, 6)
    anatomy = read_anatomy(net, (tokens,))
    kept, taps = all_taps(anatomy)
    with torch.no_grad():
        anatomy.run((tokens,), taps)
    by_name = {name: kept[site.point] for site in anatomy.layers for name in (site.name, *site.aliases)}
    by_hook = hooked(net, tokens)
    assert by_name.keys() >= by_hook.keys()
    assert {"level.inner.inner.fc@1", "level.inner.norm", "level:1", "level@1:1"} <= by_hook.keys()
    for name, tensor in by_hook.items():
        torch.testing.assert_close(by_name[name], tensor, msg=lambda m, n=name: f"{n}: {m}")


def test_identities_and_reshapes_are_aliases() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2)
    anatomy = read_anatomy(vit, (torch.randn(2, 3, 32, 32),))
    names = {site.name: set(site.aliases) for site in anatomy.layers}
    assert "patch_embed.proj" in names["patch_embed"]
    assert names["pos_drop"] == {"patch_drop", "norm_pre"}
    assert {"blocks.0.attn.proj", "blocks.0.ls1", "blocks.0.drop_path1"} <= names["blocks.0.attn"]
    assert "blocks.0.+mlp" in names["blocks.0"]
    assert names["blocks.0.+attention"] == set()


def test_a_write_through_a_view_is_cloned_when_tapped() -> None:
    net, x = shake(WritesThroughView()), torch.randn(3, 4)
    anatomy = read_anatomy(net, (x,))
    kept, taps = all_taps(anatomy)
    with torch.no_grad():
        output = anatomy.run((x,), taps)
        torch.testing.assert_close(output, net(x))
        torch.testing.assert_close(kept[anatomy.select("first")[0].point], net.first(x))


def test_windows_that_interleave_images_are_left_out() -> None:
    net, images = shake(WindowsFirst()), torch.randn(3, 3, 16, 16)
    anatomy = read_anatomy(net, (images,))
    names = {name for site in anatomy.layers for name in (site.name, *site.aliases)}
    assert "whole" in names
    assert "mixed" not in names
    assert any("mixed" in note and "interleaved" in note for note in anatomy.notes)


def test_everything_qualifies_where_nothing_has_positions() -> None:
    anatomy = read_anatomy(ToyMLP(), (torch.randn(2, 10),))
    assert [site.name for site in anatomy.select("sublayers")] == ["relu", "norm", "second"]


def test_sublayers_skip_gates_scales_and_heads_and_take_the_activation() -> None:
    anatomy = read_anatomy(WrittenOut(), (torch.randn(2, 3, 8, 8),))
    assert [site.name for site in anatomy.select("sublayers")] == ["conv", "act", "fc2"]
    assert [site.layout.channels_last for site in anatomy.select("sublayers")] == [False, True, True]
    assert [site.branch_kind for site in anatomy.residuals] == ["mlp"]


def test_a_model_that_compares_images_is_told_on() -> None:
    anatomy = read_anatomy(AcrossImages(), (torch.randn(2, 4),))
    assert any("compares the images of a batch" in note for note in anatomy.notes)


def test_tapped_tensors_die_as_in_the_plain_forward() -> None:
    resnet = timm.create_model("test_resnet").eval()
    images = torch.randn(2, 3, 32, 32)
    anatomy = read_anatomy(resnet, (images,))
    seen: list[tuple[str, weakref.ref[Tensor]]] = []
    alive: list[int] = []

    def receive(tensor: Tensor, point: str) -> None:
        alive.append(sum(ref() is not None for _, ref in seen))
        seen.append((point, weakref.ref(tensor)))

    taps = {site.point: (lambda t, p=site.point: receive(t, p)) for site in anatomy.layers}
    gc.disable()  # references must go by themselves
    try:
        with torch.no_grad():
            output = anatomy.run((images,), taps)
    finally:
        gc.enable()
    assert len(seen) == len(anatomy.layers) > 40
    assert max(alive) <= 3  # a skip, what the branch has come to, and its input
    assert [ref() for _, ref in seen[:-1]] == [None] * (len(seen) - 1)
    assert seen[-1][1]() is output


def test_gradients_flow_to_taps_and_parameters() -> None:
    net, images = shake(InPlace()), torch.randn(2, 3, 8, 8)
    anatomy = read_anatomy(net, (images,))
    kept, taps = all_taps(anatomy)
    output = anatomy.run((images,), taps)
    (ours,) = torch.autograd.grad(output.sum(), kept[anatomy.select("bn")[0].point], retain_graph=True)
    assert ours.abs().sum() > 0
    (weight,) = torch.autograd.grad(output.sum(), net.conv.weight)
    (expected,) = torch.autograd.grad(net(images).sum(), net.conv.weight)
    torch.testing.assert_close(weight, expected)


def test_inference_mode() -> None:
    net, images = shake(InPlace()), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        anatomy = read_anatomy(net, (torch.randn(1, 3, 8, 8),))
        torch.testing.assert_close(anatomy.run((images,), {}), net(images))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    net, images = shake(InPlace()).to(dtype), torch.randn(2, 3, 8, 8, dtype=dtype)
    anatomy = read_anatomy(net, (images,))
    kept, taps = all_taps(anatomy)
    with torch.no_grad():
        torch.testing.assert_close(anatomy.run((images,), taps), net(images))
    assert {tensor.dtype for tensor in kept.values()} == {dtype}


def test_reading_leaves_the_model_as_it_was() -> None:
    net = InPlace().train()
    net.bn.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    read_anatomy(net, (torch.randn(2, 3, 8, 8),))
    assert (net.training, net.bn.training, net.relu.training) == (True, False, True)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(child._forward_hooks for child in net.modules())


def test_parameters_are_shared() -> None:
    net, images = shake(InPlace()), torch.randn(2, 3, 8, 8)
    anatomy = read_anatomy(net, (images,))
    with torch.no_grad():
        net.head.bias.add_(7.0)
        torch.testing.assert_close(anatomy.run((images,), {}), net(images))


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrappers_are_taken_off(wrap: object) -> None:
    net, images = shake(InPlace()), torch.randn(2, 3, 8, 8)
    wrapped: nn.Module = wrap(net)  # type: ignore[operator]
    assert [s.name for s in read_anatomy(wrapped, (images,)).layers] == [
        s.name for s in read_anatomy(net, (images,)).layers
    ]


def test_a_new_set_of_taps_hands_on_the_same_tensors() -> None:
    net, images = shake(InPlace()), torch.randn(2, 3, 8, 8)
    anatomy = read_anatomy(net, (images,))
    everything, taps = all_taps(anatomy)
    anatomy.run((images,), taps)
    for site in anatomy.layers:
        alone: list[Tensor] = []
        anatomy.run((images,), {site.point: alone.append})
        anatomy.run((images,), {site.point: alone.append})
        assert len(alone) == 2
        assert all(torch.equal(tensor, everything[site.point]) for tensor in alone)


def test_live_bytes_of_a_chain_by_hand() -> None:
    """Images 3*8*8, then one tensor of 8*8*8 and the next made from it: 192 + 512 + 512 floats."""
    anatomy = read_anatomy(InPlace(), (torch.randn(2, 3, 8, 8),))
    assert anatomy.live_bytes_per_image() == 4 * (192 + 512 + 512)


class _Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


class _TwoOnly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1).relu()


@pytest.mark.parametrize("module", [_Branches(), _TwoOnly()])
def test_a_model_that_cannot_be_exported_says_so(module: nn.Module) -> None:
    with pytest.raises(SeelikeError, match=r"(?s)mymodel cannot be read as a graph.*Try another input size"):
        read_anatomy(module, (torch.randn(2, 3),), name="mymodel")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused() -> None:
    scripted = torch.jit.trace(nn.Linear(3, 3), torch.randn(2, 3))
    with pytest.raises(SeelikeError, match="mymodel is a TorchScript module"):
        read_anatomy(scripted, (torch.randn(2, 3),), name="mymodel")


def test_select_names_what_is_missing() -> None:
    anatomy = read_anatomy(InPlace(), (torch.randn(2, 3, 8, 8),), name="inplace")
    with pytest.raises(SeelikeError, match=r"inplace has no layer that matches 'convv'.*did you mean conv"):
        anatomy.select("convv")
    with pytest.raises(SeelikeError, match=r"inplace has no blocks.*'sublayers'"):
        anatomy.select("blocks")
    assert [site.name for site in anatomy.select(["relu*", "bn"])] == ["bn", "relu", "relu@1"]


def test_run_checks_inputs_and_points() -> None:
    anatomy = read_anatomy(InPlace(), (torch.randn(2, 3, 8, 8),), name="inplace")
    with pytest.raises(SeelikeError, match=r"inplace was read with input 0 of shape \(n, 3, 8, 8\).*\(2, 3, 9, 9\)"):
        anatomy.run((torch.randn(2, 3, 9, 9),), {})
    with pytest.raises(SeelikeError, match="inplace was read with inputs"):
        anatomy.run({"x": torch.randn(2, 3, 8, 8)}, {})
    with pytest.raises(SeelikeError, match="inplace has no point 'nowhere'"):
        anatomy.run((torch.randn(2, 3, 8, 8),), {"nowhere": lambda t: None})


def test_layout_hint_overrides() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2)
    hint = {"prefix_tokens": 2, "grid": (3, 5)}
    anatomy = read_anatomy(vit, (torch.randn(2, 3, 32, 32),), layout=hint)  # type: ignore[arg-type]
    layout = anatomy.select("norm")[0].layout
    assert (layout.prefix_tokens, layout.grid, layout.source) == (2, (3, 5), "user")


def test_receivers_that_keep_nothing_see_the_same_numbers() -> None:
    """With keep=False the model's in-place operations are in place again; what is handed on must not change."""
    from nets import pictures, small_net

    model, x = small_net(), pictures(3)
    anatomy = read_anatomy(model, (x[:2],))
    points = {site.point: site.name for site in anatomy.layers}
    kept: dict[str, torch.Tensor] = {}
    copied: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        anatomy.run((x,), {p: lambda t, n=n: kept.__setitem__(n, t) for p, n in points.items()})
        output = anatomy.run(
            (x,), {p: lambda t, n=n: copied.__setitem__(n, t.clone()) for p, n in points.items()}, keep=False
        )
        torch.testing.assert_close(output, model(x), rtol=0, atol=0)
    assert kept.keys() == copied.keys()
    for name in kept:
        torch.testing.assert_close(kept[name], copied[name], rtol=0, atol=0, msg=name)
    in_place = [n for n in anatomy._graph._versions.popitem()[1].graph.nodes if str(n.target) == "aten.relu_.default"]
    assert len(in_place) == 5
