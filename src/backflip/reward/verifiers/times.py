"""Times of day, which mathematics would take for numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backflip.data.references import boxed
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier
from backflip.reward.verifiers.notation import plain

TIME = re.compile(
    r"(?<![\d:.])(\d{1,2})(?:\s*[:h]\s*([0-5]\d)(?:\s*:\s*([0-5]\d))?)?\s*([ap])?\.?(?(4)\s?m\b\.?)"
    r"(?![\d:])|\b(noon|midnight)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Times(Verifier):
    r"""The last time of day in the answer, or in its last ``\boxed``, is the reference's.

    12:30, 9:05:00, 14h30, 9 am, 3:15 p.m., noon and midnight are read; a number alone is no time.
    """

    half: Literal["loose", "strict"] = "loose"
    """loose: 3:05 without am or pm agrees with 15:05 as well; strict: it is that in the night."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del prompt, info
        right, answer = times_in(reference), plain(answer)
        if not right:
            reason = f"the reference answer is no time: {reference[:40]!r}"
            return Verdict("error", reason=reason)
        box = boxed(answer)
        said = times_in(answer if box is None else box)
        if not said:
            return Verdict("unparsable")
        (gold, open_gold), (time, open_time) = right[-1], said[-1]
        loose = self.half == "loose" and (open_gold or open_time)
        same = (gold - time) % (43200 if loose else 86400) == 0
        return Verdict("correct" if same else "incorrect")


def times_in(text: str) -> list[tuple[int, bool]]:
    """(seconds since midnight, whether it may be in either half of the day) of each time."""
    found: list[tuple[int, bool]] = []
    for hour, minute, second, half, word in TIME.findall(text):
        if word:
            found.append((43200 * (word.lower() == "noon"), False))
            continue
        hours = int(hour)
        if not (minute or half) or hours > (12 if half else 24) or (half and not hours):
            continue
        if half:
            hours = hours % 12 + 12 * (half.lower() == "p")
        seconds = hours * 3600 + int(minute or 0) * 60 + int(second or 0)
        found.append((seconds, not half and 1 <= hours <= 12))
    return found
