"""Which rows are learnt from and which are kept apart: by prompt, never by row.

The side depends on the prompt and the seed alone, not on the file or its order: the same prompt
is on the same side in demonstrations, comparisons and prompts, and stays there when rows are added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from backflip.data.records import Demonstration, Message, Messages, Record, prompt_of
from backflip.errors import UserError

R = TypeVar("R", bound=Record)


def opening(record: Record | Sequence[Message]) -> Messages:
    """All before the assistant's first turn; of plain text, the text."""
    messages = prompt_of(record)
    if not messages and isinstance(record, Demonstration):
        return record.messages
    roles = [message.role for message in messages]
    return messages[: roles.index("assistant", 1)] if "assistant" in roles[1:] else messages


def opening_key(record: Record | Sequence[Message]) -> str:
    """The key of records that must be kept together: their opening.

    Upper and lower case and white space make no difference.
    """
    return "\n".join(f"{m.role}: {_plain(m.content)}" for m in opening(record))


def split_by_prompt(
    records: Sequence[R], *, held_out: float, seed: int = 0
) -> tuple[list[R], list[R]]:
    """(train, held out). About ``held_out`` of the prompts, at least one, are held out.

    Args:
        records: rows of one kind.
        held_out: share of the prompts to keep apart, in [0, 1); 0 keeps none.
        seed: another seed holds out other prompts.

    Raises:
        UserError: the share is not in [0, 1), or there are fewer than two prompts to split.

    """
    if not 0 <= held_out < 1:
        raise UserError(f"held_out is {held_out}; it is a share of the prompts: 0 <= held_out < 1")
    if held_out == 0:
        return list(records), []
    keys = [opening_key(record) for record in records]
    places = {key: place_of(key, f"held out/{seed}") for key in keys}
    if len(places) < 2:
        raise UserError(
            f"{len(records)} rows have {len(places)} different prompt, which cannot be split; give "
            "data.validation, or set data.held_out=0 (not for a reward model or PPO)"
        )
    lowest, highest = min(places.values()), max(places.values())
    apart = {key: v == lowest or (v < held_out and v != highest) for key, v in places.items()}
    train = [r for r, key in zip(records, keys, strict=True) if not apart[key]]
    return train, [r for r, key in zip(records, keys, strict=True) if apart[key]]


def half_of(prompt: Record | Sequence[Message], *, seed: int = 0) -> int:
    """0 or 1: which of two halves a prompt belongs to, independent of ``split_by_prompt``."""
    return int(place_of(opening_key(prompt), f"half/{seed}") >= 0.5)


def place_of(key: str, salt: str) -> float:
    """A number in [0, 1) that text and salt decide, evenly spread and the same everywhere."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
