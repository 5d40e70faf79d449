"""``backflip label-steps``: labels of steps, estimated by what a policy makes of them.

Math-Shepherd (Wang et al., 2024, §3.3): a step is as good as the answers that go on behind it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from backflip.data.steps import SEPARATOR, StepFinder
from backflip.errors import UserError
from backflip.monitor.progress import shown
from backflip.recipes.compute import SHORT, Work
from backflip.recipes.load import load_recipe
from backflip.reward.judge import as_text
from backflip.sampling.guided import continued
from backflip.stages.rewards.context import PYTHON
from backflip.text import counted
from backflip.training.run_folder import write_atomically

__all__ = ["Estimate", "LabelledSteps", "label_steps"]

COLUMNS = ("prompt", "steps", "labels")
Estimate: TypeAlias = Literal["soft", "hard", "known"]
"""Share of continuations that end right; whether any does; or what the questions' own steps say."""


@dataclass(frozen=True)
class LabelledSteps:
    """A file of solutions with labelled steps, and its counts."""

    out: Path
    questions: int
    solutions: int
    steps: int
    good: float
    """Mean label."""
    unjudged: int
    """Steps without a label: they fill ``max_tokens``, so that nothing can follow."""
    noise: float | None
    """Share of labels on the wrong side of 0.5, where the questions name their right steps."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        said = {name: getattr(self, name) for name in ("questions", "solutions", "steps", "good")}
        said |= {"unjudged": self.unjudged, "noise": self.noise}
        return said | {"out": str(self.out), "notes": list(self.notes)}


def label_steps(
    model: str | Path,
    data: str | Path,
    reward: Any,
    *,
    estimate: Estimate = "soft",
    continuations: int = 8,
    n: int = 2,
    out: str | Path = "steps.jsonl",
    **settings: Any,
) -> LabelledSteps:
    r"""Draw ``n`` solutions to each question and label their steps by ``continuations`` of each.

    ``soft``: the share of continuations that end right; ``hard``: 1 where any does (eq. 3 and 4).
    The last step is as good as the answer that it ends. ``known`` draws no continuations: where a
    question has its right ``steps``, as those of ``task:arithmetic``, a step is good where it and
    all before it are these, and the last one where none is missing; the other estimates are then
    compared with that. ``settings``: ``separator`` (\n), and those of ``compute``.

    Raises UserError: a reward without verdicts, an estimate of another name, no model or data.
    """
    if estimate not in get_args(Estimate) or continuations < 1 or n < 1:
        raise UserError(
            f"estimate={estimate}, continuations={continuations}, n={n}: estimate is soft, hard or "
            "known, the others are 1 or more."
        )
    said: list[str] = []
    separator = settings.pop("separator", SEPARATOR)
    with shown(aside=True):
        work = _work(str(model), str(data), reward, settings, said)
        known = _right_steps(work, needed=estimate == "known")
        many = 0 if estimate == "known" else continuations
        made = _labelled(work, StepFinder(work.context.template, separator), n, many)
    rows = [_row(work, one, estimate, known) for one in made]
    if empty := sum(not row["steps"] for row in rows):
        rows = [row for row in rows if row["steps"]]
        said.append(f"{counted(empty, 'solution')} left out: without a step, as nothing was said")
    texts = (json.dumps({k: row[k] for k in COLUMNS}, ensure_ascii=False) for row in rows)
    write_atomically(Path(out), "".join(text + "\n" for text in texts))
    return _counted(rows, Path(out), len(work.prompts), said)


def _right_steps(work: Work, *, needed: bool) -> list[list[str]] | None:
    """The right steps of each question; None where some question does not name them."""
    found = [work.records[int(row)].info.get("steps") for row in work.rows]
    lacking = sum(not isinstance(steps, Sequence) or isinstance(steps, str) for steps in found)
    if lacking and needed:
        raise UserError(
            f"estimate=known needs a column steps with the right ones, as task:arithmetic has it; "
            f"{counted(lacking, 'question')} of {len(found)} have none. Use soft or hard."
        )
    return None if lacking else [[str(step).strip() for step in steps or ()] for steps in found]


def _counted(
    rows: Sequence[dict[str, Any]], out: Path, questions: int, said: Sequence[str]
) -> LabelledSteps:
    labels = [label for row in rows for label in row["labels"]]
    known = [label for label in labels if label is not None]
    wrong = [
        (label > 0.5) is not right
        for row in rows
        for label, right in zip(row["labels"], row["right"], strict=False)
        if label is not None
    ]
    return LabelledSteps(
        out=out,
        questions=questions,
        solutions=len(rows),
        steps=len(labels),
        good=sum(known) / len(known) if known else 0.0,
        unjudged=len(labels) - len(known),
        noise=sum(wrong) / len(wrong) if wrong else None,
        notes=tuple(said),
    )


def _work(model: str, data: str, reward: Any, settings: dict[str, Any], said: list[str]) -> Work:
    given: Any = {"values": "none", "lora": None, "run": "label_steps"}
    given |= {SHORT.get(name, name): value for name, value in settings.items()}
    given |= {"data.source": data, "reward": PYTHON if callable(reward) else reward}
    recipe: Any = load_recipe("grpo", given, model=model)
    if faults := [*recipe.reward.faults("reward")]:
        raise UserError(faults[0])
    return Work.of(recipe, said.append, None, reward if callable(reward) else None)


@dataclass(frozen=True)
class _Estimated:
    """One solution, and what became of the continuations of each of its steps."""

    question: int
    answer: list[int]
    ends: list[int]
    right: list[list[float]]


def _labelled(work: Work, finder: StepFinder, n: int, continuations: int) -> list[_Estimated]:
    sampler = replace(work.sampler, group_size=n)
    drawn = sampler(work.prompts, seed=work.recipe.seed)
    drawn = replace(drawn, row=work.rows[drawn.group])
    whole = work.verdicts(drawn)
    found = list[_Estimated]()
    states = list[tuple[int, int, list[int]]]()
    for row, number in enumerate(drawn.group.tolist()):
        answer = drawn.steps.answer.row(row).tolist()
        ends = finder.ends(answer)
        found.append(_Estimated(number, answer, ends, [[] for _ in ends]))
        found[-1].right[-1].append(whole[row])
        if continuations:
            states += [(row, place, answer[: end + 1]) for place, end in enumerate(ends[:-1])]
    asked = [work.prompts[found[row].question] for row, _, _ in states]
    begun, params = [start for _, _, start in states], work.sampler.params
    more, owners = continued(
        sampler.engine, asked, begun, params, continuations, work.recipe.seed + 1
    )
    if more:
        rollouts = work.rollouts(more, [found[states[at][0]].question for at in owners])
        for at, value in zip(owners, work.verdicts(rollouts), strict=True):
            row, place, _ = states[at]
            found[row].right[place].append(value)
    return found


def _row(
    work: Work, one: _Estimated, estimate: Estimate, known: Sequence[Sequence[str]] | None
) -> dict[str, Any]:
    """A row that ``data.formats`` reads as a solution, and which of its steps are known right."""
    template, starts = work.context.template, [0, *(end + 1 for end in one.ends[:-1])]
    pieces = [one.answer[a : b + 1] for a, b in zip(starts, one.ends, strict=True)]
    steps = [as_text(template, piece) for piece in pieces]
    labels = [_label(values, hard=estimate == "hard") for values in one.right]
    kept = [(s, b) for s, b in zip(steps, labels, strict=True) if s]
    right: list[bool] = []
    if known is not None:
        theirs = known[one.question]
        said = [s.strip() for s, _ in kept]
        right = [said[: n + 1] == theirs[: n + 1] for n in range(len(said) - 1)]
        right.append(said == theirs)
    record = work.records[int(work.rows[one.question])]
    prompt = [{"role": m.role, "content": m.content} for m in record.messages]
    found = [float(r) for r in right] if estimate == "known" else [b for _, b in kept]
    return {"prompt": prompt, "steps": [s for s, _ in kept], "labels": found, "right": right}


def _label(values: Sequence[float], *, hard: bool) -> float | None:
    if not values:
        return None
    return max(values) if hard else sum(values) / len(values)
