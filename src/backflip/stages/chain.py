"""Recipes of several stages, each of which starts from what those before it have made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import field_serializer, model_validator

from backflip.stages.base import Recipe, RunContext, Stage
from backflip.stages.choices import rates_of
from backflip.stages.direct import DirectRecipe
from backflip.stages.forecast import shortened
from backflip.stages.online import OnlineRecipe
from backflip.stages.reward_model import RewardModelRecipe
from backflip.stages.rewards.models import Model
from backflip.stages.settings import DataSettings, default_run, long_forms
from backflip.stages.sft import SFTRecipe

C = TypeVar("C", bound="Chain")
SHARED = (
    "model",
    "tokenizer",
    "template",
    "precision",
    "quantization",
    "saved_precision",
    "activation_checkpointing",
    "token_budget",
    "seed",
    "threads",
    "trackers",
    "checkpoint_every",
    "keep_last",
)
"""Settings of a chain that its stages take over."""
STAGES = ("sft", "reward_model", "direct", "online", "ppo")
"""Names of the stages of chains."""


class Chain(Recipe):
    """Stages that hand their models on; settings of all of them are said once."""

    LINKS: ClassVar[tuple[str, ...]]
    """The fields that are stages, in the order in which they run."""
    ONE_SOURCE: ClassVar[bool] = True
    """Whether ``data`` stands for the sources of all stages."""
    AUTO: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Learning rates of stages (with LoRA, for all weights) where auto means others here."""

    data: DataSettings | None = None
    """One source for all stages that have none of their own."""

    @model_validator(mode="before")
    @classmethod
    def _share(cls, raw: Any) -> Any:
        """Hand down what the stages have in common and do not say themselves."""
        if not isinstance(raw, Mapping):
            return raw
        raw = long_forms(raw)
        raw.setdefault("run", default_run(cls.model_fields["stage"].default))
        for name in cls.LINKS:
            nothing = {} if cls.model_fields[name].is_required() else None
            given = raw.get(name, nothing)
            if isinstance(given, Mapping):
                raw[name] = _handed_down(raw, long_forms(given), name)
                if name in cls.AUTO:
                    _set_rate(raw[name], cls.AUTO[name])
        if isinstance(raw.get("data"), Mapping) and "source" not in raw["data"]:
            del raw["data"]  # settings for the stages' own sources, which have them now
        return raw

    @field_serializer(*STAGES, check_fields=False)
    def _own_settings(self, stage: Stage | None) -> dict[str, Any] | None:
        """A stage's settings beyond the chain's: a saved recipe can be changed in one place."""
        if stage is None:
            return None
        own = stage.model_dump(mode="json")
        chain = {name: getattr(self, name) for name in SHARED}
        for name, value in chain.items():
            if getattr(stage, name) == value:
                del own[name]
        del own["run"]
        if self.data is not None and stage.data == self.data:
            del own["data"]
        return own

    def links(self) -> list[tuple[str, Stage]]:
        """The stages that there are, with their names."""
        found = [(name, getattr(self, name)) for name in self.LINKS]
        return [(name, stage) for name, stage in found if stage is not None]

    def parts(self) -> list[tuple[Stage, str]]:
        return [(stage, f"{name}.") for name, stage in self.links()]

    def trial(self: C, folder: Path) -> C:
        run = folder / "run"
        short = {name: shortened(stage, run / name, folder) for name, stage in self.links()}
        changes: dict[str, Any] = {"run": run, "data": None, "trackers": ()}
        return self.model_copy(update={**short, **changes})

    def linked(self) -> tuple[Stage, ...]:
        """The stages, each pointing at what those before it will have made."""
        raise NotImplementedError

    def carry_out(self, given: RunContext) -> dict[str, Any]:
        names = [name for name, _ in self.links()]
        return {n: given.learn(s) for n, s in zip(names, self.linked(), strict=True)}


class RLHFRecipe(Chain):
    """All three stages, each starting from what the one before has made."""

    LINKS: ClassVar[tuple[str, ...]] = ("sft", "reward_model", "ppo")
    JUDGED: ClassVar[tuple[str, ...]] = ("ppo.",)

    stage: Literal["rlhf"] = "rlhf"
    """Which recipe this is."""
    data: DataSettings | None = None
    """One source for all stages: its better answers, its comparisons, its prompts."""
    sft: SFTRecipe
    """First stage."""
    reward_model: RewardModelRecipe
    """Second stage, from the weights of the first."""
    ppo: OnlineRecipe
    """Third stage: policy from the first, critic and reward from the second."""

    @property
    def method(self) -> str:
        return "supervised fine-tuning, a reward model and PPO"

    def linked(self) -> tuple[Stage, ...]:
        tuned, judge = str(self.sft.run / "model"), str(self.reward_model.run / "model")
        reward_model = self.reward_model.model_copy(update={"model": tuned, "policy": tuned})
        ppo = self.ppo.model_copy(update={"model": tuned, "reward": Model(model=judge)})
        return self.sft, reward_model, ppo


class SFTDirectRecipe(Chain):
    """Fine-tuning, then a method of the direct family from there, as Zephyr was made."""

    LINKS: ClassVar[tuple[str, ...]] = ("sft", "direct")

    stage: Literal["sft_direct"] = "sft_direct"
    """Which recipe this is."""
    data: DataSettings | None = None
    """One source for both stages: its better answers, its comparisons."""
    sft: SFTRecipe
    """First stage."""
    direct: DirectRecipe
    """Second stage, from the weights of the first."""

    @property
    def method(self) -> str:
        return "sft_direct"

    def linked(self) -> tuple[Stage, ...]:
        tuned = str(self.sft.run / "model")
        return self.sft, self.direct.model_copy(update={"model": tuned})


class SFTOnlineRecipe(Chain):
    """A warm start by demonstrations, then reinforcement learning from there."""

    LINKS: ClassVar[tuple[str, ...]] = ("sft", "online")

    stage: Literal["sft_online"] = "sft_online"
    """Which recipe this is."""
    data: DataSettings | None = None
    """One source for both stages: its answers are imitated, then its questions are asked."""
    sft: SFTRecipe
    """First stage."""
    online: OnlineRecipe
    """Second stage, from the weights of the first."""

    @property
    def method(self) -> str:
        return f"supervised fine-tuning, then {self.online.method}"

    def linked(self) -> tuple[Stage, ...]:
        tuned = str(self.sft.run / "model")
        return self.sft, self.online.model_copy(update={"model": tuned})


def _handed_down(chain: Mapping[str, Any], own: dict[str, Any], name: str) -> dict[str, Any]:
    down = {key: chain[key] for key in SHARED if key in chain} | own
    down["run"] = Path(chain["run"]) / name
    shared, data = chain.get("data"), own.get("data", {})
    if isinstance(shared, Mapping) and isinstance(data, Mapping):
        other = "source" in data and "source" in shared
        down["data"] = data if other else {**shared, **data}
    return down


def _set_rate(stage: dict[str, Any], rates: tuple[float, float]) -> None:
    """Put a rate where auto stands, unless the objective has one of its own."""
    settings = stage.get("optimizer", {})
    open_ = isinstance(settings, Mapping) and settings.get("lr") in ("auto", None)
    if open_ and rates_of(stage.get("objective")) is None:
        rate = rates[0 if stage.get("lora", True) is not None else 1]
        stage["optimizer"] = {**settings, "lr": rate}
