"""The ten classes: global shapes, told apart at any rotation, as signed distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]

# All shapes have their centroid at the origin and their farthest point at distance 1; x and y are
# coordinates in that frame, y downwards. What they return is negative inside and a distance near the edge
# (beyond convex corners it may be less than the distance, which keeps them sharp). Only operations that
# IEEE 754 rounds exactly are used, +, -, *, /, sqrt, min, max: pixels are the same on every machine.


def _disc(x: Plane, y: Plane) -> Plane:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: Plane, y: Plane) -> Plane:
    return np.abs(np.sqrt(x * x + y * y) - 0.75) - 0.25


def _crescent(x: Plane, y: Plane) -> Plane:
    # A unit disc less a disc of radius 0.8 with its centre 0.55 to the right.
    x = x * 1.2597 - 0.3722
    y = y * 1.2597
    away = x - 0.55
    distance: Plane = np.maximum(np.sqrt(x * x + y * y) - 1, 0.8 - np.sqrt(away * away + y * y))
    return distance / 1.2597


def _triangle(x: Plane, y: Plane) -> Plane:
    return np.maximum(0.8660254 * np.abs(x) - 0.5 * y, y) - 0.5


def _square(x: Plane, y: Plane) -> Plane:
    return np.maximum(np.abs(x), np.abs(y)) - 0.70710678


def _cross(x: Plane, y: Plane) -> Plane:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.9539392, np.minimum(x, y) - 0.3)


def _star(x: Plane, y: Plane) -> Plane:
    # Fold the plane into one tenth by two mirrors at the symmetry axes; then there is one edge.
    x = np.abs(x)
    over = np.maximum(0.8090170 * x + 0.5877853 * y, 0) * 2
    x, y = x - 0.8090170 * over, y - 0.5877853 * over
    over = np.maximum(-0.8090170 * x + 0.5877853 * y, 0) * 2
    x, y = np.abs(x + 0.8090170 * over), y - 0.5877853 * over
    # From the tip (0, -1) to the notch at radius 0.45, 36 degrees away.
    return 0.9233204 * x - 0.3840306 * y - 0.3840306


def _heart(x: Plane, y: Plane) -> Plane:
    # A square on its corner with a disc on each upper side.
    x, y = np.abs(x) * 0.65665, 0.65665 - y * 0.65665
    square = (x + np.abs(y - 0.5) - 0.5) * 0.70710678
    x, y = x - 0.25, y - 0.75
    distance: Plane = np.minimum(square, np.sqrt(x * x + y * y) - 0.35355339)
    return distance / 0.65665


def _arrow(x: Plane, y: Plane) -> Plane:
    x, y = x * 0.9416667 + 0.0583333, np.abs(y) * 0.9416667
    head = np.maximum(-x, 0.6246950 * x + 0.7808688 * y - 0.6246950)
    shaft = np.maximum(y - 0.3, np.abs(x + 0.3) - 0.5)
    distance: Plane = np.minimum(head, shaft)
    return distance / 0.9416667


def _hourglass(x: Plane, y: Plane) -> Plane:
    x, y = np.abs(x), np.abs(y)
    distance: Plane = np.maximum(y - 0.75, 0.8005439 * x - 0.5992742 * y - 0.0800544)
    return distance


SHAPES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": _disc,
    "ring": _ring,
    "crescent": _crescent,
    "triangle": _triangle,
    "square": _square,
    "cross": _cross,
    "star": _star,
    "heart": _heart,
    "arrow": _arrow,
    "hourglass": _hourglass,
}

CLASSES = tuple(SHAPES)
