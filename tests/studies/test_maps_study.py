"""The attention maps study: queries, blocks and pictures; sums; pictures restored; what cannot be asked."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from torch import Tensor, nn

import seelike
from ctrl_c import StopAfter
from nets import pictures, small_net, tiny_vit
from seelike.errors import SeelikeError
from seelike.passes import Interrupted
from seelike.studies import Design, Minibatch, Samples
from seelike.studies.maps import fold as fold_module
from seelike.studies.maps.pixels import NORMALISATIONS, SCALES, STRETCHED, as_picture

IDS = tuple(f"tensor:{i}" for i in range(12))


@pytest.fixture(scope="module")
def vit() -> seelike.Model:
    return seelike.Model(tiny_vit(), (3, 32, 32), "vit")


@pytest.fixture(scope="module")
def gap() -> seelike.Model:
    return seelike.Model(tiny_vit(class_token=False, global_pool="avg"), (3, 32, 32), "gap")


def maps(model: Any, given: Any, run: dict[str, Any] | None = None, **options: Any) -> Any:
    tree = seelike.compare(model, given, [seelike.AttentionMaps(**options)], **({"minibatch": 4} | (run or {})))
    return next(iter(tree["maps"].children.values())).to_dataset()


def test_blocks_and_images_are_parts_of_the_whole(vit: Any) -> None:
    images = pictures(8)
    whole = maps(vit, images, images=8)
    part = maps(vit, images, blocks=(-1, 0), images=("tensor:5", "tensor:2"))
    assert list(part["image"].values) == ["tensor:5", "tensor:2"]
    assert list(part["block"].values) == ["blocks.2.attn", "blocks.0.attn"]
    assert list(part["number"].values) == [2, 0]
    order = [list(whole["image"].values).index(name) for name in part["image"].values]
    np.testing.assert_allclose(part["map"], whole["map"].values[order][:, [2, 0]], rtol=1e-5)
    np.testing.assert_allclose(part["rollout"], whole["rollout"].values[order], rtol=1e-5)
    assert list(whole["image"].values) == list(IDS[:8])  # in the order of the source
    first = maps(vit, images, images=2)
    order = [list(whole["image"].values).index(name) for name in first["image"].values]
    assert order == sorted(order)
    np.testing.assert_allclose(first["map"], whole["map"].values[order], rtol=1e-5)


def test_single_values_stand_for_lists() -> None:
    study = seelike.AttentionMaps(query=[1, 2], blocks=3, images="a.png")  # type: ignore[arg-type]
    assert (study.query, study.blocks, study.images) == ((1, 2), (3,), ("a.png",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"query": (4, 0)}, r"query \(4, 0\) is outside the grid of vit, which has 4 x 4 patches"),
        ({"query": (0, -1)}, "is outside the grid of vit"),
        ({"query": 1}, r"vit has 1 prefix token at blocks\.0\.attn, so none of number 1 to look from"),
        ({"query": "class"}, "query 'class' of the maps study is none of auto, cls, mean"),
        ({"query": "clss"}, r"\(did you mean cls\?\)"),
        ({"query": (1, 2, 3)}, "is none of auto"),
        (
            {"blocks": (3,)},
            r"vit has no block 3 to draw attention maps of: it has 3 attentions .* 0 to 2 \(or -1 to -3",
        ),
        ({"blocks": (-4,)}, "vit has no block -4"),
        ({"blocks": ()}, "no blocks are named"),
        ({"images": 0}, "must be at least 1, or ids"),
        ({"images": ("tensor:9",)}, r"tensor has no image 'tensor:9' \(did you mean"),
    ],
)
def test_what_is_not_there(options: dict[str, Any], said: str, vit: Any) -> None:
    with pytest.raises(SeelikeError, match=said):
        maps(vit, pictures(8), **options)


def test_an_image_that_is_not_shown(vit: Any) -> None:
    shown = set(maps(vit, pictures(12), {"limit": 4}, images=12)["image"].values)
    other = next(name for name in IDS if name not in shown)
    with pytest.raises(SeelikeError, match=f"'{other}' of tensor is not among the 4 that are shown; leave out --limit"):
        maps(vit, pictures(12), {"limit": 4}, images=(other,))


def test_models_without_class_token_or_attention(vit: Any, gap: Any) -> None:
    with pytest.raises(
        SeelikeError, match=r"gap has no prefix tokens at blocks\.0\.attn, only 16 queries .* use query mean"
    ):
        maps(gap, pictures(4), query="cls")
    with pytest.raises(SeelikeError, match="net has no attention sites"):
        maps(seelike.Model(small_net(), (3, 32, 32), "net"), pictures(4))
    tree = seelike.compare([vit, gap], pictures(4), [seelike.AttentionMaps()])
    assert tree["maps/vit"].attrs["query"] == "the class token"
    assert tree["maps/gap"].attrs["query"] == "the mean of all patches"
    assert "gap has no class token: its attention maps are means" in tree.attrs["run"]
    assert json.loads(tree.attrs["findings"]) == []  # nothing is known of these pictures


def test_nan_in_the_activations_is_named() -> None:
    net = tiny_vit()
    nn.init.constant_(net.blocks[1].attn.qkv.bias, math.nan)
    with pytest.raises(SeelikeError, match=r"NaN or infinite values in broken at blocks\.1\.attn"):
        maps(seelike.Model(net, (3, 32, 32), "broken"), pictures(4))


class WithoutSkip(nn.Module):
    """A transformer block whose attention has no skip."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def test_rollout_knows_which_attentions_have_a_skip() -> None:
    net = tiny_vit()
    net.blocks[1] = WithoutSkip(net.blocks[1])
    tree = seelike.compare(seelike.Model(net, (3, 32, 32), "cut"), pictures(4), [seelike.AttentionMaps(images=1)])
    assert "cut: no skip leads around blocks.1.attn" in tree.attrs["run"]
    with_skips = maps(seelike.Model(tiny_vit(), (3, 32, 32), "vit"), pictures(4), images=1)
    assert abs(tree["maps/cut"]["rollout"].values - with_skips["rollout"].values).max() > 1e-3


