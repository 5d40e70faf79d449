"""Fields that payloads and answers of several kinds share, and the settings that raters see."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

Text: TypeAlias = Annotated[str, Field(max_length=1_000_000)]
Words: TypeAlias = Annotated[str, Field(min_length=1, max_length=1_000_000)]
Index: TypeAlias = Annotated[int, Field(ge=0)]
Short: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]
Long: TypeAlias = Annotated[str, Field(max_length=100_000)]


class Strict(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Turn(Strict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class Answer(Strict):
    """One reply, and who wrote it. The source is never shown to raters."""

    text: Text
    source: str = ""


Prompt: TypeAlias = Annotated[tuple[Turn, ...], Field(min_length=1)]


class Payload(Strict):
    """One item, in its own order, with sources."""

    kind: str


class Attribute(Strict):
    """One scale of a rating."""

    name: Short
    low: int = 1
    high: int = 7
    question: Long = ""
    """The question to the rater; shown beside the scale."""

    @model_validator(mode="after")
    def _ordered(self) -> Attribute:
        if not self.low < self.high <= self.low + 100:
            raise ValueError(
                f"attribute {self.name!r} runs from {self.low} to {self.high}; "
                "high must be 1 to 100 above low"
            )
        return self


class Example(Strict):
    """A worked example beside the rubric."""

    payload: dict[str, Any]
    value: dict[str, Any]
    """The answer that the project wants to see, in the item's own order."""
    why: Long = ""


class Rubric(Strict):
    """Settings that raters see, and that an answer is given under."""

    kind: str
    title: Annotated[str, Field(max_length=200)] = ""
    rubric: Long = ""
    """Markdown; always in view."""
    examples: tuple[Example, ...] = ()

    scale: Annotated[int, Field(ge=2, le=9)] = 4
    """Points of the strength scale (compare, clips): 2 is better or worse, 8 is Anthropic's, 9 has
    a middle, which is a tie."""
    allow_tie: bool = True
    """Whether there is a tie apart from the scale's middle."""
    allow_both_bad: bool = True
    attributes: Annotated[tuple[Attribute, ...], Field(validate_default=True)] = ()
    """For ``rate``; none given: helpful, honest, harmless, 1 to 7."""
    span_labels: tuple[Short, ...] = ()
    """For ``spans``."""
    stop_at_bad: bool = False
    """For ``steps``: whether labelling ends at the first bad step (PRM800K)."""

    @property
    def tie_possible(self) -> bool:
        return self.allow_tie or self.scale % 2 == 1

    @property
    def levels(self) -> int:
        """Strengths on each side of the middle."""
        return self.scale // 2
