"""Items that nobody could answer here: a clip that is missing, a policy that the server does not
know. They are refused before they are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from backflip.feedback.kinds.fields import Payload
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.rating.items import Check
from backflip.server.base.media import Media


def askable(media: Media, policies: Collection[str] | None, project: str) -> Check:
    """Says of an item of a project why it cannot be asked; empty: it can.

    ``policies``: those that the server talks with; none: not known here.
    """

    def check(payload: Payload) -> str:
        kind = kind_of(payload.kind)
        faults = (media.fault(project, clip) for clip in kind.clips(payload))
        unknown = "" if policies is None else _unknown(kind.policies(payload), policies)
        return next((fault for fault in faults if fault), unknown)

    return check


def _unknown(wanted: Sequence[str], policies: Collection[str]) -> str:
    missing = [name for name in wanted if name not in policies]
    if not missing:
        return ""
    known = f"it knows {', '.join(policies)}" if policies else "it was started without any"
    return (
        f"this server knows no policy {missing[0][:60]!r} to talk with; {known}. Start it with "
        "--policy NAME=MODEL, or name another."
    )
