"""Multiple choice: the letter of the option that an answer names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backflip.data.multiple_choice import OPTIONS, options_in
from backflip.data.references import boxed
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier
from backflip.reward.verifiers.notation import plain

MARK = re.compile(
    r"(?i)\b(?:answer|option|choice)\b(?:\s+(?:is|would be|must be|should be))?[\s:*=(\"'$]*"
    r"|\b(?:choose|pick|select)\s+(?:option\s+)?|####"
)


@dataclass(frozen=True, kw_only=True)
class Choice(Verifier):
    r"""The answer names the right option, by its letter or its text.

    The reference is a letter, (B) or b. too, or the text of an option in the column choices or
    options. Read are the last ``\boxed``; else the letter behind the last "answer is" or the like;
    else a letter that is the whole answer, begins it as ``B.`` or ``(B)``, or is its last line;
    else the only letter in brackets; else the text of exactly one option. An answer that names
    several options at once, or none, is unparsable.
    """

    letters: str = "ABCDEFGHIJ"
    """Letters of the options."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del prompt
        columns = (info[name] for name in OPTIONS if info.get(name))
        options = next((options_in(column)[1] for column in columns), [])
        right = self._key(reference, options)
        if right is None:
            reason = f"the reference answer is no option: {reference[:40]!r}"
            return Verdict("error", reason=reason)
        said = self._named(plain(answer).strip(), options)
        if said is None:
            return Verdict("unparsable")
        return Verdict("correct" if said == right else "incorrect")

    def _key(self, reference: str, options: Sequence[str]) -> str | None:
        """The letter of the right option."""
        if letter := self._alone(plain(reference).strip()):
            return letter
        return self._of_text(reference, options)

    def _named(self, answer: str, options: Sequence[str]) -> str | None:
        """The letter that an answer names."""
        box = boxed(answer)
        if box is not None:
            return self._alone(box) or self._of_text(box, options)
        marks = list(MARK.finditer(answer))
        for mark in reversed(marks):
            rest = answer[mark.end() :]
            if letter := self._first(rest) or self._of_text(rest.partition("\n")[0], options):
                return None if self._several(rest) else letter
        bracketed = re.findall(rf"\(([{self.letters}])\)|\*\*([{self.letters}])\*\*", answer)
        named = {first or second for first, second in bracketed}
        lines = answer.splitlines() or [""]
        begins = self._begins(lines[0])
        whole = self._alone(answer) or (begins if named <= {begins} else None)
        if whole or (whole := self._alone(lines[-1])):
            return whole
        return named.pop() if len(named) == 1 else self._of_text(answer, options)

    def _alone(self, text: str) -> str | None:
        r"""The letter that is all of a text: A, a, (A), A., **A**, \text{A}, option A."""
        bare = re.sub(r"\\(?:text|mathrm|mathbf|textbf)\s*", "", text)
        bare = re.sub(r"(?i)^\W*(?:option|choice|answer)\b", "", bare).strip(" \t\n()[]{}.:,;*$\"'")
        letter = bare.upper()
        return letter if len(bare) == 1 and letter in self.letters else None

    def _first(self, text: str) -> str | None:
        """The letter at the beginning of a text, which must be a capital or in brackets."""
        found = re.match(rf"[\s*\[({{]*([{self.letters}])(?![\w'’])", text)
        return found[1] if found else self._alone(text.partition("\n")[0])

    def _begins(self, line: str) -> str | None:
        found = re.match(rf"[\s*]*(?:\(([{self.letters}])\)|([{self.letters}])[.):])(?:\W|$)", line)
        return (found[1] or found[2]) if found else None

    def _several(self, rest: str) -> bool:
        """Whether a second letter stands beside the first: A or B."""
        again = rf"^[\W_]*[{self.letters}]\W{{0,4}}(?:\s|,)*(?:and|or|,|/|&)\W*[{self.letters}]\b"
        return re.match(again, rest) is not None

    def _of_text(self, text: str, options: Sequence[str]) -> str | None:
        """The letter of the only option whose text is this one, or stands in it."""
        said = _words(text)
        same = [n for n, option in enumerate(options) if _words(option) == said]
        inside = [n for n, option in enumerate(options) if f" {_words(option)} " in f" {said} "]
        found = same if len(same) == 1 else inside
        return self.letters[found[0]] if len(found) == 1 and said else None


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
