"""Opinions on one answer → good or bad: labels, and thumbs in the dialects of logs."""

from __future__ import annotations

import math
import re
from typing import Any

from backflip.data.records import BadRecordError

GOOD = {
    *("👍", "+1", "1", "true", "yes", "good", "positive", "like", "liked"),
    *("up", "thumbup", "thumbsup", "upvote", "upvoted"),
}
BAD = {
    *("👎", "-1", "false", "no", "bad", "negative", "dislike", "disliked"),
    *("down", "thumbdown", "thumbsdown", "downvote", "downvoted"),
}
SILENT = {"", "0", "none", "null", "nan", "neutral", "unrated"}
SCORE = "column {column!r} holds a score instead of a thumb"
_BESIDE = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff:]|(?<=[a-z])[ _-]+")
"""Skin tones, the colons of :thumbsup:, and what stands between thumbs and up."""


def label(column: str, value: Any) -> bool:
    """True, false, 1 or 0, or a word for it. Raises BadRecordError for all else."""
    if _missing(value) or (isinstance(value, str) and _plain(value) in SILENT - {"0"}):
        raise BadRecordError("no label", f"column {column!r} says nothing: remove the row")
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    if isinstance(value, str) and _plain(value) in GOOD:
        return True
    if isinstance(value, str) and _plain(value) in BAD - {"-1"} | {"0"}:
        return False
    raise BadRecordError(
        f"column {column!r} is neither true nor false",
        f"{value!r} was given; use true or 1 for good answers and false or 0 for bad ones",
    )


def thumb(column: str, value: Any) -> bool:
    """Up or down: true or false, +1 or −1, 👍 or 👎, or a word for it.

    0 is nobody's thumb here, as in logs that write +1, 0 and −1. Raises BadRecordError for it and
    for all else.
    """
    if isinstance(value, bool):
        return value
    if _missing(value) or value == 0 or _says_nothing(value):
        raise BadRecordError("no thumb", "neither up nor down: nothing can be learnt from the row")
    if isinstance(value, int | float):
        if abs(value) == 1:
            return value > 0
        raise BadRecordError(
            SCORE.format(column=column),
            f"{value!r} was given; decide which scores are good and write a column label",
        )
    if is_thumb(value):
        return _plain(value) in GOOD
    kind = "text" if isinstance(value, str) else "something"
    raise BadRecordError(
        f"column {column!r} holds {kind} that is no thumb",
        f"{value!r} was given; use up or down, +1 or −1, true or false",
    )


def is_thumb(value: Any) -> bool:
    """Whether this text is one of the words for good or bad."""
    return isinstance(value, str) and _plain(value) in GOOD | BAD


def is_prose(value: Any) -> bool:
    """Whether this is text that judges nothing: a comment, or the name of a class."""
    return isinstance(value, str) and not is_thumb(value) and not _says_nothing(value)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _says_nothing(value: Any) -> bool:
    return isinstance(value, str) and _plain(value) in SILENT


def _plain(text: str) -> str:
    return _BESIDE.sub("", text.strip().casefold().replace("\u2212", "-"))
