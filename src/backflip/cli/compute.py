"""``backflip evaluate MODEL DATA --compute``: what more tokens buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from backflip.cli.console import notes, say, table
from backflip.errors import UserError

if TYPE_CHECKING:
    from backflip.recipes.compute import ComputeReport


def computed(model: str, words: Sequence[str], options: Mapping[str, Any]) -> ComputeReport:
    """The curves of a policy; ``words`` are the settings of ``bf.compute``."""
    from backflip.recipes import slips
    from backflip.recipes.compute import compute
    from backflip.recipes.names import pairs

    if "policy" in options:
        raise UserError("--policy is for reward models; --compute measures the model itself.")
    first = bool(words) and "=" not in words[0]
    given: dict[str, Any] = ({"data": words[0]} if first else {}) | pairs(
        words[1:] if first else words
    )
    given = {f"data.{k}" if k.startswith("columns.") else k: v for k, v in given.items()}
    given |= dict(options)
    for needed, example in (("data", "data=gsm8k.jsonl"), ("reward", "reward=mathematics")):
        if needed not in given:
            raise UserError(f"--compute needs {needed}: {example}.")
    for name in ("n", "waits"):
        if not isinstance(given.get(name, 1), int):
            raise UserError(f"{name} is {given[name]!r}; it must be a whole number.")
    slips.check_models(model, given.get("process"))
    slips.check_data(given["data"])
    return compute(model, **given)


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
