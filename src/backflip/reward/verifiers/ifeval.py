"""IFEval (Zhou et al., 2023): instructions in the question that a program can check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from backflip.data.records import Tally
from backflip.reward.instructions.following import instructions_of
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier

if TYPE_CHECKING:
    from backflip.data.records import Prompt


@dataclass(frozen=True, kw_only=True)
class IFEval(Verifier):
    """The answer follows the instructions in ``instruction_id_list``, with settings in ``kwargs``.

    Correct where it follows all; an empty answer follows none.
    """

    needs_reference: ClassVar[bool] = False
    needs_columns: ClassVar[tuple[str, ...]] = ("instruction_id_list",)

    partial: bool = True
    """Score the share of instructions that are followed; otherwise all or nothing."""
    loose: bool = False
    """Forgive asterisks, and a first or last line that is not part of the answer."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference, prompt
        known, refused = instructions_of(info)
        if not known:
            return Verdict("error", reason=refused[0])
        share = sum(one.followed(answer, loose=self.loose) for one in known) / len(known)
        if share == 1:
            return Verdict("correct")
        return Verdict.share(share) if self.partial else Verdict("incorrect")

    def lacks(self, record: Prompt) -> str:
        known, refused = instructions_of(record.info)
        return "" if known else refused[0]

    def remarks(self, records: Sequence[Prompt]) -> Iterator[str]:
        refused = Tally()
        for record in records:
            for why in instructions_of(record.info)[1]:
                refused.add(why, record.where)
        for line in refused.lines():
            yield f"instructions that are not checked, so that the others decide: {line}"
