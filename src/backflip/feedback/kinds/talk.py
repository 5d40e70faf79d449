"""A live conversation: with one policy or several, or against a rule (Sparrow).

Each policy gives one reply to choose from; named several times it gives several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import UNSURE, Block, Kind, PartValue, Wording
from backflip.feedback.kinds.fields import Index, Payload, Rubric, Strict, Text, Turn, Words

KEPT = {"kept": 1.0, "broken": -1.0, "unsure": UNSURE}


class Talk(Payload):
    kind: str = "talk"
    opening: tuple[Turn, ...] = ()
    policies: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)]
    role: Literal["user", "assistant", "attacker"] = "user"
    rules: tuple[Words, ...] = ()


class TalkTurn(Strict):
    role: Literal["user", "assistant"]
    content: Text
    candidates: tuple[Text, ...] = ()
    """Replies that were offered, in the order of the policies, never as displayed."""
    picked: Index | None = None
    ranks: tuple[Index, ...] | None = None
    """One for each candidate: 0 is best, equal is a tie."""
    edited: bool = False


class Talked(Strict):
    turns: tuple[TalkTurn, ...]
    verdicts: dict[str, Literal["kept", "broken", "unsure"]] = Field(default_factory=dict)


class TalkForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = {
        "opening": form.in_payload(form.turns_of),
        "turns": form.in_value(form.turns_of),
        "policies": form.in_payload(lambda text: form.between(text, ",")),
        "rules": form.in_payload(lambda text: form.between(text, r"\n")),
    }

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        verdicts = "One a line, in the order of the rules: kept, broken or unsure."
        return [
            form.Control(
                "opening", "Opening", hint=f"What was said before; may be empty. {form.SEVERAL}"
            ),
            form.Control("policies", "Policies", "line", "Names, with commas between."),
            form.Control("rules", "Rules", hint="One a line; may be empty."),
            form.Control("turns", "Conversation", hint=form.SEVERAL),
            form.Control("verdicts", "Verdicts on the rules", hint=verdicts),
        ]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        said, rules = form.as_map(value.get("verdicts")), form.as_list(payload.get("rules"))
        return {
            "opening": form.transcript(payload.get("opening")),
            "policies": ", ".join(map(str, form.as_list(payload.get("policies")))),
            "rules": "\n".join(map(str, rules)),
            "turns": form.transcript(value.get("turns")),
            "verdicts": "\n".join(str(said.get(rule, "")) for rule in rules),
        }

    def finish(
        self, touched: set[str], given: form.Texts, payload: form.Data, value: form.Data
    ) -> None:
        if touched & {"verdicts", "rules"}:
            said = [line.strip() for line in given.get("verdicts", "").split("\n")]
            each = zip(payload.get("rules") or [], said, strict=False)
            value["verdicts"] = {rule: verdict for rule, verdict in each if verdict}


class TalkKind(Kind[Talk, Talked]):
    name, place = "talk", 10
    payload, value = Talk, Talked
    form = TalkForm()
    column = "policies"
    golden, live, readable = False, True, False
    wording = Wording(
        title="Talk",
        description="A live conversation with one model or several",
        row='{"policies": ["first", "second"], "role": "user", "rules": ["…"]}',
        subject="on whether each rule was kept",
        unit=("rule of a talk", "rules of talks"),
        answers="Judgements",
        values=("broken", "kept", "unsure"),
    )

    def fault(self, value: Talked, payload: Talk, settings: Rubric) -> str:
        if not value.turns:
            return "the conversation has no turns; say something, or skip the item"
        for number, turn in enumerate(value.turns, 1):
            if fault := _turn_fault(turn, number):
                return fault
        unknown = sorted(set(value.verdicts) - set(payload.rules))
        if unknown:
            return f"there is no rule {unknown[0]!r} in this conversation"
        missing = [rule for rule in payload.rules if rule not in value.verdicts]
        return f"rule {missing[0]!r} has no verdict: kept, broken or unsure" if missing else ""

    def shown(self, payload: dict[str, Any]) -> dict[str, Any]:
        """How many policies there are, and not which."""
        return payload | {"policies": len(payload["policies"])}

    def part_names(self, payload: Talk, settings: Rubric) -> list[str]:
        return list(payload.rules)

    def policies(self, payload: Talk) -> tuple[str, ...]:
        return payload.policies

    def values(
        self, value: Mapping[str, Any], order: Sequence[int], settings: Rubric, attribute: str = ""
    ) -> list[PartValue]:
        return [PartValue(rule, KEPT[verdict]) for rule, verdict in value["verdicts"].items()]

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("talk", payload, "scene")]

    def gist(self, payload: Mapping[str, Any]) -> str:
        return " ".join(payload.get("rules", ())) or "a conversation"

    def in_words(self, value: Mapping[str, Any], scale: int = 2) -> str:
        said = [f"{rule}: {verdict}" for rule, verdict in value.get("verdicts", {}).items()]
        return "; ".join([f"{len(value.get('turns', ()))} turns", *said])


def _turn_fault(turn: TalkTurn, number: int) -> str:
    offered = len(turn.candidates)
    if turn.picked is not None and turn.picked >= offered:
        return f"turn {number} picks candidate {turn.picked} of {offered}; they count from 0"
    if turn.ranks is not None and len(turn.ranks) != offered:
        return f"turn {number} has {len(turn.ranks)} ranks for {offered} candidates"
    if turn.ranks is not None and set(turn.ranks) != set(range(len(set(turn.ranks)))):
        return f"ranks of turn {number} must run 0, 1, 2 … without gaps; equal ones are ties"
    return ""


KIND = TalkKind()
