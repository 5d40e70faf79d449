"""What a chat template writes between two turns of the assistant, as tokens.

The turn before is neither rendered nor tokenised again: whoever drew its tokens goes on behind
them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from backflip.data.chat import ChatTemplate
from backflip.data.records import Message, Messages

__all__ = ["Following"]


class Following:
    """Tokens of messages that answer the assistant, and after which it speaks again."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        marks = [re.escape(mark) for mark in template.marks if mark.strip()]
        self._marks = re.compile("|".join(marks) or r"(?!)")

    def __call__(self, messages: Sequence[Message]) -> list[int]:
        """Tokens behind the one that ended the assistant's turn, up to where it speaks again.

        Raises BadRecordError where the template cannot say it.
        """
        template = self.template
        before, behind, _ = template.turns.following(tuple(messages))
        head, upto = template.encode([before, before + behind])
        same = upto[: len(head)] == head
        return upto[len(head) :] if same else template.apart(behind, head, upto)

    def keeps_turns(self, messages: Sequence[Message]) -> bool:
        """Whether a turn of the assistant reads the same when ``messages`` follow it: the prefix
        property. Templates that take thoughts out of earlier turns lack it.
        """
        return self.template.turns.following(tuple(messages))[2]

    def without_marks(self, messages: Messages) -> Messages:
        """The same, a space in place of each control token, which would be read as the
        template's own.
        """
        return tuple(
            replace(one, content=self._marks.sub(" ", one.content) or " ") for one in messages
        )
