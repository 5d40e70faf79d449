"""Environments as settings of the online stage: what the policy talks to, turn by turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from backflip.data.records import Prompt, Tally
from backflip.environments.calculator import Calculator
from backflip.environments.episodes import EpisodeSampler
from backflip.environments.guessing_game import GuessingGame
from backflip.environments.led import led
from backflip.environments.made import Made, check_environment, rewards
from backflip.environments.protocol import Limits
from backflip.environments.python import Python
from backflip.environments.reward import EnvironmentReward, OfEpisodes
from backflip.environments.watchdog import Watchdog
from backflip.errors import UserError
from backflip.generate.sampler import Sampler
from backflip.models.trunk import unwrapped
from backflip.reward.function import load_function
from backflip.reward.mix import Mix
from backflip.reward.protocol import RewardSource
from backflip.reward.sandbox.box import Mode
from backflip.stages.choices import NAMES, one_of, register
from backflip.stages.context import StageContext
from backflip.stages.rewards.context import RewardContext
from backflip.stages.rewards.environment import Environment
from backflip.stages.rewards.models import Model

__all__ = [
    "ENVIRONMENTS",
    "Environments",
    "environment_in",
    "episodes",
    "judged_by",
    "longest",
    "longest_of",
    "opposite",
]

REWARDLESS = (
    "{prefix}environment gives no reward of its own: say who judges the last turn, as "
    "{prefix}reward=my_rewards.py:NAME, or give its class a method get_reward, or an attribute "
    "reward by the end of reset."
)
PYTHON = "python"
"""The address of a class that is handed over in Python."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentSettings(ABC):
    """Bounds of an episode, whatever the environment."""

    turns: int = 8
    """Most turns of the policy in an episode; one that is not done by then is cut off."""
    tokens: int = 1024
    """Most tokens of an episode behind its prompt, those of the environment included."""
    seconds: float = 10.0
    """Time that the environment or a tool has for one answer."""
    characters: int = 2000
    """Longest text that the policy is given to read at once; what is longer is cut."""
    calls: Literal["auto", "plain"] = "auto"
    """Form of calls of tools: the chat template's own where it has one, or lines NAME: ARGUMENT."""
    explain: bool = True
    """Name the tools in the system message, where calls are plain."""

    @property
    def limits(self) -> Limits:
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})

    @abstractmethod
    def factory(self, given: Any) -> Callable[[], Any]:
        """Makes objects of the environment; ``given``: a class handed over in Python, or None."""

    @abstractmethod
    def rewarding(self) -> bool | None:
        """Whether episodes have a reward of their own; None where only an object can tell."""

    def faults(self, where: str) -> Iterator[str]:
        """Sentences on settings that cannot be; ``where`` is the setting's name."""
        for name in ("turns", "tokens", "seconds", "characters"):
            if getattr(self, name) <= 0:
                yield f"{where}.{name} is {getattr(self, name):g}; it must be above 0."


@dataclass(frozen=True, kw_only=True)
class CalculatorSettings(EnvironmentSettings):
    """A tool for arithmetic."""

    operations: int | None = None
    """Most operations in one expression; null leaves out the bound."""

    def factory(self, given: Any) -> Callable[[], Any]:
        return partial(Calculator, self.operations)

    def rewarding(self) -> bool | None:
        return False


@dataclass(frozen=True, kw_only=True)
class PythonSettings(EnvironmentSettings):
    """A tool that runs programs of Python in the sandbox."""

    sandbox: Mode = "strict"
    """``strict`` refuses to run where layers of the sandbox are missing, ``weak`` does not."""

    def factory(self, given: Any) -> Callable[[], Any]:
        return partial(Python, self.sandbox, 0.8 * self.seconds)

    def rewarding(self) -> bool | None:
        return False


@dataclass(frozen=True, kw_only=True)
class GuessingGameSettings(EnvironmentSettings):
    """A number is to be guessed: higher, lower."""

    low: int = 1
    """Smallest number."""
    high: int = 100
    """Largest number."""

    def factory(self, given: Any) -> Callable[[], Any]:
        return partial(GuessingGame, self.low, self.high)

    def rewarding(self) -> bool | None:
        return True

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        if self.low >= self.high:
            yield f"{where}.low is {self.low}, high is {self.high}; low must be below high."


@dataclass(frozen=True, kw_only=True)
class CustomSettings(EnvironmentSettings):
    """A class of Python's: with tools, or with reset and step."""

    path: str = PYTHON
    """FILE.py:NAME; python for one that is handed over in Python."""

    def factory(self, given: Any) -> Callable[[], Any]:
        if self.path != PYTHON:
            return load_function(self.path)
        if given is None:
            raise UserError(
                "the environment is a class from Python, which no file can hold. Hand it over: "
                "bf.train(…, environment=CLASS), or bf.resume(RUN, environment=CLASS)."
            )
        return given

    def rewarding(self) -> bool | None:
        return None

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        if self.path != PYTHON:
            try:
                check_environment(load_function(self.path), self.path)
            except UserError as error:
                yield f"{where}: {error}"


