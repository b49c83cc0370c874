"""DeepViT, PVT, CPVT, Mixer and hybrids against their definitions."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

import seelike
from nets import pictures
from seelike.anatomy.positions import place_attentions
from seelike.errors import SeelikeError
from seelike.models.architectures import build
from seelike.models.architectures.deepvit import ReAttention
from seelike.models.architectures.positions import PositionEncodingGenerator


def jittered(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move all weights off their first values, so that nothing is zero or one by its initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def shuffled(images: Tensor, patch: int, seed: int = 0) -> Tensor:
    """Put the patches of images (n, 3, side, side) into another order, the same for all."""
    side = images.shape[-1] // patch
    patches = nn.functional.unfold(images, patch, stride=patch)
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(seed))
    return nn.functional.fold(patches[:, :, order], images.shape[-2:], patch, stride=patch)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random weights whatever ran before."""
    torch.manual_seed(0)


# Re-attention


@torch.no_grad()
def test_reattention_without_mixing_is_plain_attention() -> None:
    """Identity Theta, no norm, and the weights of timm's ViT."""
    deep = build("seelike_deepvit_lab", {"depth": 3, "norm": "none"}).eval().double()
    plain = jittered(build("seelike_vit_lab", {"depth": 3})).double()
    left = deep.load_state_dict(plain.state_dict(), strict=False)
    assert {key.rpartition(".")[0].rpartition(".")[2] for key in left.missing_keys} == {"theta"}
    assert not left.unexpected_keys
    for block in deep.blocks:
        block.attn.theta.weight.copy_(torch.eye(4)[:, :, None, None])
        block.attn.theta.bias.zero_()
    images = pictures(4).double()
    assert torch.allclose(deep(images), plain(images), atol=1e-10)
    block.attn.theta.weight.copy_(torch.eye(4).roll(1, 0)[:, :, None, None])  # heads meet other heads' values
    assert (deep(images) - plain(images)).abs().max() > 1e-3


@torch.no_grad()
def test_reattention_is_theta_and_a_norm_between_softmax_and_values() -> None:
    """Head by head, in float64, with the running statistics of a trained norm."""
    torch.manual_seed(0)
    attention = jittered(ReAttention(12, num_heads=3, qkv_bias=True)).double()
    norm = attention.theta_norm
    norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3]))
    norm.running_var.copy_(torch.tensor([0.5, 0.01, 2.0]))
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    q, k, v = (x @ attention.qkv.weight.T + attention.qkv.bias).split(12, dim=-1)
    heads = [slice(4 * h, 4 * h + 4) for h in range(3)]
    plain = [torch.softmax(q[..., h] @ k[..., h].mT / 2, dim=-1) for h in heads]
    joined = []
    for h, own in enumerate(heads):
        weights = attention.theta.weight[h, :, 0, 0]
        mixed = sum(weights[g] * plain[g] for g in range(3)) + attention.theta.bias[h]
        mixed = (mixed - norm.running_mean[h]) / (norm.running_var[h] + norm.eps).sqrt()
        joined.append((mixed * norm.weight[h] + norm.bias[h]) @ v[..., own])
    expected = torch.cat(joined, dim=-1) @ attention.proj.weight.T + attention.proj.bias
    assert torch.allclose(attention(x), expected, atol=1e-12)
    assert torch.allclose(sum(plain).sum(-1), torch.full((2, 7), 3.0, dtype=torch.float64))
    with pytest.raises(SeelikeError, match="takes no mask"):
        attention(x, is_causal=True)


@torch.no_grad()
@pytest.mark.parametrize(("norm", "behind"), [("batch", "theta_norm"), ("none", "theta")])
def test_the_attention_that_is_read_is_the_mixed_one(norm: str, behind: str) -> None:
    model = seelike.load_model(f"timm:seelike_deepvit_lab?depth=1,norm={norm}@random")
    images, seen = pictures(3), []
    handle = getattr(model.module.blocks[0].attn, behind).register_forward_hook(lambda _m, _i, out: seen.append(out))
    model.module(images)
    handle.remove()
    (site,) = model.anatomy.attentions
    assert site.probabilities is not None
    assert not site.fused
    assert (site.heads, site.query_tokens, site.key_tokens) == (4, 65, 65)
    read = model.anatomy.run_until((images,), [site.probabilities])[site.probabilities]
    assert torch.allclose(read, seen[0], atol=1e-6)


# Pyramid


