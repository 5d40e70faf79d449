"""The project that fits a file of answers: of the kind as which most of them can be read.

Scales, attributes and labels are those that the answers use, so that nothing has to be set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backflip.data.records import Tally
from backflip.data.sources import Row, read
from backflip.errors import UserError
from backflip.feedback.exchange.imports import PEEK, TOOLS, Tool, columns_of
from backflip.feedback.exchange.mapping import kinds_where, mapping_of
from backflip.feedback.exchange.own_answers import parsed
from backflip.feedback.exchange.tool_records import Document
from backflip.feedback.exchange.tool_values import STRENGTH, whole
from backflip.feedback.exchange.transfer import OURS
from backflip.feedback.tasks.settings import ProjectSettings, settings_of

ROWS = 500
"""Rows that are looked at."""


def suggested(source: str) -> ProjectSettings | None:
    """Settings under which a file's answers can be taken over; none where it brings no answers."""
    rows = list(read(source, limit=ROWS, broken=Tally()))
    if not rows:
        return None
    form = columns_of(rows[:PEEK])
    name = next((name for name, tool in TOOLS.items() if tool.fits(form)), None)
    if name is None:
        return None
    used = _Used(rows)
    if name == OURS:
        return settings_of(used.settings(str(form["kind"])))
    tried = [_tried(TOOLS[name], settings_of(used.settings(kind)), rows) for kind in used.kinds()]
    read_, _, settings = max(tried, key=lambda one: one[:2])
    return settings if read_ else None


def _tried(
    tool: Tool, settings: ProjectSettings, rows: Sequence[Row]
) -> tuple[int, int, ProjectSettings]:
    """How many answers can be read so, and, less than none, what it leaves unread."""
    read_, unread, most = 0, 0, 1
    for row in rows:
        try:
            document: Document = tool.read(row.fields, settings)
        except UserError:
            continue
        said = len(document.given) + (document.truth is not None)
        read_, most = read_ + said, max(most, said)
        unread += len(document.faults) + sum("does not ask" in note for note in document.notes)
    single = tool.item and tool.item(rows[0].fields) is not None
    more = {} if single else {"raters_per_item": most}
    return read_, -unread, settings.model_copy(update=more)


class _Used:
    """Names of attributes and labels, and the ends of scales, that a file's answers use."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.scales: dict[str, list[int]] = {}
        self.labels: dict[str, None] = {}
        self.strength = 1
        for row in rows:
            for found in _parts({k: parsed(v) for k, v in row.fields.items() if k != "prompt"}):
                self._see(found)

    def _see(self, part: Mapping[str, Any]) -> None:
        """A rating, a label or a strength, wherever in a row it stands."""
        value = part.get("value", part)
        labels = [part.get("label"), *(part.get("labels") or ())]
        self.labels.update({str(label): None for label in labels if isinstance(label, str)})
        if isinstance(value, Mapping):
            name, number = part.get("from_name"), whole(value.get("rating", value.get("number")))
            given = {name: number} if number is not None else value.get("ratings") or {}
            self._numbers(given if isinstance(given, Mapping) else {})
            self.strength = max(self.strength, whole(value.get(STRENGTH)) or 1)
        for name, values in part.items():
            for one in values if isinstance(values, list) else ():
                if isinstance(one, Mapping) and "user_id" in one:
                    self._numbers({name: one.get("value")})
                elif str(name).endswith(".responses"):
                    self._numbers({str(name).removesuffix(".responses"): one})

    def _numbers(self, given: Mapping[Any, Any]) -> None:
        for name, value in given.items():
            number = whole(value)
            if number is None or not isinstance(name, str):
                continue
            if name == STRENGTH:
                self.strength = max(self.strength, number)
            else:
                self.scales.setdefault(name, []).append(number)

    def kinds(self) -> Iterator[str]:
        """Kinds that a file of another tool may be of."""
        for kind in kinds_where(lambda mapping: mapping.question):
            if not kind.settings_faults(
                ProjectSettings.model_construct(**self.settings(kind.name))
            ):
                yield kind.name

    def settings(self, kind: str) -> dict[str, Any]:
        """Settings of a project of this kind."""
        made: dict[str, Any] = {"kind": kind}
        question = mapping_of(kind).question
        return made | (question.settings(self) if question is not None else {})


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects of a row, those within others too."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _parts(inner)
