"""Accounting of answers: every one is counted, so that nothing is dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from backflip.data.records import Tally
from backflip.feedback.exchange.answered_items import AnsweredItem
from backflip.text import counted

SPOKEN = {
    "a": "for the first answer",
    "b": "for the second",
    "tie": "ties",
    "both_bad": "both bad",
    "cannot_tell": "cannot tell",
    "up": "up",
    "down": "down",
    "agree": "agree",
    "disagree": "disagree",
    "pass": "pass",
}
"""Verdicts as they are counted aloud."""


@dataclass
class Accounting:
    """Counts over the items that were read so far."""

    name: str
    """The source: feedback:tone@1234."""
    items: int = 0
    answers: int = 0
    widest: int = 0
    """Answers to choose among or to rank of the item that has most."""
    raters: set[str] = field(default_factory=set)
    words: Counter[str] = field(default_factory=Counter)
    """Answers by verdict, for kinds whose answer is one word."""
    rubrics: Counter[int] = field(default_factory=Counter)
    """Answers by version of the rubric."""
    known: int = 0
    """Items whose label is gold or a senior's."""
    tied: int = 0
    """Items whose label is a tie, and pairs of answers in rankings."""
    undecided: int = 0
    """Labels, of items or of parts of them, on which raters are evenly split."""
    unranked: int = 0
    """Answers that no rater ranked; they share the last place."""
    rows: int = 0
    labels: Counter[bool] = field(default_factory=Counter)
    """Good and bad ones among the rows."""
    left_out: Tally = field(default_factory=Tally)
    """Items, or answers where each is a row, that became nothing, by reason."""

    def see(self, answered: AnsweredItem) -> None:
        """Count an item and its answers."""
        self.items += 1
        self.answers += len(answered.said)
        self.widest = max(self.widest, len(answered.item.payload.get("answers", ())))
        self.known += answered.truth is not None
        for answer in answered.said:
            self.raters.add(answer.person)
            self.rubrics[answer.rubric_version] += 1
            word = answered.kind.word(answer.value)
            if word:
                self.words[word] += 1

    def drop(self, reason: str, item: int) -> None:
        """Count what is left out."""
        self.left_out.add(reason, f"item {item}")

    @property
    def basis(self) -> str:
        """Answers, raters and items behind it, in one line."""
        said = f"{counted(self.answers, 'answer')} by {counted(len(self.raters), 'rater')} to "
        said += counted(self.items, "item")
        if self.words:
            parts = [f"{self.words[word]} {SPOKEN[word]}" for word in SPOKEN if self.words[word]]
            said += f" ({', '.join(parts)})"
        return said

    @property
    def labels_counted(self) -> list[str]:
        """Counts of labels that are no plain preference."""
        counts: Sequence[tuple[int, str]] = (
            (self.known, "labels that are gold or a senior's word"),
            (self.tied, "labels that are ties"),
            (self.undecided, "labels left open, raters being evenly split"),
            (self.unranked, "answers ranked by nobody, which share the last place"),
        )
        return [f"{what}: {count}" for count, what in counts if count]

    def lines(self) -> list[str]:
        """Everything that was counted, a sentence each."""
        left_out = [f"left out: {line}" for line in self.left_out.lines()]
        return [f"{self.name}: {self.basis}", *self.labels_counted, *left_out]
