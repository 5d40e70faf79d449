"""A function of Python as the judge, answer by answer: in this process, or in workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.data.records import Prompt, Tally
from backflip.errors import UserError
from backflip.reward.calls import arguments, call_of, load_function
from backflip.reward.judge import as_text
from backflip.reward.protocol import Judgement
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.pool import Check, Pool

__all__ = ["Apart", "FunctionReward", "TextJudge", "Texts", "judged"]


@dataclass(frozen=True)
class Texts:
    """One answer as text, with the record of its prompt."""

    prompt: str
    answer: str
    record: Prompt | None
    """None where prompts are known as tokens only."""
    where: str
    """The place of the record, for counts of failures."""

    @staticmethod
    def of(rollouts: Rollouts, template: ChatTemplate, records: Sequence[Prompt]) -> list[Texts]:
        """All answers of a batch; ``records`` by ``Rollouts.row``."""
        steps, found = rollouts.steps, list[Texts]()
        for row, prompt, answer in zip(
            rollouts.row.tolist(), steps.prompt.rows(), steps.answer.rows(), strict=True
        ):
            record = records[row] if records else None
            where = f"prompt {row}" if record is None else str(record.where)
            asked, said = (as_text(template, tokens.tolist()) for tokens in (prompt, answer))
            found.append(Texts(asked, said, record, where))
        return found


def judged(verdicts: Sequence[Verdict], texts: Sequence[Texts]) -> Judgement:
    """Scores of verdicts, the share of each outcome as a part, and failures by reason."""
    scores, failures = torch.full((len(verdicts),), math.nan), Tally()
    for place, (verdict, one) in enumerate(zip(verdicts, texts, strict=True)):
        if verdict.score is None:
            failures.add(verdict.reason or verdict.outcome, one.where)
        else:
            scores[place] = verdict.score
    parts = {
        outcome: torch.tensor([float(one.outcome == outcome) for one in verdicts])
        for outcome in sorted({one.outcome for one in verdicts} - {"scored"})
    }
    return Judgement(scores, parts, failures=failures)


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
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    """Scores of verdicts by their outcome, in place of 1 for correct and 0 for the others."""
    apart: Apart | None = None
    """Where else it is called; None calls it in this process, without a time limit."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        texts = Texts.of(rollouts, self.template, self.records)
        calls = [self._call(one) for one in texts]
        verdicts = map(_here, calls) if self.apart is None else self.apart.made(calls)
        scored = [replace(v, score=self.scores.get(v.outcome, v.score)) for v in verdicts]
        return judged(scored, texts)

    def _call(self, texts: Texts) -> Check | Verdict:
        """The call that judges an answer; a verdict where a parameter cannot be given."""
        try:
            args, named = arguments(self.function, texts.prompt, texts.answer, texts.record)
        except UserError as error:
            return Verdict.failed(error)
        return Check(self.function, args, named)


@dataclass(frozen=True)
class Apart:
    """A function in a file that is called in worker processes."""

    address: str
    """FILE.py:NAME."""
    seconds: float
    """Time limit of a call."""
    pool: Pool

    def made(self, calls: Sequence[Check | Verdict]) -> list[Verdict]:
        """The verdicts of calls, each of this function."""
        there = [self._check(call) for call in calls if isinstance(call, Check)]
        verdicts = iter(self.pool.make(there))
        return [next(verdicts) if isinstance(call, Check) else call for call in calls]

    def _check(self, call: Check) -> Check:
        before, given = ((load_function, self.address),), (self.address, call.args, call.named)
        return Check(call_of, given, seconds=self.seconds, before=before)


def _here(call: Check | Verdict) -> Verdict:
    return call if isinstance(call, Verdict) else call.here()


@dataclass(frozen=True, kw_only=True)
class TextJudge:
    """Scores answers by ``check(prompt, answer)``: a number, or True and False for 1 and 0.

    Both are text without control tokens; the prompt is all that stands before the answer, with the
    names of the roles where the template spells them. What ``check`` raises is the caller's: rounds
    leave such an answer without a score, and count it.
    """

    check: Callable[[str, str], float | bool]
    template: ChatTemplate
    """That of the policy whose tokens are judged."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        texts = Texts.of(rollouts, self.template, ())
        return Judgement(torch.tensor([float(self.check(t.prompt, t.answer)) for t in texts]))
