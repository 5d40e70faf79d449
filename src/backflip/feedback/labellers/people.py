"""Answers of a policy to be judged by people: asked as items, and read as scores.

A group is a prompt with the answers that are to be told apart. How it is asked depends on the kind
of the project, and a score lies between −1 and 1:

==========  =================================================================================
compare     each answer against the next, in a ring where there are more than two; the mean of
            2P − 1, where P is the chance that it is the better one. A tie, and both bad, are 0.
rank        all at once; 2P − 1, where P is its mean chance against the others
thumbs      each by itself; 2P(up) − 1
rate        each by itself; its mean rating, on a scale of −1 to 1
==========  =================================================================================

What was asked before, by whatever run, is not asked again. Scores of compare and rank are relative
to the group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from backflip.data.records import Message
from backflip.errors import UserError
from backflip.feedback.exchange.answered_items import PAGE, Asked, with_answers
from backflip.feedback.exchange.compare import verdicts
from backflip.feedback.exchange.rank import agreed_order, mean_rating
from backflip.feedback.exchange.records import Source
from backflip.feedback.kinds.identity import identify
from backflip.feedback.kinds.tasks import Compare, Payload, Rank, payload_of
from backflip.feedback.projects.project import Project
from backflip.feedback.store.schema import Items
from backflip.text import counted

RELATIVE = ("compare", "rank")
"""Kinds whose scores mean something within a group only."""
KINDS = (*RELATIVE, "thumbs", "rate")
MOST = 50
"""Answers that are ranked at once."""


@dataclass(frozen=True)
class Group:
    """A prompt with different answers, and who wrote each."""

    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """How far people are with some items."""

    items: int
    """Asked for, in all."""
    open: int
    """That wait for raters."""
    missing: int
    """Answers that these still need."""
    disputed: int
    """That wait for an adjudicator."""
    dropped: int
    """That nobody will judge: a lead has dropped them."""
    stalled: tuple[str, ...] = ()
    """What waits for raters who do not exist, in words."""

    @property
    def done(self) -> bool:
        return not self.open and not self.disputed

    def in_words(self) -> str:
        """What is missing."""
        parts = list[str]()
        if self.open:
            parts.append(
                f"{counted(self.missing, 'answer is', 'answers are')} missing ("
                f"{self.open} of {counted(self.items, 'item')} open)"
            )
        if self.disputed:
            parts.append(f"{counted(self.disputed, 'item waits', 'items wait')} for an adjudicator")
        return "; ".join([" and ".join(parts) or "nothing is missing", *self.stalled])


class Labeller:
    """Asks the raters of one project."""

    def __init__(self, project: Project) -> None:
        self.project, self.settings = project, project.settings
        if self.settings.kind not in KINDS:
            raise UserError(
                f"project {project.name!r} is of kind {self.settings.kind!r}; answers of a policy "
                f"are judged in projects of kind {', '.join(KINDS)}."
            )

    @property
    def relative(self) -> bool:
        """Whether scores mean something within a group only."""
        return self.settings.kind in RELATIVE

    def ask(self, groups: Sequence[Group], *, batch: str) -> int:
        """Make items of what has not been asked yet; how many there are new."""
        payloads = [payload for group in groups for payload in self._payloads(group)]
        return self.project.add_items(payloads, origin="rounds", batch=batch[:100]).count

    def standing(self, groups: Sequence[Group]) -> Standing:
        """What is still to be said of the groups."""
        digests = {
            identify(payload).digest for group in groups for payload in self._payloads(group)
        }
        rows = self._rows(sorted(digests))
        waiting = [row for row in rows if row.state == "open"]
        return Standing(
            items=len(digests),
            open=len(waiting) + len(digests) - len(rows),
            missing=sum(max(row.wanted - row.given, 1) for row in waiting),
            disputed=sum(row.state == "adjudicate" for row in rows),
            dropped=sum(row.state == "dropped" for row in rows),
            stalled=tuple(self.project.stalls()) if waiting else (),
        )

    def scores(self, groups: Sequence[Group], *, until: int | None = None) -> list[list[float]]:
        """A score for every answer; not a number where nobody said anything of it."""
        source = Source(self.project, until=until)
        asked = self._payloads_of(groups)
        rows = self._rows(sorted({digest for one in asked for digest in one}))
        numbers = {row.digest: row.id for row in rows}
        items = {
            one.item.id: one
            for one in with_answers(self.project, sorted(numbers.values()), until=source.until)
        }
        found = list[list[float]]()
        for group, digests in zip(groups, asked, strict=True):
            told = [items[numbers[digest]] for digest in digests if digest in numbers]
            found.append(self._scored(source, group, told))
        return found

    # ---- items

    def _payloads(self, group: Group) -> list[Payload]:
        return payloads_of(self.settings.kind, group)

    def _payloads_of(self, groups: Sequence[Group]) -> list[list[str]]:
        return [[identify(p).digest for p in self._payloads(group)] for group in groups]

    def _rows(self, digests: Sequence[str]) -> list[Any]:
        found = list[Any]()
        columns = (Items.id, Items.digest, Items.state, Items.wanted, Items.given)
        for start in range(0, len(digests), PAGE):
            query = select(*columns).where(
                Items.project_id == self.project.id,
                Items.digest.in_(digests[start : start + PAGE]),
            )
            with self.project.scope.database.read() as connection:
                found += connection.execute(query).all()
        return found

    # ---- scores

    def _scored(self, source: Source, group: Group, items: Sequence[Asked]) -> list[float]:
        sums: dict[str, list[float]] = {text.strip(): [] for text in group.answers}
        for one in items:
            if not one.said and one.truth is None:
                continue
            for text, score in self._said(source, one).items():
                if text in sums and not math.isnan(score):
                    sums[text].append(score)
        means = {text: sum(s) / len(s) if s else math.nan for text, s in sums.items()}
        return [means[text.strip()] for text in group.answers]

    def _said(self, source: Source, one: Asked) -> Mapping[str, float]:
        """What an item says of each of its answers, by text."""
        payload = one.payload
        if isinstance(payload, Compare):
            a, b = (answer.text.strip() for answer in payload.answers)
            score = _leaning(source, one)
            return {a: score, b: -score}
        if isinstance(payload, Rank):
            chances = agreed_order(source, one, len(payload.answers)).score
            texts = [answer.text.strip() for answer in payload.answers]
            return {text: 2 * p - 1 for text, p in zip(texts, chances, strict=True)}
        answer: Any = payload
        text = answer.answer.text.strip()
        if self.settings.kind == "rate":
            return {text: 2 * mean_rating(source, one).score - 1}
        verdict = source.verdict(one)
        return {text: math.nan if verdict is None else 2 * verdict.p_first - 1}


def _leaning(source: Source, one: Asked) -> float:
    """2P(a is better) − 1; 0 where both are bad, not a number where nobody could tell."""
    (said,) = verdicts(source, one)
    if said.silent:
        return 0.0 if said.silent == "both_bad" else math.nan
    verdict = source.verdict(one)
    return math.nan if verdict is None else 2 * verdict.p_first - 1


def payloads_of(kind: Any, group: Group) -> list[Payload]:
    """The items that ask about a group."""
    prompt = [{"role": m.role, "content": m.content} for m in group.prompt]
    answers = [
        {"text": text, "source": source}
        for text, source in zip(group.answers, group.sources, strict=True)
    ]
    size = len(answers)
    made: list[dict[str, Any]] = []
    if kind == "rank" and 2 <= size <= MOST:
        made = [{"prompt": prompt, "answers": answers}]
    elif kind == "compare" and size >= 2:
        ring = [(i, (i + 1) % size) for i in range(size if size > 2 else 1)]
        made = [{"prompt": prompt, "answers": [answers[i], answers[j]]} for i, j in ring]
    elif kind in ("thumbs", "rate", "spans"):
        made = [{"prompt": prompt, "answer": answer} for answer in answers]
    elif kind == "write":
        made = [{"prompt": prompt, "draft": answers[0]}]
    return [payload_of({"kind": kind, **one}, kind) for one in made]
