"""Two clips; a video, a trajectory as frames, or an image each (Christiano et al., 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from backflip.feedback.kinds import form
from backflip.feedback.kinds.base import LETTERS, Block, Wording
from backflip.feedback.kinds.fields import Payload, Rubric, Strict, Turn
from backflip.feedback.kinds.pairs import (
    PairKind,
    better,
    change_choice,
    choice_text,
    reason_from_why,
)

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif")
HINT = "A file of the project, or an address."


class Clip(Strict):
    """Something to look at: an address or a file of the project."""

    url: str = ""
    file: str = ""
    media: Literal["video", "image", "frames"] = "video"
    source: str = ""

    @model_validator(mode="after")
    def _somewhere(self) -> Clip:
        if bool(self.url) == bool(self.file):
            raise ValueError("a clip needs a url or a file, and not both")
        return self


class Clips(Payload):
    kind: str = "clips"
    prompt: tuple[Turn, ...] = ()
    clips: tuple[Clip, Clip]


def _change_clip(name: str, given: form.Texts, payload: form.Data, _value: form.Data) -> None:
    clips, place, text = form.as_maps(payload.get("clips")), int(name[-1]), given[name].strip()
    clips += [{}] * (place + 1 - len(clips))
    media = "image" if text.lower().endswith(PICTURES) else "video"
    there = "url" if text.startswith(("http://", "https://", "/")) else "file"
    clips[place] = {there: text, "media": media, "source": clips[place].get("source", "")}
    payload["clips"] = clips


class ClipsForm(form.Form):
    changes: ClassVar[Mapping[str, form.Change]] = {"clip": _change_clip, "choice": change_choice}

    def controls(self, settings: Rubric, answers: int) -> list[form.Control]:
        sides = [form.Control(f"clip_{n}", f"Clip {LETTERS[n]}", "line", HINT) for n in (0, 1)]
        return [*sides, better(settings)]

    def texts(self, payload: form.Data, value: form.Data) -> form.Texts:
        clips = enumerate(form.as_maps(payload.get("clips")))
        shown = {f"clip_{n}": str(c.get("file") or c.get("url") or "") for n, c in clips}
        return shown | choice_text(value)

    def finish(
        self, touched: set[str], given: form.Texts, payload: form.Data, value: form.Data
    ) -> None:
        reason_from_why(given, value)


class ClipsKind(PairKind[Clips]):
    name, place = "clips", 8
    payload = Clips
    form = ClipsForm()
    column = sides = "clips"
    written, files, readable = False, True, False
    wording = Wording(
        title="Compare clips",
        description="Two videos, pictures or trajectories",
        row='{"clips": [{"file": "walk-1.mp4", "media": "video"}, {"file": "walk-2.mp4"}]}',
        subject="on the better clip",
        values=("B", "A", "a tie"),
        asks="Two clips",
    )

    def side_text(self, side: Clip) -> str:
        return f"url {side.url}" if side.url else f"file {side.file}"

    def clips(self, payload: Clips) -> tuple[Clip, ...]:
        return payload.clips

    def blocks(self, payload: Mapping[str, Any]) -> list[Block]:
        return [Block("clips", payload["clips"], "pictures")]

    def gist(self, payload: Mapping[str, Any]) -> str:
        return " · ".join(str(c.get("file") or c.get("url"))[:60] for c in payload["clips"])


KIND = ClipsKind()
