"""Settings of a project: the question, the number of raters, the end.

A change of the texts that raters read is a new version of the rubric, and answers carry the version
that they were given under. All other settings say how the project is run: a change applies to the
answers that there are, too, and leaves the rubric as it was (``same_rubric``).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError, field_validator, model_validator

from backflip.errors import UserError
from backflip.feedback.kinds.fields import Attribute, Long, Rubric, Short, Strict
from backflip.feedback.kinds.registry import KindName, every_kind, kind_of, named

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
RUBRIC = (
    "kind",
    "title",
    "rubric",
    "examples",
    "scale",
    "allow_tie",
    "allow_both_bad",
    "attributes",
    "span_labels",
    "stop_at_bad",
    "content_warning",
)
"""Settings that raters see, and that an answer is given under."""
MAJORITY = 0.51
"""Share below which no answer has a majority."""
NOT_GIVEN = -1.0
"""Stands in ``adjudicate_below`` until the kind is known."""
MOST = 1_000_000_000
"""Of anything that is counted: databases hold whole numbers of 63 bits, and sums of them."""
Count: TypeAlias = Annotated[int, Field(ge=1, le=MOST)]


class Screening(Strict):
    """A quiz that gates entry: items with known answers, each with feedback."""

    questions: Count = 10
    pass_mark: Share = 0.8
    """Share of right answers that opens the project."""


class Overlap(Strict):
    """More raters for an item until its posterior is sure."""

    threshold: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Posterior of the likeliest answer that is enough."""
    max_raters: Count = 5


class Budget(Strict):
    """Limits at which a project stops; those that are not given do not stop it."""

    items: Count | None = None
    """Items finished."""
    hours: Annotated[float, Field(gt=0)] | None = None
    """Hours of raters' time, all together."""
    money: Annotated[float, Field(gt=0)] | None = None
    price_per_answer: Annotated[float, Field(ge=0)] = 0.0
    currency: Annotated[str, Field(max_length=10)] = ""


class ProjectSettings(Rubric):
    """All that a project may be told. ``settings_of`` makes one from JSON, with plain messages."""

    kind: KindName

    raters_per_item: Count = 2
    overlap: Overlap | None = None
    order: Literal["shuffled", "given"] = "shuffled"
    """In which order items of the same priority are asked."""
    adjudicate_below: Annotated[Share, Field(validate_default=True)] = NOT_GIVEN
    """A finished item goes to the adjudicators where fewer answers than this share agree with the
    one that most agree with, by the rule that answers are compared with gold by; 0: never. Unless
    given: 0.51, so that what no majority decides is settled, and 0 for kinds without disputes."""
    skips_to_adjudicate: Annotated[int, Field(ge=0, le=MOST)] = 0
    """An item that so many people skipped goes to the adjudicators; 0: never."""
    random_share: Share = 0.2
    """Share of questions from the random arm while an active arm is chosen by a model."""

    gold_share: Share = 0.1
    """Share of questions that have a known answer, as long as there are any that a rater has not
    seen."""
    screening: Screening | None = None
    calibration: bool = True
    """Whether items marked for calibration come first, with the agreed answer as feedback."""
    gold_window: Annotated[int, Field(ge=2, le=MOST)] = 20
    """Newest gold answers of a rater that the rolling accuracy looks at."""
    gold_warn: Share = 0.7
    """Rolling accuracy below which a rater is warned."""
    gold_pause: Share = 0.5
    """Rolling accuracy below which a rater is paused."""
    repeat_share: Share = 0.0
    """Share of questions that a rater has answered before, for self-consistency."""
    repeat_gap: Count = 20
    """Answers that lie at least between a question and its repetition."""

    lease_seconds: Annotated[int, Field(ge=10, le=MOST)] = 900
    """How long a shown item waits for its rater."""
    content_warning: Long = ""
    """Not empty: items are blurred until asked for, under this text."""
    break_after_minutes: Annotated[int, Field(ge=0, le=MOST)] = 50
    """Minutes of work after which a break is offered; 0: never."""
    budget: Budget = Budget()
    groups: dict[Short, tuple[Short, ...]] = {}  # noqa: RUF012 — pydantic copies it
    """Attributes in which raters may differ, and the values of each: {"language": ["de", "en"]}."""

    @field_validator("attributes")
    @classmethod
    def _usual(cls, attributes: tuple[Attribute, ...], info: Any) -> tuple[Attribute, ...]:
        """``info`` is pydantic's ValidationInfo: the fields before this one."""
        names = [attribute.name for attribute in attributes]
        if len(set(names)) < len(names):
            raise ValueError(f"two attributes have the same name; given were {', '.join(names)}")
        usual = kind_of(info.data["kind"]).attributes if "kind" in info.data else ()
        return attributes or tuple(Attribute(name=name) for name in usual)

    @field_validator("adjudicate_below", mode="before")
    @classmethod
    def _unless_given(cls, share: Any, info: Any) -> Any:
        """Splits are settled without being asked for, where the kind has any."""
        if share is not NOT_GIVEN:
            return share
        return MAJORITY if "kind" in info.data and kind_of(info.data["kind"]).golden else 0.0

    @model_validator(mode="after")
    def _coherent(self) -> ProjectSettings:
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> list[str]:
        overlap, kind = self.overlap, kind_of(self.kind)
        found = kind.settings_faults(self)
        if overlap and not kind.one_word:
            known = named(one for one in every_kind() if one.one_word)
            found.append(f"overlap needs one of the kinds {known}, not {self.kind}")
        if overlap and overlap.max_raters < self.raters_per_item:
            found.append(
                f"overlap.max_raters is {overlap.max_raters}, below raters_per_item, "
                f"{self.raters_per_item}"
            )
        if self.adjudicate_below and not kind.golden:
            known = named(one for one in every_kind() if one.golden)
            found.append(f"adjudicate_below needs one of the kinds {known}")
        if self.gold_warn < self.gold_pause:
            found.append("gold_warn is below gold_pause: raters would be paused without a warning")
        if self.gold_share + self.repeat_share > 0.9:
            found.append("gold_share and repeat_share leave less than a tenth for new items")
        return found


def same_rubric(one: ProjectSettings, other: ProjectSettings) -> bool:
    """Whether raters are asked the same: settings differ at most in how the project is run."""
    return all(getattr(one, name) == getattr(other, name) for name in RUBRIC)


def plain(error: ValidationError, where: str) -> str:
    """Pydantic's errors as one line that a person understands."""
    parts = list[str]()
    for fault in error.errors()[:5]:
        place = ".".join(str(step) for step in fault["loc"])
        seen = fault["input"]
        shown = f" (seen: {str(seen)[:60]!r})" if isinstance(seen, str | int | float | bool) else ""
        text = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            text = "is not known here; remove it or mend its name"
        elif fault["type"] == "json_invalid":
            text = f"cannot be read ({text}); is half a letter (a lone surrogate) in a text?"
            shown = ""
        elif fault["type"] == "missing":
            text, shown = "is missing", ""
        parts.append(f"{place}: {text}{shown}" if place else f"{text}{shown}")
    more = error.error_count() - len(parts)
    return f"{where}: " + "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def settings_of(given: ProjectSettings | dict[str, Any] | str) -> ProjectSettings:
    """Settings from JSON or a dictionary. Raises UserError that names each wrong key."""
    if isinstance(given, ProjectSettings):
        return given
    text = given if isinstance(given, str) else json.dumps(given)
    try:
        return ProjectSettings.model_validate_json(text)
    except ValidationError as error:
        raise UserError(plain(error, "settings")) from None
