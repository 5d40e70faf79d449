"""A judge of pairs against people, asked in both orders (Zeng et al., 2023, arXiv:2310.07641)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.evaluation.pairwise import By, Pair, both_orders, judge_by
from backflip.evaluation.suites.base import Suite, Table
from backflip.evaluation.suites.scorer import Scorer
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic, group_of, measured
from backflip.evaluation.suites.subject import Subject, asked
from backflip.functional.statistics import share_interval
from backflip.monitor.text import Estimate, beyond, share_ranged
from backflip.text import counted

__all__ = ["Judge", "judged"]

PAIRS = (
    ("chosen", "rejected"), ("answer_1", "answer_2"), ("output_1", "output_2"),
    ("response_a", "response_b"), ("answer_a", "answer_b"), ("response_1", "response_2"),
)  # fmt: skip
"""Columns of the two answers; of the first two, the first is the better one."""
LABELS = ("human", "label", "winner", "preference", "choice", "better")
SIDES = {"1": "1", "2": "2", "a": "1", "b": "2", "first": "1", "second": "2",
         "model_a": "1", "model_b": "2", "left": "1", "right": "2"}  # fmt: skip
ALWAYS = 0.85
"""Share of verdicts for the answer shown first above which a judge is said to read nothing else."""
FACETS = {
    "right": "right, mean of both orders",
    "right_given": "right, order as given",
    "right_swapped": "right, order swapped",
    "both": "right in both orders",
    "agree": "same verdict in both orders",
    "first": "verdicts for the answer shown first",
    "none": "replies without a verdict",
}


TITLE = "Right in the order given, swapped, in both; same verdict; first shown named; no verdict"
SHORT = {
    "right_given": "given", "right_swapped": "swapped", "both": "both", "agree": "same",
    "first": "first", "none": "none",
}  # fmt: skip
"""The same as heads of columns; the table's title says of what."""


def judged(label: str, given: str | None, swapped: str | None) -> dict[str, Any]:
    """The findings on one pair: people's side, and the judge's in either order, by the pair's own
    sides "1", "2", "tie"; None where it gave none.

    A reply without a verdict is wrong, and agrees with another such; a tie is half right.
    """
    hits = [_right(label, said) for said in (given, swapped)]
    shown = [(given, "1"), (swapped, "2")]
    sided = [float(said == first) for said, first in shown if said in ("1", "2")]
    return {
        "label": label, "given": given, "swapped": swapped,
        "right_given": hits[0], "right_swapped": hits[1], "right": sum(hits) / 2,
        "both": float(hits == [1.0, 1.0]), "agree": float(given == swapped),
        "first": sum(sided) / len(sided) if sided else None,
        "none": ((given is None) + (swapped is None)) / 2,
    }  # fmt: skip


def _right(label: str, said: str | None) -> float:
    return 0.5 if said == "tie" else float(said == label)


@final
@dataclass(frozen=True, kw_only=True)
class Judge(Suite):
    """Agreement of a judge of pairs with people, and of the judge with itself."""

    title: ClassVar[str] = "A judge of pairs against people, in both orders"
    scores: ClassVar[bool] = True

    by: By = "words"
    """A language model's verdict: what it writes, or the probabilities of A and B (token)."""
    seed: int = 0
    """Which of chosen and rejected is shown first is drawn by lot."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row for each pair; verdicts that the data hold are taken from there."""
        recorded = [row for row in data if "rows" in row or "given" in row]
        if recorded:
            if len(recorded) < len(data):
                subject.notes.append(f"{len(data) - len(recorded)} rows hold no verdicts.")
            return _recorded(recorded)
        pairs, labels, found = self._pairs(subject, data)
        said = both_orders(judge_by(subject, self.by), pairs)
        if isinstance(subject, Scorer):
            subject.notes.append(f"{subject.name} scores answers alone: no order can sway it.")
        for row, label in enumerate(labels):
            sides = (_side(said.given[row]), _side(said.swapped[row]))
            lengths = [len(pairs[row].first), len(pairs[row].second)]
            longer = (
                0.5
                if lengths[0] == lengths[1]
                else float((lengths[0] > lengths[1]) == (label == "1"))
            )
            found[row] |= {**judged(label, *sides), "longer": longer}
        return found

    def _pairs(
        self, subject: Subject, data: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Pair], list[str], list[dict[str, Any]]]:
        """(Pairs, people's sides, beginnings of rows)."""
        draw, left = random.Random(self.seed), Tally()
        pairs, labels, found = list[Pair](), list[str](), list[dict[str, Any]]()
        for number, row in enumerate(data):
            read = _read(row)
            if isinstance(read, str):
                left.add(read, f"row {number + 1}")
                continue
            prompt, first, second, label = read
            if "chosen" in row and draw.random() < 0.5:
                first, second, label = second, first, "2"
            pairs.append(Pair(asked(prompt), first, second))
            labels.append(label)
            subset = str(row.get("subset", row.get("set", "")))
            found.append({"id": str(row.get("id", number)), "group": prompt, "who": "",
                          "subset": subset})  # fmt: skip
        subject.notes += [f"left out: {line}" for line in left.lines()]
        if not pairs:
            raise UserError(
                f"suite judge: no row holds a pair: {'; '.join(left.lines())}. A row has prompt, "
                "chosen and rejected; or prompt, answer_1, answer_2 and human (1 or 2)."
            )
        return pairs, labels, found

    def statistics(self, rows: Rows) -> list[Statistic]:
        """Of every judge that the rows speak of."""
        found: list[Statistic] = []
        judges = list(dict.fromkeys(row["who"] for row in rows))
        for who in judges:
            before, where = (f"{who}, ", {"who": who}) if len(judges) > 1 else ("", {})
            prefix = f"{who}/" if len(judges) > 1 else ""
            found += [
                Statistic(prefix + name, before + label, name, where)
                for name, label in FACETS.items()
            ]
        if all("longer" in row for row in rows):
            found.append(Statistic("longer", "“the longer answer” is right", "longer"))
        return found

    def tables(self, rows: Rows) -> list[Table]:
        """A line for each judge and subset, where there are several."""
        parts = list(dict.fromkeys((row["who"], row["subset"]) for row in rows))
        if len(parts) < 2:
            return []
        columns = {name: label for name, label in FACETS.items() if name != "right"}
        lines, records = list[tuple[str, ...]](), list[dict[str, Any]]()
        for who, subset in parts:
            some = [row for row in rows if (row["who"], row["subset"]) == (who, subset)]
            values = {c: measured(Statistic(c, c, c), some).value for c in columns}
            shown = [share_ranged(Estimate.of(value))[0] for value in values.values()]
            lines.append((who, subset, str(len(some)), *shown))
            records.append({"judge": who, "subset": subset, "pairs": len(some)})
            for name, value in values.items():
                records[-1] |= value.named(name)
        heads = ("judge", "subset", "#pairs", *(f"#{SHORT[name]}" for name in columns))
        if not any(who for who, _ in parts):
            heads, lines = heads[1:], [line[1:] for line in lines]
        return [Table("subsets", TITLE, heads, lines, records)]

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        """What sways the judge."""
        found: list[str] = []
        by_name = {m.statistic.name: m.value for m in measures}
        for who in dict.fromkeys(row["who"] for row in rows):
            name = f"{who}/" if f"{who}/right" in by_name else ""
            some = [row for row in rows if row["who"] == who]
            values = {facet: Estimate.of(by_name[name + facet]) for facet in FACETS}
            found += [f"{who or 'The judge'} {line}" for line in _about(values, some)]
        return found


