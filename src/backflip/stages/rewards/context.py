"""Parts that sources of reward are built from, and what the settings of each can say."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from backflip.data.records import Prompt, Tally
from backflip.distributed.world import here
from backflip.environments.reward import LastTurn
from backflip.errors import UserError
from backflip.generate.engine import Engine
from backflip.reward.protocol import RewardSource, Told
from backflip.stages.context import StageContext

__all__ = [
    "PYTHON",
    "SELF",
    "RewardContext",
    "RewardSettings",
    "checkable",
    "is_python",
    "reads_models",
]

PYTHON = "python"
"""The address of a function that is handed over in Python."""
SELF = "self"


def is_python(address: str) -> bool:
    """Whether a function is handed over in Python: ``python``, or ``python:NAME`` among several."""
    return address.partition(":")[0] == PYTHON


@dataclass(frozen=True)
class RewardContext:
    """Parts that sources of reward are built from."""

    context: StageContext
    engine: Engine | None
    """The policy's own, where the source says that it uses the policy."""
    records: Sequence[Prompt]
    """Prompts by ``Rollouts.row``."""
    function: Callable[..., Any] | Mapping[str, Callable[..., Any]] | None
    """From Python, where the recipe says so; several by their addresses, python:NAME."""

    def source(self, setting: RewardSettings) -> RewardSource:
        """The source of a setting. Of an episode in an environment it is shown the last turn as the
        answer, unless it says that it looks at ``whole_episodes``.
        """
        built, recipe = setting.build(self), self.context.recipe
        if here().size > 1 and not getattr(setting, "reads_models", False):
            built = Told(built)
        alone = getattr(recipe, "environment", None) is None
        return built if alone or getattr(setting, "whole_episodes", False) else LastTurn(built)


class RewardSettings(Protocol):
    """A kind of reward in a recipe: a dataclass whose fields are its settings.

    Its ``uses_policy``, of the class or of the object, says whether it asks the policy itself. Of
    several processes rank 0 alone judges and tells the others, unless ``reads_models`` says that
    they share its work out. All but ``build`` has a default.
    """

    def scorers(self) -> list[str]:
        """Reward models that it loads."""
        return []

    def lacks(self, record: Prompt) -> str:
        """The reason why answers to a prompt cannot be judged; empty where they can."""
        del record
        return ""

    def faults(self, where: str) -> Iterator[str]:
        """Sentences on settings that cannot be; ``where`` is the setting's name."""
        del where
        return iter(())

    def final(self, answer: str) -> str | None:
        """The final answer in an answer, by which votes are counted: its last line that says
        something, and None where none does.
        """
        return next((" ".join(x.split()) for x in reversed(answer.splitlines()) if x.strip()), None)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest score that an answer can have, where those are known."""
        return None

    @abstractmethod
    def build(self, given: RewardContext) -> RewardSource:
        """The source of reward."""
        ...


def reads_models(setting: Any) -> bool:
    """Whether a reward loads models, whose work several processes share out."""
    terms = getattr(setting, "terms", (setting,))
    return any(getattr(term, "reads_models", False) for term in terms)


def checkable(
    reward: RewardSettings, records: Sequence[Prompt], say: Callable[[str], None]
) -> list[Prompt]:
    """The prompts to which answers can be judged; the others are counted by reason, and said.

    Raises UserError where there are prompts and none is left.
    """
    held, dropped = list[Prompt](), Tally()
    for record in records:
        if why := reward.lacks(record):
            dropped.add(why, record.where)
        else:
            held.append(record)
    if records and not held:
        columns = dict.fromkeys(name for record in records for name in record.info)
        advice = f"Columns beside the prompt: {', '.join(columns) or 'none'}."
        if any("reference" in why for why in dropped):
            advice = "Say which column holds the reference answer: data.columns.reference=NAME."
        raise UserError(
            f"no prompt can be judged by this reward: {'; '.join(dropped.lines())}. {advice}"
        )
    for line in dropped.lines():
        say(f"prompts left out, as the reward cannot judge answers to them: {line}")
    return held
