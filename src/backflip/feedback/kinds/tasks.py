"""The ten kinds of task: what is shown and what is answered.

An item and its answers are JSON, in the item's own order. Sides are shuffled for each rater by a
recorded order; ``feedback/display.py`` goes there and back. Which model wrote what
never leaves this side.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import Field, ValidationError, model_validator

from backflip.errors import UserError
from backflip.feedback.kinds.settings import Kind, ProjectSettings, Strict, plain
from backflip.text import counted

Text: TypeAlias = Annotated[str, Field(max_length=1_000_000)]
Words: TypeAlias = Annotated[str, Field(min_length=1, max_length=1_000_000)]
Index: TypeAlias = Annotated[int, Field(ge=0)]


class Turn(Strict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class Answer(Strict):
    """One reply, and who wrote it. The source is never shown to raters."""

    text: Text
    source: str = ""


class Clip(Strict):
    """Something to look at: an address or a file of the project."""

    url: str = ""
    file: str = ""
    media: Literal["video", "image", "frames"] = "video"
    source: str = ""

    @model_validator(mode="after")
    def _somewhere(self) -> Clip:
        if bool(self.url) == bool(self.file):
            raise ValueError("a clip needs a url or a file, and not both")
        return self


Prompt: TypeAlias = Annotated[tuple[Turn, ...], Field(min_length=1)]


class Compare(Strict):
    kind: Literal["compare"] = "compare"
    prompt: Prompt
    answers: tuple[Answer, Answer]


class Rank(Strict):
    kind: Literal["rank"] = "rank"
    prompt: Prompt
    answers: Annotated[tuple[Answer, ...], Field(min_length=2, max_length=50)]


class Rate(Strict):
    kind: Literal["rate"] = "rate"
    prompt: Prompt
    answer: Answer


class Thumbs(Strict):
    kind: Literal["thumbs"] = "thumbs"
    prompt: Prompt
    answer: Answer


class Write(Strict):
    """A reply to write, or a draft to make better."""

    kind: Literal["write"] = "write"
    prompt: Prompt
    draft: Answer | None = None


class Steps(Strict):
    """Reasoning to label step by step (PRM800K)."""

    kind: Literal["steps"] = "steps"
    prompt: Prompt
    steps: Annotated[tuple[Words, ...], Field(min_length=1)]
    source: str = ""


class Spans(Strict):
    """A text whose passages are marked; it may stand alone, as an answer to nothing."""

    kind: Literal["spans"] = "spans"
    prompt: tuple[Turn, ...] = ()
    answer: Answer


class Clips(Strict):
    """Two clips; a video, a trajectory as frames, or an image each (Christiano et al., 2017)."""

    kind: Literal["clips"] = "clips"
    prompt: tuple[Turn, ...] = ()
    clips: tuple[Clip, Clip]


class Principles(Strict):
    kind: Literal["principles"] = "principles"
    principle: Words


class Talk(Strict):
    """A live conversation: with one policy or several, or against a rule (Sparrow).

    Each policy gives one reply to choose from; named several times it gives several.
    """

    kind: Literal["talk"] = "talk"
    opening: tuple[Turn, ...] = ()
    policies: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]
    role: Literal["user", "assistant", "attacker"] = "user"
    rules: tuple[Words, ...] = ()


Payload: TypeAlias = (
    Compare | Rank | Rate | Thumbs | Write | Steps | Spans | Clips | Principles | Talk
)
_PAYLOADS: dict[str, type[Strict]] = {
    "compare": Compare,
    "rank": Rank,
    "rate": Rate,
    "thumbs": Thumbs,
    "write": Write,
    "steps": Steps,
    "spans": Spans,
    "clips": Clips,
    "principles": Principles,
    "talk": Talk,
}


class Choice(Strict):
    """The answer to ``compare`` and ``clips``."""

    choice: Literal["a", "b", "tie", "both_bad", "cannot_tell"]
    strength: Annotated[int, Field(ge=1)] = 1
    """1: a little better, up to half the scale's points. Means nothing without a side."""
    reason: Text = ""


