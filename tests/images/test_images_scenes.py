"""What the pixels of scenes depend on, and that what is said to be in them is in them."""

from __future__ import annotations

import hashlib
import itertools
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy import stats

from seelike.images import Scenes
from seelike.images.scenes.layout import Layout
from seelike.images.scenes.render import render
from seelike.images.scenes.textures import SETS

SHIFT = 0.5  # a pixel's centre lies half a pixel from its upper left corner

# The pixels that models were trained on. If this changes, the zoo must be trained again.
GOLDEN = "7b383e07b5d4d8010d71cbedea33e20ce1aee5a4bb8ca131c20e2a35b532a057"


def digest(images: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def test_the_pixels_are_those_that_models_were_trained_on() -> None:
    images = np.concatenate([Scenes(split).batch(range(40)) for split in ("train", "validation", "test")])
    assert digest(images) == GOLDEN


@pytest.mark.parametrize(("size", "textures"), [(32, "A"), (32, "B"), (150, "A")])
def test_an_image_is_the_same_in_any_batch_and_order(size: int, textures: str) -> None:
    scenes = Scenes("validation", 90, size, seed=3, textures=textures)
    whole = scenes.batch(range(90))
    order = np.random.default_rng(0).permutation(90)
    assert np.array_equal(scenes.batch(order), whole[order])
    assert np.array_equal(np.concatenate([scenes.batch(part) for part in np.split(order, [1, 8, 50])]), whole[order])
    assert all(np.array_equal(np.asarray(scenes.read(index)), whole[index]) for index in (0, 41, 89))
    more = Scenes("validation", 1000, size, seed=3, textures=textures)
    assert np.array_equal(more.batch([89, 5]), whole[[89, 5]])
    assert more.labels[:90] == scenes.labels
    assert list(more.ids[:90]) == list(scenes.ids)


def test_an_image_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from seelike.images import Scenes; "
        "print(hashlib.sha256(Scenes('test', 40, 48, seed=1).batch(range(39, 29, -1)).tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == digest(Scenes("test", 64, 48, seed=1).batch(range(64))[39:29:-1])


def test_no_scene_is_in_two_splits_or_seeds() -> None:
    sources = [Scenes(split, 2000, seed=seed) for split in ("train", "validation", "test") for seed in (0, 1)]
    pictures = {digest(image) for source in sources for image in source.batch(range(300))}
    assert len(pictures) == 300 * len(sources)
    truths = [source.truths(range(2000)) for source in sources]
    for name in ("row", "column", "size", "rotation", "noise"):
        assert len(np.unique(np.concatenate([truth[name] for truth in truths]))) == 2000 * len(sources)
    assert len({name for source in sources for name in source.ids}) == 2000 * len(sources)


def test_another_size_is_the_same_scene() -> None:
    small, large = Scenes("train", 60, 32), Scenes("train", 60, 128)
    of_small, of_large = small.truths(range(60)), large.truths(range(60))
    assert all(np.array_equal(of_small[name], of_large[name]) for name in of_small)
    means = large.batch(range(60)).reshape(60, 32, 4, 32, 4, 3).mean((2, 4))
    off = np.abs(means - small.batch(range(60))).mean((1, 2, 3))
    # Uniform noise of at most a is off by a / 2 in the mean, in the small image; the rest is softer edges.
    assert (off < 255 * of_small["noise"] / 2 + 5).all()
    strangers = np.abs(means - small.batch(range(60))[::-1]).mean((1, 2, 3))
    assert strangers.min() > 2 * off.max()


def test_other_textures_are_the_same_scene_in_other_patterns() -> None:
    a, b = (Scenes("test", 2000, textures=textures) for textures in "AB")
    of_a, of_b = a.truths(range(2000)), b.truths(range(2000))
    for name in of_a:
        assert np.array_equal(of_a[name], of_b[name]) == (name not in ("texture", "background"))
    assert set(of_a["texture"]) == set(SETS["A"])
    assert set(of_b["background"]) == set(SETS["B"])
    assert not set(SETS["A"]) & set(SETS["B"])
    assert not set(a.ids) & set(b.ids)


def bare(scenes: Scenes, count: int) -> Layout:
    """The layout of the first scenes with white objects on black, and nothing else but the occluder, in grey."""
    layout = scenes._layout(np.arange(count))
    black, white = np.zeros_like(layout.paint.colours), np.ones_like(layout.paint.colours)
    zero, one = np.zeros(count), np.ones(count)
    return replace(
        layout,
        paint=replace(layout.paint, colours=white),
        background=replace(layout.background, colours=black),
        distractors=replace(layout.distractors, present=np.zeros_like(layout.distractors.present)),
        occluder=replace(layout.occluder, colour=black[:, :1]),
        contrast=one,
        brightness=zero,
        blur=zero,
        noise=zero,
    )


def covers(layout: Layout, size: int) -> NDArray[np.float64]:
    """Share of each pixel that the visible objects cover."""
    noise = np.zeros((len(layout.label), 3, size, size), np.uint8)
    return render(layout, list(SETS["A"].values()), size, noise)[..., 0] / 255


def test_position_and_size_are_where_the_object_is() -> None:
    size, count = 128, 100
    scenes = Scenes("train", count, size)
    truth = scenes.truths(range(count))
    layout = bare(scenes, count)
    visible = covers(layout, size)
    layout = replace(layout, occluder=replace(layout.occluder, present=np.zeros((count, 1))))
    object_ = covers(layout, size)
    area = object_.sum((1, 2))
    rows, columns = np.indices((size, size))
    row, column = (object_ * rows).sum((1, 2)) / area, (object_ * columns).sum((1, 2)) / area
    assert np.abs(row - (truth["row"] * size - SHIFT)).max() < 0.15  # pixels
    assert np.abs(column - (truth["column"] * size - SHIFT)).max() < 0.15
    away = np.hypot(rows - row[:, None, None], columns - column[:, None, None])
    radius = (away * (object_ > 0.5)).max((1, 2))
    assert np.abs(2 * radius / size - truth["size"]).max() < 0.03
    hidden = 1 - visible.sum((1, 2)) / area
    assert np.abs(hidden - truth["occlusion"]).max() < 0.01


def corners(shape: str) -> NDArray[np.float64]:
    """The outline of a shape by ruler and compass, upright, in units of half its size; y points down."""

    def around(radius: float, count: int, first: float = -90.0) -> list[tuple[float, float]]:
        angles = [math.radians(first + 360 * k / count) for k in range(count)]
        return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]

    if shape == "triangle":
        return np.array(around(1, 3))
    if shape == "square":
        return np.array(around(1, 4, -45))
    if shape == "star":
        return np.array(list(itertools.chain(*zip(around(1, 5), around(0.45, 5, -54), strict=True))))
    if shape == "cross":
        a, b = math.sqrt(1 - 0.3**2), 0.3
        quarter = [(a, -b), (a, b), (b, b)]
        points = []
        for _ in range(4):
            points += quarter
            quarter = [(-y, x) for x, y in quarter]
        return np.array(points)
    if shape == "arrow":
        outline = np.array([(1, 0), (0, 0.8), (0, 0.3), (-0.8, 0.3), (-0.8, -0.3), (0, -0.3), (0, -0.8)])
        tip = 1 - (0.8 / 3 - 0.4 * 0.48) / (0.8 + 0.48)
        return (outline - [1 - tip, 0]) / tip
    assert shape == "hourglass"
    a = math.sqrt(1 - 0.75**2)
    return np.array([(-a, -0.75), (a, -0.75), (0.1, 0), (a, 0.75), (-a, 0.75), (-0.1, 0)])


