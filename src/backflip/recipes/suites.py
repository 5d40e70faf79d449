"""``backflip evaluate MODEL suite=NAME``: who is asked, by which suite, and what is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from backflip.data.records import Tally
from backflip.data.sources import SUFFIXES, Source, name_of, read, write_jsonl
from backflip.errors import UserError
from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.discover import SUITES
from backflip.evaluation.suites.page import page
from backflip.evaluation.suites.report import Kept, SuiteReport, read_report, reported
from backflip.evaluation.suites.subject import (
    AnswersGiven,
    Asking,
    LanguageModel,
    OnRecord,
    Subject,
)
from backflip.monitor.progress import shown
from backflip.recipes import slips
from backflip.recipes.judges import scorer_of
from backflip.recipes.names import hint
from backflip.training.run_folder import write_atomically

__all__ = ["SUITES", "evaluate_suite", "evaluate_suites", "settings_of_suite"]

REPLIES = "replies:"
"""Before the name of somebody whose answers stand in the data themselves."""
ANSWERS = ("answer", "response", "output", "completion")
"""Columns of a file of answers."""
ASKING = {field.name: field for field in dataclasses.fields(Asking)}
OURS = ("data", "limit", "before", "out")
"""Settings of every suite that are neither its own nor of how a model is asked."""


def evaluate_suite(
    model: str | Path,
    suite: str,
    data: Source = "",
    *,
    out: str | Path | None = None,
    before: str | Path | None = None,
    limit: int | None = None,
    **settings: Any,
) -> SuiteReport:
    """Measure a model by a suite: ``bf.evaluate_suite("runs/ppo", "bbq", "bbq_age.jsonl")``.

    Args:
        model: a run, a folder, a hub name; a JSONL file of ``prompt`` and ``answer`` that another
            model gave; ``replies:NAME``, answers that the data hold; or the .json of a report,
            whose rows are measured anew without asking anybody.
        suite: its name; ``backflip evaluate --suites`` lists them.
        data: a file, folder or hub name with the suite's questions; or rows in memory.
        out: a folder for NAME.json, NAME.jsonl (a row for each question) and NAME.html; None
            writes nothing.
        before: the .json of another model's report by the same suite, to be compared with.
        limit: rows to read at most.
        settings: the suite's own, and template, system, max_tokens, temperature, seed.

    Raises UserError: a suite, setting, model or file that is not there, data without the columns.

    """
    if suite not in SUITES:
        raise UserError(f"there is no suite {suite!r}. {hint(suite, SUITES)}")
    with shown(aside=True):
        made, asking = settings_of_suite(suite, settings)
        past = None if before is None else read_report(Path(before))
        found = _measured(str(model), made, suite, _Data(data, limit), asking, past)
        return found if out is None else _written(found, Path(out))


def evaluate_suites(
    model: str, suites: Sequence[str], given: Mapping[str, Any]
) -> Iterable[SuiteReport]:
    """Several suites, each by its settings and those of all: ``bbq.data=…`` is that of bbq."""
    for name in given:
        group, dot, _ = name.partition(".")
        if dot and group not in suites:
            raise UserError(f"{name}: {group!r} is none of the suites {', '.join(suites)}.")
    out = given.get("out", f"evaluation/{Path(model.removeprefix(REPLIES)).name.split('.')[0]}")
    for suite in suites:
        own = {k.removeprefix(f"{suite}."): v for k, v in given.items() if "." not in k}
        own |= {
            k.partition(".")[2]: v
            for k, v in given.items()
            if k.partition(".")[0] == suite and "." in k
        }
        yield evaluate_suite(model, suite, **{"out": out} | own)


def settings_of_suite(name: str, given: Mapping[str, Any]) -> tuple[Suite, Asking]:
    """A suite by its settings, and how a model is asked.

    Raises UserError for a setting that is not known, or a value that cannot be.
    """
    kind: Any = SUITES[name]
    own = {field.name for field in dataclasses.fields(kind)}
    for key in given:
        if key not in own and key not in ASKING:
            known = [*sorted(own), *OURS, *ASKING]
            raise UserError(f"unknown setting {key!r} of suite {name}. {hint(key, known)}")
    given = {**kind.asking, **given}
    mine = {k: v for k, v in given.items() if k in own}
    rest = {k: v for k, v in given.items() if k not in own}
    try:
        suite: Suite = TypeAdapter(kind).validate_python(mine)
        return suite, TypeAdapter(Asking).validate_python(rest)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"suite {name}: {where} is {first['input']!r}; {message}.") from error


@dataclass(frozen=True)
class _Data:
    """The user's file of questions."""

    source: Source
    limit: int | None

    def rows(self, suite: Suite, name: str) -> tuple[list[dict[str, Any]], list[str]]:
        """Rows that have the columns of a suite, and sentences on those that do not."""
        if isinstance(self.source, str):
            if not self.source:
                raise UserError(f"suite {name} needs data=FILE with {_listed(suite.needs)}.")
            slips.check_data(self.source)
        left = Tally()
        found: list[dict[str, Any]] = []
        for row in read(self.source, limit=self.limit, broken=left):
            lacking = [column for column in suite.needs if _blank(row.fields.get(column))]
            if lacking:
                left.add(f"no {lacking[0]}", row.where)
            else:
                found.append(dict(row.fields))
        if not found:
            raise UserError(
                f"{name_of(self.source)} has no row for suite {name}, which needs "
                f"{_listed(suite.needs)}: {'; '.join(left.lines())}."
            )
        return found, [f"left out: {line}" for line in left.lines()]


