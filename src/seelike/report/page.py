"""The page of a run: one file that opens offline."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from seelike.report.maps import interactive_maps
from seelike.studies import Finding


def render_page(
    results: xr.DataTree, figures: Path, findings: Sequence[Finding], run: Mapping[str, Any], notes: list[str]
) -> str | None:
    """Render `report.html` from results, the PNG files in `figures`, findings and the run's record.

    Every name that comes from outside (models, layers, files) is escaped. Without jinja2 there is no page, and a
    sentence is added to `notes`; without plotly the maps are pictures.
    """
    try:
        import jinja2
    except ImportError:
        notes.append("no report.html: it needs jinja2 (pip install 'seelike[report]')")
        return None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("seelike.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = number
    pictures = {path.stem: inline(path) for path in sorted(figures.glob("*.png"))}
    script, maps = interactive_maps(results)
    return environment.get_template("report.html").render(
        run=run, findings=findings, pictures=pictures, maps=maps, script=script, title=" · ".join(run["models"])
    )


def inline(path: Path) -> str:
    """A PNG file as the address of an image that lies in the page itself."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def number(value: float) -> str:
    """A value for tables, a dash where it is not defined."""
    return f"{value:.3f}" if math.isfinite(value) else "–"
