"""Embeddings: constructed filters and positions, independent formulas, and models of several libraries."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import timm
import torch
import torchvision
from torch import Tensor, nn

import seelike
from nets import small_net, tiny_vit
from seelike.anatomy import read_anatomy
from seelike.anatomy.embedding import CannotRead, PatchEmbedding, flow_of, read_patch_embedding
from seelike.anatomy.position import PositionEmbedding, read_position_embedding
from seelike.errors import SeelikeError
from seelike.measures.embeddings import (
    components_needed,
    components_of_noise,
    position_similarity,
    position_structure,
    principal_filters,
)


def orthonormal(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(columns, rows, generator=generator, dtype=torch.float64))[0].mT


def constructed(filters: int = 40, pixels: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """Filters that are known combinations of four known ones, these, and the share of the variance of each."""
    basis = orthonormal(4, pixels)
    amounts = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    mixing = orthonormal(5, filters, seed=1)
    mixing = torch.linalg.qr(torch.cat([torch.ones(1, filters, dtype=torch.float64), mixing]).mT)[0].mT[1:5]
    mean = torch.linspace(-1, 1, pixels, dtype=torch.float64)  # taken off by centring
    return (mixing.mT * amounts) @ basis + mean, basis, amounts.square() / amounts.square().sum()


def test_components_of_known_combinations() -> None:
    filters, basis, shares = constructed()
    components, explained = principal_filters(filters, 4)
    signs = basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()
    torch.testing.assert_close(components, basis * signs)
    torch.testing.assert_close(explained[:4], shares)
    assert float(explained[4:].abs().max()) < 1e-20
    assert [components_needed(explained, level) for level in (0.5, 0.9, 16 / 30, 1.0)] == [1, 3, 1, 4]
    again, _ = principal_filters(-filters, 4)  # the sign is not that of the data
    torch.testing.assert_close(again, components)


def test_components_of_few_filters_and_of_noise() -> None:
    components, explained = principal_filters(torch.randn(5, 48, generator=torch.Generator().manual_seed(0)), 28)
    assert components.shape == (4, 48)
    assert float(explained.sum()) == pytest.approx(1)
    mean, spread = components_of_noise(4000, 20, 0.9)
    assert mean == pytest.approx(18, abs=1)
    assert spread < 1
    for shape in ((30, 12), (12, 30)):  # as by the components of the same draws
        generator = torch.Generator().manual_seed(0)
        draws = [torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(5)]
        needed = [components_needed(principal_filters(draw, 1)[1], 0.9) for draw in draws]
        assert components_of_noise(*shape, 0.9) == pytest.approx((np.mean(needed), np.std(needed, ddof=1)))


def sincos(rows: int, columns: int, width: int) -> Tensor:
    """Half of the channels hold the row, half the column, each as sines and cosines."""
    found = torch.zeros(rows, columns, width, dtype=torch.float64)
    quarter = width // 4
    for r in range(rows):
        for c in range(columns):
            for k in range(quarter):
                w = 10000 ** (-k / quarter)
                found[r, c, k::quarter] = torch.tensor(
                    [math.sin(r * w), math.cos(r * w), math.sin(c * w), math.cos(c * w)], dtype=torch.float64
                )
    return found


def test_sines_and_cosines_by_their_own_formula() -> None:
    rows, columns, width = 4, 6, 32
    similarity = position_similarity(sincos(rows, columns, width))
    quarter = width // 4
    for r, c, s, d in ((0, 0, 3, 5), (2, 1, 2, 4), (1, 5, 3, 5), (2, 2, 2, 2)):
        waves = [10000 ** (-k / quarter) for k in range(quarter)]
        expected = sum(math.cos((r - s) * w) + math.cos((c - d) * w) for w in waves) / (2 * quarter)
        assert float(similarity[r, c, s, d]) == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_and_its_error_against_scipy() -> None:
    similarity = position_similarity(sincos(5, 4, 32) + 0.3 * torch.randn(5, 4, 32, generator=torch.manual_seed(3)))
    structure = position_structure(similarity)
    place = np.array([(r, c) for r in range(5) for c in range(4)], dtype=float)
    pairs = ~np.eye(20, dtype=bool)
    cosine = similarity.reshape(20, 20).numpy().round(9)  # equal where it is by symmetry
    distance = np.linalg.norm(place[:, None] - place, axis=-1)
    outward = np.linalg.norm(place - place.mean(0), axis=-1)
    farther = np.abs(outward[:, None] - outward)
    assert structure.distance_correlation.value == pytest.approx(
        scipy.stats.spearmanr(cosine[pairs], distance[pairs]).statistic, abs=1e-9
    )
    assert structure.centre_correlation.value == pytest.approx(
        scipy.stats.spearmanr(cosine[pairs], farther[pairs].round(9)).statistic, abs=1e-9
    )
    generator = np.random.default_rng(5)
    drawn = []
    for _ in range(400):
        order = generator.permutation(20)
        drawn.append(scipy.stats.spearmanr(cosine[order][:, order][pairs], distance[pairs]).statistic)
    assert structure.distance_correlation.error == pytest.approx(np.std(drawn), rel=0.2)


def test_row_excess_by_loops() -> None:
    similarity = position_similarity(torch.randn(4, 5, 8, generator=torch.manual_seed(0)))
    on: dict[int, list[float]] = {}
    off: dict[int, list[float]] = {}
    for r in range(4):
        for c in range(5):
            for s in range(4):
                for d in range(5):
                    far = round(math.hypot(r - s, c - d))
                    if r == s and c != d:
                        on.setdefault(far, []).append(float(similarity[r, c, s, d]))
                    elif r != s and c != d:
                        off.setdefault(far, []).append(float(similarity[r, c, s, d]))
    shared = [far for far in on if far in off]
    count = sum(len(on[far]) for far in shared)
    expected = sum(len(on[far]) * (np.mean(on[far]) - np.mean(off[far])) for far in shared) / count
    structure = position_structure(similarity)
    assert structure.row_excess.value == pytest.approx(expected, abs=1e-12)
    assert structure.same_row == pytest.approx(np.mean([v for values in on.values() for v in values]))
    assert structure.other == pytest.approx(np.mean([v for values in off.values() for v in values]))


def test_an_embedding_of_rows_has_rows_and_one_of_places_has_neighbours() -> None:
    generator = torch.manual_seed(0)
    rows = torch.randn(6, 1, 16, generator=generator).expand(6, 7, 16)
    structure = position_structure(position_similarity(rows))
    assert structure.same_row == pytest.approx(1)
    assert structure.row_excess.value > 0.8
    assert structure.row_excess.value > 5 * structure.row_excess.error
    assert structure.column_excess.value < 2 * structure.column_excess.error
    near = position_structure(position_similarity(sincos(6, 7, 64)))
    assert near.distance_correlation.value < -0.85
    assert near.neighbour_share.value == 1
    assert near.neighbour_chance == pytest.approx(2 * (5 * 7 + 6 * 6 + 2 * 5 * 6) / 42 / 41)
    noise = position_structure(position_similarity(torch.randn(6, 7, 64, generator=generator)))
    assert abs(noise.distance_correlation.value) < 3 * noise.distance_correlation.error
    assert noise.neighbour_share.value < 0.5


def read(module: nn.Module, *shape: int, name: str = "") -> tuple[PatchEmbedding, PositionEmbedding]:
    image = torch.zeros(2, *(shape or (3, 32, 32)))
    anatomy = read_anatomy(module.eval().requires_grad_(False), {name: image} if name else (image,))
    flow = flow_of(anatomy)
    patch = read_patch_embedding(anatomy, flow)
    return patch, read_position_embedding(anatomy, flow, patch.grid)


def hf(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    options = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    return getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**options))


def spread(module: nn.Module) -> nn.Module:
    """No parameter is zero or constant."""
    generator = torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(generator=generator)
    return module


MODELS: dict[str, Any] = {
    "timm": (lambda: tiny_vit(), (3, 32, 32), "pos_embed", 1, "patch_embed.proj"),
    "not square": (lambda: tiny_vit(img_size=(24, 40)), (3, 24, 40), "pos_embed", 1, "patch_embed.proj"),
    "distilled": (
        lambda: timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1),
        (3, 32, 32), "pos_embed", 2, "patch_embed.proj",
    ),
    "registers": (
        lambda: timm.create_model("vit_small_patch14_reg4_dinov2", img_size=28, depth=1),
        (3, 28, 28), "pos_embed", 0, "patch_embed.proj",
    ),
    "torchvision": (
        lambda: torchvision.models.VisionTransformer(32, 8, 1, 2, 32, 64),
        (3, 32, 32), "encoder.pos_embedding", 1, "conv_proj",
    ),
    "ViT": (
        lambda: hf("ViT"),
        (3, 32, 32), "embeddings.position_embeddings", 1, "embeddings.patch_embeddings.projection",
    ),
    "CLIPVision": (
        lambda: hf("CLIPVision"), (3, 32, 32), "embeddings.position_embedding.weight", 1, "embeddings.patch_embedding",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_reads_the_parameters_of_every_library(kind: str) -> None:
    build, shape, position, prefix, patches = MODELS[kind]
    module = spread(build())
    patch, found = read(module, *shape, name="pixel_values" if kind in ("ViT", "CLIPVision") else "")
    assert patch.path == patches
    assert patch.cuts
    torch.testing.assert_close(patch.filters, module.get_submodule(patches).weight.double())
    values = module.get_parameter(position).double().reshape(-1, found.values.shape[-1])
    torch.testing.assert_close(found.values.flatten(0, 1), values[prefix:])
    assert found.values.shape[:2] == patch.grid == (shape[1] // patch.stride[0], shape[2] // patch.stride[1])
    assert found.prefix_tokens == prefix
    assert position in found.source


class LinearPatches(nn.Module):
    """Patches by reshaping and a linear layer, channels last; rows and columns embedded apart."""

    def __init__(self, *, shuffle: bool = False) -> None:
        super().__init__()
        self.proj = nn.Linear(4 * 8 * 3, 24)
        self.rows, self.columns = nn.Parameter(torch.randn(4, 1, 24)), nn.Parameter(torch.randn(1, 3, 24))
        self.block = timm.models.vision_transformer.Block(24, 2)
        self.shuffle = shuffle

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 3, 4, 4, 3, 8).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (n, 12, 96)
        x = self.proj(x.flip(1) if self.shuffle else x).unflatten(1, (4, 3))
        x = x + self.rows + self.columns
        return self.block(x.flatten(1, 2))


def test_a_linear_layer_of_patches() -> None:
    torch.manual_seed(0)
    module = LinearPatches()
    patch, position = read(module, 3, 16, 24)
    assert patch.filters.shape == (24, 3, 4, 8)
    assert patch.grid == (4, 3)
    assert patch.cuts
    image = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    by_filters = nn.functional.conv2d(image, patch.filters, stride=patch.stride)
    tokens = image.reshape(1, 3, 4, 4, 3, 8).permute(0, 2, 4, 3, 5, 1).reshape(1, 12, 96)
    torch.testing.assert_close(by_filters.flatten(2).mT, tokens @ module.proj.weight.double().mT)
    torch.testing.assert_close(position.values, (module.rows + module.columns).double())
    with pytest.raises(CannotRead, match="row by row"):
        read(LinearPatches(shuffle=True), 3, 16, 24)


class Unshuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pixel_unshuffle(x, 2)).relu()


ABSENT: dict[str, Any] = {
    "swin": (
        "swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (1, 1), "num_heads": (2, 4), "embed_dim": 24},
        56, "biases of its own",
    ),
    "dinov3": ("vit_tiny_patch16_dinov3_qkvb", {"img_size": 64, "depth": 1}, 64, "rotary"),
    "pvt": ("pvt_v2_b0", {"depths": (1, 1, 1, 1)}, 64, "nothing is added"),
    "resnet": ("resnet18", {}, 64, "nothing is added"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["swin", "dinov3", "resnet", pytest.param("pvt", marks=pytest.mark.slow)])
def test_without_a_position_embedding_a_note_says_so(kind: str) -> None:
    name, options, side, why = ABSENT[kind]
    model = seelike.Model(timm.create_model(name, **options), (3, side, side), kind)
    tree = seelike.compare(model, studies=[seelike.Embeddings(components=6)])
    result = tree[f"embeddings/{kind}"]
    assert "position_similarity" not in result
    assert why in result.attrs["positions"]
    notes = json.loads(tree.attrs["run"])["notes"]
    assert any(note.startswith(f"{kind}: no position embedding") and why in note for note in notes)
    assert result["components"].shape[0] == 6


def test_end_to_end(tmp_path: Any) -> None:
    vit = spread(tiny_vit())
    filters, basis, shares = constructed(32, 3 * 64)
    vit.patch_embed.proj.weight.data = filters.float().reshape(32, 3, 8, 8)
    vit.pos_embed.data[0, 1:] = sincos(4, 4, 32).flatten(0, 1).float()
    models = [seelike.Model(vit, (3, 32, 32), "vit"), seelike.Model(small_net(), (3, 32, 32), "net")]
    tree = seelike.compare(models, studies=[seelike.Embeddings()], out=tmp_path / "run")
    result = tree["embeddings/vit"]
    assert result["components"].dims == ("component", "channel", "y", "x")
    assert result["components"].shape == (28, 3, 8, 8)
    signs = basis.gather(1, basis.abs().argmax(1, keepdim=True)).sign()
    np.testing.assert_allclose(result["components"][:4].values.reshape(4, -1), basis * signs, atol=1e-5)
    np.testing.assert_allclose(result["explained"][:4], shares, rtol=1e-5)
    assert int(result["components_90"]) == 3
    np.testing.assert_allclose(result["position_similarity"], position_similarity(sincos(4, 4, 32)), atol=1e-6)
    findings = {f["statistic"]: f for f in json.loads(tree.attrs["findings"]) if f["models"] == ["vit"]}
    assert findings["rank correlation of cosine and distance"]["verdict"] == "holds"
    assert findings["components for 90 % of the variance, noise minus model"]["verdict"] == "holds"
    figures = {path.name for path in (tmp_path / "run" / "figures").glob("*.png")}
    stems = {"embeddings-filters-vit", "embeddings-filters-net", "embeddings-positions-vit"}
    assert figures == {f"{stem}.png" for stem in stems}
    assert tree["embeddings/net"].attrs["patches"] == 1  # its stem cuts patches of 4


def test_random_positions_are_not_called_near() -> None:
    tree = seelike.compare(seelike.Model(spread(tiny_vit()), (3, 32, 32), "vit"), studies=[seelike.Embeddings()])
    findings = {f["statistic"]: f for f in json.loads(tree.attrs["findings"])}
    assert findings["rank correlation of cosine and distance"]["verdict"] == "cannot tell"
    assert findings["row_excess"]["verdict"] == "cannot tell"


def test_bad_input() -> None:
    with pytest.raises(SeelikeError, match=r"net: no filters: its pixels are rearranged.*zoo:vit-cls"):
        seelike.compare(seelike.Model(Unshuffled(), (3, 8, 8), "net"), studies=[seelike.Embeddings()])
    with pytest.raises(SeelikeError, match="one component or more, not 0"):
        seelike.compare(seelike.Model(tiny_vit(), (3, 32, 32)), studies=[seelike.Embeddings(components=0)])
    zero = tiny_vit()
    nn.init.zeros_(zero.pos_embed)
    tree = seelike.compare(seelike.Model(zero, (3, 32, 32), "zero"), studies=[seelike.Embeddings()])
    assert "pos_embed is zero or not finite" in tree["embeddings/zero"].attrs["positions"]
