"""Recipes and stages: what every recipe can be asked, and what a stage of training knows of itself.

A stage is one object in one file: its settings are its fields, and it says what data it takes, what
contradicts itself, what is unusual, what it will cost, and how it trains. Whatever differs from
stage to stage is a method here; nobody outside asks which stage it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable

from pydantic import model_validator

from backflip.algorithms.ranges import Usual
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, Tokenized
from backflip.data.records import Record
from backflip.models.lora import LoraSettings
from backflip.monitor.progress import Progress
from backflip.stages.choices import rates_of
from backflip.stages.plans import TRIAL_STEPS, Costs, Plan, StageForecast
from backflip.stages.rules import advice_on, faults_of
from backflip.stages.settings import (
    Common,
    Count,
    DataSettings,
    OptimizerSettings,
    default_run,
    long_forms,
    with_rate,
)
from backflip.training.run_folder import RunFolder

if TYPE_CHECKING:
    from backflip.stages.watcher import Watcher
    from backflip.stages.workload import Workload

__all__ = ["Learn", "Recipe", "RunContext", "Stage"]

R = TypeVar("R", bound="Recipe")


@runtime_checkable
class Learn(Protocol):
    """Trains a stage in its folder, as far as it is not; returns its summary."""

    def __call__(self, stage: Stage, rows: Any = None) -> dict[str, Any]: ...


@dataclass(frozen=True)
class RunContext:
    """A run in progress: its folder, and what it is given beside its recipe."""

    run: RunFolder
    progress: Progress
    learn: Learn
    """Trains a stage in a folder of its own: a link of a chain, or a part of a round."""
    functions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Functions from Python by the setting that they stand for: ``judge``, ``reward``."""
    rows: Any = None
    """Rows to learn from in place of the recipe's data."""


class Recipe(Common, ABC):
    """Settings of a whole run: one stage, a chain of them, or rounds."""

    JUDGED: ClassVar[tuple[str, ...]] = ()
    """Prefixes of stages whose reward model is made by a stage before them."""

    @abstractmethod
    def parts(self) -> list[tuple[Stage, str]]:
        """The stages, each with the prefix of its settings' names."""

    @abstractmethod
    def carry_out(self, given: RunContext) -> dict[str, Any]:
        """Train whatever is not trained yet; returns the summary."""

    @abstractmethod
    def trial(self: R, folder: Path) -> R:
        """The recipe for a few steps on a sample of its data, in a folder of its own."""

    @property
    def trial_steps(self) -> int | None:
        """Steps that the trial takes; None where they are not known."""
        return TRIAL_STEPS * len(self.parts())

    @property
    @abstractmethod
    def method(self) -> str:
        """The method of training, for a model card: ``learning from comparisons …``."""

    def faults(self) -> Iterator[str]:
        """Sentences on settings that contradict each other. Reads no data and no model."""
        for stage, prefix in self.parts():
            yield from faults_of(stage, prefix, alone=prefix not in self.JUDGED)

    def sources_named(self) -> list[tuple[str, str | None]]:
        """Sources of data beside those of the stages, each with its setting."""
        return []

    def advice(self) -> Iterator[str]:
        """A sentence for each setting outside of published ranges."""
        for stage, prefix in self.parts():
            yield from advice_on(stage, prefix)

    def plans(self) -> list[Plan]:
        """Rows, steps and tokens of each stage, counted without loading any weights."""
        from backflip.stages.forecast import planned

        made = ((planned(stage), prefix.removesuffix(".")) for stage, prefix in self.parts())
        return [replace(plan, stage=link) if link else plan for plan, link in made]

    def forecasts(self, trial: Recipe, plans: Sequence[Plan]) -> list[StageForecast]:
        """Cost of each stage, reckoned up from the steps that ``trial`` took."""
        from backflip.stages.forecast import reckoned

        parts = zip(self.parts(), trial.parts(), plans, strict=True)
        return [reckoned(stage, plan, part.run) for (stage, _), (part, _), plan in parts]


