"""Records: messages, prompts, demonstrations, comparisons, labels of answers and of steps.

Every record says where it came from, and refuses to exist when it cannot be learnt from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from backflip.errors import UserError
from backflip.text import counted

ROLES = ("system", "user", "assistant", "tool")


class BadRecordError(UserError):
    """A row that cannot be used: dropped and counted under ``reason`` by whoever reads it."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(f"{reason}: {advice}" if advice else reason)
        self.reason = reason
        self.advice = advice


@dataclass(frozen=True)
class Provenance:
    """Where a record was read: a file (or hub name) and the line or row in it, from 1."""

    source: str = "memory"
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


NOWHERE = Provenance()


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str
    """Text; blank only beside a call of a tool, or where a tool returned nothing."""
    learnt: bool = field(default=True, compare=False)
    """False for a turn of the assistant that is read but not imitated (``weight: 0``)."""
    extra: str = ""
    """Further fields as a JSON object in order of their names: ``tool_calls``, ``tool_call_id``,
    ``name``, ``reasoning``."""
    tools: str = ""
    """On a conversation's first message, the tools that it may call: a JSON list."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise BadRecordError(
                f"unknown role {self.role!r}", f"use one of {', '.join(ROLES)} for each message"
            )
        if not self.content.strip() and self.role != "tool" and '"tool_calls"' not in self.extra:
            reason = "empty answer" if self.role == "assistant" else f"empty {self.role} message"
            raise BadRecordError(reason, "remove the row, or write the missing text")

    @property
    def fields(self) -> dict[str, Any]:
        """``extra`` as a mapping."""
        return json.loads(self.extra) if self.extra else {}


Messages: TypeAlias = tuple[Message, ...]


def _check_prompt(messages: Messages) -> None:
    if not messages:
        raise BadRecordError("empty prompt", "a prompt needs at least one message of the user")
    if messages[-1].role not in ("user", "tool"):
        raise BadRecordError(
            f"prompt ends with the {messages[-1].role}",
            "the last message of a prompt must be the user's, for the assistant to answer",
        )


def _check_answer(messages: Messages) -> None:
    if not messages:
        raise BadRecordError("empty answer", "remove the row, or write the missing text")
    if messages[-1].role != "assistant":
        raise BadRecordError(
            f"conversation ends with the {messages[-1].role}",
            "the last message must be the assistant's: add its reply or remove the last turn",
        )


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for the assistant, with what its judges need."""

    messages: Messages
    where: Provenance = field(default=NOWHERE, compare=False)

    reference: str = field(default="", compare=False)
    """The reference answer, by which a verifier judges; empty where there is none."""
    info: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)
    """Further columns of the row, by their names."""

    def __post_init__(self) -> None:
        _check_prompt(self.messages)


@dataclass(frozen=True)
class Demonstration:
    """A conversation to imitate. A single assistant message without a prompt is plain text."""

    messages: Messages
    weight: float = 1.0
    """How much it counts; above 0."""
    score: float | None = field(default=None, compare=False)
    """The mark that somebody gave the answer, by which it is compared with others to its prompt."""
    where: Provenance = field(default=NOWHERE, compare=False)

    def __post_init__(self) -> None:
        _check_answer(self.messages)
        _check_number("weight", self.weight, low=0.0, open_low=True)

    @property
    def prompt(self) -> Messages:
        """Messages before the assistant's first one; empty for plain text."""
        roles = [message.role for message in self.messages]
        return self.messages[: roles.index("assistant")]


@dataclass(frozen=True)
class Comparison:
    """A prompt with K ≥ 2 answers that somebody put in order."""

    prompt: Messages
    answers: tuple[Messages, ...]
    """Usually one assistant message each; later turns of the user may stand between."""
    rank: tuple[int, ...]
    """One per answer: 0 is best, equal ranks are ties."""
    margin: float = 0.0
    """Score difference that the label calls for (Llama 2's m(r)), at least 0."""
    soft: float = 1.0
    """For pairs, P(the better-ranked answer is better); 1 is a hard label."""
    weight: float = 1.0
    """How much the prompt counts; above 0."""
    win: tuple[float, ...] = ()
    """Per answer, P(it beats an answer of the policy); empty where nobody has estimated it."""
    where: Provenance = field(default=NOWHERE, compare=False)
    info: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)
    """Further columns of a row of comparisons, such as who judged it, by their names."""

    def __post_init__(self) -> None:
        _check_prompt(self.prompt)
        if len(self.answers) < 2:
            raise BadRecordError("fewer than two answers", "a comparison needs at least two")
        for answer in self.answers:
            _check_answer(answer)
            if answer[0].role != "assistant":
                raise BadRecordError(
                    f"answer begins with the {answer[0].role}", "it must begin with the assistant"
                )
        if len(self.rank) != len(self.answers):
            raise BadRecordError(
                "ranks and answers differ in number",
                f"{counted(len(self.rank), 'rank')} for {counted(len(self.answers), 'answer')}; "
                "give one rank per answer",
            )
        if min(self.rank) != 0:
            raise BadRecordError("ranks do not start with 0", "0 is the best answer")
        if self.win and len(self.win) != len(self.answers):
            raise BadRecordError(
                "win probabilities and answers differ in number",
                f"{len(self.win)} for {len(self.answers)} answers; give one per answer, or none",
            )
        for chance in self.win:
            _check_number("win probability", chance, low=0.0, high=1.0)
        _check_number("margin", self.margin, low=0.0)
        _check_number("soft label", self.soft, low=0.0, high=1.0)
        _check_number("weight", self.weight, low=0.0, open_low=True)

    @property
    def best(self) -> Messages:
        """The first of the answers that share rank 0."""
        return self.answers[self.rank.index(0)]

    @property
    def tied(self) -> bool:
        """True where nobody could tell any of the answers apart."""
        return len(set(self.rank)) == 1