def test_parallel_attentions_do_not_chain() -> None:
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    net = timm.create_model("vit_small_patch16_18x2_224", pretrained=False, **options)
    tree = seelike.compare(seelike.Model(net.eval(), (3, 32, 32), "wide"), pictures(4), [seelike.AttentionMaps()])
    assert "rollout" not in tree["maps/wide"]
    assert "wide: no rollout, for several attentions of a block run side by side" in tree.attrs["run"]


def begin(model: seelike.Model, **design: Any) -> fold_module.MapsFold:
    samples = Samples("tensor", IDS, truths=truths, order=(tuple(range(12)), tuple(range(12))))
    return seelike.AttentionMaps(images=3).begin(
        {"vit": model.anatomy}, Design(repeats=2, groups=3, largest=4, samples=samples, **design)
    )


def truths(indices: Any) -> dict[str, np.ndarray]:
    place = np.asarray(indices, float)
    return {"row": 0.3 + place / 40, "column": 0.6 - place / 60, "size": np.full(len(place), 0.5)}


def show(fold: Any, images: Tensor, index: int, tally: dict[str, Tensor], pieces: tuple[int, ...] = (4,)) -> None:
    """Show minibatch `index` of four images of the first repeat, in pieces."""
    minibatch = Minibatch(index, 0, index, 4, "", tuple(range(4 * index, 4 * index + 4)))
    assert fold.visits("vit", minibatch)
    start = 0
    for size in pieces:
        fold.visit("vit", images[4 * index + start : 4 * index + start + size], minibatch, start)
        start += size
    fold.finish(minibatch, tally)


def test_two_halves_make_the_whole(vit: Any) -> None:
    """Tallies add, whoever filled which slot; images of a minibatch in pieces are the same images."""
    fold, images = begin(vit), pictures(12)
    parts, whole, pieces = [fold.empty(), fold.empty()], fold.empty(), fold.empty()
    for index in range(3):
        show(fold, images, index, whole)
        show(fold, images, index, parts[index % 2])
        show(fold, images, index, pieces, (1, 2, 1))
    summed = {key: parts[0][key] + parts[1][key] for key in whole}
    assert all(torch.equal(summed[key], whole[key]) for key in whole)
    for key in whole:
        torch.testing.assert_close(pieces[key], whole[key], rtol=1e-5, atol=1e-8)
    assert whole["maps/shown/vit"].tolist() == [1, 1, 1]
    assert whole["maps/images"][0].tolist() == [4, 4, 4]


def test_a_repeat_fills_no_slot_twice(vit: Any) -> None:
    fold, images = begin(vit), pictures(12)
    tally = fold.empty()
    for index in range(3):
        show(fold, images, index, tally)
    before = {key: value.clone() for key, value in tally.items()}
    again = Minibatch(3, 1, 0, 4, "", (0, 1, 2, 3))
    fold.visit("vit", images[:4], again, 0)
    fold.finish(again, tally)
    for what in ("map", "rollout", "picture", "shown"):
        assert torch.equal(tally[f"maps/{what}/vit"], before[f"maps/{what}/vit"])
    assert tally["maps/heads/vit"][0, 1].sum() > 0


