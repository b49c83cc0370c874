"""Which images fit, choose lambda and are evaluated; how layers become features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seelike.anatomy import LayerSite, Layout
from seelike.errors import SeelikeError
from seelike.studies import Samples
from seelike.studies.probe.split import Split, make_split
from seelike.studies.probe.views import make_view


def samples(labels: list[int], repeats: int = 1, ids: list[str] | None = None) -> Samples:
    orders = tuple(tuple(np.random.default_rng(r).permutation(len(labels)).tolist()) for r in range(repeats))
    names = [f"class {number}" for number in range(max(labels) + 1)]
    return Samples("pictures", ids or [f"id {i}" for i in range(len(labels))], labels, names, None, orders)


def test_a_fit_takes_its_images_of_every_class_in_the_order_shown() -> None:
    labels = [0, 1, 2, 4] * 30  # no image of class 3: it does not count
    given = samples(labels, repeats=2)
    split = make_split(given, 3, 2, 0.8)
    assert split.classes == ("class 0", "class 1", "class 2", "class 4")
    for order, part in zip(given.order, split.parts, strict=True):
        for number, label in enumerate((0, 1, 2, 4)):
            shown = [i for i in order if labels[i] == label]
            assert part.draw[shown[:6]].tolist() == [0, 0, 0, 1, 1, 1]
            assert part.slot[shown[:6]].tolist() == [3 * number + j for j in (0, 1, 2, 0, 1, 2)]
            assert part.slot_labels[:, 3 * number : 3 * number + 3].tolist() == [[number] * 3] * 2
        places = {index: place for place, index in enumerate(order)}
        held, evaluated = np.flatnonzero(part.held_out), np.flatnonzero(part.group >= 0)
        last_fit = max(places[i] for i in np.flatnonzero(part.draw >= 0))
        assert sorted(places[i] for i in held) == list(range(last_fit + 1, last_fit + 13))
        assert sorted(places[i] for i in evaluated) == list(range(last_fit + 13, 120))
        assert part.counts == (12, 12, len(evaluated))


def test_all_data_are_cut_once_and_used_once() -> None:
    given = samples([0, 1] * 50)
    split = make_split(given, None, 3, 0.8)
    part = split.parts[0]
    assert part.counts == (70, 10, 20)
    assert split.draws == 1
    order = np.array(given.order[0])
    assert part.slot[order[:70]].tolist() == list(range(70))
    assert part.slot_labels[0].tolist() == (order[:70] % 2).tolist()
    assert part.held_out[order[70:80]].all()
    assert (part.group[order[80:]] >= 0).all()


@pytest.mark.parametrize("shots", [2, None])
def test_no_image_has_two_purposes(shots: int | None) -> None:
    split: Split = make_split(samples([0, 1, 2] * 20), shots, 3, 0.7)
    for part in split.parts:
        uses = (part.draw >= 0).astype(int) + part.held_out + (part.group >= 0)
        assert uses.max() == 1
        slots = [(d, s) for d, s in zip(part.draw.tolist(), part.slot.tolist(), strict=True) if d >= 0]
        assert len(set(slots)) == len(slots) == part.slot_labels.size


def test_bad_images_are_named() -> None:
    with pytest.raises(SeelikeError, match="study probe needs labels and pictures has none"):
        make_split(Samples("pictures", ["a"]), 1, 1, 0.8)
    with pytest.raises(SeelikeError, match="all images of pictures are of the class 'class 0'"):
        make_split(samples([0] * 40), 1, 1, 0.8)
    few = r"needs 30 images of every class \(3 draws of 10 shots\), and the class 'class 1' has 8 among the 48 images"
    with pytest.raises(SeelikeError, match=few):
        make_split(samples([0] * 40 + [1] * 8), 10, 3, 0.8)
    with pytest.raises(SeelikeError, match=r"1 ids of pictures stand for more than one image .*'id 3'"):
        make_split(samples([0, 1] * 20, ids=[f"id {max(i, 3)}" for i in range(40)]), 2, 1, 0.8)
    with pytest.raises(SeelikeError, match="0 left to choose lambda and 0 to evaluate"):
        make_split(samples([0, 1] * 15), 5, 3, 0.8)


def site(shape: tuple[int, ...], layout: Layout) -> LayerSite:
    return LayerSite("here", (), "p", 0, 0.5, None, None, "other", "X", shape, layout)


def a_map(channels: int, side: int, last: bool = False) -> LayerSite:
    shape = (side, side, channels) if last else (channels, side, side)
    return site(shape, Layout("map", 0, (side, side), last))


def test_a_resnets_maps_get_the_papers_patches() -> None:
    stages = [a_map(256, 56), a_map(512, 28), a_map(1024, 14), a_map(2048, 7)]
    views = [make_view(stage, stages[-1]) for stage in stages]
    assert [view.patch for view in views] == [2, 2, 1, 1]  # paper.md 2.5
    assert [view.features for view in views] == [1024, 2048, 1024, 2048]
    assert {view.grid for view in views} == {(7, 7)}


@pytest.mark.parametrize("channels_last", [False, True])
def test_patches_are_flattened_and_then_pooled(channels_last: bool) -> None:
    x = torch.randn(5, 3, 8, 8)
    view = make_view(a_map(3, 8, channels_last), a_map(13, 2))
    pooled, tokens = view.read(x.movedim(1, 3) if channels_last else x)
    assert view.patch == 2
    patches = F.unfold(x, 2, stride=2).reshape(5, 12, 4, 4)  # (n, 3 * 2 * 2, rows, columns)
    expected = torch.stack([patches[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((2, 3)) for r, c in PLACES])
    torch.testing.assert_close(tokens, expected)
    torch.testing.assert_close(pooled, patches.mean((2, 3))[None])


PLACES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_tokens_are_those_with_a_place() -> None:
    x = torch.randn(4, 7, 3)
    view = make_view(site((7, 3), Layout("tokens", 1, (2, 3))), None)
    pooled, tokens = view.read(x)
    assert view.sets == ("cls", "mean", "spatial")
    torch.testing.assert_close(pooled, torch.stack([x[:, 0], x.mean(1), x[:, 1:].mean(1)]))
    torch.testing.assert_close(tokens, x[:, 1:].transpose(0, 1))
    assert tokens.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()  # the layer's memory can go
    without = make_view(site((6, 3), Layout("tokens", 0, (2, 3))), None)
    assert [without.set_of(p) for p in ("cls", "mean", "spatial")] == [None, 0, 0]
    vector = make_view(site((9,), Layout("vector")), a_map(4, 4))
    assert (vector.tokens, vector.features) == (0, 9)
    torch.testing.assert_close(vector.read(x.reshape(4, 21))[0][0], x.reshape(4, 21))
