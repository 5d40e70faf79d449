"""Pictures, sound and film in a row: told by the names of columns, and by files that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

_KIND = (
    r"(?:image|img|picture|pic|photo|screenshot|audio|wav|mp3|speech_file|video|mp4|jpe?g|png|"
    r"pixel_value)s?"
)
_PART = r"(?:url|uri|path|file|filename|byte|data|id|name|b64|base64)s?"
_PLAIN = re.compile(rf"(?:input_)?{_KIND}(?:_{_PART})?")
"""Names that no text has."""
_AMONG = re.compile(rf"(?!(?:has|is|num|n|no)_)(?:\w+_)?{_KIND}(?:_?\d+)?(?:_{_PART})?")
"""Names of which the value decides: words with spaces between them are text."""
_FILE = re.compile(
    r"\S+\.(?:png|jpe?g|gif|webp|bmp|tiff?|heic|avif|mp3|wav|flac|ogg|opus|m4a|mp4|avi|mkv|mov|"
    r"webm)(?:[?#]\S*)?",
    re.IGNORECASE,
)
_DATA = re.compile(r"data:(?:image|audio|video)/", re.IGNORECASE)


def is_media(name: str, value: Any) -> bool:
    """Whether a column or a field of this plain name holds something other than text."""
    if says_nothing(value) or isinstance(value, bool | int | float):
        return False
    if _PLAIN.fullmatch(name) or _is_binary(value):
        return True
    texts = list(_texts(value))
    spaced = any(len(text.split()) > 1 for text in texts)
    return bool(_AMONG.fullmatch(name)) and not spaced and not _yes_or_no(texts)


def names_file(value: Any) -> bool:
    """Whether a value is the place of a picture, a sound or a film, or one of them as text."""
    return any(_FILE.fullmatch(text.strip()) or _DATA.match(text) for text in _texts(value))


def says_nothing(value: Any) -> bool:
    """Whether there is nothing in a value, however deep it is looked for."""
    if isinstance(value, list | tuple):
        return all(says_nothing(one) for one in cast("Sequence[Any]", value))
    return value is None or (isinstance(value, str | dict) and not value)


def _yes_or_no(texts: Sequence[str]) -> bool:
    return bool(texts) and all(
        text.lower() in ("yes", "no", "true", "false", "none") for text in texts
    )


def _texts(value: Any) -> list[str]:
    """Texts in a value, in a list of them, or in mappings as they name places of files."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return [t for name in ("url", "path", "file", "src") for t in _texts(fields.get(name))]
    if isinstance(value, list | tuple):
        return [text for one in cast("Sequence[Any]", value) for text in _texts(one)]
    return []


def _is_binary(given: Any) -> bool:
    """Bytes, or what ``datasets`` makes of a picture or a sound."""
    value: Any = given
    if isinstance(value, list | tuple) and value:
        value = cast("Sequence[Any]", value)[0]
    if isinstance(value, Mapping):
        keys = set(cast("Mapping[str, Any]", value))
        return {"bytes", "path"} <= keys or {"array", "sampling_rate"} <= keys
    kind = type(cast("object", value))
    return isinstance(value, bytes) or kind.__module__.startswith("PIL.")
