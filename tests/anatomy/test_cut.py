"""A model whose skips are cut in the graph is the model written without them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn

import seelike
from anatomy.anatomy_nets import all_taps, shake
from nets import pictures, small_net, tiny_vit
from seelike.anatomy import read_anatomy
from seelike.anatomy.cut import Sublayers, cut_skips
from seelike.errors import SeelikeError
from seelike.models.architectures import build
from seelike.models.cut import cut_model


def losses(run: Any, x: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor, list[Tensor]]:
    """Output, and gradients of a loss with respect to image and parameters."""
    x = x.clone().requires_grad_()
    out = run(x)
    return out, list(torch.autograd.grad(out.square().sum(), [x, *parameters]))


@pytest.mark.parametrize(("block", "sublayers"), [(0, "both"), (0, "mlp"), (1, "attention")])
def test_output_and_gradients_are_those_of_a_model_written_without_the_skip(block: int, sublayers: Sublayers) -> None:
    whole = shake(build("seelike_vit_lab", {"depth": 2}))
    written = build("seelike_vit_lab", {"depth": 2, "cut": block, "cut_sublayers": sublayers}).eval()
    written.load_state_dict(whole.state_dict())
    x = pictures(4)
    anatomy = cut_skips(read_anatomy(whole, (x,), name="vit"), block, sublayers)
    ours, our_gradients = losses(lambda x: anatomy.run((x,), {}), x, list(whole.parameters()))
    theirs, their_gradients = losses(written, x, list(written.parameters()))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))
    assert (ours - whole(x)).abs().max() > 1e-2


class Without(nn.Module):
    """`small_net` without the skip of its second unit."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        x = net.units[0](net.stem(x))
        unit = net.units[1]
        x = torch.relu(unit.bn2(unit.conv2(torch.relu(unit.bn1(unit.conv1(x))))))
        return net.head(x.mean((2, 3)))


@pytest.mark.parametrize("keep", [True, False])
def test_a_unit_that_adds_in_place_and_activates_in_place(keep: bool) -> None:
    net, x = small_net(), pictures(3)
    cut = cut_skips(read_anatomy(net, (x,), name="net"), 1)
    seen: dict[str, Tensor] = {}
    branch = read_anatomy(net, (x,)).residuals[1].branch
    with torch.no_grad():
        ours = cut.run((x,), {branch: lambda t: seen.update(branch=t.clone())}, keep=keep)
        theirs = Without(net)(x)
        x1 = net.units[0](net.stem(x))
        by_hand = net.units[1].bn2(net.units[1].conv2(torch.relu(net.units[1].bn1(net.units[1].conv1(x1)))))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(seen["branch"], by_hand, rtol=1e-5, atol=1e-6)


def test_the_model_itself_stays_whole_and_both_run_side_by_side() -> None:
    net, x = tiny_vit(), pictures(2)
    before = copy.deepcopy(net)
    anatomy = read_anatomy(net, (x,), name="vit")
    cut = cut_skips(anatomy, 1)
    with torch.no_grad():
        cut.run((x,), {})
        torch.testing.assert_close(anatomy.run((x,), {}), before(x))
    assert len(anatomy.residuals) == 6
    assert [site.name for site in cut.residuals] == [s.name for s in anatomy.residuals if s.block != "blocks.1"]
    assert "Cut: the skips of blocks.1.+attention and blocks.1.+mlp" in cut.notes


def test_what_is_tapped_of_a_cut_model_is_what_is_made_there() -> None:
    whole = shake(build("seelike_vit_lab", {"depth": 2}))
    written = build("seelike_vit_lab", {"depth": 2, "cut": 0}).eval()
    written.load_state_dict(whole.state_dict())
    x = pictures(2)
    cut, by_hand = cut_skips(read_anatomy(whole, (x,)), 0), read_anatomy(written, (x,))
    kept, taps = all_taps(cut)
    wanted, wanted_taps = all_taps(by_hand)
    with torch.no_grad():
        cut.run((x,), taps)
        by_hand.run((x,), wanted_taps)
    points = {name: site.point for site in by_hand.layers for name in (site.name, *site.aliases)}
    compared = 0
    for site in cut.layers:
        for name in (site.name, *site.aliases):
            if name in points:
                torch.testing.assert_close(kept[site.point], wanted[points[name]], rtol=1e-5, atol=1e-6)
                compared += 1
    assert compared >= 25


