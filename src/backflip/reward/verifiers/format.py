"""Tags in which the parts of an answer have to stand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier


@dataclass(frozen=True, kw_only=True)
class Format(Verifier):
    """The answer is ``<think>…</think> <answer>…</answer>``: each tag once, in order, none empty.

    Nothing but white space may stand outside of them (DeepSeek-R1's format reward, 2025, §2.2.2).
    """

    needs_reference: ClassVar[bool] = False

    tags: tuple[str, ...] = ("think", "answer")
    """Names of the tags, in their order."""
    opened: bool = False
    """Whether the prompt ends with the first tag, so that the answer begins inside of it."""
    share: bool = False
    """Whether part of the score is paid: the share of opening and closing tags that stand once."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference, prompt, info
        said = f"<{self.tags[0]}>{answer}" if self.opened else answer
        once = [said.count(mark) == 1 for tag in self.tags for mark in (f"<{tag}>", f"</{tag}>")]
        parts = r"\s*".join(f"<{tag}>(.*?)</{tag}>" for tag in map(re.escape, self.tags))
        found = re.fullmatch(rf"\s*{parts}\s*", said, re.DOTALL)
        if all(once) and found and all(part.strip() for part in found.groups()):
            return Verdict("correct")
        if not self.share:
            return Verdict("incorrect")
        paid = once[1:] if self.opened else once
        share = sum(paid) / (len(paid) + 1)  # all of it is paid for the order only
        return Verdict("scored" if share else "incorrect", share)

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        odd = [tag for tag in self.tags if not re.fullmatch(r"[\w.:-]+", tag)]
        if not self.tags or odd or len(set(self.tags)) < len(self.tags):
            seen = ", ".join(self.tags) or "empty"
            yield f"{where}.tags is {seen}; give different names such as think, answer."
