"""From the bytes of an image file to 8-bit RGB, or a `BadImage` that says why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import PIL.Image

from seelike.images.source import BadImage

# What no viewer could tell apart once scaled: 16-bit grey as PNG and TIFF (I;16*) and as PGM (I).
_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N", "I"}


def decode(source: bytes | str | Path, sample: str) -> PIL.Image.Image:
    """Decode one image file completely and convert it to RGB.

    The EXIF orientation is not applied, as in torchvision's `ImageFolder`, timm and `datasets`: models
    were trained, and their accuracies measured, on images read that way.

    Args:
        source: the file's bytes, or its path.
        sample: the image's id, for the error message.

    Raises:
        BadImage: for anything that PIL cannot read to its last byte (truncated, empty, not an image), and
            for images above `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    if isinstance(source, bytes) and not source:
        raise BadImage.of(sample, "it is empty (0 bytes)")
    try:
        # Warnings about odd metadata must not become errors under `python -W error`; the one about images
        # so large that they may be an attack must.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                image.load()
                return to_rgb(image)
    except MemoryError:
        raise  # the machine's trouble, not the image's
    except Exception as error:  # decoders fail on broken data with nearly every type of exception there is
        raise BadImage.of(sample, _reason(error, source)) from error


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Convert any mode to RGB: transparency over white, 16-bit grey scaled (PIL would clip it at 255).

    Raises:
        ValueError: for modes without an agreed scale (32-bit float or integer).
    """
    if image.mode == "F":
        raise ValueError("32-bit float pixels have no agreed scale; convert the image to 8 or 16 bit")
    if image.mode in _SIXTEEN_BIT:
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 0xFFFF:
            raise ValueError("32-bit integer pixels have no agreed scale; convert the image to 8 or 16 bit")
        return PIL.Image.fromarray((pixels // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception, source: bytes | str | Path) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        if not isinstance(source, bytes) and Path(source).stat().st_size == 0:
            return "it is empty (0 bytes)"
        return "it is not an image in a format that PIL knows"
    if isinstance(error, FileNotFoundError):
        return "the file does not exist (any more)"
    return f"{error}" if isinstance(error, (OSError, ValueError)) and str(error) else f"{error!r}"
