"""Places on the server's disk, which are nobody's business: messages and logs go without them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

DATABASE = re.compile(r"\b(sqlite|postgres(?:ql)?)(?:\+\w+)?:/\S+")
PLACE = re.compile(r"(?<![\w:/.…~-])~?/(?:[^\s/'\":,;()<>|]+/)+(?P<last>[^\s/'\":,;()<>|]*)")
"""A path from the root on, with a folder in it; no part of an address of the web."""


def without_places(text: str, roots: Iterable[Path] = ()) -> str:
    """A text in which files keep their names and lose their folders.

    ``roots``: folders that are known, whatever their names hold.
    """
    known = {str(form) for root in (*roots, *_usual()) for form in (root, root.resolve())}
    for root in sorted(known - {"/", "."}, key=len, reverse=True):
        text = text.replace(f"{root}/", "…/")
    text = DATABASE.sub(r"\1:…", text)
    return PLACE.sub(lambda found: f"…/{found['last']}", text)


def _usual() -> tuple[Path, ...]:
    return Path.home(), Path.cwd(), Path(tempfile.gettempdir())
