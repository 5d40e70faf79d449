"""Answers to questions of reasoning-gym, scored by the task that made the question."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from backflip.data.gym import INSTALL, NO_OWN_ANSWER, GymTask
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier
from backflip.text import counted

if TYPE_CHECKING:
    from backflip.data.records import Prompt

NONSENSE = "(no answer)"
FLOOR = 0.05
"""The most that tasks give to an answer for being one (0.01, 0.05)."""
EVALUATED = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")
"""Tasks that hand the answer to Python's eval, as it may be a list."""
FORMULAS = (
    *("countdown", "puzzle24", "polynomial_multiplication", "simple_integration"),
    "intermediate_integration",
)
"""Tasks that hand it to sympy's parser, which evaluates it too."""
_NAMES = frozenset(
    """sin cos tan sec csc cot asin acos atan sinh cosh tanh exp log ln sqrt abs erf pi
    integral""".split()  # noqa: SIM905
)


@dataclass(frozen=True, kw_only=True)
class ReasoningGym(Verifier):
    """The task calls the answer right, with its full score; for data=gym:NAME.

    Tasks give a little to any answer, and some call nonsense right (game_of_life_halting): there
    the answer has to be the task's own. Some evaluate the answer as Python: there anything but a
    list without calls, or a formula of known functions, is unparsable.
    """

    needs_reference: ClassVar[bool] = False
    needs_columns: ClassVar[tuple[str, ...]] = ("gym", "gym_entry")
    packages: ClassVar[Mapping[str, str]] = {"reasoning_gym": INSTALL}

    tag: str | None = "answer"
    """The answer stands in the last <answer>…</answer>; null reads the whole text."""
    tagged: bool = False
    """Whether an answer without the tag is unparsable; otherwise its whole text is read."""
    partial: bool = False
    """Score what the task gives to answers that are partly right, above what it gives to any."""
    seconds: float = 30.0
    """Time limit of one check; the first of a worker imports reasoning-gym."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference, prompt
        said, entry = self._said(answer), info["gym_entry"]
        if not said or not _harmless(entry["metadata"].get("source_dataset"), said):
            return Verdict("unparsable")
        score, any_score = (_score(info["gym"], entry, text) for text in (said, NONSENSE))
        if score is None:
            return Verdict("unparsable")
        floor = max(FLOOR, any_score or 0.0)
        if floor >= 1:
            same = said.casefold() == str(entry["answer"]).strip().casefold()
            return Verdict("correct" if same else "incorrect")
        share = max(0.0, (score - floor) / (1 - floor))
        if share >= 1:
            return Verdict("correct")
        return Verdict.share(share) if self.partial else Verdict("incorrect")

    def _said(self, answer: str) -> str:
        if self.tag is None:
            return answer.strip()
        tag = re.escape(self.tag)
        found = re.findall(rf"<{tag}>((?:(?!<{tag}>).)*?)</{tag}>", answer, re.DOTALL)
        return found[-1].strip() if found else "" if self.tagged else answer.strip()

    def final(self, answer: str) -> str | None:
        return self._said(answer) or None

    def remarks(self, records: Sequence[Prompt]) -> Iterator[str]:
        held = [record.info["gym_entry"]["metadata"].get("source_dataset") for record in records]
        for task in NO_OWN_ANSWER:
            if count := held.count(task):
                yield (
                    f"{counted(count, 'question')} of {task} have no own answer of the task's that "
                    "it would call right: answers are scored, and there is no reference"
                )


def _harmless(task: str, answer: str) -> bool:
    """Whether an answer can be evaluated: a list without calls, or a formula of known functions."""
    if task in EVALUATED:
        return not re.search(r"\(|__", answer)
    if task not in FORMULAS:
        return True
    names = re.findall(r"[^\W\d_]{2,}", answer)
    plain = answer.isascii() and not re.search(r"[^\w\s+*/^().,=-]|_|\.\s*[A-Za-z]", answer)
    return plain and all(name.lower() in _NAMES for name in names)


@lru_cache(maxsize=16)
def _dataset(source: str) -> Any:
    return GymTask.of(source).dataset()


def _score(source: str, entry: Mapping[str, Any], answer: str) -> float | None:
    """The task's score of an answer; None where the task fails at reading it."""
    try:
        return float(_dataset(source).score_answer(answer, entry))
    except MemoryError:
        raise
    except Exception:  # whatever a task's own parser raises
        return None
