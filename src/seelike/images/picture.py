"""`picture:FILE[,FILE...]`: single picture files, named one by one."""

from __future__ import annotations

import glob
import warnings
from pathlib import Path

import PIL.Image

from seelike.errors import SeelikeError
from seelike.images.decode import decode
from seelike.images.files import existing, expand, short_names
from seelike.images.source import Images

# PIL opens these through other programs or by their first page only: nobody means them as images.
_NOT_MEANT = {".pdf", ".ps", ".eps", ".mpg", ".mpeg", ".h5", ".hdf", ".emf", ".wmf", ".grib", ".bufr"}


class Pictures(Images):
    """Picture files in the order in which they are named; ids are their names. No labels.

    Args:
        files: each is opened, but not decoded.
        name: for labels and `run.json`.

    Raises:
        SeelikeError: a file that is no picture; it is named.
    """

    def __init__(self, files: list[Path], name: str) -> None:
        for file in files:
            _check(file)
        self._files = files
        self.name = name
        self.ids = short_names(files)

    def read(self, index: int) -> PIL.Image.Image:
        """Decode picture `index`; raises `BadImage` when it is damaged."""
        return decode(self._files[index], self.ids[index])


def load_pictures(rest: str) -> Pictures:
    """Open `FILE[,FILE...]`: paths or globs; a path that exists is taken as it stands, whatever signs are in it.

    Raises:
        SeelikeError: a file that does not exist (with close matches), is a folder, or is no picture.
    """
    parts = [rest] if Path(rest).expanduser().exists() else [part.strip() for part in rest.split(",") if part.strip()]
    if not parts:
        raise SeelikeError(f"no picture is named in '{rest}'; write picture:FILE[,FILE...]")
    files: list[Path] = []
    for part in parts:
        if Path(part).expanduser().is_dir():
            raise SeelikeError(f"'{part}' is a folder, not a picture; for all pictures in it write folder:{part}")
        files += [file for file in expand(part, "") if file.is_file()] if glob.has_magic(part) else [existing(part)]
    return Pictures(list(dict.fromkeys(files)), f"picture:{rest}")


def picture_suffixes() -> set[str]:
    """Suffixes of files that are pictures, in lower case: ``.jpg``, ``.png`` and all others that PIL can open."""
    PIL.Image.init()
    known = {suffix for suffix, kind in PIL.Image.registered_extensions().items() if kind in PIL.Image.OPEN}
    return known - _NOT_MEANT


def _check(file: Path) -> None:
    """Refuse what cannot be a picture before any work is done; what is damaged further on is seen when it is read."""
    if not file.stat().st_size:
        raise SeelikeError(f"'{file}' is no picture: it is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PIL.Image.open(file).close()
    except PIL.UnidentifiedImageError:
        raise SeelikeError(f"'{file}' is no picture in a format that PIL knows") from None
    except Exception as error:  # headers fail with nearly every type of exception there is
        raise SeelikeError(f"'{file}' cannot be read as a picture: {error}") from error