@dataclass(frozen=True)
class Labelled:
    """A prompt with one answer that somebody called good or bad: a thumb up or down."""

    prompt: Messages
    answer: Messages
    label: bool
    """True for good."""
    weight: float = 1.0
    """How much it counts; above 0."""
    where: Provenance = field(default=NOWHERE, compare=False)

    def __post_init__(self) -> None:
        _check_prompt(self.prompt)
        _check_answer(self.answer)
        _check_number("weight", self.weight, low=0.0, open_low=True)


StepLabel: TypeAlias = tuple[float, float, float]
"""P(bad), P(neutral), P(good) of one step, adding up to 1."""
BAD: StepLabel = (1.0, 0.0, 0.0)
NEUTRAL: StepLabel = (0.0, 1.0, 0.0)
GOOD: StepLabel = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Alternative:
    """Another candidate for step ``place`` of a solution, behind the same steps before it."""

    place: int
    text: str
    label: StepLabel


@dataclass(frozen=True)
class Solution:
    """A prompt with a solution in steps, of which some or all are labelled."""

    prompt: Messages
    steps: tuple[str, ...]
    labels: tuple[StepLabel | None, ...]
    """One for each step; None where nobody has judged it, as behind a first error."""
    finished: bool = True
    """Whether the last step ends the answer; False where labelling stopped before the end."""
    alternatives: tuple[Alternative, ...] = ()
    """Labelled candidates that the solution did not go on with (PRM800K)."""
    weight: float = 1.0
    """How much it counts; above 0."""
    where: Provenance = field(default=NOWHERE, compare=False)

    def __post_init__(self) -> None:
        _check_prompt(self.prompt)
        if not self.steps:
            raise BadRecordError("empty answer", "remove the row, or write the missing text")
        if not all(step.strip() for step in self.steps):
            raise BadRecordError("empty step", "a solution needs steps that say something")
        if len(self.labels) != len(self.steps):
            raise BadRecordError(
                "steps and labels do not fit",
                f"{counted(len(self.labels), 'label')} for {counted(len(self.steps), 'step')}; "
                "give one for each, null for none",
            )
        for label in (*self.labels, *(one.label for one in self.alternatives)):
            if label is not None and not (min(label) >= 0 and math.isclose(sum(label), 1.0)):
                raise BadRecordError("label of a step out of range", f"{label!r} was given")
        if all(label is None for label in self.labels) and not self.alternatives:
            raise BadRecordError("no step has a label", "label one step or more, or drop the row")
        _check_number("weight", self.weight, low=0.0, open_low=True)

    @property
    def first_error(self) -> int | None:
        """Place of the first step that is likelier bad than not; None where there is none."""
        known = enumerate(self.labels)
        return next((place for place, label in known if label and label[0] > 0.5), None)

    @property
    def decided(self) -> bool:
        """Whether the labels say where the first error is, or that there is none."""
        upto = len(self.labels) if self.first_error is None else self.first_error
        return None not in self.labels[:upto] and (self.first_error is not None or self.finished)

    def answer(self, separator: str = "\n") -> Messages:
        """The solution as one message."""
        return (Message("assistant", separator.join(self.steps)),)


Record: TypeAlias = Prompt | Demonstration | Comparison | Labelled | Solution


def _check_number(
    name: str, value: float, *, low: float, high: float = math.inf, open_low: bool = False
) -> None:
    if math.isfinite(value) and low <= value <= high and not (open_low and value == low):
        return
    bounds = f"above {low:g}" if open_low else f"at least {low:g}"
    raise BadRecordError(
        f"{name} out of range",
        f"{value!r} was given; it must be {bounds}"
        + (f" and at most {high:g}" if math.isfinite(high) else ""),
    )


class Tally:
    """Counts what was left out, by reason, with the first few places as examples."""

    KEPT = 3

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, where: Provenance | str) -> None:
        """Count one more row under ``reason``."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < self.KEPT and str(where) not in shown:
            shown.append(str(where))

    def clear(self) -> None:
        """Forget all counts."""
        self.counts.clear()
        self.examples.clear()

    def update(self, other: Tally) -> None:
        """Add another tally to this one."""
        for reason, count in other.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            shown = self.examples.setdefault(reason, [])
            new = [where for where in other.examples[reason] if where not in shown]
            shown.extend(new[: self.KEPT - len(shown)])

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """One line of text per reason, the most frequent first."""
        order = sorted(self.counts, key=lambda reason: -self.counts[reason])
        return [f"{self.counts[r]} × {r} (e.g. {', '.join(self.examples[r])})" for r in order]

    def __iter__(self) -> Iterator[str]:
        return iter(self.counts)

    def __len__(self) -> int:
        return len(self.counts)


def messages(*turns: tuple[str, str]) -> Messages:
    """Short form: ``messages(("user", "Hello"), ("assistant", "Hi"))``."""
    return tuple(Message(role, content) for role, content in turns)


def prompt_of(record: Record | Sequence[Message]) -> Messages:
    """The prompt of any record: the messages that the assistant was given."""
    if isinstance(record, Prompt):
        return record.messages
    if isinstance(record, Demonstration | Comparison | Labelled | Solution):
        return record.prompt
    return tuple(record)
