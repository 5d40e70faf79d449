"""Rows of any data source → items of a project.

A row that is an item already (``answers``, ``clips``, ``steps`` …) is taken as it is. Any other row
is read by Backflip's formats, so what trains a model can be judged: comparisons are compared or
ranked, demonstrations rated, marked or made better, prompts answered.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backflip.data.errors import UserError
from backflip.data.formats import load
from backflip.data.records import Comparison, Demonstration, Labelled, Message, Prompt, Record
from backflip.data.sources import SUFFIXES, read
from backflip.feedback.items import NewItem

OWN = {
    "compare": "answers",
    "rank": "answers",
    "rate": "answer",
    "thumbs": "answer",
    "write": "draft",
    "steps": "steps",
    "spans": "answer",
    "clips": "clips",
    "principles": "principle",
    "talk": "policies",
}
"""The column that tells an item of each kind from a row of another format."""
RECORDS = {
    "compare": "comparisons",
    "rank": "comparisons",
    "rate": "demonstrations",
    "thumbs": "demonstrations",
    "spans": "demonstrations",
    "write": "prompts",
}
"""What else can become an item, by kind."""
EXTRA = ("gold", "why", "priority", "route")
"""Columns beside an item's own."""
EXPANDED = 10
"""A gzip file may be so many times larger than an upload may be."""
CHUNK = 1 << 20

EXAMPLES = {
    "compare": '{"prompt": "How do I boil an egg?", "answers": [{"text": "…"}, {"text": "…"}]}\n'
    '{"prompt": "How do I boil an egg?", "chosen": "…", "rejected": "…"}',
    "rank": '{"prompt": "Name a river.", "answers": [{"text": "…"}, {"text": "…"}, {"text": "…"}]}',
    "rate": '{"prompt": "Name a river.", "answer": {"text": "…"}}',
    "thumbs": '{"prompt": "Name a river.", "answer": {"text": "…"}}',
    "write": '{"prompt": "Name a river."}\n{"prompt": "Name a river.", "draft": {"text": "…"}}',
    "steps": '{"prompt": "What is 12 × 13?", "steps": ["12 × 13 = 12 × 10 + 12 × 3", "…"]}',
    "spans": '{"prompt": "Name a river.", "answer": {"text": "…"}}',
    "clips": '{"clips": [{"file": "walk-1.mp4", "media": "video"}, {"file": "walk-2.mp4"}]}',
    "principles": '{"principle": "Say so when you do not know."}',
    "talk": '{"policies": ["first", "second"], "role": "user", "rules": ["…"]}',
}
"""A row or two of each kind, for the import page."""


def items(source: str, kind: str, *, limit: int | None, gold: bool) -> Iterator[NewItem]:
    """Items of a source, in its order.

    ``gold``: whether the preference in comparisons is the right answer.
    Raises UserError where the source cannot be read or its columns fit no kind.
    """
    rows = read(source, limit=limit)
    first = next(rows, None)
    if first is None:
        return iter(())
    if _is_item(first.fields, kind) or kind not in RECORDS:
        every = itertools.chain([first], rows)
        return (_item(row.fields, kind, str(row.where)) for row in every)
    return _converted(source, kind, limit, gold)


def _is_item(fields: Mapping[str, Any], kind: str) -> bool:
    if "payload" in fields:
        return True
    value = fields.get(OWN[kind])
    if kind in ("compare", "rank"):
        return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping | str)
    return value is not None


def _item(fields: Mapping[str, Any], kind: str, where: str) -> NewItem:
    """An item in a row: beside it, or inside ``payload``, with what it may say of itself."""
    extra = {name: fields[name] for name in EXTRA if fields.get(name) is not None}
    inner = fields.get("payload")
    payload = dict(inner) if isinstance(inner, Mapping) else dict(fields)
    if not isinstance(inner, Mapping):
        payload = {k: v for k, v in payload.items() if k not in EXTRA}
    if OWN[kind] not in payload and kind not in ("write",):
        raise UserError(
            f"{where}: no column {OWN[kind]!r}, which items of kind {kind} need; "
            f"columns seen: {', '.join(map(str, fields))}"
        )
    return NewItem(_wrapped(payload, kind), **extra)


def _wrapped(payload: dict[str, Any], kind: str) -> dict[str, Any]:
    """Plain strings where the short form was written: prompts, answers, a draft."""
    made = {name: value for name, value in payload.items() if value is not None}
    if isinstance(made.get("prompt"), str):
        made["prompt"] = [{"role": "user", "content": made["prompt"]}]
    for name in ("answer", "draft"):
        if isinstance(made.get(name), str):
            made[name] = {"text": made[name]}
    if isinstance(made.get("answers"), list):
        made["answers"] = [{"text": a} if isinstance(a, str) else a for a in made["answers"]]
    return made | {"kind": kind}


def _converted(source: str, kind: str, limit: int | None, gold: bool) -> Iterator[NewItem]:
    wanted = RECORDS[kind]
    if kind == "write":
        wanted = _prompts_or_drafts(source)
    for record in load(source, wanted, limit=limit).records:
        yield _of_record(record, kind, gold)


def _prompts_or_drafts(source: str) -> str:
    from backflip.data.formats import kind_of

    return "demonstrations" if kind_of(source) == "demonstrations" else "prompts"


def _of_record(record: Record, kind: str, gold: bool) -> NewItem:
    match record:
        case Comparison():
            answers = [{"text": _said(answer)} for answer in record.answers]
            payload: dict[str, Any] = {"prompt": _turns(record.prompt), "answers": answers}
            return NewItem(payload | {"kind": kind}, gold=_gold(record, kind) if gold else None)
        case Demonstration():
            before, answer = record.messages[:-1], record.messages[-1].content
            name = "draft" if kind == "write" else "answer"
            return NewItem({"kind": kind, "prompt": _turns(before), name: {"text": answer}})
        case Labelled():
            body = {"prompt": _turns(record.prompt), "answer": {"text": _said(record.answer)}}
            known = {"up": record.label} if gold and kind == "thumbs" else None
            return NewItem(body | {"kind": kind}, gold=known)
        case Prompt():
            return NewItem({"kind": kind, "prompt": _turns(record.messages)})


def _gold(record: Comparison, kind: str) -> dict[str, Any]:
    if kind == "rank":
        return {"ranks": list(record.rank)}
    if record.tied:
        return {"choice": "tie"}
    return {"choice": "ab"[record.rank.index(0)], "strength": 1}


def _turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _said(answer: tuple[Message, ...]) -> str:
    """An answer's text; one of several turns names its speakers."""
    if len(answer) == 1:
        return answer[0].content
    return "\n\n".join(f"**{m.role.capitalize()}:** {m.content}" for m in answer)


def suffix_of(name: str) -> str:
    """The ending of an uploaded file's name. Raises UserError for a kind that is not read."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return suffix
    raise UserError(f"{name[-80:]!r} is no data file; use one ending in {', '.join(SUFFIXES)}")


def unpacked(path: Path, most: int) -> Path:
    """A gzip file unpacked beside itself, if it holds no more than ``most`` bytes (a gzip bomb)."""
    if path.suffix != ".gz":
        return path
    target, size = path.with_suffix(""), 0
    try:
        with gzip.open(path, "rb") as packed, target.open("wb") as plain:
            while block := packed.read(CHUNK):
                size += len(block)
                if size > most:
                    raise UserError(
                        f"unpacked, this file is larger than {most // 2**20} MiB; send it in parts"
                    )
                plain.write(block)
    except (EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"this is not whole gzip data ({error}); pack it again") from error
    return target