def test_a_projected_skip_and_both_mlps_of_a_mixer_can_be_cut() -> None:
    resnet = shake(build("seelike_resnet_lab", {"layers": (1, 1, 1, 1)}))
    mixer = shake(MlpMixer(img_size=32, patch_size=8, num_blocks=2, embed_dim=24, num_classes=3))
    x = pictures(2)
    read = read_anatomy(resnet, (x,))
    assert read.residuals[1].kind == "projected"
    cut = cut_skips(read, 1)
    with torch.no_grad():
        ours = cut.run((x,), {})
        point = read.residuals[1].branch
        later = resnet.stages[3](resnet.stages[2](torch.relu(read.run_until((x,), [point])[point])))
        torch.testing.assert_close(ours, resnet.head(resnet.norm(later)), rtol=1e-4, atol=1e-5)
        tokens = mixer.stem(x)
        block = mixer.blocks[0]
        tokens = block.mlp_tokens(block.norm1(tokens).mT).mT
        tokens = mixer.blocks[1](block.mlp_channels(block.norm2(tokens)))
        logits = mixer.head(mixer.norm(tokens).mean(1))
        torch.testing.assert_close(cut_skips(read_anatomy(mixer, (x,)), 0).run((x,), {}), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "block", "sublayers", "says"),
    [
        (tiny_vit, 3, "both", r"vit has no block 3; its blocks are counted from 0 \(blocks\.0\) to 2 \(blocks\.2\)"),
        (tiny_vit, -1, "both", r"no block -1; its blocks are counted from 0"),
        (tiny_vit, True, "both", "no block True"),
        (tiny_vit, 0, "conv", "sublayer 'conv' is none of both, attention, mlp"),
        (small_net, 1, "attention", r"\(units\.1\) has no skip around a branch of attention; it has units\.1\.\+conv"),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 32), nn.Flatten()), 0, "both", "has no blocks with residual sums"),
    ],
)
def test_what_cannot_be_cut_is_said(net: Any, block: int, sublayers: Any, says: str) -> None:
    anatomy = read_anatomy(net(), (pictures(2),), name="vit")
    with pytest.raises(SeelikeError, match=says):
        cut_skips(anatomy, block, sublayers)


def test_a_sum_that_is_scaled_on_the_way_is_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            return torch.add(x, self.mix(x), alpha=0.5).flatten(1)

    net = nn.Sequential(Scaled())
    with pytest.raises(SeelikeError, match=r"the skip of .* cannot be cut"):
        cut_skips(read_anatomy(net, (pictures(2),), name="net"), 0)


def test_a_cut_model_is_studied_and_evaluated_like_any_other() -> None:
    whole = seelike.Model(tiny_vit(), (3, 32, 32), "vit", provenance={"kind": "test", "data_set": "scenes"})
    cut = cut_model(whole, 2, "mlp")
    x = pictures(24)
    assert (cut.name, cut.parameters) == ("vit-cut2-mlp", whole.parameters)
    assert cut.provenance["data_set"] == "scenes"
    with torch.inference_mode():
        torch.testing.assert_close(cut.module(x), cut.anatomy.run((x,), {}))
        assert (cut.module(x) - whole.module(x)).abs().max() > 1e-2
    studies = [seelike.Similarity("blocks"), seelike.SkipRatio()]
    tree = seelike.compare([whole, cut], x, studies, minibatch=8)
    across = tree["similarity/vit/vit-cut2-mlp"]["cka"].values
    assert across[0, 0] == pytest.approx(1, abs=1e-6)  # before the cut nothing has changed
    assert across[2, 2] < 0.999
    assert list(tree["skip/vit-cut2-mlp"]["residual"].values) == list(tree["skip/vit"]["residual"].values)[:-1]
    with pytest.raises(SeelikeError, match="vit has no block 7"):
        cut_model(whole, 7)


def test_a_cut_model_follows_the_type_of_its_weights() -> None:
    cut = cut_model(seelike.Model(tiny_vit(), (3, 32, 32), "vit"), 1).to("cpu", torch.float64)
    x = pictures(2).double()
    with torch.no_grad():
        assert cut.module(*cut.inputs(x)).dtype == torch.float64
        torch.testing.assert_close(cut.anatomy.run((x,), {}), cut.module(x))