ENVIRONMENTS: dict[str, type[Any]] = {
    "calculator": CalculatorSettings,
    "python": PythonSettings,
    "guessing_game": GuessingGameSettings,
    "custom": CustomSettings,
}
"""Environments by the name that a recipe gives."""
register(ENVIRONMENTS)

if TYPE_CHECKING:
    Environments: TypeAlias = (
        CalculatorSettings | PythonSettings | GuessingGameSettings | CustomSettings
    )
else:
    Environments = one_of(ENVIRONMENTS)


def environment_in(raw: Any) -> Any:
    """An environment as a recipe may say it → a mapping: a word is a name or a class's address."""
    if isinstance(raw, str) and ".py:" in raw:
        raw = {"name": "custom", "path": raw}
    if isinstance(raw, str):
        return {"name": raw}
    if not isinstance(raw, Mapping):
        return raw
    given = {"name": "custom", **raw} if "path" in raw else dict(raw)
    if isinstance(path := given.get("path"), str) and path != PYTHON:
        file, colon, name = path.rpartition(":")
        given["path"] = f"{Path(file).expanduser().resolve()}:{name}" if colon else path
    return given


def longest(recipe: Any) -> int:
    """Most tokens of an answer, or of all that the policy writes in an episode."""
    return longest_of({"environment": recipe.environment}, recipe.sampling.max_tokens)


def longest_of(raw: Mapping[str, Any], turn: int) -> int:
    """The same of settings as they are written, whose turns have ``turn`` tokens at most."""
    if (said := raw.get("environment")) is None:
        return turn
    given = (
        said if isinstance(said, Mapping) else {n: getattr(said, n) for n in ("turns", "tokens")}
    )
    turns, tokens = (given.get(n, getattr(EnvironmentSettings, n)) for n in ("turns", "tokens"))
    return min(tokens, turns * turn)


def opposite(recipe: Any) -> str:
    """Who judges the policy, in words: its environment, a reward model, or another kind."""
    if recipe.environment is not None:
        return f"the environment {NAMES[type(recipe.environment)]}"
    return "a reward model" if recipe.reward.scorers() else f"a {NAMES[type(recipe.reward)]}"


def episodes(
    settings: EnvironmentSettings,
    context: StageContext,
    sampler: Sampler,
    records: Sequence[Prompt],
    given: Any,
) -> EpisodeSampler:
    """Who plays: the sampler with a chat template, an environment and its bounds.

    Raises UserError where the environment cannot be made, or the template not go on.
    """
    limits, troubles = settings.limits, Tally()
    make = Made(
        factory=settings.factory(given),
        template=context.template,
        limits=limits,
        watchdog=Watchdog(settings.seconds),
        troubles=troubles,
        calls=settings.calls,
        explain=settings.explain,
    )
    for remark in make.remarks():
        context.say(remark)
    return EpisodeSampler(
        engine=sampler.engine,
        params=sampler.params,
        template=context.template,
        make=led(make),
        records=records,
        limits=limits,
        positions=_positions(sampler.engine),
        group_size=sampler.group_size,
        troubles=troubles,
        pool=[led(make)()],
    )


def judged_by(recipe: Any, given: RewardContext, made: Any) -> RewardSource:
    """The reward of a recipe; of episodes, the environment's own with it.

    ``made``: a class that was handed over in Python, or None.
    """
    settings, reward = recipe.environment, recipe.reward
    if settings is None:
        return given.source(reward)
    paid = settings.rewarding()
    if paid is None:
        paid = rewards(settings.factory(made), given.records, Watchdog(settings.seconds))
    if reward == Model():
        if not paid:
            raise UserError(REWARDLESS.format(prefix=""))
        return OfEpisodes(EnvironmentReward())
    source = given.source(reward)
    if paid and not asks_environment(reward):
        given.context.say(
            "rewards of the environment are added to those of reward=, 1 to 1; "
            "reward={name: mix, terms: [environment, …], weights: [1, 0.5]} weighs them"
        )
        source = Mix({"environment": EnvironmentReward(), "reward": source}, (1.0, 1.0))
    return OfEpisodes(source)


def asks_environment(reward: Any) -> bool:
    """Whether a setting of rewards holds those of the environment."""
    return isinstance(reward, Environment) or any(
        isinstance(term, Environment) for term in getattr(reward, "terms", ())
    )


def _positions(engine: Any) -> int | None:
    """Tokens that an engine's model can read, where that is bounded and known."""
    model = getattr(engine, "model", None)
    if model is None:
        return None
    config = unwrapped(model).config.get_text_config()
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return getattr(config, "max_position_embeddings", None) if rope == "default" else None
