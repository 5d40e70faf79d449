"""The second stage: learn from comparisons what people prefer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from backflip.algorithms.base import Objective
from backflip.algorithms.bootstrap import Bootstrapped
from backflip.algorithms.discover import REWARD
from backflip.algorithms.evenly import EvenlyDivided
from backflip.algorithms.ranges import Usual
from backflip.algorithms.reward.base import prompts_with_a_winner
from backflip.algorithms.reward.bradley_terry import BradleyTerry
from backflip.algorithms.reward.plackett_luce import PlackettLuce
from backflip.data.batches import ComparisonBatch
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Tokenized, tokenize_comparisons, with_head
from backflip.data.records import Comparison
from backflip.data.splits import half_of
from backflip.data.streaming import StreamedBatches
from backflip.errors import UserError
from backflip.evaluation.reward_model import report
from backflip.evaluation.trust.pairs import combined
from backflip.functional.reward_losses import decided_pairs
from backflip.models.heads import RewardModel
from backflip.models.load import load_config, parameter_count, parameters_of
from backflip.models.save import check_savable, save_reward_model
from backflip.reward.model import score_all
from backflip.stages.base import RunContext, Stage
from backflip.stages.choices import one_of
from backflip.stages.context import StageContext
from backflip.stages.course import basics, learn_offline, rows_learnt
from backflip.stages.debias import debiased, weights_said
from backflip.stages.plans import Plan
from backflip.stages.scale import ScaleSettings, scaled, scaling
from backflip.stages.settings import Count
from backflip.stages.streams import StageRows
from backflip.stages.watcher import Watcher
from backflip.text import counted

__all__ = ["RewardModelRecipe"]

if TYPE_CHECKING:
    RewardObjectives: TypeAlias = Objective
else:
    RewardObjectives = one_of(REWARD)


class RewardModelRecipe(Stage):
    """A reward model: learn from comparisons what people prefer."""

    RATES: ClassVar[tuple[float, float]] = (1e-4, 9e-6)

    USUAL: ClassVar[tuple[Usual, ...]] = (
        Usual(1e-6, 5e-5, "9e-6 (Ouyang et al., 2022)", path="optimizer.lr", adapted=False),
        Usual(2e-5, 5e-4, "about 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(1, 2, "1; a second pass overfits (Ouyang et al., 2022)", path="epochs"),
        Usual(1, 8, "4 or 5 members (Coste et al., 2023)", path="members"),
        Usual(8, 512, "64 prompts (InstructGPT) to 512 pairs (Llama 2)", path="batch_size"),
    )
    MODULE: ClassVar[str] = "reward_model"
    NEEDS_HELD_OUT: ClassVar[bool] = True

    stage: Literal["reward_model"] = "reward_model"
    """Which recipe this is."""
    batch_size: Count = 8
    """Prompts in an optimiser step, each with all of its pairs (InstructGPT: 64)."""
    objective: RewardObjectives = BradleyTerry()
    """bradley_terry, rao_kupper, davidson (both learn from ties), or plackett_luce."""
    pooling: Literal["last", "mean"] = "last"
    """Read the score at the answer's last token, or average over the answer's tokens."""
    members: Count = 1
    """Heads that judge together, each of which learns from a bootstrap sample of the prompts."""
    debias: tuple[str, ...] = ()
    """What must not tell which answer is better: length, lists, or words as they stand; pairs are
    weighed until it does not."""
    held_out_head: bool = False
    """Train a further head on the other half of the comparisons, to judge PPO by."""
    normalise: bool = True
    """Set scores to mean 0 and std 1 afterwards, on answers of the policy."""
    scale_answers: Annotated[int, Field(ge=2)] | None = None
    """Answers that set the scale; null takes 8 to 64, as a quarter of the training's cost pays."""
    policy: str | None = None
    """The policy to be judged: its answers set the scale, its size is compared; null: model."""
    golden: str | None = None
    """Source of 200 to 500 senior judgements, probed at the end of the run."""

    @property
    def method(self) -> str:
        return "learning from comparisons what people prefer"

    # ---- rows

    @property
    def record(self) -> type[Comparison]:
        return Comparison

    @property
    def rows_per_step(self) -> int:
        return self.batch_size

    def tokenize(
        self, records: Sequence[Comparison], template: ChatTemplate
    ) -> Tokenized[ComparisonBatch]:
        """Weighed where something must not tell; with a held-out head, half of them are its own."""
        made = tokenize_comparisons(records, template, fit=self.fit)
        if self.debias:
            made = debiased(made, records, self.debias)
        if not self.held_out_head:
            return made
        halves = [half_of(records[i], seed=self.seed) for i in made.kept]
        return replace(made, data=with_head(made.data, self.members * torch.tensor(halves)))

    # ---- checks

    def sources(self) -> dict[str, str | None]:
        return super().sources() | {"golden": self.golden}

    def models(self) -> dict[str, str | None]:
        return super().models() | {"policy": self.policy}

    def contradictions(self, prefix: str, *, alone: bool) -> Iterator[str]:
        yield from super().contradictions(prefix, alone=alone)
        if self.debias and self.data.streaming:
            yield (
                f"{prefix}debias weighs all rows against each other, and {prefix}data.streaming is "
                f"true. Set {prefix}data.streaming=false."
            )
        if "" in map(str.strip, self.debias):
            yield f"{prefix}debias has an empty entry. Give length, lists, or words."

    # ---- forecasts

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        return [RewardModel(causal(), heads=self.members + self.held_out_head)]

    def trial_settings(self) -> dict[str, Any]:
        return {"golden": None, "scale_answers": 2, "debias": ()}

    def beside(self, plan: Plan, step: float, row: float) -> tuple[float, float]:
        answers = self.scale_answers if self.normalise else 0
        return scaling(plan.tokens, answers) * step / (plan.tokens / plan.steps), 0.0

    # ---- training

    @property
    def _learnt(self) -> Objective:
        """The objective, of every member where there are several, of all rows that are weighed."""
        made = self.objective
        if self.members > 1:
            made = Bootstrapped(objective=made, members=self.members, seed=self.seed)
        return EvenlyDivided(objective=made) if self.debias else made

    def train(self, given: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Train, set the scale, write ``model/``, return the held-out report."""
        run, context = given.run, StageContext.of(self, watcher.say)
        check_savable(load_config(self.model))
        rows = _Rows.of(context, self)
        policy_size = parameters_of(self.policy) if self.policy else None
        model = RewardModel(
            context.causal(),
            heads=self.members + self.held_out_head,
            members=self.members,
            pooling=self.pooling,
            compute=context.masters[1],
        )
        data = (rows.train, rows.held_out)
        outcome = learn_offline(context, self._learnt, model, data, run, watcher)
        scale: dict[str, float | int] = {}
        if self.normalise:
            by = ScaleSettings(self.policy, self.scale_answers)
            scale = scaled(context, by, model, (rows.sample, rows.held_out), outcome.steps)
        dtype = context.saved_dtype(model.trunk.model)
        save_reward_model(model, context.tokenizer, run.path, dtype=dtype)
        found = _report(context, model, rows, policy_size)
        return basics(outcome, model, rows_learnt(rows.train)) | scale | found


@dataclass(frozen=True)
class _Rows:
    """The comparisons of the stage, read before anything is trained unless they are streamed."""

    train: ComparisonBatch | StreamedBatches[Comparison]
    sample: ComparisonBatch
    """Those to learn from, or of a streamed source its first ones."""
    held_out: ComparisonBatch | None
    golden: ComparisonBatch | None

    @staticmethod
    def of(context: StageContext, recipe: RewardModelRecipe) -> _Rows:
        """Raises UserError where there is nothing to learn from, or nothing to be measured by."""
        rows = StageRows.of(context, Comparison)
        held = rows.held
        if recipe.debias:
            context.say(weights_said(rows.sample))
        _check_ties(context, recipe, rows.sample)
        held_out = _decided(context, held, "data: the held-out rows") if held else None
        golden = None
        if recipe.golden:
            records = context.read(recipe.golden, Comparison)
            golden = _decided(context, records, f"golden: {recipe.golden}")
        return _Rows(rows.train, rows.sample, held_out, golden)


def _decided(context: StageContext, records: list[Comparison], what: str) -> ComparisonBatch:
    """Comparisons to measure by. Raises UserError where no pair of them is decided."""
    data: ComparisonBatch = context.told(
        tokenize_comparisons(records, context.template, fit=context.recipe.fit)
    )
    if not len(decided_pairs(data.rank.values, data.answers.owner()).better):
        raise UserError(
            f"{what} hold {counted(len(data), 'comparison')}, nothing but ties: accuracy has no "
            "meaning. Give comparisons in which one answer is better than another."
        )
    return data


def _check_ties(context: StageContext, recipe: RewardModelRecipe, data: ComparisonBatch) -> None:
    """Say what an objective that cannot learn from ties leaves unused."""
    if not isinstance(recipe.objective, BradleyTerry | PlackettLuce):
        return
    undecided = len(data) - int(prompts_with_a_winner(data).sum())
    if undecided == len(data):
        raise UserError(
            f"{recipe.data.source}: nothing but ties ({undecided}) to learn from, which say "
            "nothing to this objective. Set objective=rao_kupper or objective=davidson, or give "
            "comparisons in which one answer is better."
        )
    if undecided:
        context.say(
            f"  ties, which say nothing to this objective: {undecided} of "
            f"{counted(len(data), 'row')}; "
            "objective=rao_kupper and objective=davidson learn from them"
        )


def _report(
    context: StageContext, model: RewardModel, rows: _Rows, policy_size: int | None
) -> dict[str, Any]:
    """Held-out accuracy and calibration, of the second head too, and the golden judgements."""
    found: dict[str, Any] = {}
    (size, _), many = parameter_count(model), model.members

    def scores(data: ComparisonBatch) -> Float[Tensor, "N heads"]:
        return score_all(model, data.answers.values, context.recipe.token_budget, raw=True)

    if (held_out := rows.held_out) is not None:
        by_head = scores(held_out)
        sizes = {"parameters": size, "policy_parameters": policy_size}
        main = report(combined(by_head[:, :many], by_head[:, :many]), held_out, **sizes)
        found |= main.to_json()
        for sentence in main.sentences:
            context.say(sentence)
        if model.heads > many:
            found["heldout_head"] = report(by_head[:, many], held_out).to_json()
    if rows.golden is not None:
        by_head = scores(rows.golden)[:, :many]
        golden = report(combined(by_head, by_head), rows.golden)
        found["golden"] = golden.to_json()
        for sentence in golden.sentences:
            context.say(f"golden judgements: {sentence}")
    return found