def _about(values: Mapping[str, Estimate], rows: Rows) -> list[str]:
    found: list[str] = []
    silent = sum((row["given"] is None) + (row["swapped"] is None) for row in rows)
    if silent:
        replies = counted(2 * len(rows), "reply", "replies")
        found.append(f"gave no verdict in {silent} of {replies}; those are counted as wrong.")
    first, right = values["first"], values["right"]
    number, ends = share_ranged(first, beside=(0.5,))
    if beyond(first, ALWAYS) > 0 or beyond(first, 1 - ALWAYS) < 0:
        place = "first" if first.value > 0.5 else "second"
        found.append(
            f"names the answer shown {place} nearly always (first: {number}, {ends}): its verdicts "
            "tell of the order and not of the answers. That alone is right in one order of two."
        )
    elif way := beyond(first, 0.5):
        found.append(
            f"leans to the answer shown {'first' if way > 0 else 'second'} (first: {number}, "
            f"{ends}): always ask in both orders."
        )
    if right.enough and not beyond(right, 0.5):
        number, ends = share_ranged(right, beside=(0.5,))
        found.append(f"is not told from a coin on these pairs: right in {number} ({ends}).")
    elif beyond(right, 0.5) < 0 and beyond(_spoken(rows), 0.5) < 0:
        found.append("is right less often than a coin: it prefers what people reject.")
    return found


def _spoken(rows: Rows) -> Estimate:
    """How often a judge is right where it gives a verdict."""
    groups = [group_of(row) for row in rows]
    said = [
        (row[f"right_{order}"], group)
        for row, group in zip(rows, groups, strict=True)
        for order in ("given", "swapped")
        if row[order] is not None
    ]
    return Estimate.of(share_interval([hit for hit, _ in said], [group for _, group in said]))


def _recorded(data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of tables that hold people's labels and the verdicts of a judge in both orders."""
    found: list[dict[str, Any]] = []
    for number, table in enumerate(data):
        who = ", ".join(str(table[name]) for name in ("judge", "method") if table.get(name))
        subset = str(table.get("subset", ""))
        lines = cast("Sequence[Any]", table.get("rows") or [])
        if "given" in table:
            lines = [(table.get("label"), table.get("given"), table.get("swapped"))]
        for place, (label, given, swapped) in enumerate(lines):
            sides = [_named(value) for value in (label, given, swapped)]
            if sides[0] not in ("1", "2"):
                raise UserError(
                    f"row {number + 1}: the human label is {label!r}; it must be 1 or 2."
                )
            found.append({"id": f"{number}.{place}", "who": who, "subset": subset,
                          **judged(sides[0], sides[1], sides[2])})  # fmt: skip
    return found


def _read(row: Mapping[str, Any]) -> tuple[str, str, str, str] | str:
    """(Prompt, first, second, the better side) of a row; or why there are none."""
    prompt = next((row[n] for n in ("prompt", "instruction", "question") if row.get(n)), None)
    names = next((two for two in PAIRS if all(row.get(n) is not None for n in two)), None)
    if prompt is None or names is None:
        return "no prompt" if prompt is None else "no two answers"
    first, second = (str(row[name]) for name in names)
    if names == PAIRS[0]:
        return str(prompt), first, second, "1"
    said = next((row[name] for name in LABELS if row.get(name) is not None), None)
    label = _named(said)
    if label == "tie":
        return "people call it a tie"
    return "no label" if label is None else (str(prompt), first, second, label)


def _named(value: Any) -> str | None:
    """A side as "1", "2" or "tie"; None for anything else."""
    text = str(int(value) if isinstance(value, float) and value == int(value) else value)
    text = text.strip().lower()
    return "tie" if text in ("tie", "0.5", "1.5", "c", "equal") else SIDES.get(text)


def _side(value: float | None) -> str | None:
    return None if value is None else "tie" if value == 0.5 else "1" if value > 0.5 else "2"
