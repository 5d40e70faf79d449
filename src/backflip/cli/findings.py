"""What ``check`` prints of data: what was found in it, and its first rows as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from backflip.cli.console import out, say, share, table
from backflip.text import counted

if TYPE_CHECKING:
    from backflip.data.audit import Audit, Finding
    from backflip.data.readings import Reading
    from backflip.recipes.forecast import Plan

COLOURS = {"error": "red", "warning": "yellow", "info": ""}
MARKS = ("⟦", "⟧")
"""What stands around tokens that are learnt where there is no colour."""
FOLD = 200
"""Letters at either end of a long text that are shown."""


def print_audit(audit: Audit) -> None:
    """Everything that was counted in a dataset, the worst first."""
    say(
        f"{audit.source}: {counted(audit.total, 'row')}, {audit.kind.lower()}s, format "
        f"{audit.format}"
    )
    if audit.said:
        say(audit.said)
    sizes = [
        (name, *(f"{value:.0f}" for value in values)) for name, values in audit.lengths.items()
    ]
    if sizes:
        table(f"lengths in {audit.unit}", ["", "#mean", "#median", "#90 %", "#longest"], sizes)
    if found := audit.rows():
        out.print(Text(f"{'rows':>8} {'share':>9}  found", style="bold"))
    for finding in found:
        _print_finding(finding)
    unusable = f"{audit.errors} of {counted(audit.total, 'row')} cannot be used."
    say(unusable if audit.errors else "All rows can be used.", "red" if audit.errors else "green")
    print_readings(audit.shown)
    if audit.unchecked:
        say(f"not checked: {'; '.join(audit.unchecked)}")


def _print_finding(finding: Finding) -> None:
    """How many rows, what about them, what to do, and the first of them."""
    style = COLOURS[finding.level]
    made = Table(box=None, show_header=False)
    made.add_column(justify="right", width=8)
    made.add_column(justify="right", width=8)
    made.add_column(overflow="fold")
    said = Text(finding.name, style=style)
    made.add_row(Text(f"{finding.count:,}"), Text(share(finding.share)), said)
    for line in (finding.advice, *finding.examples):
        if line:
            made.add_row("", "", Text(line, style="dim"))
    out.print(made)


def print_readings(shown: Sequence[Reading]) -> None:
    """Rows as the model reads them, with the tokens that are learnt marked."""
    if not shown:
        return
    coloured = out.is_terminal and not out.no_color
    mark = "in green" if coloured else f"between {MARKS[0]} and {MARKS[1]}"
    learnt = any(own for one in shown for _, own in one.spans)
    what = f"the tokens that are learnt stand {mark}" if learnt else "it answers from their end on"
    out.print(Text(f"\nthe first rows as the model reads them; {what}", style="bold"))
    for one in shown:
        out.print(Text(f"{one.where}  {one.about}".rstrip(), style="dim"))
        said = Text()
        for text, own in one.spans:
            left, right = MARKS if own and not coloured else ("", "")
            said.append(f"{left}{_folded(text)}{right}", "green" if own else "")
        out.print(Padding(said, (0, 0, 0, 4)))


def _folded(text: str) -> str:
    """A long text without its middle."""
    left_out = len(text) - 2 * FOLD
    if left_out <= FOLD // 4:
        return text
    return f"{text[:FOLD]} … [{counted(left_out, 'character')}] … {text[-FOLD:]}"


def print_read(plans: Sequence[Plan]) -> None:
    """The first rows of every stage as its model will read them."""
    for plan in plans:
        if plan.shown and len(plans) > 1:
            say(f"\n{plan.stage.replace('_', ' ')}")
        print_readings(plan.shown)
