"""Multiple choice: the letter of the option that an answer names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backflip.data.multiple_choice import OPTIONS, options_in
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier
from backflip.reward.verifiers.final_answer import boxes
from backflip.reward.verifiers.notation import plain, unlabelled

MARK = re.compile(
    r"(?i)(?:<\w*answer>|(?<![</\w])answers?(?![\w>])|\b(?:correct|right|best|my|final)\s+(?:option|choice)\b"
    r"|\b(?:option|choice)(?=\s*(?:is\b|:|=))|\b(?:choose|pick|select|go with)\b|####)"
    r"(?:\s+(?:is|would be|must be|should be))?[\s:*=(\"'$]*(?:(?:option|choice)\s+)?"
)
DENIED = r"\W{1,3}(?:is|was)(?:n't|\s+(?:not|wrong|bad|incorrect|false|out))\b"


@dataclass(frozen=True, kw_only=True)
class Choice(Verifier):
    r"""The answer names the right option, by its letter or its text.

    The reference is a letter, (B) or b. too, or the text of an option in the column choices or
    options. Read are the last ``\boxed``; else the letter behind the last "answer is" or the like,
    or before the last "is correct"; else a letter that is the whole answer, begins it as ``B.`` or
    ``(B)``, or is its last line; else the only letter in brackets or behind the word option; else
    the text of exactly one option. An answer that names
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
        box = boxes(answer)
        if box is not None:
            bare = unlabelled(box).replace("\\ ", " ")
            letter = self._alone(box) or self._begins(bare) or self._of_text(bare, options)
            return None if self._several(bare) else letter
        marks = [*MARK.finditer(answer), *self._praise().finditer(answer)]
        for mark in sorted(marks, key=re.Match.end, reverse=True):
            if mark.re is not MARK:
                before = answer[: mark.start()]
                again = re.search(rf"\b[{self.letters}]\W*(?:\b(?:and|or|nor)\b|[,/&])\W*$", before)
                return None if again else mark["letter"]
            rest = answer[mark.end() :]
            line = re.split(r"[.!?]\s|\n|</", rest)[0]
            if letter := self._first(rest) or self._of_text(line, options):
                return None if self._several(rest) else letter
        return self._unmarked(answer, options)

    def _praise(self) -> re.Pattern[str]:
        """The letter of "C is the correct answer", "(C) is right"."""
        return re.compile(
            rf"(?<![\w'’])(?P<letter>[{self.letters}])(?![\w'’])"
            rf"(?:[)\]}}*.$\":,\s(]*[)\]}}:,(](?:(?!\b[{self.letters}]\b)[^.!?;\n]){{1,60}}?|[*$\"]*)\s+"
            r"(?:is|must be)\s+(?:clearly\s+)?(?:(?:the|my)\s+(?:final\s+)?answer\b"
            r"|(?:the\s+)?(?:only\s+)?(?:correct|right)\b|the best (?:answer|option|choice)\b)"
        )

    def _unmarked(self, answer: str, options: Sequence[str]) -> str | None:
        one = rf"([{self.letters}])"
        bracketed = re.findall(rf"\({one}\)|\*\*{one}\*\*|\b(?i:option|choice) {one}\b", answer)
        named = {letter for found in bracketed for letter in found if letter}
        lines = answer.splitlines() or [""]
        begins = self._begins(lines[0])
        whole = self._alone(answer) or (begins if named <= {begins} else None)
        if whole or (whole := self._alone(lines[-1])):
            return whole
        if begins or any(re.search(rf"\b{letter}{DENIED}", answer) for letter in named):
            return None
        return named.pop() if len(named) == 1 else self._of_text(answer, options)

    def _alone(self, text: str) -> str | None:
        r"""The letter that is all of a text: A, a, (A), A., **A**, \text{A}, option A."""
        bare = re.sub(r"(?i)^\W*(?:option|choice|answer)\b", "", unlabelled(text)).strip(
            " \t\n()[]{}.:,;*$\"'"
        )
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
        again = (
            rf"^[\W_]*[{self.letters}]\W{{0,4}}(?:\s|,)*(?:and|or|,|/|&)\W*"
            rf"(?:(?:maybe|perhaps|possibly|also|even|option|choice)\W+)*[{self.letters}]\b(?!\s+(?:is|was)\b)"
        )
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
