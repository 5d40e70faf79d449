"""Settings of rounds: the policy answers, is judged, and learns from that, again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from backflip.generate.engine import SamplingParams
from backflip.sampling.choosing import (
    COMPARISON_CHOOSERS,
    DEMONSTRATION_CHOOSERS,
    AllWins,
    Best,
    BestRandom,
    BestWorst,
    Filters,
    MaxMinMargin,
    TopShare,
)
from backflip.stages.base import Recipe, RunContext
from backflip.stages.chain import Chain
from backflip.stages.choices import one_of
from backflip.stages.direct import DirectRecipe
from backflip.stages.plans import Plan, StageForecast
from backflip.stages.reward_model import RewardModelRecipe
from backflip.stages.settings import Count, DataSettings, Group, Share
from backflip.stages.sft import SFTRecipe

SELF, PYTHON = "self", "python"
"""Judges that are no model on disk: the policy, and a function."""

if TYPE_CHECKING:
    ComparisonChoosers: TypeAlias = BestWorst | BestRandom | MaxMinMargin | AllWins
    DemonstrationChoosers: TypeAlias = Best | TopShare
else:
    ComparisonChoosers = one_of(COMPARISON_CHOOSERS)
    DemonstrationChoosers = one_of(DEMONSTRATION_CHOOSERS)


class JudgeSettings(Group):
    """Who says what an answer is worth."""

    model: str
    """Folder of a reward model or of its run; self: the policy grades; python: a function;
    feedback:PROJECT: people, for whose labels the run waits."""
    samples: Count = 3
    """For self: gradings of each answer, which are averaged (Yuan et al., 2024: 3)."""
    sampling: SamplingParams = SamplingParams(max_tokens=256, temperature=0.7, top_p=0.9)
    """For self: how gradings are drawn."""


class IterativeRecipe(Chain):
    """Rounds: sample answers, judge them, choose, learn; then again with the new policy."""

    LINKS: ClassVar[tuple[str, ...]] = ("reward_model", "sft", "direct")
    ONE_SOURCE: ClassVar[bool] = False
    AUTO: ClassVar[Mapping[str, tuple[float, float]]] = {"direct": (3e-4, 1e-6)}
    """A round is a few steps on the policy's own answers: less would not be seen."""

    stage: Literal["iterative"] = "iterative"
    """Which recipe this is."""
    data: DataSettings  # pyright: ignore
    """The prompts."""
    rounds: Count = 3
    """How often all is done."""
    prompts_per_round: Count | None = None
    """Prompts answered in a round, in a shuffled order that starts again at its end; null: all."""
    answers_per_prompt: Count = 8
    """Answers to each of them (Dong et al., 2024: 8)."""
    sampling: SamplingParams = SamplingParams(max_tokens=48)
    """How answers are drawn."""
    max_rows: Count = 64
    """Answers drawn side by side: more is faster and takes more memory."""
    judge: JudgeSettings | None = None
    """Who judges. Needed, unless the rounds train a reward model; then it measures only."""
    most_failed: Share = 0.5
    """Share of a round's answers that may stay without a score before the run stops."""
    choose: ComparisonChoosers = BestWorst()
    """Which answers are put in order, for ``direct`` to learn from."""
    imitate: DemonstrationChoosers = Best()
    """Which answers are imitated by ``sft``."""
    filters: Filters = Filters()
    """Which answers may be chosen at all."""
    pool: bool = False
    """Choose among the answers of all rounds so far, not of the last one alone."""
    start_from: Literal["previous", "first"] = "previous"
    """A round's training starts from the last policy, or from the model of before the rounds."""
    reference: Literal["previous", "first"] = "previous"
    """``direct`` holds on to the model that it starts from, or to that of before the rounds."""
    average: Count = 1
    """Newest rounds whose weights are averaged into the next policy (Llama 3.1); 1: the last."""
    keep_rounds: Count | None = None
    """Newest rounds whose models stay on disk; null keeps all. Answers and rows always stay."""
    preferences: tuple[str, ...] = ()
    """Sources of comparisons for ``reward_model``, one for each round; the last serves the rest."""
    reward_model: RewardModelRecipe | None = None
    """Trained anew in every round, before the answers are judged; null trains none."""
    sft: SFTRecipe | None = None
    """Imitates the chosen answers; null leaves it out."""
    direct: DirectRecipe | None = None
    """Learns from the chosen comparisons, after ``sft`` where there is one; null leaves it out."""
    validation_prompts: Annotated[int, Field(ge=2)] = 64
    """Held-out prompts by which every round is measured."""

    @property
    def method(self) -> str:
        return "iterative"

    @property
    def trial_steps(self) -> int | None:
        return None

    def faults(self) -> Iterator[str]:
        from backflip.rounds.rules import round_faults

        yield from round_faults(self)
        yield from super().faults()

    def sources_named(self) -> list[tuple[str, str | None]]:
        named = [("data.source", self.data.source), ("data.validation", self.data.validation)]
        return [*named, *(("preferences", source) for source in self.preferences)]

    def advice(self) -> Iterator[str]:
        from backflip.rounds.rules import unusual_rounds

        yield from super().advice()
        yield from unusual_rounds(self)

    def carry_out(self, given: RunContext) -> dict[str, Any]:
        from backflip.rounds.run import run_rounds

        return run_rounds(self, given)

    def plans(self) -> list[Plan]:
        from backflip.rounds.forecast import plan_rounds

        return plan_rounds(self)

    def trial(self, folder: Path) -> IterativeRecipe:
        from backflip.rounds.forecast import trial_rounds

        return trial_rounds(self, folder)

    def forecasts(self, trial: Recipe, plans: Sequence[Plan]) -> list[StageForecast]:
        from backflip.rounds.forecast import reckoned_rounds

        return reckoned_rounds(self, plans, trial.run)
