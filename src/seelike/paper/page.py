"""The page of a reproduction: every figure beside what the paper reports, and the table of claims."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seelike.errors import SeelikeError
from seelike.paper.cast import Missing
from seelike.paper.words import PaperFigure, Scale
from seelike.report.page import inline, number
from seelike.studies import Finding

PAGE, FINDINGS, TABLE = "paper.html", "findings.json", "claims.md"


@dataclass(frozen=True)
class Shown:
    """A figure that was made: its pictures, findings, the record of its run and the run's folder below the page.

    `skipped` are models that would be in it if they were trained.
    """

    name: str
    figure: PaperFigure
    pictures: Sequence[Path]
    findings: Sequence[Finding]
    record: Mapping[str, Any]
    run: str
    skipped: Sequence[Missing] = ()

    @property
    def claims(self) -> list[Finding]:
        """Findings that test a claim."""
        return [each for each in self.findings if each.verdict]


def write_page(
    out: Path, scale: Scale, images: str | None, shown: Sequence[Shown], left_out: Mapping[str, str]
) -> Path:
    """Write `paper.html` (without jinja2 only the table), `findings.json` and `claims.md`; return the page.

    Raises:
        SeelikeError: the disk refuses.
    """
    told = [{"figure": each.name, **finding.as_dict()} for each in shown for finding in each.findings]
    files = {FINDINGS: json.dumps(told, indent=2) + "\n", TABLE: claims_table(shown)}
    page = _render(scale, images, shown, left_out)
    files |= {PAGE: page} if page else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            partial = out / f".partial-{name}"
            partial.write_text(text, encoding="utf-8")
            partial.replace(out / name)
    except OSError as error:
        raise SeelikeError(f"the page cannot be written to {out} ({error.strerror or error})") from error
    return out / (PAGE if page else TABLE)


def claims_table(shown: Sequence[Shown]) -> str:
    """All claims as a Markdown table."""
    lines = ["| figure | claim | value ± error | verdict | measured |", "|---|---|---|---|---|"]
    for each in shown:
        for finding in each.claims:
            value = f"{number(finding.value)} ± {number(finding.error)}"
            cells = [each.name, finding.claim, value, str(finding.verdict), finding.statement]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _render(scale: Scale, images: str | None, shown: Sequence[Shown], left_out: Mapping[str, str]) -> str | None:
    try:
        import jinja2
    except ImportError:
        return None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("seelike.paper"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = number
    environment.filters["inline"] = inline
    verdicts = [finding.verdict for each in shown for finding in each.claims]
    counts = {verdict: verdicts.count(verdict) for verdict in ("holds", "does not hold", "cannot tell")}
    minutes = math.fsum({each.run: each.record["seconds"] for each in shown}.values()) / 60
    return environment.get_template("paper.html").render(
        scale=scale,
        images=images,
        shown=shown,
        left_out=left_out,
        counts=counts,
        minutes=minutes,
    )
