"""People as the judge of rounds: what the policy said becomes items, what they say of it scores.

A round asks and then stops: the run waits for labels. Resumed, it goes on where it stopped as soon
as all of them are there. Held-out answers are measured by people too: in projects that compare or
rank, each against the start's answer to the same prompt, whose score is 0.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from backflip.data.batches import Rollouts
from backflip.data.records import Messages
from backflip.distributed.world import here
from backflip.errors import UserError, WaitingForLabels
from backflip.reward.protocol import Judgement
from backflip.stages.sources import PREFIX, Address, store_for
from backflip.text import counted
from backflip.training.checkpoints import resume_command

if TYPE_CHECKING:
    from backflip.feedback.labellers.people import Group, Labeller

__all__ = ["People", "asks_people", "labeller", "stands_at_zero"]

NOTHING = "(nothing)"
"""Text shown for an answer without words."""


def asks_people(judge: str | None) -> bool:
    """Whether a judge's name is a project."""
    return judge is not None and judge.startswith(PREFIX)


@contextmanager
def labeller(judge: str) -> Iterator[Labeller]:
    """The raters of a project. Raises UserError where nobody there can judge answers."""
    address = Address.of(judge)
    if address is None or address.part or address.event is not None:
        raise UserError(
            f"judge={judge}: a round asks for new labels. Name the project alone: feedback:NAME."
        )
    from backflip.feedback.labellers.people import Labeller

    with store_for(judge) as store:
        yield Labeller(store.project(address.project))


def stands_at_zero(rollouts: Rollouts) -> Judgement:
    """The start, against which people compare all others."""
    return Judgement(torch.zeros(len(rollouts)))


@dataclass
class People:
    """People as judges of the answers in one folder of a round."""

    judge: str
    """feedback:PROJECT."""
    prompts: Sequence[Messages]
    """By the number that answers have in ``group``."""
    text: Callable[[list[int]], str]
    """Tokens of an answer as people read them."""
    batch: str
    """Name of the items' batch in the project."""
    run: Path
    against: Rollouts | None = None
    """Answers that stand at 0; none: answers to a prompt are told apart from each other."""
    known: dict[tuple[int, str], float] = field(default_factory=dict)
    """Scores by prompt and text, once all are there."""
    alike: float = math.nan
    """Score of an answer that nobody was asked about, being like all that it is told apart from."""

    def wait(self, rollouts: Rollouts) -> str:
        """Ask what has not been asked, and read the scores; returns what was learnt, in words.

        Raises WaitingForLabels where people have not said everything yet.
        """
        return here().once(lambda: self._wait(rollouts))

    def _wait(self, rollouts: Rollouts) -> str:
        with labeller(self.judge) as raters:
            numbers, groups = self._groups(rollouts, least=2 if raters.relative else 1)
            self.alike = 0.0 if raters.relative else math.nan
            added = raters.ask(groups, batch=self.batch)
            standing = raters.standing(groups)
            if not standing.done:
                raise WaitingForLabels(self._waiting(standing.in_words(), added))
            until = raters.project.newest_event()
            for number, group, scores in zip(
                numbers, groups, raters.scores(groups, until=until), strict=True
            ):
                for text, score in zip(group.answers, scores, strict=True):
                    self.known[number, text] = score
        return f"judged by people: {counted(standing.items, 'item')} of {self.judge}@{until}"

    def __call__(self, rollouts: Rollouts) -> Judgement:
        """A score for each answer; ``wait`` has read them."""
        texts = self._texts(rollouts)
        scores = here().once(lambda: [self._score(number, text) for number, text in texts])
        return Judgement(torch.tensor(scores, dtype=torch.float32))

    def _score(self, number: int, text: str) -> float:
        return self.known.get((number, text), self.alike)

    def _texts(self, rollouts: Rollouts) -> list[tuple[int, str]]:
        steps: Any = rollouts.steps
        answers = [self.text(row.tolist()).strip() or NOTHING for row in steps.answer.rows()]
        return list(zip(rollouts.group.tolist(), answers, strict=True))

    def _groups(self, rollouts: Rollouts, *, least: int) -> tuple[list[int], list[Group]]:
        """(numbers, what is asked about each) of the prompts with ``least`` different answers."""
        from backflip.feedback.labellers.people import Group

        by_prompt: dict[int, dict[str, None]] = {}
        if self.against is not None:
            for number, text in self._texts(self.against):
                by_prompt.setdefault(number, {})[text] = None
        start = {number: set(texts) for number, texts in by_prompt.items()}
        for number, text in self._texts(rollouts):
            by_prompt.setdefault(number, {})[text] = None
        numbers, groups = list[int](), list[Group]()
        for number, texts in sorted(by_prompt.items()):
            if len(texts) < least:
                continue
            sources = tuple("start" if t in start.get(number, ()) else self.batch for t in texts)
            numbers.append(number)
            groups.append(Group(self.prompts[number], tuple(texts), sources))
        return numbers, groups

    def _waiting(self, what: str, added: int) -> str:
        name = self.judge.removeprefix(PREFIX)
        new = f"{added} new items were asked. " if added else ""
        return (
            f"waiting for labels: {what} in project {name!r} for {self.batch}. {new}Answer them: "
            f"backflip collect {shlex.quote(name)}. Then go on: {resume_command(self.run)}"
        )
