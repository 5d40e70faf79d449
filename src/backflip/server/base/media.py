"""Clips of a project: files below its own folder, and nothing above it.

Raters get them under addresses that do not tell their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import quote, unquote, urlsplit

from backflip.feedback.kinds.clips import Clip
from backflip.feedback.store.refusals import RefusedError
from backflip.server.base.clip_ids import ClipIds
from backflip.server.base.clips import KINDS, kind_of

PICTURES = tuple(ending for ending, kind in KINDS.items() if kind.media == "image")
MOST_FRAMES = 600
MEDIA = "media"
"""The folder of clips within the server's files."""


class Media:
    """Finds files of projects, and gives the addresses under which a browser asks for them."""

    def __init__(self, folder: Path, secret: str) -> None:
        self.folder, self.ids = folder, ClipIds(secret)

    def root(self, project: str) -> Path:
        return self.folder / project

    def find(self, project: str, name: str) -> Path:
        """The file of that name, plain or sealed.

        Raises RefusedError outside the folder, or of another kind.
        """
        name = self.ids.unsealed(name, project) or name
        path = self._path(self.root(project).resolve(), name)
        if path is None or not path.is_file() or kind_of(path.name) is None:
            raise RefusedError("not_found", f"there is no clip {name[:80]!r} in this project")
        return path

    def fault(self, project: str, clip: Clip) -> str:
        """Why raters would not see a clip that an item names; empty: they would."""
        name = clip.file
        if not name:
            mine = f"/media/{quote(project)}/"
            if not clip.url.startswith(mine):
                return ""
            name = unquote(clip.url.removeprefix(mine))
        root = self.root(project).resolve()
        path = self._path(root, self.ids.unsealed(name, project) or name)
        if path is None:
            return f"{name[:80]!r} points outside the clips of this project."
        if clip.media == "frames" and path.is_dir():
            return "" if self._frames(project, name) else f"the folder {name[:80]!r} has no frames."
        if not path.is_file():
            return f"there is no clip {name[:80]!r} in this project; send it first."
        return "" if kind_of(path.name) else f"{name[:80]!r} is nothing that browsers show."

    @staticmethod
    def _path(root: Path, name: str) -> Path | None:
        """The file of a name, in whichever way its letters are composed; none outside the root."""
        if "\0" in name:
            return None
        forms = [(root / form).resolve() for form in (name, normalize("NFC", name))]
        path = next((form for form in forms if form.exists()), forms[0])
        return path if path.is_relative_to(root) else None

    def place(self, project: str, clip: Mapping[str, Any]) -> dict[str, Any]:
        """A clip as the page shows it: its address, or one for every frame of a folder."""
        media, name = clip.get("media", "video"), str(clip.get("file") or "")
        if not name:
            return {"media": media, "url": _address(str(clip.get("url") or ""))}
        shown: dict[str, Any] = {"media": media, "url": self._url(project, name)}
        if media == "frames":
            shown["frames"] = [self._url(project, frame) for frame in self._frames(project, name)]
        return shown

    def _frames(self, project: str, name: str) -> list[str]:
        root = self.root(project).resolve()
        folder = (root / name).resolve()
        if not folder.is_relative_to(root) or not folder.is_dir():
            return [name]
        found = sorted(f.name for f in folder.iterdir() if f.suffix.lower() in PICTURES)
        return [f"{name.rstrip('/')}/{frame}" for frame in found[:MOST_FRAMES]]

    def _url(self, project: str, name: str) -> str:
        return f"/media/{quote(project)}/{self.ids.sealed(name, project)}"


def _address(url: str) -> str:
    """An address of our own or of the web; anything else (javascript:, data:) becomes nothing."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:  # brackets that hold no address
        return ""
    return url if scheme in ("", "http", "https") else ""