def _listed(columns: Sequence[str]) -> str:
    return f"the columns {', '.join(columns)}" if columns else "a row a line"


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _measured(
    model: str, suite: Suite, name: str, data: _Data, asking: Asking, before: Kept | None
) -> SuiteReport:
    """The report; rows of an older one are taken as they are. A file without data is the data."""
    if model.endswith(".json"):
        kept = read_report(Path(model))
        if kept.suite != name:
            raise UserError(f"{model} is a report of suite={kept.suite}, not of suite={name}.")
        who = {"model": kept.model, "data": kept.data, "settings": kept.settings}
        return reported(suite, name, kept.rows, before=before, **who)
    if suite.asks and not model.endswith(SUFFIXES) and not model.startswith(REPLIES):
        slips.check_models(model)
    alone = data.source == "" and model.endswith(SUFFIXES)
    data = _Data(model, data.limit) if alone else data
    rows, notes = data.rows(suite, name)
    subject = OnRecord(model) if alone else _subject(model, rows, asking, scores=suite.scores)
    found = suite.examine(subject, rows)
    settings = _given(suite) | (_given(asking) if suite.asks else {})
    return reported(
        suite, name, found, model=subject.name, data=name_of(data.source), before=before,
        notes=[*notes, *subject.notes], settings=settings,
    )  # fmt: skip


def _given(settings: Any) -> dict[str, Any]:
    """Settings that are not the defaults."""
    fields = dataclasses.fields(settings)
    return {f.name: value for f in fields if (value := getattr(settings, f.name)) != f.default}


def _subject(
    model: str, rows: Sequence[Mapping[str, Any]], asking: Asking, *, scores: bool
) -> Subject:
    """Who is asked; where answers may be scored, a reward model or a trained policy as one."""
    if model.startswith(REPLIES):
        return _replies(model.removeprefix(REPLIES), rows)
    if model.endswith(SUFFIXES):
        return _answers(model)
    return scorer_of(model, asking) if scores else LanguageModel(model, asking)


def _answers(path: str) -> AnswersGiven:
    """A file of another model's answers."""
    slips.check_data(path)
    given: dict[str, list[str]] = {}
    left, notes = Tally(), list[str]()
    for row in read(path, broken=left):
        said = [row.fields[name] for name in ANSWERS if row.fields.get(name) is not None]
        prompt = row.fields.get("prompt", row.fields.get("instruction"))
        if prompt is None or not said:
            left.add("no prompt or no answer", row.where)
        else:
            given.setdefault(str(prompt), []).append(str(said[0]))
    if not given:
        raise UserError(f"{path} has no row with the columns prompt and answer.")
    notes += [f"left out of {path}: {line}" for line in left.lines()]
    subject = AnswersGiven(Path(path).name, given)
    subject.notes += notes
    return subject


def _replies(name: str, rows: Sequence[Mapping[str, Any]]) -> AnswersGiven:
    """Answers that stand in the data under ``replies``, by the name of who gave them."""
    given: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    known: dict[str, None] = {}
    for row in rows:
        replies = row.get("replies")
        replies = replies if isinstance(replies, Mapping) else {}
        known |= dict.fromkeys(map(str, replies))
        if isinstance(reply := replies.get(name), Mapping):
            given.setdefault(str(row["prompt"]), []).append(str(reply.get("text", "")))
            if reply.get("final") is not None:
                labels[str(row["prompt"])] = str(reply["final"])
    if not given:
        there = hint(name, known) if known else "They have no column replies."
        raise UserError(f"the data have no replies of {name!r}. {there}")
    return AnswersGiven(name, given, labels)


def _written(report: SuiteReport, folder: Path) -> SuiteReport:
    """Rows first: a report never stands without them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / f"{report.suite}.jsonl", report.rows)
    told = json.dumps(report.to_json(), ensure_ascii=False, allow_nan=False, indent=1)
    write_atomically(folder / f"{report.suite}.json", told + "\n")
    report = dataclasses.replace(report, page=str(folder / f"{report.suite}.html"))
    write_atomically(Path(report.page), page(report))
    return report
