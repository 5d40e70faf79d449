"""Two sides of which one is better, by how much, or neither: the family of compare and clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import Kind, Simulated
from backflip.feedback.kinds.fields import Payload, Rubric, Strict, Text
from backflip.feedback.kinds.respondent import Respondent

P = TypeVar("P", bound=Payload)
STRENGTHS = {
    1: ("better",),
    2: ("better", "much better"),
    3: ("slightly better", "better", "much better"),
    4: ("barely better", "slightly better", "better", "much better"),
}
"""Words for the levels of a scale, the weakest first; the page's script has the same."""
OTHER = {"a": "b", "b": "a"}


class Choice(Strict):
    """The answer: a side and a strength, or why there is none."""

    choice: Literal["a", "b", "tie", "both_bad", "cannot_tell"]
    strength: Annotated[int, Field(ge=1)] = 1
    """1: a little better, up to half the scale's points. Means nothing without a side."""
    reason: Text = ""


class PairKind(Kind[P, Choice]):
    """Two sides on a scale of strengths."""

    value = Choice
    layout = "two"
    one_word, paired, simulated = True, True, True
    settings = ("scale", "allow_tie", "allow_both_bad")

    def fault(self, value: Choice, payload: P, settings: Rubric) -> str:
        if value.choice == "tie" and not settings.tie_possible:
            return "this project has no ties; choose a side, however slightly"
        if value.choice == "both_bad" and not settings.allow_both_bad:
            return "this project has no answer 'both bad'"
        if value.choice == "cannot_tell" and not value.reason.strip():
            return "'cannot tell' needs a reason"
        if value.choice in ("a", "b") and value.strength > settings.levels:
            return (
                f"strength {value.strength} is beyond this project's scale of {settings.scale} "
                f"points; give 1 to {settings.levels}"
            )
        return ""

    def in_item_order(self, value: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        choice = value.get("choice")
        if list(order) == [1, 0] and isinstance(choice, str):
            return {**value, "choice": OTHER.get(choice, choice)}
        return dict(value)

    in_displayed_order = in_item_order

    def word(self, value: Mapping[str, Any]) -> str | None:
        return str(value["choice"])

    def words(self, settings: Rubric) -> tuple[str, ...]:
        ties = ("tie",) if settings.tie_possible else ()
        return ("a", "b", *ties, *(("both_bad",) if settings.allow_both_bad else ()))

    def score(self, value: Mapping[str, Any], settings: Rubric) -> float | None:
        word = value["choice"]
        if word in ("a", "b"):
            strength = min(1.0, value["strength"] / settings.levels)
            return strength if word == "a" else -strength
        return 0.0 if word == "tie" else None

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        choice = str(value.get("choice", ""))
        if choice in ("a", "b"):
            words = STRENGTHS[scale // 2]
            level = min(max(int(value.get("strength") or 1), 1), len(words))
            return f"{choice.upper()} {words[level - 1]}"
        plain = {"tie": "a tie", "both_bad": "both bad", "cannot_tell": "cannot tell"}
        reason = str(value.get("reason") or "")
        return plain.get(choice, choice) + (f": {reason}" if reason else "")

    def simulate(self, respondent: Respondent, payload: P, settings: Rubric) -> Simulated:
        said, seconds = respondent.preference(payload, settings.levels, ties=settings.tie_possible)
        if said == 0:
            return {"choice": "tie"}, seconds
        strength = max(1, round(abs(said) * settings.levels))
        return {"choice": "a" if said > 0 else "b", "strength": strength}, seconds


# ---- the form of an example


def better(settings: Rubric) -> form.Control:
    """Every answer of the scale, by side and strength."""
    words = STRENGTHS[settings.levels]
    found = [(f"a {n}", f"A {words[n - 1]}") for n in range(len(words), 0, -1)]
    found += [("tie", "about the same")] if settings.tie_possible else []
    found += [(f"b {n}", f"B {words[n - 1]}") for n in range(1, len(words) + 1)]
    found += [("both_bad", "both bad")] if settings.allow_both_bad else []
    found += [("cannot_tell", "cannot tell (the reason is the why)")]
    return form.select("choice", "Which is better", found)


def choice_text(value: form.Data) -> form.Texts:
    """The choice as an option of the form."""
    choice = str(value.get("choice") or "")
    sided = choice in ("a", "b")
    return {"choice": f"{choice} {value.get('strength') or 1}" if sided else choice}


def change_choice(name: str, given: form.Texts, _payload: form.Data, value: form.Data) -> None:
    """A side with its strength, or another verdict."""
    choice, _, level = given[name].partition(" ")
    value.pop("strength", None)
    value |= {name: choice, **({"strength": form.whole(level, "strength")} if level else {})}


def reason_from_why(given: form.Texts, value: form.Data) -> None:
    """Who cannot tell needs a reason: the form's "why" stands for it."""
    if value.get("choice") == "cannot_tell" and not value.get("reason"):
        value["reason"] = given.get("why", "")
