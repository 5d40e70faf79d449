"""A function of Python as the source of reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from backflip.data.records import Prompt
from backflip.errors import UserError
from backflip.reward.calls import check_function, load_function
from backflip.reward.function import Apart, FunctionReward, TextJudge
from backflip.reward.verifiers.pool import pool_of
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
    seconds: float = 60.0
    """Time limit of a call of a function in a file, beyond which its outcome is timeout."""
    workers: int = 2
    """Processes that call a function in a file; 0 calls it in this one, without limits."""
    memory: float = 8.0
    """Largest address space of such a process, in gigabytes."""
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
        for name in ("seconds", "memory"):
            if not getattr(self, name) > 0:
                yield f"{where}.{name} is {getattr(self, name):g}; it must be above 0."
        if self.workers < 0:
            yield f"{where}.workers is {self.workers}; it must be 0 or more."
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
            apart=self._apart(given.context.say),
        )

    def _apart(self, say: Callable[[str], None]) -> Apart | None:
        if self.path != PYTHON and self.workers:
            pool = pool_of(self.workers, self.memory, heard=True)
            return Apart(self.path, self.seconds, pool)
        say(
            "the reward function is called in this process, without limits of time and memory"
            + ("; one in a file, reward=FILE.py:NAME, has both" if self.path == PYTHON else "")
        )
        return None
