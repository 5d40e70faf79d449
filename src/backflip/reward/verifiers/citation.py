"""Quotations in an answer, which have to stand in their source."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from backflip.reward.instructions.units import UNSPACED, words
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier

if TYPE_CHECKING:
    from backflip.data.records import Prompt

_QUOTED = re.compile(
    r"""[“„”]([^“”„]+)[”“]|[«»]([^«»]+)[»«]|「([^「」]+)」|『([^『』]+)』"""
    r"""|(?<!\w)"([^"]+)"(?!\w)|((?:^[ \t]*>[^\n]*\n?)+)""",
    re.MULTILINE,
)
"""Text between double quotation marks of many languages, and Markdown's quoted lines."""
_LEFT_OUT = re.compile(r"\[[^\]\n]*\]|\.{3,}|…")
_LETTER = rf"[^\W{UNSPACED}]"
_SAME = str.maketrans(
    dict.fromkeys("‘’‚‛`´′", "'") | dict.fromkeys("“”„‟«»″", '"') | dict.fromkeys("‐‑‒–—―−", "-")
)


@dataclass(frozen=True, kw_only=True)
class Citation(Verifier):
    """Each quotation of the answer stands in the source, word by word.

    Forms of quotation marks and dashes, white space and marks at its ends do not count; what an
    ellipsis or [brackets] leave out may be anything. Unparsable: the answer quotes nothing.
    """

    needs_reference: ClassVar[bool] = False

    source: str | None = None
    """Column of the data with the source, a text or a list of texts; null takes the prompt."""
    words: int = 3
    """Shorter quotations are names and terms, and are not looked at."""
    least: int = 1
    """Fewest quotations of an answer that is right."""
    case: bool = False
    """Whether capitals count."""
    partial: bool = False
    """Score the share of the quotations that stand in the source."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference
        source = prompt if self.source is None else info[self.source]
        texts = [source] if isinstance(source, str) else [str(text) for text in source]
        quoted = [one for one in quotations(answer) if len(words(one)) >= self.words]
        if not quoted:
            return Verdict("unparsable")
        plain = [self._plain(text) for text in texts]
        share = sum(any(self._stands(one, text) for text in plain) for one in quoted) / len(quoted)
        if share == 1 and len(quoted) >= self.least:
            return Verdict("correct")
        share *= min(1, len(quoted) / self.least)
        return Verdict.share(share) if self.partial else Verdict("incorrect")

    def _stands(self, quotation: str, source: str) -> bool:
        """Whether its parts between omissions stand in the source, in their order."""
        at, parts = 0, [self._plain(part) for part in _LEFT_OUT.split(quotation)]
        for part in filter(None, (part.strip(" .,;:!?'\"-") for part in parts)):
            found = re.compile(rf"(?<!{_LETTER}){re.escape(part)}(?!{_LETTER})").search(source, at)
            if found is None:
                return False
            at = found.end()
        return True

    def _plain(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text.replace("…", "...")).translate(_SAME)
        text = " ".join(text.split())
        return text if self.case else text.casefold()

    def lacks(self, record: Prompt) -> str:
        if self.source is None:
            return ""
        held = record.info.get(self.source)
        listed = isinstance(held, Sequence) and all(isinstance(one, str) for one in held)
        return "" if held and listed else f"no text in column {self.source!r}, which is the source"

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        for name in ("words", "least"):
            if getattr(self, name) < 1:
                yield f"{where}.{name} is {getattr(self, name)}; it must be 1 or more."


def quotations(text: str) -> list[str]:
    """Quoted texts, without their marks."""
    found = ("".join(filter(None, groups)) for groups in _QUOTED.findall(text))
    return [re.sub(r"^[ \t]*>[ \t]?", "", one, flags=re.MULTILINE).strip() for one in found]
