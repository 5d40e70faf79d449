"""The base of verifiers: a frozen dataclass whose fields are its settings, and one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from backflip.reward.verifier import Verdict

if TYPE_CHECKING:
    from backflip.data.records import Prompt
    from backflip.reward.verifiers.source import VerifierReward

__all__ = ["Verifier"]


@dataclass(frozen=True, kw_only=True)
class Verifier(ABC):
    """A program that says whether an answer is right.

    A subclass is final, alone in its file, and known to recipes by the file's name. Its fields are
    settings, with a docstring each; ``check`` depends on them and its arguments alone. It is sent
    to a worker by pickle: packages that take long to import are imported inside of ``check``.
    """

    needs_reference: ClassVar[bool] = True
    """Whether a question without a reference answer cannot be checked."""
    needs_columns: ClassVar[tuple[str, ...]] = ()
    """Further columns (``Prompt.info``) without which a question cannot be checked."""
    packages: ClassVar[Mapping[str, str]] = {}
    """Modules beyond the package's own, each with the command of pip that brings it."""
    linear: ClassVar[bool] = False
    """Whether a check is string operations whose time grows as the answer's length, so that no
    process has to be killed: it is made where it is asked for."""
    decides: ClassVar[bool] = True
    """Whether an answer that is right in part alone is known not to be right."""
    uses_policy: ClassVar[bool] = False
    """Whether it asks the policy itself; see ``stages/rewards``."""

    correct: float = 1.0
    """Score of an answer that is right; s of it right: incorrect + s·(correct − incorrect)."""
    incorrect: float = 0.0
    """Score of an answer that is wrong."""
    unparsable: float = 0.0
    """Score of an answer that holds nothing to check."""
    seconds: float = 10.0
    """Time limit of one check, beyond which its worker is killed and the outcome is timeout."""
    workers: int = 2
    """Worker processes that check answers side by side."""
    memory: float = 2.0
    """Largest address space of a worker, in gigabytes."""
    after: str = ""
    """Text behind whose last place the answer begins, such as </think>; empty checks all of it."""
    within: str = ""
    """Tag whose last content is checked: answer for <answer>…</answer>; empty checks all."""

    def verdict(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        """The verdict on the part of an answer that is to be checked."""
        part = self.part(answer)
        if part is None:
            where = f"in <{self.within}>" if self.within else f"behind {self.after}"
            return Verdict("unparsable", reason=f"nothing stands {where}")
        return self.check(part, reference, prompt, info)

    def part(self, answer: str) -> str | None:
        """The part of an answer that ``after`` and ``within`` name; None where it is not there."""
        if self.after:
            _, found, answer = answer.rpartition(self.after)
            if not found:
                return None
        if not self.within:
            return answer
        _, found, inside = answer.rpartition(f"<{self.within}>")
        answer, closed, _ = inside.partition(f"</{self.within}>")
        return answer if found and closed else None

    @abstractmethod
    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        """The verdict on one answer, whose text has no control tokens.

        Args:
            answer: the model's text.
            reference: the reference answer of the data; empty where the row has none.
            prompt: all that stands before the answer, as text.
            info: further columns of the row.

        ``Verdict.share(share)`` is a share of being right, from 0 to 1, of which 1 is correct and 0
        incorrect. Whatever it raises is the outcome ``error``: the answer has no score.

        """

    def final(self, answer: str) -> str | None:
        """The final answer in an answer, by which votes are counted; None where it has none."""
        return " ".join((self.part(answer) or "").split()) or None

    def lacks(self, record: Prompt) -> str:
        """The reason why answers to a question cannot be checked; empty where they can."""
        if self.needs_reference and not record.reference.strip():
            return "no reference answer"
        absent = [name for name in self.needs_columns if record.info.get(name) is None]
        return f"no column {absent[0]!r}" if absent else ""

    def remarks(self, records: Sequence[Prompt]) -> Iterator[str]:
        """Sentences on prompts that can be judged in part only, said before any answer is drawn."""
        del records
        return iter(())

    def score(self, verdict: Verdict) -> float | None:
        """The score of a verdict by these settings.

        A share that is not its outcome's own (1 of correct, 0 of the others) is what is paid. None
        for error, and for timeout unless the verdict has a share: then it was the answer that took
        too long, not its check.
        """
        scores = {"correct": self.correct, "incorrect": self.incorrect}
        scores |= {"unparsable": self.unparsable}
        share, outcome = verdict.score, verdict.outcome
        own = float(outcome == "correct") if outcome in scores else None
        if outcome == "error" or share is None or share == own:
            return scores.get(outcome)
        return self.incorrect + share * (self.correct - self.incorrect)

    # ---- as a source of reward in a recipe

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest score that an answer can have; None where it is not known."""
        scores = (self.correct, self.incorrect, self.unparsable)
        return min(scores), max(scores)

    def scorers(self) -> list[str]:
        """Reward models that it loads: none."""
        return []

    def faults(self, where: str) -> Iterator[str]:
        """Sentences on settings that cannot be; ``where`` is the setting's name."""
        if self.incorrect > self.correct:
            yield (
                f"{where}.incorrect is {self.incorrect:g} and {where}.correct {self.correct:g}: "
                "wrong answers would be paid for. Exchange them."
            )
        for name in ("seconds", "workers", "memory"):
            if not getattr(self, name) > 0:
                yield f"{where}.{name} is {getattr(self, name):g}; it must be above 0."
        for package, command in self.packages.items():
            if find_spec(package) is None:
                yield f"{where} needs the package {package}, which is not installed: {command}"

    def build(self, given: Any) -> VerifierReward:
        """The source of reward for the policy's template and records in ``given``."""
        from backflip.reward.verifiers.source import VerifierReward

        for remark in self.remarks(given.records):
            given.context.say(remark)
        return VerifierReward(verifier=self, template=given.context.template, records=given.records)