class Ranks(Strict):
    ranks: tuple[Index | None, ...]
    """One for each answer: 0 is best, equal is a tie, none was left unranked."""
    reason: Text = ""


class Ratings(Strict):
    ratings: dict[str, int]
    reason: Text = ""


class Thumb(Strict):
    up: bool
    reason: Text = ""


class Written(Strict):
    text: Text
    from_draft: bool = False


class StepLabels(Strict):
    labels: tuple[Literal[1, 0, -1] | None, ...]
    """One for each step: good, neutral, bad, not labelled."""
    reason: Text = ""


class Span(Strict):
    start: Index
    end: Index
    """Characters; the end is not part of it."""
    label: str


class SpanLabels(Strict):
    spans: tuple[Span, ...] = ()
    reason: Text = ""


class Vote(Strict):
    vote: Literal["agree", "disagree", "pass"]


class TalkTurn(Strict):
    role: Literal["user", "assistant"]
    content: Text
    candidates: tuple[Text, ...] = ()
    """What was offered, in the order of the policies, never as displayed."""
    picked: Index | None = None
    ranks: tuple[Index, ...] | None = None
    """One for each candidate: 0 is best, equal is a tie."""
    edited: bool = False


class Talked(Strict):
    turns: tuple[TalkTurn, ...]
    verdicts: dict[str, Literal["kept", "broken", "unsure"]] = Field(default_factory=dict)


Value: TypeAlias = (
    Choice | Ranks | Ratings | Thumb | Written | StepLabels | SpanLabels | Vote | Talked
)
_VALUES: dict[str, type[Strict]] = {
    "compare": Choice,
    "clips": Choice,
    "rank": Ranks,
    "rate": Ratings,
    "thumbs": Thumb,
    "write": Written,
    "steps": StepLabels,
    "spans": SpanLabels,
    "principles": Vote,
    "talk": Talked,
}


def payload_of(given: Payload | dict[str, Any], kind: Kind, where: str = "item") -> Payload:
    """One item of a project of ``kind``. Raises UserError that says what is wrong, and where."""
    named = given.get("kind", kind) if isinstance(given, dict) else given.kind
    if named != kind:
        raise UserError(f"{where}: of kind {named!r}, but the project asks for {kind!r}.")
    if not isinstance(given, dict):
        return given
    return cast(Payload, _read(_PAYLOADS[kind], {**given, "kind": kind}, where))


def value_of(
    given: dict[str, Any], payload: Payload, settings: ProjectSettings, where: str = "answer"
) -> Value:
    """An answer that fits its item and the project's scales. Raises UserError otherwise."""
    value = cast(Value, _read(_VALUES[payload.kind], given, where))
    fault = _fault(value, payload, settings)
    if fault:
        raise UserError(f"{where}: {fault}")
    return value


_ENCODE = json.JSONEncoder().encode