@torch.no_grad()
def test_the_pyramid_at_224_pixels_has_the_shapes_of_the_paper() -> None:
    sizes = {"embed_dims": (64, 128, 320, 512), "num_heads": (1, 2, 5, 8), "mlp_ratios": (8, 8, 4, 4)}
    tiny = {"img_size": 224, "patch_size": 4, "sr_ratios": (8, 4, 2, 1), "num_classes": 1000, **sizes}
    module = build("seelike_pvt1_small", tiny).eval()
    grids, keys = [], []
    for stage in module.stages:
        stage.register_forward_hook(lambda _m, _i, out: grids.append((out[1], out[0].shape[1])))
        for block in stage.blocks:
            block.attn.kv.register_forward_hook(lambda _m, _i, out: keys.append(out.shape[1]))
    assert module(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert grids == [((56, 56), 3136), ((28, 28), 784), ((14, 14), 196), ((7, 7), 50)]
    assert keys == [49] * 6 + [50] * 2  # the class token is a key of the last stage
    # PVT-Tiny has 13.2 M parameters (table 1 of Wang et al.).
    assert sum(parameter.numel() for parameter in module.parameters()) == pytest.approx(13.2e6, rel=0.005)


@torch.no_grad()
def test_without_reduction_it_is_plain_attention() -> None:
    module = build("seelike_pvt1_lab", {"sr_ratios": (1, 1, 1, 1)})
    own = jittered(module).stages[0].blocks[1].attn
    plain = Attention(32, num_heads=2, qkv_bias=True)
    plain.qkv.weight.copy_(torch.cat([own.q.weight, own.kv.weight]))
    plain.qkv.bias.copy_(torch.cat([own.q.bias, own.kv.bias]))
    plain.proj.load_state_dict(own.proj.state_dict())
    x = torch.randn(2, 256, 32)
    assert torch.allclose(own(x, (16, 16)), plain(x), atol=1e-6)


@torch.no_grad()
def test_reduced_keys_are_a_norm_of_one_linear_map_of_each_cell() -> None:
    """SR(x) = LN(Reshape(x, R) W), with the cells cut out by hand, in float64."""
    own = jittered(build("seelike_pvt1_lab", {})).double().stages[0].blocks[0].attn
    x = torch.randn(1, 256, 32, dtype=torch.float64)
    cells = x.reshape(4, 4, 4, 4, 32).permute(0, 2, 4, 1, 3).reshape(16, 32 * 16)  # channels before places, as convs
    reduced = cells @ own.sr.weight.reshape(32, -1).T + own.sr.bias
    centred = reduced - reduced.mean(-1, keepdim=True)
    reduced = (
        centred / (centred.square().mean(-1, keepdim=True) + own.norm.eps).sqrt() * own.norm.weight + own.norm.bias
    )
    q = x[0] @ own.q.weight.T + own.q.bias
    k, v = (reduced @ own.kv.weight.T + own.kv.bias).split(32, dim=-1)
    heads = [torch.softmax(q[:, h] @ k[:, h].T / 4, -1) @ v[:, h] for h in (slice(16), slice(16, 32))]
    expected = torch.cat(heads, -1) @ own.proj.weight.T + own.proj.bias
    assert torch.allclose(own(x, (16, 16))[0], expected, atol=1e-12)


@torch.no_grad()
def test_the_pyramid_takes_other_sizes() -> None:
    """A position embedding that is the same everywhere stays so; at its own size nothing is resized."""
    module = jittered(build("seelike_pvt1_lab", {}))
    assert module(pictures(2, 64)).shape == (2, 10)
    stage = module.stages[3]
    assert stage._positions((2, 2)) is stage.pos_embed
    stage.pos_embed[:, 1:] = torch.arange(96.0)
    resized = stage._positions((3, 5))
    assert torch.equal(resized[:, :1], stage.pos_embed[:, :1])
    assert torch.allclose(resized[:, 1:], torch.arange(96.0).expand(1, 15, 96))


# Positions


@torch.no_grad()
@pytest.mark.parametrize(
    ("arguments", "invariant"),
    [
        ({"pos": "none", "gap": True}, True),
        ({"pos": "none"}, True),
        ({"pos": "peg", "gap": True}, False),
        ({"pos": "peg"}, False),
        ({"pos": "sincos", "gap": True}, False),
        ({"gap": True}, False),
    ],
)
def test_what_a_model_without_positions_does_not_see(arguments: dict[str, object], invariant: bool) -> None:
    module = jittered(build("seelike_vit_lab", {"depth": 3, **arguments}))
    images = pictures(4)
    change = (module(shuffled(images, 4)) - module(images)).abs().max()
    assert bool(change < 1e-5) == invariant
    assert invariant or change > 1e-3


@torch.no_grad()
def test_peg_is_a_depthwise_convolution_of_the_patches_alone() -> None:
    peg = PositionEncodingGenerator(3).double()
    x = torch.randn(2, 1 + 4 * 5, 3, dtype=torch.float64)
    padded = torch.zeros(2, 6, 7, 3, dtype=torch.float64)
    padded[:, 1:5, 1:6] = x[:, 1:].reshape(2, 4, 5, 3)
    expected = x.clone()
    for row in range(4):
        for column in range(5):
            window = padded[:, row : row + 3, column : column + 3]  # (n, 3, 3, channels)
            expected[:, 1 + row * 5 + column] += torch.einsum("nijc,cij->nc", window, peg.proj.weight[:, 0])
            expected[:, 1 + row * 5 + column] += peg.proj.bias
    assert torch.allclose(peg(x, (4, 5)), expected, atol=1e-12)
    assert torch.equal(peg(x, (4, 5))[:, 0], x[:, 0])
    assert torch.allclose(peg(x[:, 1:], (4, 5)), expected[:, 1:], atol=1e-12)


@torch.no_grad()
def test_peg_stands_behind_the_first_block() -> None:
    module = jittered(build("seelike_vit_lab", {"depth": 3, "pos": "peg"}))
    images = pictures(2)
    tokens = module.patch_embed(images).flatten(1, 2)
    tokens = module.blocks[0](torch.cat([module.cls_token.expand(2, 1, -1), tokens], dim=1))
    tokens = module.blocks[2](module.blocks[1](module.peg(tokens, (8, 8))))
    assert torch.allclose(module(images), module.head(module.norm(tokens)[:, 0]), atol=1e-5)
    with pytest.raises(SeelikeError, match="knows nothing of pos=peg"):
        module.forward_intermediates(images)


@torch.no_grad()
def test_sines_of_row_and_column() -> None:
    """Sines of the row and of the column, then their cosines; frequencies from 1 to near 1 / 10000."""
    module = jittered(build("seelike_vit_lab", {"depth": 1, "pos": "sincos", "gap": True}))
    added = module._pos_embed(torch.zeros(1, 6, 9, 64))[0].reshape(6, 9, 64)
    rates = 10000.0 ** -(torch.arange(16) / 16)
    assert torch.allclose(added[5, 7, :16], torch.sin(5 * rates), atol=1e-5)
    assert torch.allclose(added[5, 7, 16:32], torch.sin(7 * rates), atol=1e-5)
    assert torch.allclose(added[5, 7, 32:48], torch.cos(5 * rates), atol=1e-5)
    assert torch.allclose(added[5, 7, 48:], torch.cos(7 * rates), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "arguments", [{"pos": pos} for pos in ("none", "sincos", "peg")] + [{"dynamic_img_size": True}]
)
def test_other_resolutions(arguments: dict[str, object]) -> None:
    module = jittered(build("seelike_vit_lab", {"depth": 2, **arguments}))
    images = pictures(2, 48)
    assert module(images).shape == (2, 10)
    assert module(pictures(2, 48)[:, :, :40]).shape == (2, 10)  # 10 x 12 patches
    if "pos" in arguments:  # as if it had been built for this size
        larger = build("seelike_vit_lab", {"depth": 2, "img_size": 48, **arguments}).eval()
        larger.load_state_dict(module.state_dict())
        assert torch.allclose(larger(images), module(images), atol=1e-5)


def test_learned_positions_are_timms_own_vit() -> None:
    assert type(build("seelike_vit_lab", {"pos": "learned"})) is timm.models.VisionTransformer
    assert "pos_embed" not in build("seelike_vit_lab", {"pos": "sincos"}).state_dict()


# Mixer and hybrids


@torch.no_grad()
def test_the_mixer_is_that_of_the_paper() -> None:
    """U = X + W2 gelu(W1 LN(X)) along tokens, Y = U + W4 gelu(W3 LN(U)) along channels; no positions."""
    module = jittered(build("seelike_mixer_lab", {"num_blocks": 3})).double()
    images = pictures(2).double()

    def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias

    def mlp(x: Tensor, layers: nn.Module) -> Tensor:
        hidden = x @ layers.fc1.weight.T + layers.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        return hidden @ layers.fc2.weight.T + layers.fc2.bias

    patches = images.reshape(2, 3, 8, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).reshape(2, 64, 48)
    x = patches @ module.stem.proj.weight.reshape(64, 48).T + module.stem.proj.bias
    for block in module.blocks:
        u = x + mlp(normed(x, block.norm1).mT, block.mlp_tokens).mT
        x = u + mlp(normed(u, block.norm2), block.mlp_channels)
    logits = normed(x, module.norm).mean(1) @ module.head.weight.T + module.head.bias
    assert torch.allclose(module(images), logits, atol=1e-10)


@torch.no_grad()
def test_the_hybrid_hands_a_map_of_its_tokens_over() -> None:
    module = jittered(build("seelike_hybrid_lab", {}))
    images = pictures(2)
    tokens = module.patch_embed(images).flatten(2).mT + module.tokens.pos_embed
    tokens = module.tokens.norm(module.tokens.blocks(tokens))
    maps = torch.stack([tokens[:, 8 * row : 8 * row + 8] for row in range(8)], dim=1).permute(0, 3, 1, 2)
    maps = module.stages[1](module.stages[0](maps))
    assert maps.shape == (2, 224, 4, 4)
    assert torch.allclose(module(images), module.head(maps.mean((2, 3))), atol=1e-5)
    reverse = jittered(build("seelike_hybrid_lab", {"front": "cnn"}))
    seen: list[Tensor] = []
    reverse.tokens.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    assert reverse(images).shape == (2, 10)
    assert seen[0].shape == (2, 64, 8, 8)
    assert reverse(pictures(2, 64)).shape == (2, 10)


@pytest.mark.parametrize(
    ("spec", "attentions", "residuals", "blocks"),
    [
        ("seelike_deepvit_lab?depth=2", 2, 4, 2),
        ("seelike_pvt1_lab?depths=2x1x1x1", 5, 10, 5),
        ("seelike_vit_lab?depth=2,pos=peg", 2, 5, 3),
        ("seelike_vit_lab?depth=2,pos=peg,gap=true", 2, 5, 3),
        ("seelike_vit_lab?depth=1,pos=none", 1, 2, 1),
        ("seelike_vit_lab?depth=1,pos=sincos", 1, 2, 1),
        ("seelike_hybrid_lab?depth=1,layers=1x2", 1, 5, 4),
        ("seelike_hybrid_lab?depth=1,layers=1x2,front=cnn", 1, 5, 4),
    ],
)
def test_everything_in_a_family_is_read_and_placed(spec: str, attentions: int, residuals: int, blocks: int) -> None:
    read = seelike.load_model(f"timm:{spec}@random").anatomy
    assert (len(read.attentions), len(read.residuals), len(read.blocks)) == (attentions, residuals, blocks)
    assert read.notes == ()
    placed, left_out = place_attentions(read)
    assert (len(placed), left_out) == (attentions, ())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("seelike_deepvit_lab", {"norm": "btch"}, r"norm='btch' is none of batch, none \(did you mean batch"),
        ("seelike_deepvit_lab", {"num_heads": 5}, r"embed_dim 64 is not divisible by num_heads 5"),
        ("seelike_vit_lab", {"pos": "pge"}, r"pos='pge' is none of learned, none, sincos, peg \(did you mean peg"),
        ("seelike_vit_lab", {"pos": "sincos", "embed_dim": 66, "num_heads": 3}, r"embed_dim that 4 divides, not 66"),
        ("seelike_pvt1_lab", {"img_size": 40}, r"40 pixels cannot be halved three times .* a side that 16 divides"),
        (
            "seelike_pvt1_lab",
            {"sr_ratios": (3, 2, 1, 1)},
            r"stage 0 has 16 tokens a side, which cannot be reduced by 3",
        ),
        ("seelike_pvt1_lab", {"sr_ratios": (4, 2, 1, 2)}, r"last stage, with its class token, cannot be reduced"),
        ("seelike_pvt1_lab", {"depths": (2, 2)}, r"depths must be four numbers, one per stage, not \(2, 2\)"),
        ("seelike_hybrid_lab", {"front": "resnet"}, r"front='resnet' is none of vit, cnn"),
        ("seelike_hybrid_lab", {"front": "cnn", "patch_size": 2}, r"no patches, and patch_size=2 is void"),
        ("seelike_hybrid_lab", {"gap": True}, r"has no argument gap; it has front, img_size"),
        ("seelike_hybrid_lab", {"layers": (1, 1, 1)}, r"layers and channels must be equally many numbers"),
    ],
)
def test_what_does_not_fit_a_family_is_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SeelikeError, match=message) as caught:
        build(name, arguments)
    assert "\n" not in str(caught.value)
