"""Signs of a chat template in the text of messages, where the template is put around them again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from backflip.data.chat import ChatTemplate
from backflip.data.lengths import answers_of
from backflip.data.records import Record, prompt_of
from backflip.data.template_fields import NEEDED, fields_of

FOREIGN = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<|user|>"),
    *("<|assistant|>", "<|system|>", "<|endoftext|>", "<|begin_of_text|>", "### Assistant:"),
)
"""What the templates of well-known families write around a message."""


def marked(records: Sequence[Record], template: ChatTemplate | None) -> list[tuple[Record, str]]:
    """Records with a template's sign in the text of a message, and the first such sign.

    Without a template, only the signs of well-known families are looked for.
    """
    signs = sorted({*(template.marks if template else ()), *FOREIGN} - {""}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, signs)))
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
        signs = ", ".join(dict.fromkeys(sign for _, sign in found))
        verb = "holds" if len(found) == 1 else "hold"
        yield (
            f"{len(found)} of {len(records)} rows {verb} control tokens of a template in their "
            f"text ({signs}; e.g. {found[0][0].where}): the template is put around them once "
            "more, and the model reads them as its own. Give the text without them"
        )
    yield from unwritten(records, template)


def unwritten(records: Sequence[Record], template: ChatTemplate) -> Iterator[str]:
    """Sentences about fields of messages that the template leaves out without harm."""
    found = [
        name
        for record in records
        for name in {n for a in [prompt_of(record), *answers_of(record)] for n in fields_of(a)}
        if name not in NEEDED and name not in template.writes
    ]
    for name in dict.fromkeys(found):
        count = found.count(name)
        yield f"the template does not write {name}, which messages of {count} rows have"