def _read(model: type[Strict], given: dict[str, Any], where: str) -> Strict:
    """By way of JSON, whose strict reading takes lists for tuples and nothing else for anything."""
    try:
        return model.model_validate_json(_ENCODE(given))
    except ValidationError as error:
        raise UserError(plain(error, where)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: cannot be written as JSON ({error}).") from None


def _fault(value: Value, payload: Payload, settings: ProjectSettings) -> str:
    """What is wrong with an answer, given its item; empty where nothing is."""
    fault = ""
    match value, payload:
        case Choice(), _:
            fault = _choice_fault(value, settings)
        case Ranks(), Rank():
            fault = _ranks_fault(value, len(payload.answers))
        case Ratings(), _:
            fault = _ratings_fault(value, settings)
        case Written(), Write():
            fault = _written_fault(value, payload)
        case StepLabels(), Steps():
            fault = _steps_fault(value, len(payload.steps), settings)
        case SpanLabels(), Spans():
            fault = _spans_fault(value, len(payload.answer.text), settings)
        case Talked(), Talk():
            fault = _talk_fault(value, payload)
        case _:
            pass
    return fault


def _written_fault(value: Written, payload: Write) -> str:
    if not value.text.strip():
        return "the reply is empty; write it, or skip the item"
    if value.from_draft and payload.draft is None:
        return "from_draft is true, but the item has no draft"
    return ""


def _choice_fault(value: Choice, settings: ProjectSettings) -> str:
    if value.choice == "tie" and not settings.tie_possible:
        return "this project has no ties; choose a side, however slightly"
    if value.choice == "both_bad" and not settings.allow_both_bad:
        return "this project has no answer 'both bad'"
    if value.choice == "cannot_tell" and not value.reason.strip():
        return "'cannot tell' needs a reason"
    if value.choice in ("a", "b") and value.strength > settings.levels:
        return (
            f"strength {value.strength} is beyond this project's scale of {settings.scale} points; "
            f"give 1 to {settings.levels}"
        )
    return ""


def _ranks_fault(value: Ranks, answers: int) -> str:
    if len(value.ranks) != answers:
        said = f"{counted(len(value.ranks), 'rank')} for {counted(answers, 'answer')}"
        return f"{said}; give one for each, null for none"
    given = sorted({rank for rank in value.ranks if rank is not None})
    if not given:
        return "no answer has a rank; rank at least one, or skip the item"
    if given != list(range(len(given))):
        return f"ranks must run 0, 1, 2 … without gaps (equal ones are ties); seen {given}"
    return ""


def _ratings_fault(value: Ratings, settings: ProjectSettings) -> str:
    wanted = {attribute.name: attribute for attribute in settings.attributes}
    unknown = sorted(set(value.ratings) - set(wanted))
    if unknown:
        return f"there is no attribute {unknown[0]!r}; this project has {', '.join(wanted)}"
    missing = [name for name in wanted if name not in value.ratings]
    if missing:
        return f"{missing[0]!r} has no rating; rate {', '.join(wanted)}"
    for name, rating in value.ratings.items():
        scale = wanted[name]
        if not scale.low <= rating <= scale.high:
            return f"{name!r} is {rating}; its scale runs from {scale.low} to {scale.high}"
    return ""


def _steps_fault(value: StepLabels, steps: int, settings: ProjectSettings) -> str:
    labels = value.labels
    if len(labels) != steps:
        said = f"{counted(len(labels), 'label')} for {counted(steps, 'step')}"
        return f"{said}; give one for each, null for none"
    known = [label is not None for label in labels]
    if not known[0]:
        return "the first step has no label; label from the beginning, or skip the item"
    until = known.index(False) if False in known else steps
    if any(known[until:]):
        return f"step {until + 1} has no label but a later one has; only the end may stay open"
    if until < steps and not (settings.stop_at_bad and labels[until - 1] == -1):
        return f"step {until + 1} has no label" + (
            "; labelling may end only at a bad step" if settings.stop_at_bad else ""
        )
    return ""


def _spans_fault(value: SpanLabels, length: int, settings: ProjectSettings) -> str:
    for span in value.spans:
        if span.label not in settings.span_labels:
            known = ", ".join(settings.span_labels)
            return f"there is no label {span.label!r}; this project has {known}"
        if not span.start < span.end <= length:
            return f"span {span.start} to {span.end} does not lie in a text of {length} characters"
    return ""


def _talk_fault(value: Talked, payload: Talk) -> str:
    if not value.turns:
        return "the conversation has no turns; say something, or skip the item"
    for number, turn in enumerate(value.turns, 1):
        offered = len(turn.candidates)
        if turn.picked is not None and turn.picked >= offered:
            return f"turn {number} picks candidate {turn.picked} of {offered}; they count from 0"
        if turn.ranks is not None and len(turn.ranks) != offered:
            return f"turn {number} has {len(turn.ranks)} ranks for {offered} candidates"
        if turn.ranks is not None and set(turn.ranks) != set(range(len(set(turn.ranks)))):
            return f"ranks of turn {number} must run 0, 1, 2 … without gaps; equal ones are ties"
    unknown = sorted(set(value.verdicts) - set(payload.rules))
    if unknown:
        return f"there is no rule {unknown[0]!r} in this conversation"
    missing = [rule for rule in payload.rules if rule not in value.verdicts]
    return f"rule {missing[0]!r} has no verdict: kept, broken or unsure" if missing else ""
