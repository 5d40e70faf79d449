"""A regular expression that an answer has to match."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier

if TYPE_CHECKING:
    from backflip.data.records import Prompt


@dataclass(frozen=True, kw_only=True)
class RegularExpression(Verifier):
    """The answer matches a pattern, in the syntax of Python's re.

    With a group in the pattern, its last match is what the answer says, and has to be the
    reference; an answer without a match is then unparsable. Without a group, a match is enough.
    """

    pattern: str = ""
    """The pattern; empty takes the row's reference answer as the pattern."""
    whole: bool = False
    """Whether the pattern has to match the whole answer."""
    case: bool = True
    """Whether capitals count."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del prompt, info
        try:
            pattern = self._compiled(self.pattern or reference)
        except re.error as error:
            return Verdict("error", reason=f"the reference answer is no pattern: {error}")
        match = self._found(pattern, answer)
        if not self._compares:
            return Verdict("correct" if match else "incorrect")
        if match is None or match[1] is None:
            return Verdict("unparsable")
        same = self._said(match[1]) == self._said(reference)
        return Verdict("correct" if same else "incorrect")

    def final(self, answer: str) -> str | None:
        """The text of the group, where there is one: what is compared is what is voted for."""
        if not self._compares:
            return super().final(answer)
        match = self._found(self._compiled(self.pattern), self.part(answer) or "")
        return None if match is None or match[1] is None else self._said(match[1]) or None

    def _found(self, pattern: re.Pattern[str], answer: str) -> re.Match[str] | None:
        """The whole of an answer, or the last place in it that matches."""
        if self.whole:
            return pattern.fullmatch(answer.strip())
        return next(iter(reversed(list(pattern.finditer(answer)))), None)

    def _said(self, text: str) -> str:
        return text.strip() if self.case else text.strip().casefold()

    @property
    def _compares(self) -> bool:
        return bool(self.pattern) and self._compiled(self.pattern).groups > 0

    def _compiled(self, pattern: str) -> re.Pattern[str]:
        return re.compile(pattern, re.DOTALL | (0 if self.case else re.IGNORECASE))

    def lacks(self, record: Prompt) -> str:
        needed = not self.pattern or self._compares
        return "no reference answer" if needed and not record.reference.strip() else ""

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        try:
            self._compiled(self.pattern)
        except re.error as error:
            yield f"{where}.pattern is {self.pattern!r}, which is no pattern: {error}."
