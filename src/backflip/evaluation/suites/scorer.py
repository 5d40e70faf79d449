"""Subjects that score answers: reward models, and trained policies by what they imply."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, final

from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.data.chat import ChatTemplate, Turns
from backflip.data.records import BadRecordError, Message, Messages, Tally
from backflip.errors import UserError
from backflip.evaluation.implicit import policy_rewards
from backflip.evaluation.suites.subject import Asking, LanguageModel, Reading, Subject
from backflip.models.load import (
    CLASSIFIER,
    POLICIES,
    architecture,
    load_config,
    load_tokenizer,
)
from backflip.models.save import load_reward_model
from backflip.reward.model import score_all
from backflip.text import counted

__all__ = ["ImpliedScorer", "ModelScorer", "RewardScorer", "Scorer", "heard", "judge_named"]


class Scorer(Subject):
    """Whoever gives every answer a number by itself."""

    @abstractmethod
    def scores(self, pairs: Sequence[tuple[Messages, str]]) -> list[float]:
        """A number for each (conversation, answer), the greater the better; NaN where none is."""

    def answers(self, prompts: Sequence[Messages], *, each: int = 1) -> list[list[str]]:
        """Raises UserError: it writes nothing."""
        del prompts, each
        raise UserError(f"{self.name} scores answers and writes none: give a language model.")

    def readings(self, pairs: Sequence[tuple[Messages | str, str]]) -> list[Reading]:
        """Raises UserError: it has no probabilities of texts."""
        del pairs
        raise UserError(f"{self.name} scores answers, and has no probabilities: give a model.")


class ModelScorer(Scorer):
    """A model of ours that reads conversations as its template writes them."""

    def __init__(self, name: str, asking: Asking | None = None) -> None:
        super().__init__(name)
        self.asking = Asking() if asking is None else asking

    @cached_property
    def template(self) -> ChatTemplate:
        return ChatTemplate(load_tokenizer(self.name), self.asking.template)

    @abstractmethod
    def rewards(self, turns: Sequence[Turns]) -> list[float]:
        """The scores of tokenised answers."""

    def scores(self, pairs: Sequence[tuple[Messages, str]]) -> list[float]:
        """As of any scorer; a conversation that the template does not take is counted in a note."""
        asked = [(prompt, (Message("assistant", text),)) for prompt, text in pairs]
        left, kept, found = Tally(), dict[int, Turns](), [math.nan] * len(pairs)
        for row, made in enumerate(self.template.answers(asked)):
            if isinstance(made, BadRecordError):
                left.add(made.reason, f"answer {row}")
            else:
                kept[row] = made
        for row, score in zip(kept, self.rewards(list(kept.values())) if kept else [], strict=True):
            found[row] = score
        self.notes += [f"not scored: {line}" for line in left.lines()]
        if odd := sum(not math.isfinite(found[row]) for row in kept):
            self.notes.append(f"{counted(odd, 'score')} of {self.name} are not numbers.")
        return found


@final
class RewardScorer(ModelScorer):
    """A reward model."""

    @cached_property
    def model(self) -> Any:
        return load_reward_model(self.name, template=self.template.source)

    def rewards(self, turns: Sequence[Turns]) -> list[float]:
        """Raw scores of the first head."""
        steps = TokenSteps.of([t.prompt for t in turns], [t.answer for t in turns])
        return score_all(self.model, steps, self.asking.token_budget, raw=True)[:, 0].tolist()


@final
class ImpliedScorer(ModelScorer):
    """A policy of the direct family: the rewards that its objective says it has learnt."""

    def __init__(
        self,
        name: str,
        objective: Any,
        reference: str | None,
        masked: Callable[[ComparisonBatch, Sequence[int]], ComparisonBatch],
        asking: Asking | None = None,
    ) -> None:
        """``masked`` leaves out the tokens that the run left out of its losses."""
        super().__init__(name, asking)
        self.objective, self.reference, self.masked = objective, reference, masked

    def rewards(self, turns: Sequence[Turns]) -> list[float]:
        """Implicit rewards, in units of the objective's beta."""
        batch = ComparisonBatch.of(
            [t.prompt for t in turns],
            [[t.answer] for t in turns],
            [[0]] * len(turns),
            masks=[[t.mask] for t in turns],
            wins=[[0.5]] * len(turns),
        )
        found = policy_rewards(
            self.name,
            self.masked(batch, self.template.stop_tokens),
            self.objective,
            reference=self.reference,
            token_budget=self.asking.token_budget,
        )
        return found.tolist()


def judge_named(name: str, asking: Asking) -> Subject:
    """A judge by the name of its model: a reward model scores, a language model is asked."""
    if architecture(load_config(name, of=("reward_model", *POLICIES))).endswith(CLASSIFIER):
        return RewardScorer(name, asking)
    return LanguageModel(name, asking)


def heard(subject: Subject, judge: Subject, said: Sequence[object], way_out: str) -> None:
    """Hand the notes of a judge on to a report, with its name.

    Raises UserError where all that it said is None.
    """
    subject.notes += [f"the judge, {judge.name}: {note}" for note in judge.notes]
    if said and all(one is None for one in said):
        raise UserError(
            f"the judge {judge.name} gave no verdict that can be read, {len(said)} times. {way_out}"
        )
