"""Interactive heat maps for the page: point at a cell and read which two layers it is."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import xarray as xr


def interactive_maps(results: xr.DataTree) -> tuple[str, list[dict[str, Any]]]:
    """Draw every similarity map with plotly.

    Returns:
        plotly's own script (once for the page) and, per pair of models, a dict with `title` and `html`; both
        empty when plotly is not installed or there are no maps.
    """
    try:
        import plotly.graph_objects as go
        from plotly.offline import get_plotlyjs
    except ImportError:
        return "", []
    if "similarity" not in results.children:
        return "", []
    maps = []
    for first in results["similarity"].children.values():
        for second in first.children.values():
            dataset = second.to_dataset()
            figure = go.Figure(_heat_map(go, dataset), _layout(dataset))
            a, b = dataset.attrs["model"], dataset.attrs["other_model"]
            drawn = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
            maps.append({"title": f"{a} with itself" if a == b else f"{a} with {b}", "html": drawn})
    return get_plotlyjs(), maps


def _heat_map(go: Any, dataset: xr.Dataset) -> Any:
    error = dataset["cka_error"].values
    return go.Heatmap(
        z=np.round(dataset["cka"].values, 4).tolist(),
        customdata=np.round(error, 4).tolist(),
        text=_pairs_of_names(dataset),
        zmin=min(0.0, float(np.nanmin(dataset["cka"]))) if dataset["cka"].notnull().any() else 0.0,
        zmax=1,
        colorscale="Magma",
        colorbar={"title": "CKA"},
        hovertemplate="%{text}<br>CKA %{z:.3f} ± %{customdata:.3f}<extra></extra>",
    )


def _pairs_of_names(dataset: xr.Dataset) -> list[list[str]]:
    # plotly renders a little HTML inside labels: names are escaped like everywhere on the page.
    rows = [html.escape(f"{i}: {name}") for i, name in enumerate(dataset["layer"].values)]
    columns = [html.escape(f"{i}: {name}") for i, name in enumerate(dataset["other_layer"].values)]
    a, b = html.escape(dataset.attrs["model"]), html.escape(dataset.attrs["other_model"])
    return [[f"{a} {row}<br>{b} {column}" for column in columns] for row in rows]


def _layout(dataset: xr.Dataset) -> dict[str, Any]:
    rows, columns = dataset["cka"].shape
    height = int(np.clip(560 * rows / columns, 360, 760))
    return {
        "xaxis": {"title": {"text": f"layers of {html.escape(dataset.attrs['other_model'])}"}, "constrain": "domain"},
        "yaxis": {"title": {"text": f"layers of {html.escape(dataset.attrs['model'])}"}},
        "height": height,
        "width": 720,
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "paper_bgcolor": "rgba(0,0,0,0)",
    }
