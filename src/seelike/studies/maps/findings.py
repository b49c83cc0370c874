"""Whether attention falls on the object, where it is known where the object is."""

from __future__ import annotations

import math

from seelike.studies.base import Finding, judge
from seelike.studies.maps.results import Shares
from seelike.studies.maps.view import Views

PAPER = (
    "attention rollout from the class token falls on regions that are semantically relevant for classification "
    "(Dosovitskiy et al. 2021, Figure 6)"
)


def find(model: str, views: Views, shares: Shares) -> list[Finding]:
    """One finding per kind of map, against the share that falls on the boxes of other images."""
    names = {"rollout": "rollout", "last": f"{views.sites[views.chosen[-1]].site.name}, mean over heads"}
    return [_finding(model, views, shares, kind, names[kind]) for kind in shares.rows.kinds]


def _finding(model: str, views: Views, shares: Shares, kind: str, name: str) -> Finding:
    rows, means = shares.rows, shares.means
    share, share_error = float(rows.share(means.mean, kind)), float(rows.share(means.error, kind))
    area, area_error = float(rows.area(means.mean)), float(rows.area(means.error))
    chance, _ = means.statistic(lambda values: rows.chance(values, kind))
    value, error = means.statistic(lambda values: rows.share(values, kind) - rows.chance(values, kind))
    return Finding(
        "maps",
        (model,),
        f"Of what {views.query} of {model} looks at ({name}), {_percent(share, share_error)} % falls on the box of the "
        f"object, which covers {_percent(area, area_error)} % of the picture; on the boxes of other pictures it would "
        f"be {100 * chance:.1f} %, a difference of {_percent(value, error)} points.",
        f"{kind} share on the object's box minus that on the boxes of other images",
        value,
        error,
        claim=f"{views.query} of {model} looks at the object ({name})",
        verdict=judge(value, error, means.quantile),
        paper=PAPER if kind == "rollout" else "",
    )


def _percent(value: float, error: float) -> str:
    """In hundredths, with as many digits as the error has to tell."""
    if not math.isfinite(error):
        return f"{100 * value:.1f} (no error: too few minibatches)"
    digits = 1 if error == 0 else min(4, max(1, -math.floor(math.log10(100 * error))))
    return f"{100 * value:.{digits}f} ± {100 * error:.{digits}f}"
