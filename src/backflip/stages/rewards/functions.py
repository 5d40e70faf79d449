"""A function of Python as the source of reward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from backflip.data.records import Prompt
from backflip.errors import UserError
from backflip.reward.calls import check_function, load_function
from backflip.reward.function import FunctionReward, TextJudge
from backflip.stages.rewards.context import PYTHON, RewardContext

__all__ = ["Function"]


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of Python: it is handed what its parameters ask for."""

    path: str = PYTHON
    """FILE.py:NAME; python for one that is handed over in Python."""
    correct: float | None = None
    """Score of an answer that is right; null takes the verdict's own, 1 where it has none."""
    incorrect: float | None = None
    """Score of an answer that is wrong; null takes the verdict's own, 0 where it has none."""
    unparsable: float | None = None
    """Score of an answer that holds nothing to check; null as for wrong ones."""
    uses_policy: ClassVar[bool] = False

    def scorers(self) -> list[str]:
        return []

    def lacks(self, record: Prompt) -> str:
        del record
        return ""

    def faults(self, where: str) -> Iterator[str]:
        if self.path != PYTHON:
            try:
                load_function(self.path)
            except UserError as error:
                yield f"{where}: {error}"
        best, worst = (1.0 if self.correct is None else self.correct), self.incorrect or 0.0
        if worst > best:
            yield (
                f"{where}.incorrect is {worst:g} and {where}.correct {best:g}: "
                "wrong answers would be paid for. Exchange them."
            )

    def build(self, given: RewardContext) -> FunctionReward:
        function = given.function if self.path == PYTHON else load_function(self.path)
        if function is None:
            run = given.context.recipe.run
            raise UserError(
                f"{run} is rewarded by a function, which no file can hold. Hand it over in Python: "
                f'bf.train(…, reward=FUNCTION), or bf.resume("{run}", reward=FUNCTION).'
            )
        if isinstance(function, TextJudge):
            function = function.check
        if remark := check_function(function, given.records):
            given.context.say(remark)
        said = {name: getattr(self, name) for name in ("correct", "incorrect", "unparsable")}
        return FunctionReward(
            function=function,
            template=given.context.template,
            records=given.records,
            scores={name: score for name, score in said.items() if score is not None},
        )