def test_what_was_seen_before_memory_ran_out_does_not_count(vit: Any) -> None:
    fold, images = begin(vit), pictures(12)
    whole, again = fold.empty(), fold.empty()
    show(fold, images, 0, whole)
    minibatch = Minibatch(0, 0, 0, 4, "", (0, 1, 2, 3))
    fold.visit("vit", images[:4], minibatch, 0)
    fold.forget("vit", minibatch)
    show(fold, images, 0, again)
    assert all(torch.equal(again[key], whole[key]) for key in whole)


def test_only_chosen_pictures_are_looked_at_where_nothing_is_known(vit: Any) -> None:
    samples = Samples("tensor", IDS, order=(tuple(range(12)),))
    fold = seelike.AttentionMaps(images=2).begin({"vit": vit.anatomy}, Design(1, 3, 4, samples=samples))
    assert fold.visits("vit", Minibatch(0, 0, 0, 4, "", (0, 1, 2, 3)))
    assert not fold.visits("vit", Minibatch(1, 0, 1, 4, "", (4, 5, 6, 7)))
    assert not fold.visits("vit", Minibatch(3, 1, 0, 4, "", (0, 1, 2, 3)))


def test_unreadable_pictures_are_left_out_and_named(vit: Any, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        PIL.Image.new("RGB", (40, 40), (90, 20 * len(name), 60)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    tree = seelike.compare(vit, f"folder:{tmp_path}", [seelike.AttentionMaps()], on_bad_image="skip")
    assert sorted(tree["maps/vit"]["image"].values) == ["a.png", "c.png", "d.png"]
    assert "no attention maps of b.png" in tree.attrs["run"]


def test_interrupted_and_resumed_is_the_same(vit: Any, tmp_path: Path) -> None:
    """Pictures in both parts, and sums over all."""
    run: dict[str, Any] = {"images": "scenes:test?n=12", "minibatch": 4, "batch": 4}
    study = [seelike.AttentionMaps(images=10, blocks=(1,))]
    whole = seelike.compare(vit, studies=study, **run)["maps/vit"].to_dataset()
    with pytest.raises(Interrupted):
        seelike.compare(vit, studies=study, out=tmp_path, progress=StopAfter(8), **run)
    watcher = StopAfter(100)
    resumed = seelike.compare(vit, studies=study, out=tmp_path, resume=True, progress=watcher, **run)["maps/vit"]
    assert watcher.done == 8
    assert resumed.to_dataset().identical(whole)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_pictures_come_back_as_they_were(name: str) -> None:
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMALISATIONS[name])
    levels = torch.randint(0, 256, (3, 20, 30), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    found, scale = as_picture((levels / 255 - mean) / std)
    assert SCALES[scale] == name
    assert torch.equal((found * 255).round().to(torch.uint8), levels.permute(1, 2, 0))


def test_unknown_normalisation_is_stretched_and_said() -> None:
    image = pictures(1)[0]
    found, scale = as_picture(image)
    assert SCALES[scale] == STRETCHED
    assert (float(found.min()), float(found.max())) == (0, 1)
    torch.testing.assert_close(found.permute(2, 0, 1).float(), (image - image.min()) / (image.max() - image.min()))
    assert as_picture(torch.full((1, 4, 4), 7.3))[0].tolist() == torch.zeros(4, 4, 3).tolist()
    grey = as_picture(image[:1])[0]
    assert torch.equal(grey[..., 0], grey[..., 2])


def test_figures_and_files(vit: Any, gap: Any, tmp_path: Path) -> None:
    study = replace(seelike.AttentionMaps(), query=(3, 1), images=2, blocks=(0,))
    seelike.compare([vit, gap], pictures(4), [study], tmp_path)
    stems = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert stems == {"maps-heads-vit", "maps-heads-gap", "maps-rollout"}
    data = seelike.open_results(tmp_path)["maps/vit"]
    assert data["map"].dims == ("image", "block", "head", "row", "column")
    assert data["picture"].dims == ("image", "y", "x", "rgb")
    assert data["picture"].dtype == np.uint8
    assert data["rollout"].dims == ("image", "row", "column")
    assert data.attrs["query"] == "patch (3, 1)"
