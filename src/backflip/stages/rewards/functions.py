"""A function of Python as the source of reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.errors import UserError
from backflip.reward.calls import check_function, load_function
from backflip.reward.function import Apart, FunctionReward, TextJudge
from backflip.reward.verifiers.pool import pool_of
from backflip.stages.rewards.context import PYTHON, RewardContext, RewardSettings, is_python

__all__ = ["Function"]


@dataclass(frozen=True, kw_only=True)
class Function(RewardSettings):
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

    def faults(self, where: str) -> Iterator[str]:
        if not is_python(self.path):
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
        function = self._handed(given) if is_python(self.path) else load_function(self.path)
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

    def _handed(self, given: RewardContext) -> Callable[..., Any]:
        """The function from Python. Raises UserError where none was handed over."""
        handed = given.function
        several = handed if isinstance(handed, Mapping) else {PYTHON: handed}
        function = several.get(self.path)
        if function is None:
            run, which = given.context.recipe.run, self.path.partition(":")[2]
            form = "[FUNCTION, …]" if which else "FUNCTION"
            raise UserError(
                f"{run} is rewarded by a function{f' {which}' if which else ''}, which no file can "
                f"hold. Hand it over in Python: bf.train(…, reward={form}), or "
                f'bf.resume("{run}", reward={form}).'
            )
        return function

    def _apart(self, say: Callable[[str], None]) -> Apart | None:
        if not is_python(self.path) and self.workers:
            pool = pool_of(self.workers, self.memory, heard=True)
            return Apart(self.path, self.seconds, pool)
        say(
            f"the reward function {self.path} is called in this process, without limits of time "
            "and memory"
            + ("; one in a file, reward=FILE.py:NAME, has both" if is_python(self.path) else "")
        )
        return None
