"""``evaluate --compute``, what more tokens buy, and ``label-steps``, what steps are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backflip.cli.console import notes, say, table
from backflip.errors import UserError
from backflip.text import percent

if TYPE_CHECKING:
    from backflip.recipes.compute import ComputeReport


def _given(words: Sequence[str], options: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The settings of a command that checks answers, by their names."""
    from backflip.recipes import slips
    from backflip.recipes.names import pairs

    first = bool(words) and "=" not in words[0]
    given: dict[str, Any] = {"data": words[0]} if first else {}
    given |= pairs(words[1:] if first else words)
    given = {f"data.{k}" if k.startswith("columns.") else k: v for k, v in given.items()}
    given |= dict(options)
    for needed, example in (("data", "data=gsm8k.jsonl"), ("reward", "reward=mathematics")):
        if needed not in given:
            raise UserError(f"{command} needs {needed}: {example}.")
    for name in ("n", "waits", "continuations"):
        if not isinstance(given.get(name, 1), int):
            raise UserError(f"{name} is {given[name]!r}; it must be a whole number.")
    slips.check_data(given["data"])
    return given


def computed(model: str, words: Sequence[str], options: Mapping[str, Any]) -> ComputeReport:
    """The curves of a policy; ``words`` are the settings of ``bf.compute``."""
    from backflip.recipes import slips
    from backflip.recipes.compute import compute

    if "policy" in options:
        raise UserError("--policy is for reward models; --compute measures the model itself.")
    given = _given(words, options, "--compute")
    slips.check_models(model, given.get("process"))
    return compute(model, **given)


def label_steps(
    model: Annotated[str, typer.Argument(help="Who answers: a run, a folder, a hub name.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA KEY=VALUE...",
            help="Questions, then reward=VERIFIER, estimate=soft (or hard, known), "
            "continuations=8, n=2, out=steps.jsonl, separator, max_tokens, temperature, limit, "
            "seed.",
            show_default=False,
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Label the steps of a policy's solutions by how often answers behind them end right."""
    import json

    from backflip.recipes import slips
    from backflip.recipes.label_steps import label_steps as labelled

    given = _given(settings, {}, "label-steps")
    slips.check_models(model)
    found = labelled(model, **given)
    if json_:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    say(f"{found.steps} steps of {found.solutions} solutions to {found.questions} questions")
    say(f"mean label {found.good:.3f}; {found.unjudged} steps without a label")
    if found.noise is not None:
        noise = percent(found.noise, 1)
        say(f"{noise} of labels are on the wrong side, by the questions' own steps")
    notes(found.notes)
    say(f"steps {found.out}")


def print_compute(report: ComputeReport) -> None:
    """Accuracy by method and tokens."""
    from backflip.monitor.text import Estimate, share_ranged

    rows = [
        (p.method, str(p.budget), f"{p.tokens:.0f}", *share_ranged(Estimate.of(p.accuracy)))
        for p in report.points
    ]
    heads = ["method", "#answers, beams or waits", "#tokens a question", "#accuracy"]
    table("", [*heads, "95 % interval"], rows)
    notes(report.notes)
    say(f"picture {report.picture}")
