"""A function of Python as the judge: it is handed what its parameters ask for, answer by answer."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.data.records import Prompt, Tally
from backflip.errors import UserError
from backflip.reward.judge import as_text
from backflip.reward.protocol import Judgement
from backflip.reward.verifier import Verdict

__all__ = ["FunctionReward", "load_function"]

GIVEN = ("prompt", "answer", "reference", "messages", "info")
"""Parameters of a reward function that are not columns of the data."""


@dataclass(frozen=True, kw_only=True)
class FunctionReward:
    """Scores answers by ``function``, which is called once for each.

    Its parameters say what it is handed: ``answer`` and ``prompt`` (text without control tokens),
    ``reference`` (the reference answer of the data), ``messages`` (the conversation), ``info``
    (all further columns), or a column by its name. It returns a number, True or False, or a
    ``Verdict``; None where it cannot say. An answer on which it fails has no score, is counted by
    reason, and teaches nothing.
    """

    function: Callable[..., Any]
    template: ChatTemplate
    """That of the policy whose tokens are judged."""
    records: Sequence[Prompt] = ()
    """By ``Rollouts.row``; empty where prompts are known as tokens only."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        steps, rows = rollouts.steps, rollouts.row.tolist()
        failures, outcomes = Tally(), list[str]()
        scores = torch.full((len(rollouts),), math.nan)
        for place, (prompt, answer) in enumerate(
            zip(steps.prompt.rows(), steps.answer.rows(), strict=True)
        ):
            record = self.records[rows[place]] if self.records else None
            verdict = self._judged(self._text(prompt), self._text(answer), record)
            outcomes.append(verdict.outcome)
            if verdict.score is None:
                where = record.where if record is not None else f"prompt {rows[place]}"
                failures.add(verdict.reason or verdict.outcome, where)
            else:
                scores[place] = verdict.score
        parts = {
            outcome: torch.tensor([float(one == outcome) for one in outcomes])
            for outcome in sorted(set(outcomes) - {"scored"})
        }
        return Judgement(scores, parts, failures=failures)

    def _text(self, tokens: torch.Tensor) -> str:
        return as_text(self.template, tokens.tolist())

    def _judged(self, prompt: str, answer: str, record: Prompt | None) -> Verdict:
        args, named = arguments(self.function, prompt, answer, record)
        try:
            said = self.function(*args, **named)
        except Exception as error:  # one answer's, not the run's
            return Verdict("error", reason=f"{type(error).__name__}: {error}"[:200])
        return Verdict.of(said)


def arguments(
    function: Callable[..., Any], prompt: str, answer: str, record: Prompt | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a reward function is called with. Raises UserError for a parameter nobody knows."""
    info: Mapping[str, Any] = record.info if record is not None else {}
    known = {"prompt": prompt, "answer": answer, "info": info}
    if record is not None:
        known |= {"reference": record.reference, "messages": record.messages}
    known = {**info, **known}
    parameters = inspect.signature(function).parameters.values()
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in plain if p.default is p.empty]
    if needed and all(p.name not in known for p in needed) and len(needed) <= 2:
        return ((answer,) if len(needed) == 1 else (prompt, answer)), {}
    others = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    for parameter in (*needed, *others):
        if parameter.name not in known:
            columns = ", ".join(info) or "none"
            raise UserError(
                f"the reward function asks for {parameter.name!r}, which nobody can give it. It "
                f"may ask for {', '.join(GIVEN)}, or a column of the data (there are: {columns})."
            )
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return (), known
    names = {p.name for p in parameters}
    return (), {name: value for name, value in known.items() if name in names}


def load_function(address: str) -> Callable[..., Any]:
    """The function ``FILE.py:NAME``. Raises UserError where there is none."""
    file, colon, name = address.rpartition(":")
    path = Path(file).expanduser()
    if not colon or path.suffix != ".py":
        raise UserError(f"{address!r} is no function. Write FILE.py:NAME: my_rewards.py:brevity.")
    if not path.is_file():
        raise UserError(f"{address}: there is no file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        there = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        raise UserError(f"{path} has no function {name!r}; it has: {', '.join(there) or 'none'}.")
    return cast("Callable[..., Any]", found)
