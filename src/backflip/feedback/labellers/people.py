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

Items that were asked before, by whatever run, are not asked again. Scores of compare and rank are
relative to the group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from backflip.data.records import Message
from backflip.errors import UserError
from backflip.feedback.exchange.answered_items import PAGE, AnsweredItem, with_answers
from backflip.feedback.exchange.mapping import kinds_where, mapping_of
from backflip.feedback.exchange.records import Source
from backflip.feedback.kinds.fields import Payload
from backflip.feedback.kinds.registry import kind_of, named
from backflip.feedback.projects.project import Project
from backflip.feedback.store.schema import Items
from backflip.feedback.tasks.identity import identify
from backflip.feedback.tasks.items import payload_of
from backflip.text import counted


@dataclass(frozen=True)
class Group:
    """A prompt with different answers, and who wrote each."""

    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """Progress of people with some items."""

    items: int
    """AnsweredItem for, in all."""
    open: int
    """That wait for raters."""
    missing: int
    """Answers that these still need."""
    disputed: int
    """That wait for an adjudicator."""
    dropped: int
    """That nobody will judge: a lead has dropped them."""
    stalled: tuple[str, ...] = ()
    """Items that wait for raters who do not exist, in words."""

    @property
    def done(self) -> bool:
        return not self.open and not self.disputed

    def in_words(self) -> str:
        """Missing answers and disputes, in one sentence."""
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
        if not mapping_of(self.settings.kind).scored:
            known = named(kinds_where(lambda mapping: mapping.scored))
            raise UserError(
                f"project {project.name!r} is of kind {self.settings.kind!r}; answers of a policy "
                f"are judged in projects of kind {known}."
            )

    @property
    def relative(self) -> bool:
        """Whether scores mean something within a group only."""
        return kind_of(self.settings.kind).fewest > 1

    def ask(self, groups: Sequence[Group], *, batch: str) -> int:
        """Make items of what has not been asked yet; how many there are new."""
        payloads = [payload for group in groups for payload in self._payloads(group)]
        return self.project.add_items(payloads, origin="rounds", batch=batch[:100]).count

    def standing(self, groups: Sequence[Group]) -> Standing:
        """Progress of the groups."""
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
            with self.project.ref.database.read() as connection:
                found += connection.execute(query).all()
        return found

    # ---- scores

    def _scored(self, source: Source, group: Group, items: Sequence[AnsweredItem]) -> list[float]:
        scores = mapping_of(self.settings.kind).scores
        sums: dict[str, list[float]] = {text.strip(): [] for text in group.answers}
        for one in items:
            if not one.said and one.truth is None:
                continue
            for text, score in scores(source, one).items():
                if text in sums and not math.isnan(score):
                    sums[text].append(score)
        means = {text: sum(s) / len(s) if s else math.nan for text, s in sums.items()}
        return [means[text.strip()] for text in group.answers]


def payloads_of(kind: str, group: Group) -> list[Payload]:
    """The items that ask about a group."""
    prompt = [{"role": m.role, "content": m.content} for m in group.prompt]
    answers = [
        {"text": text, "source": source}
        for text, source in zip(group.answers, group.sources, strict=True)
    ]
    made = kind_of(kind).from_replies(prompt, answers)
    return [payload_of({"kind": kind, **one}, kind) for one in made]
