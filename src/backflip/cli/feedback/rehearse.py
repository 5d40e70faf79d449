"""Rehearsal of annotation: simulated raters, and how many people and answers it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backflip.cli import console
from backflip.cli.console import say, table
from backflip.cli.feedback.stores import check_installed, project_of
from backflip.errors import UserError
from backflip.text import counted

if TYPE_CHECKING:
    from backflip.feedback.projects.project import Project
    from backflip.feedback.projects.store import Store
    from backflip.feedback.statistics.power import Plan
    from backflip.server.rehearse.planning import Assumptions
    from backflip.server.rehearse.simulation import Recovered


def rehearse(store: Store, name: str, raters: int, seed: int) -> None:
    """Let simulated raters answer a project, and say whether the statistics recover the truth."""
    from rich.progress import Progress

    from backflip.server.rehearse.simulation import prepared, simulate

    if raters < 1:
        raise UserError(f"--simulate {raters}: give a number of raters, 1 or more.")
    project = prepared(store, name, raters, seed=seed)
    with Progress(console=console.out, transient=True) as bar:
        task = bar.add_task(f"{raters} simulated raters answer", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = simulate(store, project, raters, seed=seed, progress=told)
    if found is None:
        say(f"{counted(project.overview().answers, 'answer')}; backflip collect {name} shows them")
    else:
        _print_recovered(found, name)


def plan(wished: float, project: str | None, words: Sequence[str], place: str | None) -> None:
    """How many raters and items it takes to be right on a share ``wished`` of pairs.

    ``words`` are assumptions; a project's own raters say more than those. Raises UserError.
    """
    check_installed()
    if project is None or "=" in project:
        _plan(wished, [*([project] if project else []), *words], None)
        return
    from backflip.feedback.projects.store import open_store

    store = open_store(place)
    try:
        _plan(wished, words, project_of(store, project))
    finally:
        store.close()


def _plan(wished: float, words: Sequence[str], project: Project | None) -> None:
    from backflip.recipes.names import pairs
    from backflip.server.rehearse.planning import assumed, planned

    made = assumed(pairs(words), project)
    _print_plans(wished, made, *planned(wished, made))


def _print_plans(wished: float, made: Assumptions, found: list[Plan], dimensions: float) -> None:
    given = (
        ("reliability", "a rater takes the better answer", f"{made.reliability:.0%}"),
        ("ties", "called where both are equally good", f"{made.ties:.0%}"),
        ("seconds", "of one answer", f"{made.seconds:.0f}"),
        ("raters", "there are", f"{made.raters}"),
        ("ceiling", "of the model, with labels without end", f"{made.ceiling:.0%}"),
        ("dimensions", "that the model must learn" + (", by the pilot" if made.piloted else ""),
         f"{dimensions:.0f}"),
    )  # fmt: skip
    table("Assumed", ("what", "meaning", "#value"), given)
    rows = [
        (f"{one.raters_per_item}", f"{one.items:,}", f"{one.labels:,}", f"{one.hours:,.0f}",
         f"{one.label_error:.1%}")
        for one in found
    ]  # fmt: skip
    columns = ("#raters an item", "#items", "#answers", "#hours", "#wrong majorities")
    table(f"To be right on {wished:.1%} of pairs", columns, rows)
    best = found[0]
    say(
        f"Fewest answers: {best.raters_per_item} an item on {counted(best.items, 'item')}. More "
        "raters an "
        "item buy knowledge of the raters, and labels to measure with."
    )
    if not made.piloted:
        say(
            "The dimensions are a guess: train on a small pilot, and say pilot_items=… and "
            "pilot_accuracy=….",
            "dim",
        )


def _print_recovered(found: Recovered, name: str) -> None:
    rows = [(who, f"{true:.0%}", f"{seen:.0%}") for who, true, seen in found.rows]
    table("Reliability", ("rater", "#true", "#found"), rows)
    say(
        f"{counted(found.answers, 'answer')} of {counted(found.raters, 'rater')} to "
        f"{counted(found.items, 'pair')}. Reliabilities "
        f"found correlate with the true ones at {found.correlation:.3f} (Dawid-Skene, biases "
        f"included) and at {found.without_bias:.3f} (the gauges, biases taken out)."
    )
    say(
        f"Labels that are right: majority {found.majority_right:.1%}, Dawid-Skene "
        f"{found.labels_right:.1%}."
    )
    say(
        f"Bias gauges whose 95 % interval holds the truth: {found.covered} of {found.gauges} "
        f"({found.covered / max(found.gauges, 1):.0%})."
    )
    say(f"To look at them: backflip collect {name}", "dim")
