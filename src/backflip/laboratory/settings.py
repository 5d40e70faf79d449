"""Settings of the over-optimisation laboratory: gold, proxies of it, and remedies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from backflip.errors import UserError
from backflip.stages.base import RunContext
from backflip.stages.chain import Chain
from backflip.stages.online import OnlineRecipe
from backflip.stages.plans import Plan, StageForecast
from backflip.stages.reward_model import RewardModelRecipe
from backflip.stages.rewards.kinds import Rewards, reward_in
from backflip.stages.settings import Count, DataSettings, Positive, Share
from backflip.stages.sft import SFTRecipe

__all__ = ["OveroptimizationRecipe", "Remedy"]

Remedy = Literal["kl", "length", "ensemble", "worst", "uncertainty", "early_stop"]
ENSEMBLES = {"ensemble": "mean", "worst": "worst", "uncertainty": "uncertainty"}
"""Remedies that are an ensemble, and how its members are combined."""
UNKNOWN = (
    "the laboratory's stages learn from answers that are not written yet, so that its cost cannot "
    "be reckoned up. One seed of the shipped recipe takes about ten minutes of a core."
)


class OveroptimizationRecipe(Chain):
    """Raise proxies of a known preference until they mislead, and see which remedy would help."""

    LINKS: ClassVar[tuple[str, ...]] = ("sft", "reward_model", "online")
    JUDGED: ClassVar[tuple[str, ...]] = ("online.",)

    stage: Literal["overoptimization"] = "overoptimization"
    """Which recipe this is."""
    data: DataSettings  # pyright: ignore
    """The prompts, with what the gold asks of them; what ``sft`` imitates."""
    gold: Rewards
    """What is wanted: a verifier, FILE.py:NAME, a reward model. It labels, and is watched."""
    labels: tuple[Count, ...] = (100, 1000)
    """Comparisons that proxies learn from, a proxy each; the first is the weak one."""
    sizes: tuple[str, ...] = ()
    """Further models to make proxies of, each with the most labels."""
    noise: tuple[Share, ...] = ()
    """Shares of flipped labels, a further proxy each, with the most labels."""
    remedies: tuple[Remedy, ...] = (
        "kl",
        "length",
        "ensemble",
        "worst",
        "uncertainty",
        "early_stop",
    )
    """What is tried against the weak proxy."""
    kl_coef: Positive = 0.1
    """Price of KL, of the remedy ``kl``."""
    length_penalty: Positive = 0.02
    """Taken off for every token, of the remedy ``length``."""
    members: Annotated[int, Field(ge=2)] = 4
    """Reward models of an ensemble, each from a bootstrap sample of the weak proxy's labels."""
    best_of: Annotated[int, Field(ge=4)] = 64
    """Answers among which best of n chooses, at most."""
    best_of_prompts: Annotated[int, Field(ge=2)] = 128
    """Held-out prompts on which it is measured."""
    sft: SFTRecipe | None = None
    """Makes the policy that all begins with; null starts from ``model``."""
    reward_model: RewardModelRecipe
    """How proxies learn."""
    online: OnlineRecipe
    """How a policy is trained against each of them."""

    @model_validator(mode="before")
    @classmethod
    def _gold_in(cls, raw: Any) -> Any:
        """The short forms of a reward, for the gold too."""
        if not isinstance(raw, Mapping) or raw.get("gold") is None:
            return raw
        return {**raw, "gold": reward_in(raw["gold"])}

    @property
    def method(self) -> str:
        return "optimising proxies of a known preference"

    @property
    def trial_steps(self) -> int | None:
        return None

    def faults(self) -> Iterator[str]:
        from backflip.laboratory.rules import laboratory_faults

        yield from laboratory_faults(self)
        yield from super().faults()

    def plans(self) -> list[Plan]:
        raise UserError(UNKNOWN)

    def trial(self, folder: Path) -> OveroptimizationRecipe:
        del folder
        raise UserError(UNKNOWN)

    def forecasts(self, trial: Any, plans: Any) -> list[StageForecast]:
        del trial, plans
        raise UserError(UNKNOWN)

    def carry_out(self, given: RunContext) -> dict[str, Any]:
        from backflip.laboratory.run import run_laboratory

        return run_laboratory(self, given)
