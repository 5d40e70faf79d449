"""A process reward model: learn from labelled steps which of them are good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from torch import nn

from backflip.algorithms.discover import PROCESS
from backflip.algorithms.process.base import ProcessObjective
from backflip.algorithms.process.soft_label import SoftLabel
from backflip.algorithms.ranges import Usual
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Tokenized
from backflip.data.records import Solution
from backflip.data.solution_batches import SolutionBatch, tokenize_solutions
from backflip.data.steps import SEPARATOR
from backflip.errors import UserError
from backflip.evaluation.process import evaluate_process_model
from backflip.models.heads import RewardModel
from backflip.models.load import load_config
from backflip.models.process import ProcessModel
from backflip.models.save import check_savable
from backflip.stages.base import RunContext, Stage
from backflip.stages.choices import one_of
from backflip.stages.context import StageContext
from backflip.stages.course import basics, learn_offline, rows_learnt
from backflip.stages.settings import Count
from backflip.stages.streams import StageRows
from backflip.stages.watcher import Watcher
from backflip.text import counted

__all__ = ["ProcessRewardModelRecipe"]

if TYPE_CHECKING:
    ProcessObjectives: TypeAlias = ProcessObjective
else:
    ProcessObjectives = one_of(PROCESS)


class ProcessRewardModelRecipe(Stage):
    """A process reward model: learn from labelled steps which of them are good."""

    RATES: ClassVar[tuple[float, float]] = (1e-4, 9e-6)
    USUAL: ClassVar[tuple[Usual, ...]] = (
        Usual(1e-6, 5e-5, "about 1e-5, as of reward models", path="optimizer.lr", adapted=False),
        Usual(2e-5, 5e-4, "about 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(1, 2, "1 or 2, as of reward models", path="epochs"),
    )
    MODULE: ClassVar[str] = "process_reward_model"
    NEEDS_HELD_OUT: ClassVar[bool] = True

    stage: Literal["process_reward_model"] = "process_reward_model"
    """Which recipe this is."""
    batch_size: Count = 8
    """Solutions in an optimiser step, each with all of its labelled steps."""
    objective: ProcessObjectives = SoftLabel()
    """soft_label, one number a step; or three_class: bad, neutral, good."""
    separator: str = SEPARATOR
    """Text between two steps, as the policy to be judged writes it."""
    threshold: float = 0.5
    """P(good) below which the held-out report calls a step wrong."""

    @property
    def method(self) -> str:
        return "learning from labelled steps which of them are good"

    # ---- rows

    @property
    def record(self) -> type[Solution]:
        return Solution

    @property
    def rows_per_step(self) -> int:
        return self.batch_size

    def tokenize(
        self, records: Sequence[Solution], template: ChatTemplate
    ) -> Tokenized[SolutionBatch]:
        return tokenize_solutions(records, template, fit=self.fit, separator=self.separator)

    # ---- forecasts

    def learning(self, causal: Callable[[], nn.Module]) -> list[nn.Module]:
        return [RewardModel(causal(), heads=self.objective.heads)]

    # ---- training

    def train(self, given: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Train, write ``model/``, return the held-out report."""
        run, context = given.run, StageContext.of(self, watcher.say)
        check_savable(load_config(self.model))
        rows: StageRows[Solution, SolutionBatch] = StageRows.of(context, Solution)
        self._say_labels(rows.sample, context)
        held: SolutionBatch | None = None
        if rows.held:
            held = context.told(self.tokenize(rows.held, context.template))
        model = RewardModel(
            context.causal(), heads=self.objective.heads, compute=context.masters[1]
        )
        judge = ProcessModel(model, self.separator, self.objective.neutral)
        outcome = learn_offline(context, self.objective, model, (rows.train, held), run, watcher)
        dtype = context.saved_dtype(model.trunk.model)
        judge.save(context.tokenizer, run.path, dtype=dtype)
        summary: dict[str, Any] = basics(outcome, model, rows_learnt(rows.train))
        if held is not None:
            found = evaluate_process_model(
                judge, held, threshold=self.threshold, token_budget=self.token_budget
            )
            for sentence in found.sentences:
                context.say(sentence)
            summary |= found.to_json()
        return summary

    def _say_labels(self, data: SolutionBatch, context: StageContext) -> None:
        """Say how many steps are labelled, and what is unlike the objective."""
        labels = data.labels.values
        good = labels[:, 2] + self.objective.neutral * labels[:, 1] >= 0.5
        bad, neutral = int((~good).sum()), int((labels[:, 1] > 0).sum())
        context.say(f"  labelled steps: {len(labels)}, of which {bad} are bad")
        if bad in (0, len(labels)):
            raise UserError(
                f"{self.data.source}: nothing but {'bad' if bad else 'good'} steps "
                f"({counted(len(labels), 'step')}), so there is nothing to tell apart. Add "
                "solutions with other steps."
            )
        if neutral and self.objective.heads == 1:
            share = f"P(good) = {self.objective.neutral:g}"
            context.say(
                f"  neutral steps, learnt as {share}: {neutral} of {counted(len(labels), 'step')}; "
                "objective=three_class learns them as a class of their own"
            )
