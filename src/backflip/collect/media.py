"""Clips of a project: files below its own folder, and nothing above it.

Raters get them under addresses that do not tell their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from backflip.collect.clips import KINDS, kind_of
from backflip.collect.sealing import sealed, unsealed
from backflip.feedback.refusals import RefusedError

PICTURES = tuple(ending for ending, kind in KINDS.items() if kind.media == "image")
MOST_FRAMES = 600
MEDIA = "media"
"""The folder of clips within the server's files."""


class Media:
    """Finds files of projects, and gives the addresses under which a browser asks for them."""

    def __init__(self, folder: Path, secret: str) -> None:
        self.folder, self.key = folder, secret.encode()

    def root(self, project: str) -> Path:
        return self.folder / project

    def find(self, project: str, name: str) -> Path:
        """The file of that name, plain or sealed.

        Raises RefusedError outside the folder, or of another kind.
        """
        name = unsealed(name, project, self.key) or name
        if "\0" in name:
            raise RefusedError("not_found", "no file has a name with a null byte in it")
        root = self.root(project).resolve()
        path = (root / name).resolve()
        inside = path.is_relative_to(root)
        if not inside or not path.is_file() or kind_of(path.name) is None:
            raise RefusedError("not_found", f"there is no clip {name[:80]!r} in this project")
        return path

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
        return f"/media/{quote(project)}/{sealed(name, project, self.key)}"


def _address(url: str) -> str:
    """An address of our own or of the web; anything else (javascript:, data:) becomes nothing."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:  # brackets that hold no address
        return ""
    return url if scheme in ("", "http", "https") else ""
