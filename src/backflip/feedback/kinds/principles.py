"""A principle for the behaviour of models, to vote on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import Block, Kind, Simulated, Wording
from backflip.feedback.kinds.fields import Payload, Rubric, Strict, Words
from backflip.feedback.kinds.respondent import Respondent

VOTES = ("agree", "disagree", "pass")


class Principles(Payload):
    kind: str = "principles"
    principle: Words


class PrincipleVote(Strict):
    vote: Literal["agree", "disagree", "pass"]


class PrinciplesForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = {
        "principle": form.in_payload(str),
        "vote": form.in_value(str),
    }

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        votes = form.select("vote", "Vote", [(word, word) for word in VOTES])
        return [form.Control("principle", "Principle"), votes]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        return {
            "principle": str(payload.get("principle") or ""),
            "vote": str(value.get("vote") or ""),
        }


class PrinciplesKind(Kind[Principles, PrincipleVote]):
    name, place = "principles", 9
    payload, value = Principles, PrincipleVote
    form = PrinciplesForm()
    column = "principle"
    one_word, paired, simulated = True, True, True
    wording = Wording(
        title="Vote on principles",
        description="Should a model follow this rule?",
        row='{"principle": "Say so when you do not know."}',
        subject="on the vote",
        values=("disagree", "agree", "neither"),
    )

    def word(self, value: Mapping[str, Any]) -> str | None:
        return str(value["vote"])

    def words(self, settings: Rubric) -> tuple[str, ...]:
        return VOTES[:2]

    def score(self, value: Mapping[str, Any], settings: Rubric) -> float | None:
        return {"agree": 1.0, "disagree": -1.0}.get(value["vote"])

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("principle", payload["principle"])]

    def gist(self, payload: Mapping[str, Any]) -> str:
        return payload["principle"]

    def simulate(self, respondent: Respondent, payload: Principles, settings: Rubric) -> Simulated:
        (seen,), seconds = respondent.qualities(payload, [payload.principle])
        return {"vote": "agree" if seen > 0 else "disagree"}, seconds


KIND = PrinciplesKind()
