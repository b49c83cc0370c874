"""The folder of a run: checked before work begins, written whole, never half."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from seelike.errors import SeelikeError, close_matches
from seelike.report.page import render_page
from seelike.studies import Finding

RESULTS = "results.nc"
STATE = "state"
OURS = (RESULTS, "report.html", "findings.json", "run.json", "figures", STATE)


class RunFolder:
    """Where a run writes: `results.nc`, `report.html`, `figures/`, `findings.json`, `run.json`, `state/`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.made = False

    @property
    def state(self) -> Path:
        """What a resumed run needs; removed at the end of a run."""
        return self.path / STATE

    def prepare(self, *, resume: bool, overwrite: bool) -> None:
        """Make sure that results can be written here, before any work. What is here stays until `write` replaces it.

        Raises:
            SeelikeError: not a folder, not writable, holds another run or files that are not ours.
        """
        try:
            self.made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise SeelikeError(
                f"--out {self.path} cannot be written to ({error.strerror or error}); choose another"
            ) from error
        present = sorted(p.name for p in self.path.iterdir())
        foreign = [name for name in present if name not in OURS]
        if foreign:
            raise SeelikeError(
                f"--out {self.path} is not empty ({', '.join(foreign[:3])}); choose an empty or new folder"
            )
        if present and not (resume or overwrite):
            interrupted = STATE in present
            holds = "an interrupted run" if interrupted else f"a run already ({', '.join(present)})"
            way = "go on with --resume, start over with --overwrite" if interrupted else "replace it with --overwrite"
            raise SeelikeError(f"--out {self.path} holds {holds}; {way}, or choose another folder")

    def abandon(self) -> None:
        """Take the folder away again where `prepare` made it and nothing was written."""
        if self.made:
            with contextlib.suppress(OSError):  # there is something in it
                self.path.rmdir()

    def write(
        self, results: xr.DataTree, figures: Mapping[str, Figure], findings: Sequence[Finding], run: Mapping[str, Any]
    ) -> list[str]:
        """Write everything; results first, each file put in place whole. Returns sentences for the user.

        Raises:
            SeelikeError: the disk is full or fails; what was measured stays in `state/` for ``--resume``.
        """
        notes: list[str] = []
        try:
            self._put(RESULTS, lambda path: write_results(results, path))
            shutil.rmtree(self.path / "figures", ignore_errors=True)  # another run may have had others
            (self.path / "figures").mkdir(exist_ok=True)
            for stem, figure in figures.items():
                for suffix in ("png", "svg"):
                    self._put(f"figures/{stem}.{suffix}", _saver(figure, suffix))
            told = [finding.as_dict() for finding in findings]
            self._put("findings.json", lambda path: path.write_text(json.dumps(told, indent=2, allow_nan=True) + "\n"))
            self._put("run.json", lambda path: path.write_text(json.dumps(run, indent=2) + "\n"))
            page = render_page(results, self.path / "figures", findings, run, notes)
            if page is not None:
                self._put("report.html", lambda path: path.write_text(page, encoding="utf-8"))
            else:
                (self.path / "report.html").unlink(missing_ok=True)
        except OSError as error:
            raise SeelikeError(
                f"the results could not be written to {self.path} ({error.strerror or error}); what was measured is "
                f"kept in {self.state}: make room and run the same command with --resume"
            ) from error
        shutil.rmtree(self.state, ignore_errors=True)
        return notes

    def _put(self, name: str, write: Callable[[Path], Any]) -> None:
        target = self.path / name
        partial = target.with_name(f".partial-{target.name}")
        try:
            write(partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _saver(figure: Figure, suffix: str) -> Callable[[Path], None]:
    # No date in the file: the same results give the same figure, byte for byte.
    metadata = {"Date": None} if suffix == "svg" else {}
    return lambda path: figure.savefig(path, format=suffix, dpi=200, metadata=metadata)


def write_results(results: xr.DataTree, path: Path) -> None:
    """Write a result tree as one netCDF4 file. Raises OSError."""
    try:
        results.to_netcdf(path, engine="h5netcdf")
    except RuntimeError as error:  # HDF5's words for a disk that will not take more
        raise OSError(str(error)) from error


def open_results(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open the results of a run, loaded into memory.

    Args:
        path: the folder of a run, or its ``results.nc``.

    Returns:
        The tree of datasets; similarity of models a and b at ``tree["similarity/a/b"]``.

    Raises:
        SeelikeError: nothing there, an interrupted run, or not a result file.
    """
    path = Path(path)
    file = path / RESULTS if path.is_dir() else path
    if not file.exists():
        if (path / STATE).exists():
            raise SeelikeError(f"{path} holds an interrupted run, no results yet; finish it with --resume")
        near = close_matches(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise SeelikeError(f"no results at {file}{near}")
    try:
        with xr.open_datatree(file, engine="h5netcdf") as tree:
            return tree.load()
    except (OSError, ValueError, KeyError) as error:
        raise SeelikeError(f"{file} is not a result file of seelike ({error})") from error
