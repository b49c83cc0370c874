from __future__ import annotations

import contextlib
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from seelike.images import BadImage
from seelike.images.decode import decode


def saved(image: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_rgb_comes_back_exactly(pixels: Callable[..., np.ndarray], tmp_path: Path) -> None:
    content = saved(PIL.Image.fromarray(pixels(3)))
    image = decode(content, "a")
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels(3))
    (tmp_path / "a.png").write_bytes(content)
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png", "a")), pixels(3))


def test_grey_16_bit_is_scaled_not_clipped() -> None:
    grey = np.array([[0, 257, 128 * 257], [200 * 257, 65535, 40000]], dtype=np.uint16)
    expected = np.repeat((grey // 257).astype(np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(np.asarray(decode(saved(PIL.Image.fromarray(grey)), "a")), expected)
    assert np.array_equal(np.asarray(decode(saved(PIL.Image.fromarray(grey), "TIFF"), "a")), expected)
    pgm = b"P5 3 2 65535\n" + grey.astype(">u2").tobytes()
    assert np.array_equal(np.asarray(decode(pgm, "a")), expected)


def test_transparency_lies_over_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    expected = [[10, 20, 30], [255, 255, 255], [204, 204, 204]]
    assert np.asarray(decode(saved(PIL.Image.fromarray(rgba)), "a"))[0].tolist() == expected


def test_palette_with_and_without_transparency() -> None:
    palette = PIL.Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    assert np.asarray(decode(saved(palette), "a"))[0].tolist() == [[255, 0, 0], [0, 0, 255]]
    clear = decode(saved(palette, transparency=bytes([0, 255])), "a")
    assert np.asarray(clear)[0].tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "LA"])
def test_other_modes(mode: str) -> None:
    image = PIL.Image.new("RGB", (8, 8), "white").convert(mode)
    content = saved(image, "JPEG" if mode == "CMYK" else "PNG")
    result = decode(content, "a")
    assert result.mode == "RGB"
    assert np.asarray(result).min() >= 253


def test_float_pixels_have_no_scale() -> None:
    with pytest.raises(BadImage, match=r"'x\.tif'.*no agreed scale"):
        decode(saved(PIL.Image.new("F", (4, 4), 0.5), "TIFF"), "x.tif")
    with pytest.raises(BadImage, match="no agreed scale"):
        decode(saved(PIL.Image.new("I", (4, 4), 1 << 20), "TIFF"), "x.tif")


def test_exif_orientation_is_left_alone(pixels: Callable[..., np.ndarray]) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to display
    content = saved(PIL.Image.fromarray(pixels(0, height=10, width=20)), "JPEG", exif=exif)
    assert decode(content, "a").size == (20, 10)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(kind: str, share: float, encoded: Callable[..., bytes]) -> None:
    content = encoded(1, kind, height=64, width=64)
    assert decode(content, "whole").size == (64, 64)
    with pytest.raises(BadImage, match=r"image 'b/0001' cannot be read: ") as caught:
        decode(content[: int(share * len(content))], "b/0001")
    assert caught.value.id == "b/0001"
    assert caught.value.reason in str(caught.value)


def test_broken_inside_never_escapes_as_another_error(encoded: Callable[..., bytes]) -> None:
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "ICO", "TGA"):
        content = np.frombuffer(encoded(1, kind), dtype=np.uint8)
        for _ in range(40):
            broken = content.copy()
            broken[random.integers(0, min(len(broken), 200), 4)] = random.integers(0, 256, 4)
            with contextlib.suppress(BadImage):
                assert decode(broken.tobytes(), "a").mode == "RGB"


def test_empty_and_not_an_image(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"'e\.png'.*empty \(0 bytes\)"):
        decode(b"", "e.png")
    (tmp_path / "e.png").touch()
    with pytest.raises(BadImage, match=r"empty \(0 bytes\)"):
        decode(tmp_path / "e.png", "e.png")
    with pytest.raises(BadImage, match="not an image in a format that PIL knows"):
        decode(b"hello, this is text", "t.jpg")
    with pytest.raises(BadImage, match="does not exist"):
        decode(tmp_path / "gone.png", "gone.png")


@pytest.mark.parametrize("factor", [1.5, 3])
def test_decompression_bomb(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # PIL only warns up to twice the limit, and raises above.
    content = saved(PIL.Image.new("RGB", (100, 100)))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", int(10_000 / factor))
    with pytest.raises(BadImage, match="10000 pixels"):
        decode(content, "huge.png")


def test_warnings_of_pil_are_no_errors() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\0\0\0\0"  # cut off: PIL warns of corrupt EXIF
    content = saved(PIL.Image.new("RGB", (4, 4)), "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(content, "a").size == (4, 4)


def test_bad_image_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(BadImage.of("a/b.png", "it is empty")))
    assert (type(error), str(error)) == (BadImage, "image 'a/b.png' cannot be read: it is empty")
    assert (error.id, error.reason) == ("a/b.png", "it is empty")
