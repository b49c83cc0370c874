"""What is in a scene: the numbers that its pixels are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seelike.images.scenes.angles import cosines, sines
from seelike.images.scenes.draws import Draws
from seelike.images.scenes.textures import SETS, TABLE

Column = NDArray[np.float64]

# Lengths and places are in units of the image's side; rows run downwards, columns to the right, both from
# the upper left corner of the image. Angles are in turns, clockwise. Colours are red, green, blue in [0, 1].
DIAMETERS = (0.45, 0.75)
PERIODS = (0.12, 0.26)
TEXTURE_CONTRAST = 0.35
DISTRACTORS = 3
LIGHTER = 0.8  # share of scenes whose object is lighter than the ground
FAMILIES = len(SETS["A"])


@dataclass(frozen=True)
class Paint:
    """Textures of n surfaces: family (n,), colours (n, 2, 3), period (n,), turn (n,), phase (n, 2), table (n, 8, 8)."""

    family: NDArray[np.int64]
    colours: Column
    period: Column
    turn: Column
    phase: Column
    table: Column


@dataclass(frozen=True)
class Pieces:
    """Small plain things, k to a scene: all of shape (n, k), but colour (n, k, 3).

    `kind` is the number of one of `render.PIECES`, `present` 1 or 0; `length` and `width` are half lengths
    along and across `turn`.
    """

    kind: NDArray[np.int64]
    present: Column
    row: Column
    column: Column
    length: Column
    width: Column
    turn: Column
    colour: Column


@dataclass(frozen=True)
class Layout:
    """n scenes; all columns are of shape (n,).

    `row`, `column` is the object's centroid and `size` the diameter of the circle around it that holds the
    object. `blur` is the least width of an edge, `noise` the largest deviation of a pixel's value by noise.
    """

    label: NDArray[np.int64]
    row: Column
    column: Column
    size: Column
    turn: Column
    paint: Paint
    background: Paint
    distractors: Pieces
    occluder: Pieces
    contrast: Column
    brightness: Column
    blur: Column
    noise: Column


def describe(label: NDArray[np.int64], draws: Draws) -> Layout:
    """Draw n scenes with objects of the given classes; everything else is independent of the class."""
    size = draws.uniform(*DIAMETERS)
    # The whole circle around the object lies in the image.
    place = size[:, None] / 2 + (1 - size[:, None]) * draws.uniform(columns=2)
    row, column = place.T
    # The object stands out in every channel, mostly as the lighter one: small transformers learn to tell figure
    # from ground sooner by such a rule, and learn the exceptions later.
    dark = draws.uniform(0, 0.5, 3)
    light = np.minimum(dark + 0.5 + draws.uniform(-0.25, 0.25, 3), 1)
    lighter = draws.uniform(columns=1) < LIGHTER
    figure, ground = np.where(lighter, light, dark), np.where(lighter, dark, light)
    return Layout(
        label=label,
        row=row,
        column=column,
        size=size,
        turn=draws.uniform(),
        paint=_paint(draws, figure),
        background=_paint(draws, ground),
        distractors=_distractors(draws),
        occluder=_occluder(draws, size, row, column),
        contrast=draws.uniform(0.7, 1.0),
        brightness=draws.uniform(-0.1, 0.1),
        blur=draws.uniform(0.0, 0.04),
        noise=draws.uniform(0.0, 0.1),
    )


def _paint(draws: Draws, base: Column) -> Paint:
    other = np.clip(base + draws.uniform(-TEXTURE_CONTRAST, TEXTURE_CONTRAST, 3), 0, 1)
    octets = draws.words(TABLE).astype("<u8").view(np.uint8).reshape(-1, TABLE, TABLE)
    return Paint(
        family=draws.integer(FAMILIES),
        colours=np.stack([base, other], axis=1),
        period=draws.uniform(*PERIODS),
        turn=draws.uniform(),
        phase=draws.uniform(0, TABLE, 2),
        table=octets / 256,
    )


def _distractors(draws: Draws) -> Pieces:
    k = DISTRACTORS
    length = draws.uniform(0.04, 0.08, k)
    return Pieces(
        kind=draws.integer(4, k),
        present=(draws.uniform(columns=k) < 0.7).astype(np.float64),
        row=draws.uniform(columns=k),
        column=draws.uniform(columns=k),
        length=length,
        width=length * draws.uniform(0.4, 1.0, k),
        turn=draws.uniform(columns=k),
        colour=draws.uniform(columns=3 * k).reshape(-1, k, 3),
    )


def _occluder(draws: Draws, size: Column, row: Column, column: Column) -> Pieces:
    """A bar or a blob over a part of the object, off its centre, in every second scene."""
    kind = np.maximum(draws.integer(4) - 1, 0)
    bar = kind == 1
    away = size / 2 * draws.uniform(0.3, 0.9)
    turn = draws.uniform()
    length = size / 2 * np.where(bar, draws.uniform(0.7, 1.2), draws.uniform(0.25, 0.4))
    width = np.where(bar, size / 2 * draws.uniform(0.1, 0.16), length * draws.uniform(0.7, 1.0))
    return Pieces(
        kind=np.where(bar, 1, 0)[:, None],
        present=(kind > 0).astype(np.float64)[:, None],
        row=(row + away * sines(turn))[:, None],
        column=(column + away * cosines(turn))[:, None],
        length=length[:, None],
        width=width[:, None],
        turn=draws.uniform(columns=1),
        colour=draws.uniform(columns=3).reshape(-1, 1, 3),
    )
