"""Put the claims of finished `seelike paper` runs into docs/results/paper.md, between their marks.

python benchmarks/paper_tables.py lab=runs/paper-lab cifar=runs/paper-cifar
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

PAGE = Path("docs/results/paper.md")
END = "<!-- end -->"


def table(folder: Path) -> str:
    """How many claims hold, and a row for each claim, as Markdown. Findings without a claim are not shown."""
    findings = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    claims = [each for each in findings if each["verdict"]]
    counts = Counter(each["verdict"] for each in claims)
    summary = f"{counts['holds']} hold, {counts['does not hold']} do not, {counts['cannot tell']} cannot be told."
    rows = ["| figure | claim | value ± error | verdict |", "|---|---|---|---|"]
    for each in claims:
        rows.append(
            f"| {each['figure']} | {each['claim']} | {each['value']:.3f} ± {each['error']:.3f} | {each['verdict']} |"
        )
    return "\n".join([summary, "", *rows])


def fill(page: str, scale: str, text: str) -> str:
    """Replace what stands between the marks of a scale."""
    start = f"<!-- claims: {scale} -->"
    before, mark, rest = page.partition(start)
    if not mark or END not in rest:
        raise SystemExit(f"{PAGE} has no '{start} ... {END}'")
    return f"{before}{start}\n{text}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Fill the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="SCALE=DIR")
    page = PAGE.read_text(encoding="utf-8")
    for scale, _, folder in (each.partition("=") for each in parser.parse_args().runs):
        page = fill(page, scale, table(Path(folder)))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
