"""A contact sheet: what the classes look like, for a person."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from seelike.errors import SeelikeError
from seelike.images.scenes.source import Scenes

# Smaller images are enlarged, by whole factors so that their pixels stay visible, to about this side.
_CELL = 80
_GAP, _TEXT, _MARGIN = 3, 14, 10


def contact_sheet(scenes: Scenes, columns: int = 12) -> PIL.Image.Image:
    """The first images of each class: a labelled row per class, under a line that says what is seen.

    Args:
        scenes: at least one image of every class.
        columns: the most images in a row.

    Raises:
        SeelikeError: when there is a class without images, or less than one column.
    """
    names, labels = list(scenes.class_names or ()), np.array(scenes.labels)
    rows = [np.flatnonzero(labels == label)[:columns].tolist() for label in range(len(names))]
    if columns < 1 or not all(rows):
        raise SeelikeError(
            f"no sheet of {columns} columns from the {len(scenes)} images of '{scenes.name}': it shows at least "
            f"one image of each of the {len(names)} classes"
        )
    font = PIL.ImageFont.load_default(_TEXT)
    cell = scenes.size * max(1, round(_CELL / scenes.size))
    left = _MARGIN + max(int(font.getlength(name)) for name in names) + _MARGIN
    title = f"{scenes.name}: the class is the shape; texture, colour, place, size and rotation are independent of it"
    top = 2 * _MARGIN + _TEXT
    wide = max(left + max(map(len, rows)) * (cell + _GAP), 2 * _MARGIN + int(font.getlength(title)))
    sheet = PIL.Image.new("RGB", (wide + _MARGIN, top + len(rows) * (cell + _GAP) + _MARGIN), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, "black", font)
    for row, (name, indices) in enumerate(zip(names, rows, strict=True)):
        y = top + row * (cell + _GAP)
        draw.text((left - _MARGIN, y + cell // 2), name, "black", font, anchor="rm")
        for column, image in enumerate(scenes.batch(indices)):
            big = PIL.Image.fromarray(image).resize((cell, cell), PIL.Image.Resampling.NEAREST)
            sheet.paste(big, (left + column * (cell + _GAP), y))
    return sheet