def inside(shape: str, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (n, 2), as (x, y) in the upright frame, lie in the shape: written apart from the generator."""
    x, y = points.T
    if shape == "disc":
        return np.hypot(x, y) < 1
    if shape == "ring":
        return (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.5)
    if shape == "crescent":
        x, y = 1.2597 * x - 0.3722, 1.2597 * y
        return (np.hypot(x, y) < 1) & (np.hypot(x - 0.55, y) > 0.8)
    if shape == "heart":
        x, y = 0.65665 * x, 0.65665 * (1 - y)
        lobes = np.hypot(np.abs(x) - 0.25, y - 0.75) < math.sqrt(0.125)
        return lobes | (np.abs(x) + np.abs(y - 0.5) < 0.5)
    return Outline(corners(shape)).contains_points(points)


def test_shape_and_rotation_agree_with_outlines_by_ruler_and_compass() -> None:
    size, count = 128, 60
    scenes = Scenes("test", count, size)
    layout = bare(scenes, count)
    layout = replace(layout, occluder=replace(layout.occluder, present=np.zeros((count, 1))))
    rows, columns = (np.indices((size, size)) + SHIFT) / size
    for index, object_ in enumerate(covers(layout, size)):
        truth = scenes.truth(index)
        x, y = columns - truth["column"], rows - truth["row"]
        angle = -truth["rotation"]
        upright = np.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], -1)
        expected = inside(truth["class"], upright.reshape(-1, 2) / (truth["size"] / 2)).reshape(size, size)
        wrong = np.abs(object_ - expected)
        assert wrong.max() < 1, truth["class"]  # no pixel is wholly wrong: the edges agree to a pixel
        assert abs(object_.sum() - expected.sum()) < 0.02 * expected.sum(), truth["class"]


def test_classes_are_balanced() -> None:
    labels = np.array(Scenes("train", 1230, seed=9).labels).reshape(-1, 10)
    assert (np.sort(labels, axis=1) == np.arange(10)).all()
    # And shuffled: over the blocks every place has every class, as often as chance has it.
    counts = np.array([np.bincount(labels[:, place], minlength=10) for place in range(10)])
    assert stats.chi2_contingency(counts).pvalue > 1e-3


def test_everything_else_is_independent_of_the_class() -> None:
    truth = Scenes("train", 6000).truths(range(6000))
    for name, other in (("label", "texture"), ("label", "background"), ("texture", "background")):
        assert stats.chi2_contingency(stats.contingency.crosstab(truth[name], truth[other]).count).pvalue > 1e-3
    for name in ("row", "column", "size", "rotation", "red", "green", "blue", "contrast", "blur", "noise"):
        groups = [truth[name][truth["label"] == label] for label in range(10)]
        assert stats.kruskal(*groups).pvalue > 1e-3


def test_no_object_is_hidden_for_the_most_part() -> None:
    hidden = Scenes("train", 4000).truths(range(4000))["occlusion"]
    assert hidden.max() < 0.5
    assert 0.4 < (hidden > 0).mean() < 0.6
