"""Subjects of suites: a language model, answers that somebody gave elsewhere, or those in the data.

A model is loaded when it is first asked, so that a suite that fails early, or asks nobody, costs
nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from backflip.data.batches import TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.records import BadRecordError, Message, Messages
from backflip.distributed.reading import evaluate_all
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import suited
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal, load_tokenizer
from backflip.text import counted

__all__ = ["AnswersGiven", "Asking", "LanguageModel", "OnRecord", "Reading", "Subject", "asked"]


@dataclass(frozen=True)
class Reading:
    """The probability of a text that was given, behind its context."""

    logp: float
    """log P(text | context), in nats."""
    tokens: int
    """Tokens that it is the sum of."""


@dataclass(frozen=True)
class Asking:
    """Settings of how a model is asked."""

    template: str | None = None
    """Chat template: None is the model's own; chatml, hh, plain, a file, or Jinja."""
    system: str = ""
    """System message before every question; empty: none."""
    max_tokens: int = 256
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """Of sampling; 0 takes the most likely token."""
    seed: int = 0
    """Of sampling."""
    token_budget: int = 4096
    """Tokens that are read at once."""


class Subject(ABC):
    """Whoever is asked: gives answers, and says how likely given answers are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []
        """Sentences on what could not be asked or was left out."""

    @abstractmethod
    def answers(self, prompts: Sequence[Messages], *, each: int = 1) -> list[list[str]]:
        """``each`` answers to every prompt, at most; none where there are none."""

    @abstractmethod
    def readings(self, pairs: Sequence[tuple[Messages | str, str]]) -> list[Reading]:
        """How likely each text is behind its context: a conversation, or plain text as it is.

        Raises UserError for a subject that has no probabilities.
        """

    def leave_out(self, count: int, which: str) -> None:
        """Say how many rows or questions are left out, where some are; ``which`` they are."""
        if count:
            self.notes.append(f"left out: {count} {which}.")

    def label(self, prompt: str) -> str | None:
        """What people said of the answer to a one-turn prompt; None where nobody did."""
        del prompt
        return None


class LanguageModel(Subject):
    """A model of a run, a folder or the hub."""

    def __init__(self, name: str, asking: Asking | None = None) -> None:
        super().__init__(name)
        self.asking = Asking() if asking is None else asking

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.name)

    @cached_property
    def template(self) -> ChatTemplate:
        return ChatTemplate(self.tokenizer, self.asking.template)

    @cached_property
    def policy(self) -> CausalPolicy:
        return CausalPolicy(load_causal(self.name).eval())

    def answers(self, prompts: Sequence[Messages], *, each: int = 1) -> list[list[str]]:
        """Greedy answers, or sampled ones with ``temperature`` above 0.

        Raises UserError where several greedy answers are wanted: they would be the same.
        """
        how, model = self.asking, self.policy.model
        if each > 1 and how.temperature == 0:
            raise UserError(
                f"{each} answers to each prompt are wanted, and temperature is 0: all would be the "
                "same. Set temperature=1."
            )
        given = SamplingParams(max_tokens=how.max_tokens, temperature=how.temperature)
        params = suited(given, self.template, model)
        tokens = [self._prompt(prompt) for prompt in prompts]
        self._long([len(prompt) + how.max_tokens for prompt in tokens])
        engine = TorchEngine(model, decode=self.tokenizer.decode)
        drawn = engine.generate(tokens, params, group=each, seed=how.seed)
        found: list[list[str]] = [[] for _ in prompts]
        cut = 0
        for answer in drawn:
            cut += answer.finish_reason == "length"
            kept = [token for token in answer.tokens if token not in params.stop_tokens]
            found[answer.prompt_index].append(self.tokenizer.decode(kept).strip())
        if cut:
            self.notes.append(
                f"{cut} of {counted(len(drawn), 'answer')} were cut off at max_tokens="
                f"{how.max_tokens}, and are judged as far as they go."
            )
        return found

    def readings(self, pairs: Sequence[tuple[Messages | str, str]]) -> list[Reading]:
        both = [self._both(context, text) for context, text in pairs]
        self._long([len(prompt) + len(answer) for prompt, answer in both])
        steps = TokenSteps.of([prompt for prompt, _ in both], [answer for _, answer in both])
        with torch.no_grad():
            logp = evaluate_all(self.policy, steps, {"logp"}, self.asking.token_budget)["logp"]
        sums = logp.double().sum(-1).tolist()
        return [Reading(x, len(text)) for x, (_, text) in zip(sums, both, strict=True)]

    def _long(self, lengths: Sequence[int]) -> None:
        """Say how many rows may go beyond the positions that the model was made for."""
        most = getattr(self.policy.model.config.get_text_config(), "max_position_embeddings", None)
        if most and (many := sum(length > most for length in lengths)):
            self.notes.append(
                f"{many} of {counted(len(lengths), 'row')} may be longer than the {most} tokens "
                "that the model was made for: what it says there means little."
            )

    def _prompt(self, prompt: Messages) -> list[int]:
        system = (Message("system", self.asking.system),) if self.asking.system else ()
        try:
            return self.template.prompt([*system, *prompt])
        except BadRecordError as error:
            raise UserError(f"{self.name}: {error}") from error

    def _both(self, context: Messages | str, text: str) -> tuple[list[int], list[int]]:
        """Tokens of the context and of what follows it.

        Plain text is tokenised as a whole, with the special tokens that its tokenizer adds, and cut
        where the context ends; white space at its end counts to what follows. So does
        lm-evaluation-harness.
        """
        if not isinstance(context, str):
            return self._prompt(context), self.template.encode([text])[0]
        bare = context.rstrip()
        before, whole = self.tokenizer([bare, context + text], verbose=False)["input_ids"]
        return list(before), list(whole[len(before) :])


class AnswersGiven(Subject):
    """Answers that are on record: a file's, of a model that nobody here can load."""

    def __init__(
        self,
        name: str,
        given: Mapping[str, Sequence[str]],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """``given``: answers by the text of their prompt; ``labels``: people's words on them."""
        super().__init__(name)
        self.given = {_plain(prompt): list(answers) for prompt, answers in given.items()}
        self.labels = {_plain(prompt): label for prompt, label in (labels or {}).items()}

    def answers(self, prompts: Sequence[Messages], *, each: int = 1) -> list[list[str]]:
        """The answers on record. Raises UserError where there is none to any prompt."""
        found = [self.given.get(_plain(_text(prompt)), [])[:each] for prompt in prompts]
        missing = sum(not answers for answers in found)
        if missing == len(found):
            raise UserError(
                f"{self.name} has no answer to any of {counted(len(found), 'prompt')}, such as "
                f"{_text(prompts[0])[:60]!r}. Its column prompt must hold the questions as they "
                "stand in the data."
            )
        if missing:
            self.notes.append(f"{counted(missing, 'prompt has', 'prompts have')} no answer here.")
        if short := sum(0 < len(answers) < each for answers in found):
            few = counted(short, "prompt has", "prompts have")
            self.notes.append(f"{few} fewer than the {each} answers that are wanted.")
        return found

    def readings(self, pairs: Sequence[tuple[Messages | str, str]]) -> list[Reading]:
        del pairs
        raise UserError(
            f"{self.name} holds answers, and this suite reads the probabilities of given ones: "
            "give a model."
        )

    def label(self, prompt: str) -> str | None:
        return self.labels.get(_plain(prompt))


class OnRecord(Subject):
    """Nobody: the data hold all that is measured."""

    def answers(self, prompts: Sequence[Messages], *, each: int = 1) -> list[list[str]]:
        """Raises UserError: there is nobody to ask."""
        del prompts, each
        raise UserError(
            f"{self.name} does not hold what this suite measures, and names no model to ask. Give "
            f"the model first, and data={self.name}."
        )

    def readings(self, pairs: Sequence[tuple[Messages | str, str]]) -> list[Reading]:
        """Raises UserError, as ``answers``."""
        self.answers([])
        raise AssertionError(pairs)


def asked(text: str) -> Messages:
    """A conversation of one question."""
    return (Message("user", text),)


def _text(prompt: Messages) -> str:
    """A one-turn prompt as it stands in a file; of several turns, all of them."""
    return "\n\n".join(message.content for message in prompt)


def _plain(text: str) -> str:
    return " ".join(text.split())