class Stage(Recipe, Costs):
    """One training run of one model."""

    RATES: ClassVar[tuple[float, float]]
    """Published learning rates: with LoRA, and for all weights."""
    USUAL: ClassVar[tuple[Usual, ...]] = ()
    """Published ranges of settings, beside those of its algorithm."""
    ALIASES: ClassVar[Mapping[str, Any]] = {}
    """Old names of settings, which are still taken, with the JSON schema of each, or its group."""
    MODULE: ClassVar[str] = "policy"
    """Name of the model that learns, in checkpoints."""
    STREAMS: ClassVar[bool] = True
    """Whether rows can be learnt from as they are read."""
    NEEDS_HELD_OUT: ClassVar[bool] = False

    data: DataSettings
    """Rows to learn from."""
    lora: LoraSettings | None = LoraSettings()
    """Low-rank adapters; null trains all weights."""
    optimizer: OptimizerSettings
    """Learning rate, schedule and moments of AdamW."""
    epochs: Count = 1
    """Passes over the data."""
    steps: Count | None = None
    """Optimiser steps (for PPO: rounds of sampling), however many epochs; null goes by epochs."""
    eval_every: Count = 25
    """Steps between validations; one more comes at the end."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, raw: Any) -> Any:
        """Fill in what depends on other settings: short forms, the run's folder, the rates."""
        if not isinstance(raw, Mapping):
            return raw
        raw = long_forms(raw)
        raw.setdefault("run", default_run(cls.model_fields["stage"].default))
        if raw.get("lora") in (False, "none", "None"):
            raw["lora"] = None
        adapted = raw.get("lora", True) is not None
        rates = rates_of(raw.get("objective")) or cls.RATES
        raw["optimizer"] = with_rate(raw.get("optimizer", {}), rates, adapted=adapted)
        return raw

    @property
    def name(self) -> str:
        """A word for it where people follow it: on progress bars, in plans and forecasts."""
        return str(self.model_dump(include={"stage"})["stage"])

    # ---- the recipe of a single stage

    def parts(self) -> list[tuple[Stage, str]]:
        return [(self, "")]

    def trial(self: R, folder: Path) -> R:
        from backflip.stages.forecast import shortened

        return cast("R", shortened(cast("Stage", self), folder / "run", folder))

    def carry_out(self, given: RunContext) -> dict[str, Any]:
        from backflip.stages.watcher import Watcher

        watcher = Watcher(self, given.run, given.progress)
        try:
            return self.train(given, watcher)
        finally:
            watcher.close()

    @abstractmethod
    def train(self, given: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Learn, write ``model/``, return the summary."""

    # ---- rows

    @property
    @abstractmethod
    def record(self) -> type[Record]:
        """The kind of record that it learns from."""

    @property
    @abstractmethod
    def rows_per_step(self) -> int:
        """Rows of an optimiser step, or prompts of a round of sampling."""

    @abstractmethod
    def tokenize(self, records: Sequence[Any], template: ChatTemplate) -> Tokenized[Any]:
        """Records as tokens, fitted and masked as the settings say."""

    @property
    def fit(self) -> Fit:
        """The fitting of rows that are too long."""
        return Fit(self.data.max_length, self.data.too_long)

    def per_epoch(self, rows: int) -> int:
        """Steps of one pass over so many rows."""
        return -(-rows // self.rows_per_step)

    def total(self, per_epoch: int) -> int:
        """Steps in all: ``steps`` where given, else by epochs."""
        return self.steps or per_epoch * self.epochs

    @property
    def passes(self) -> int | None:
        """Passes over the data; None, as many as it takes, where ``steps`` says when to end."""
        return None if self.steps else self.epochs

    def workload(self, plan: Plan) -> Workload:
        """The work of a step, for a forecast. Raises UserError where a model is missing."""
        from backflip.stages.workload import offline_work

        return offline_work(self, plan)

    # ---- checks

    def contradictions(self, prefix: str, *, alone: bool) -> Iterator[str]:
        """Sentences on its own settings that do not go together.

        ``alone``: no stage before it makes its reward model.
        """
        del prefix, alone
        return iter(())

    def remarks(self, prefix: str) -> Iterator[str]:
        """Sentences on its own settings that are allowed, but end badly."""
        del prefix
        return iter(())

    def algorithms(self) -> list[tuple[str, Any]]:
        """Its objective, algorithm and correction, with the names of the settings."""
        groups = [
            (name, getattr(self, name, None)) for name in ("objective", "algorithm", "correction")
        ]
        return [(name, found) for name, found in groups if found is not None]

    def sources(self) -> dict[str, str | None]:
        """Sources of data, by the names of their settings."""
        return {"data.source": self.data.source, "data.validation": self.data.validation}

    def models(self) -> dict[str, str | None]:
        """Models that are loaded, by the names of their settings."""
        return {"model": self.model}
