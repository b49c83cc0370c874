"""From the description of scenes to pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seelike.images.scenes.angles import cosines, sines
from seelike.images.scenes.layout import Column, Layout, Paint, Pieces
from seelike.images.scenes.shapes import SHAPES
from seelike.images.scenes.textures import Canvas, Family

Plane = NDArray[np.floating[Any]]

# Pixels worked on at a time: few enough for the planes to stay in the cache, enough to hide NumPy's overhead.
_PIXELS = 1 << 16


def render(layout: Layout, families: list[Family], size: int, noise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw n scenes.

    Args:
        layout: the scenes.
        families: what a texture's number stands for.
        size: side in pixels.
        noise: uniform random bytes of shape (n, 3, size, size).

    Returns:
        RGB of shape (n, size, size, 3).
    """
    images = np.empty((len(layout.label), size, size, 3), np.uint8)
    step = max(1, _PIXELS // size**2)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        images[part] = _render(part_of(layout, part), families, size, noise[part]).transpose(0, 2, 3, 1)
    return images


def _render(layout: Layout, families: list[Family], size: int, noise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = centres[None, None, :], centres[None, :, None]
    width = _planes(np.maximum(layout.blur, 1 / size))
    canvas = _surface(layout.background, families, x, y, width)
    _pieces(canvas, layout.distractors, x, y, width)
    cover = object_cover(layout, x, y, width)
    canvas += cover[:, None] * (_surface(layout.paint, families, x, y, width) - canvas)
    _pieces(canvas, layout.occluder, x, y, width)
    canvas -= 0.5
    canvas *= _planes(layout.contrast)[:, None]
    canvas += _planes(0.5 + layout.brightness)[:, None]
    canvas += (noise.astype(np.float32) - 127.5) * _planes(layout.noise / 127.5)[:, None]
    np.clip(canvas, 0, 1, out=canvas)
    canvas *= 255
    canvas += 0.5
    return canvas.astype(np.uint8)


def object_cover(layout: Layout, x: Plane, y: Plane, width: Plane) -> Plane:
    """Share of each pixel that the objects cover, before occlusion: (n, height, width).

    Args:
        layout: n scenes.
        x: columns of the pixels' centres, from 0 to 1 across the image: (1, 1, width).
        y: their rows: (1, height, 1).
        width: width of an edge, in the same units: (n, 1, 1).
    """
    u, v = _frame(x, y, layout.column, layout.row, layout.turn)
    radius = _planes(layout.size / 2)
    u, v = u / radius, v / radius
    distance = np.empty_like(u)
    for label, shape in enumerate(SHAPES.values()):
        mine = layout.label == label
        if mine.any():
            distance[mine] = shape(u[mine], v[mine])
    return _cover(distance * radius, width)


def pieces_cover(pieces: Pieces, k: int, x: Plane, y: Plane, width: Plane) -> Plane:
    """Share of each pixel that piece `k` of every scene covers; arguments and result as for `object_cover`."""
    u, v = _frame(x, y, pieces.column[:, k], pieces.row[:, k], pieces.turn[:, k])
    distance = np.empty_like(u)
    for number, piece in enumerate(PIECES):
        mine = pieces.kind[:, k] == number
        if mine.any():
            length, breadth = _planes(pieces.length[mine, k]), _planes(pieces.width[mine, k])
            distance[mine] = piece(u[mine], v[mine], length, breadth)
    return _cover(distance, width) * _planes(pieces.present[:, k])


def _pieces(canvas: Plane, pieces: Pieces, x: Plane, y: Plane, width: Plane) -> None:
    for k in range(pieces.kind.shape[1]):
        cover = pieces_cover(pieces, k, x, y, width)
        canvas += cover[:, None] * (_planes(pieces.colour[:, k]) - canvas)


def _surface(paint: Paint, families: list[Family], x: Plane, y: Plane, width: Plane) -> Plane:
    """Colours of textures that fill the image: (n, 3, height, width)."""
    u, v = _frame(x, y, np.full(len(paint.turn), 0.5), np.full(len(paint.turn), 0.5), paint.turn)
    period = _planes(paint.period)
    u = u / period + _planes(paint.phase[:, 0])
    v = v / period + _planes(paint.phase[:, 1])
    soft, table = width / period, paint.table.astype(np.float32)
    share = np.empty_like(u)
    for number, family in enumerate(families):
        mine = paint.family == number
        if mine.any():
            share[mine] = family(Canvas(u[mine], v[mine], soft[mine], table[mine]))
    first, other = _planes(paint.colours[:, 0]), _planes(paint.colours[:, 1])
    surface: Plane = first + share[:, None] * (other - first)
    return surface


def _frame(x: Plane, y: Plane, column: Column, row: Column, turn: Column) -> tuple[Plane, Plane]:
    """Coordinates along and across a direction, from a point: both (n, height, width)."""
    cosine, sine = _planes(cosines(turn)), _planes(sines(turn))
    x, y = x - _planes(column), y - _planes(row)
    return x * cosine + y * sine, y * cosine - x * sine


def _cover(distance: Plane, width: Plane) -> Plane:
    return np.clip(0.5 - distance / width, np.float32(0), np.float32(1))


def _planes(column: Column) -> Plane:
    """Per-image numbers (n, ...) in a form that broadcasts against (n, ..., height, width)."""
    return column.astype(np.float32)[..., None, None]


def _blob(u: Plane, v: Plane, length: Plane, width: Plane) -> Plane:
    u, v = u / length, v / width
    return (np.sqrt(u * u + v * v) - 1) * width


def _bar(u: Plane, v: Plane, length: Plane, width: Plane) -> Plane:
    return np.maximum(np.abs(u) - length, np.abs(v) - width)


def _stroke(u: Plane, v: Plane, length: Plane, width: Plane) -> Plane:
    beyond = np.maximum(np.abs(u) - length, 0)
    distance: Plane = np.sqrt(beyond * beyond + v * v) - 0.3 * width
    return distance


def _corner(u: Plane, v: Plane, length: Plane, width: Plane) -> Plane:
    # The corner of a square: two strokes that meet at a right angle.
    outer = np.maximum(np.abs(u), np.abs(v)) - length
    return np.maximum(outer, np.minimum(u, v) - (0.6 * width - length))


PIECES: tuple[Callable[[Plane, Plane, Plane, Plane], Plane], ...] = (_blob, _bar, _stroke, _corner)


def part_of(whole: Any, part: slice) -> Any:
    """Some of the scenes of a Layout."""
    values = {}
    for field in fields(whole):
        value = getattr(whole, field.name)
        values[field.name] = part_of(value, part) if is_dataclass(value) else value[part]
    return type(whole)(**values)
