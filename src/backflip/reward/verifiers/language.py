"""The language of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from backflip.reward.instructions.units import LANGUAGES, speaks
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier

if TYPE_CHECKING:
    from backflip.data.records import Prompt


@dataclass(frozen=True, kw_only=True)
class Language(Verifier):
    """The answer is in one language, told by langdetect; some sentences are needed to tell.

    Unparsable: no language can be told, as of digits and emoji.
    """

    needs_reference: ClassVar[bool] = False

    language: str | None = None
    """Its code: en, de, zh, zh-tw …; null takes that of each row, in ``column``."""
    column: str = "language"
    """Column of the data with the code, where ``language`` is null."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference, prompt
        spoken = speaks(answer, self._code(info))
        if spoken is None:
            return Verdict("unparsable")
        return Verdict("correct" if spoken else "incorrect")

    def _code(self, info: Mapping[str, Any]) -> str:
        return str(self.language or info.get(self.column) or "").strip().lower()

    def lacks(self, record: Prompt) -> str:
        code = self._code(record.info)
        if not code:
            return f"no column {self.column!r} with the language of the answer"
        return "" if code in LANGUAGES else f"unknown language {code!r}"

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        if self.language is not None and self._code({}) not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES))
            yield f"{where}.language is {self.language!r}; it must be one of {known}."
