"""Signs of a chat template in the text of messages, where the template is put around them again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from backflip.data.chat import ChatTemplate
from backflip.data.lengths import answers_of
from backflip.data.records import Record, prompt_of
from backflip.data.template_fields import NEEDED, fields_of
from backflip.text import counted

FOREIGN = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<|user|>"),
    *("<|assistant|>", "<|system|>", "<|endoftext|>", "<|begin_of_text|>", "### Assistant:"),
    *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|start|>", "<|message|>", "<|end|>"),
    *(
        "<|header_start|>",
        "<|eot|>",
        "<|start_of_role|>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "[gMASK]",
    ),
    *("### Instruction:", "### Response:", "### Human:", "### User:", "\n\nHuman:"),
    "\n\nAssistant:",
)
"""Marks that templates of well-known families write around a message."""
PLACES = (
    *("<image>", "<|image|>", "<|image_pad|>", "<|vision_start|>", "<start_of_image>"),
    *("<image_soft_token>", "[IMG]", "<|image_1|>", "<image_1>", "<image 1>"),
)
"""Marks for the place of a picture in a text."""


def marked(records: Sequence[Record], template: ChatTemplate | None) -> list[tuple[Record, str]]:
    """Records with a template's sign in the text of a message, and the first such sign.

    Without a template, only the signs of well-known families are looked for.
    """
    return _with_any(records, {*(template.marks if template else ()), *FOREIGN} - {"", *PLACES})


def _with_any(records: Sequence[Record], signs: Collection[str]) -> list[tuple[Record, str]]:
    pattern = re.compile("|".join(map(re.escape, sorted(signs, key=len, reverse=True))))
    found: list[tuple[Record, str]] = []
    for record in records:
        texts = (m.content for said in (prompt_of(record), *answers_of(record)) for m in said)
        sign = next((hit.group() for hit in map(pattern.search, texts) if hit), None)
        if sign is not None:
            found.append((record, sign))
    return found


def remarks(records: Sequence[Record], template: ChatTemplate) -> Iterator[str]:
    """Sentences about messages of which the template makes something else than was meant."""
    found = marked(records, template)
    if found:
        yield (
            f"{_rows(found, records)} control tokens of a template in their "
            f"text ({_seen(found)}): the template is put around them once "
            "more, and the model reads them as its own. Give the text without them"
        )
    yield from placed(records)
    yield from unwritten(records, template)


def placed(records: Sequence[Record]) -> Iterator[str]:
    """A sentence about texts in which a picture has its place, and none is read."""
    found = _with_any(records, PLACES)
    if found:
        yield (
            f"{_rows(found, records)} the place of a picture in their text ({_seen(found)}): no "
            "picture is read, and the sign is learnt as text. Remove these rows, or the sign"
        )


def _rows(found: Sequence[Any], records: Sequence[Record]) -> str:
    verb = "holds" if len(found) == 1 else "hold"
    return f"{len(found)} of {len(records)} rows {verb}"


def _seen(found: Sequence[tuple[Record, str]]) -> str:
    signs = ", ".join(dict.fromkeys(sign.strip() for _, sign in found))
    return f"{signs}; e.g. {found[0][0].where}"


def unwritten(records: Sequence[Record], template: ChatTemplate) -> Iterator[str]:
    """Sentences about fields of messages that the template leaves out without harm."""
    found = [
        name
        for record in records
        for name in {n for a in [prompt_of(record), *answers_of(record)] for n in fields_of(a)}
        if name not in NEEDED and name not in template.writes
    ]
    for name in dict.fromkeys(found):
        rows = counted(found.count(name), "row")
        yield f"the template does not write {name}, which messages of {rows} have"
