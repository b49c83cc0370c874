"""From results to files: the run folder, the page, the findings."""

from seelike.report.folder import RunFolder, open_results

__all__ = ["RunFolder", "open_results"]
