"""Texture families in two disjoint sets: patterns between two colours, the same for all classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]

TABLE = 8


@dataclass(frozen=True)
class Canvas:
    """Where patterns are drawn, for n images.

    Attributes:
        u: coordinates along the pattern, in its periods, of shape (n, height, width).
        v: those across it.
        soft: width of an edge in periods, of shape (n, 1, 1): that of a pixel, or of the blur if that is more.
            Patterns too fine for the image turn grey instead of aliasing.
        table: random numbers in [0, 1), of shape (n, 8, 8).
    """

    u: Plane
    v: Plane
    soft: Plane
    table: Plane


# A family says how much of the second colour there is, from 0 to 1: (n, height, width). Only operations that
# IEEE 754 rounds exactly are used, as in shapes.py.
Family = Callable[[Canvas], Plane]


def _plain(c: Canvas) -> Plane:
    return np.zeros_like(c.u)


def _stripes(c: Canvas) -> Plane:
    return _share(0.25 - _wave(c.u), c.soft)


def _checks(c: Canvas) -> Plane:
    a, b = _share(0.25 - _wave(c.u), c.soft), _share(0.25 - _wave(c.v), c.soft)
    return a + b - 2 * a * b


def _dots(c: Canvas) -> Plane:
    u, v = _cell(c.u), _cell(c.v)
    return _share(0.33 - np.sqrt(u * u + v * v), c.soft)


def _noise(c: Canvas) -> Plane:
    # Random values at the points of a lattice, two to a period, with smooth interpolation.
    u, v = 2 * c.u, 2 * c.v
    left, top = np.floor(u), np.floor(v)
    across, down = u - left, v - top
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    i, j = top.astype(np.int32), left.astype(np.int32)
    a, b = _look(c.table, i, j), _look(c.table, i, j + 1)
    above = a + across * (b - a)
    a, b = _look(c.table, i + 1, j), _look(c.table, i + 1, j + 1)
    below = a + across * (b - a)
    return above + down * (below - above)


def _gradient(c: Canvas) -> Plane:
    return 2 * _wave(c.u / 6)


def _rings(c: Canvas) -> Plane:
    return _share(0.25 - _wave(np.sqrt(c.u * c.u + c.v * c.v)), c.soft)


def _zigzag(c: Canvas) -> Plane:
    # The edges run at 45 degrees, so a step along u is 1.41 steps across them.
    return _share(0.25 - _wave(c.u + 2 * _wave(c.v / 2)), c.soft * 1.4142135)


def _bricks(c: Canvas) -> Plane:
    row = np.floor(c.v)
    # Every second row is shifted by half a brick; a brick is twice as long as high.
    along = c.u / 2 + 0.5 * (row - 2 * np.floor(row / 2))
    return _share(np.minimum(0.5 - np.abs(c.v - row - 0.5), 1 - 2 * _wave(along)) - 0.11, c.soft)


def _mesh(c: Canvas) -> Plane:
    return _share(0.13 - np.minimum(_wave(c.u), _wave(c.v)), c.soft)


def _cells(c: Canvas) -> Plane:
    # The shade of the nearest of random points, one to each square of the lattice.
    top, left = np.floor(c.v), np.floor(c.u)
    i, j = top.astype(np.int32), left.astype(np.int32)
    nearest = np.full_like(c.u, np.inf)
    shade = np.zeros_like(c.u)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            # Three numbers of a square: some way off in the same table, which no eye will notice.
            y = top - c.v + (_look(c.table, i + down, j + right) + down)
            x = left - c.u + (_look(c.table, i + down, j + right + 3) + right)
            distance = x * x + y * y
            closer = distance < nearest
            nearest = np.where(closer, distance, nearest)
            shade = np.where(closer, _look(c.table, i + down + 3, j + right), shade)
    return shade


def _terraces(c: Canvas) -> Plane:
    # A gradient in four flat steps.
    height = 8 * _wave(c.u / 6)
    step = np.floor(height)
    return (step + _share(height - step - 0.75, c.soft * 1.3333334)) / 4


SETS: dict[str, dict[str, Family]] = {
    "A": {
        "plain": _plain,
        "stripes": _stripes,
        "checks": _checks,
        "dots": _dots,
        "noise": _noise,
        "gradient": _gradient,
    },
    "B": {
        "rings": _rings,
        "zigzag": _zigzag,
        "bricks": _bricks,
        "mesh": _mesh,
        "cells": _cells,
        "terraces": _terraces,
    },
}


def _share(distance: Plane, soft: Plane) -> Plane:
    """Cover of a pixel by what lies at positive distances from an edge."""
    return np.minimum(np.maximum(distance / soft + 0.5, 0), 1)


def _cell(u: Plane) -> Plane:
    """Place in a cell of one period, -0.5 to 0.5."""
    return u - np.floor(u) - 0.5


def _wave(u: Plane) -> Plane:
    """Distance to the middle of the period, 0 to 0.5: a triangle wave."""
    return np.abs(_cell(u))


def _look(table: Plane, i: NDArray[np.int32], j: NDArray[np.int32]) -> Plane:
    """Numbers of the tables (n, 8, 8) at rows i and columns j, both (n, height, width), wrapped around."""
    image = np.arange(len(table))[:, None, None] * (TABLE * TABLE)
    numbers: Plane = np.take(table.reshape(-1), image + (i & 7) * TABLE + (j & 7))
    return numbers
