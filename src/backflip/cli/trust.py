"""The report on a reward in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backflip.cli.console import notes, say, table
from backflip.text import counted, fixed, percent

if TYPE_CHECKING:
    from backflip.evaluation.trust.report import TrustReport

SHOWN = 20
"""Golden pairs that fail, beyond which the page has the rest."""


def print_trust(said: TrustReport) -> None:
    """Accuracy, what is beside it, and what is to be noticed."""
    from backflip.evaluation.trust.tables import share, tables

    report = said.measured
    text = f"{counted(report.pairs, 'pair')} of {counted(report.prompts, 'prompt')}"
    say(text + (f", {counted(report.ties, 'tie')} left out" if report.ties else ""))
    rows = [
        ("accuracy", *share(report.accuracy)),
        ("scores: mean ± deviation", _both(report.scores.mean, report.scores.std), ""),
        (
            "scores: from … to",
            f"{fixed(report.scores.low, 2)} … {fixed(report.scores.high, 2)}",
            "",
        ),
    ]
    table("", ["", "#measured", "95 % interval"], rows)
    for found in tables(said):
        table(found.title, found.heads, found.rows[:SHOWN])
        if (more := len(found.rows) - SHOWN) > 0:
            say(f"{more} more are on the page and in --json")
    bins = [(percent(c), percent(a), str(n)) for c, a, n in report.reliability]
    table("reliability", ["#claims", "#is right", "#pairs"], bins)
    notes(said.sentences)
    if said.page:
        say(f"page {said.page}")


def _both(mean: float, spread: float) -> str:
    return f"{fixed(mean, 2)} ± {fixed(spread, 2)}"
