"""A dataset looked at by itself, as ``backflip check DATA`` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from backflip.data.audit import Audit, audit
from backflip.data.chat import ChatTemplate
from backflip.data.formats import Loaded
from backflip.data.memory import rows
from backflip.data.sources import Source
from backflip.models.load import load_tokenizer
from backflip.progress import task
from backflip.stages.settings import SHUFFLE_BUFFER, DataSettings
from backflip.stages.sources import kind_of, load

__all__ = ["audited"]


def audited(
    data: Source,
    kind: str | None,
    *,
    model: str | None,
    against: str | None,
    streaming: bool,
    reading: Mapping[str, Any],
) -> Audit:
    """The audit of a source; ``model`` counts lengths in tokens, as many as recipes allow.

    ``reading``: format, limit, max_length, template and columns.
    """
    limit: int | None = reading["limit"]
    if streaming:
        limit = limit or SHUFFLE_BUFFER
    loaded = _loaded(data, kind, limit, reading, streaming=streaming)
    other = load(against, kind_of(against)).records if against else None
    chat, longest = None, reading["max_length"]
    if model:
        chat = ChatTemplate(load_tokenizer(model), reading["template"])
        usual = int(DataSettings.model_fields["max_length"].default)
        longest = usual if longest is None else longest
    with task("looking for what is wrong"):
        return audit(loaded, template=chat, max_length=longest, against=other)


def _loaded(
    data: Source,
    kind: str | None,
    limit: int | None,
    reading: Mapping[str, Any],
    *,
    streaming: bool,
) -> Loaded[Any]:
    """The records; of a stream the first ones, and a note that says so."""
    form, columns = reading["format"], reading["columns"]
    data = data if isinstance(data, str) else list(islice(rows(data), limit))
    found = kind or kind_of(data, form, columns, streamed=streaming)
    loaded = load(data, found, format=form, limit=limit, columns=columns, streamed=streaming)
    if streaming and loaded.rows == limit:
        note = f"streamed: only the first {limit:,} rows were looked at"
        return replace(loaded, notes=(note, *loaded.notes))
    return loaded
