"""How verdicts are coloured."""

VERDICT_COLOURS = {"holds": "green", "does not hold": "red", "cannot tell": "yellow"}
