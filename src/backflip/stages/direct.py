"""The direct family: rows → what the reference says of them → a policy that was never scored."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from backflip.algorithms.discover import DIRECT
from backflip.algorithms.preference.base import DirectObjective
from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.unpaired import UnpairedObjective
from backflip.algorithms.ranges import Usual
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Tokenized
from backflip.data.records import Comparison, Labelled
from backflip.data.streaming import StreamedBatches
from backflip.distributed.world import here
from backflip.evaluation.implicit import implicit_report
from backflip.functional.statistics import mean_interval
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import AdaptersOff, CausalPolicy
from backflip.models.divergence import exact_kl
from backflip.models.load import load_causal, load_tokenizer
from backflip.models.save import save_policy
from backflip.monitor.log import MetricsLog
from backflip.stages.base import RunContext, Stage
from backflip.stages.choices import NAMES, one_of
from backflip.stages.context import StageContext, placed
from backflip.stages.course import basics, learn_offline, rows_learnt
from backflip.stages.plans import Plan
from backflip.stages.preferences import PreferenceRows, tokenized
from backflip.stages.prompt_eval import Answers, EvalPrompts, answered, shown_rows
from backflip.stages.settings import Count
from backflip.stages.watcher import Watcher
from backflip.training.moving_reference import FixedReference, MovingReference
from backflip.training.reference import (
    ReferenceWork,
    check_same_vocabulary,
    with_reference,
)
from backflip.training.reference_cache import ReferenceCache, ReferenceRows

__all__ = ["DirectRecipe"]

if TYPE_CHECKING:
    DirectObjectives: TypeAlias = DirectObjective | UnpairedObjective
else:
    DirectObjectives = one_of(DIRECT)

Model = CausalPolicy | AdaptersOff


class DirectRecipe(Stage):
    """The direct family: learn from preferences without a reward model."""

    RATES: ClassVar[tuple[float, float]] = (5e-5, 1e-6)

    USUAL: ClassVar[tuple[Usual, ...]] = (
        Usual(1e-7, 1e-5, "5e-7 to 8e-6 for all weights", path="optimizer.lr", adapted=False),
        Usual(1e-6, 3e-4, "5e-6 to 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(1, 3, "1 to 3; on one's own samples 1", path="epochs"),
    )

    stage: Literal["direct"] = "direct"
    """Which recipe this is."""
    objective: DirectObjectives = DPO()
    """Settings of the loss: on comparisons, or on single answers with labels."""
    batch_size: Count = 8
    """Prompts in an optimiser step, each with all of its answers; for labels, answers."""
    reference: str | None = None
    """Another model to hold on to; null holds on to the model as it starts."""
    reference_device: Literal["same", "cpu"] = "same"
    """Where a reference with weights of its own lies; cpu: on the device only while it reads."""
    reference_cache: bool = True
    """Keep the reference's log-probabilities on disk, for every run on the same rows."""
    mask_formatting: bool = False
    """Compare answers without the tokens that end a turn, as Llama 3.1 did; nll_coef keeps them."""
    sampled_prompts: Annotated[int, Field(ge=0)] = 32
    """Held-out prompts answered at each validation, for KL and length; 0 answers none."""
    sampled_tokens: Count = 64
    """Longest of these answers."""
    golden: str | None = None
    """Source of 200 to 500 senior judgements, probed at the end of the run."""

    @property
    def method(self) -> str:
        return NAMES[type(self.objective)]

    # ---- rows

    @property
    def record(self) -> type[Comparison] | type[Labelled]:
        return self.objective.learns_from

    @property
    def rows_per_step(self) -> int:
        return self.batch_size

    def tokenize(self, records: Sequence[Any], template: ChatTemplate) -> Tokenized[Any]:
        masked = self.mask_formatting
        return tokenized(records, template, fit=self.fit, seed=self.seed, mask_formatting=masked)

    # ---- checks

    def contradictions(self, prefix: str, *, alone: bool) -> Iterator[str]:
        name = NAMES[type(self.objective)]
        if self.reference is not None and not self.objective.needs_reference:
            yield (
                f"{prefix}reference is {self.reference}, but {name} compares with none. Leave it "
                "out, or set objective=dpo."
            )
        if self.reference is not None and self.objective.reference_moves:
            yield (
                f"{prefix}reference is {self.reference}, but the reference of {name} follows the "
                "policy itself. Leave it out, or set objective=dpo."
            )

    def remarks(self, prefix: str) -> Iterator[str]:
        if why := self.objective.noise(self.batch_size):
            yield f"{prefix}batch_size is {self.batch_size}: {why}."

    def sources(self) -> dict[str, str | None]:
        return super().sources() | {"golden": self.golden}

    def models(self) -> dict[str, str | None]:
        return super().models() | {"reference": self.reference}

    # ---- forecasts

    def trial_settings(self) -> dict[str, Any]:
        return {"golden": None, "sampled_prompts": 0}

    def beside(self, plan: Plan, step: float, row: float) -> tuple[float, float]:
        stated = plan.rows + plan.held_out if self.objective.needs_reference else 0
        return row * stated, plan.sampling(step, self.sampled_prompts, self.sampled_tokens)

    # ---- training

    def train(self, given: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Let the reference speak, learn, write ``model/``, return what the policy now prefers.

        Until the driver restores a checkpoint the policy has the weights that it started from, so
        a resumed run hears from the same reference.
        """
        run, context = given.run, StageContext.of(self, watcher.say)
        rows = PreferenceRows.of(context, self, given.rows)
        policy = CausalPolicy(context.causal(), compute=context.masters[1])
        streamed = isinstance(rows.train, StreamedBatches)
        reference = _reference(context, self, policy, beside=streamed)
        stated = _stated(context, self, reference or policy, rows)
        here().shard(policy)
        if isinstance(reference, CausalPolicy):
            here().shard(reference)
        samples = _samples(context, self, rows, policy, reference, watcher.log)
        before = samples.at(0, write=run.latest_step() is None) if samples else None
        outcome = learn_offline(
            context,
            self.objective,
            policy,
            (stated.train, stated.held_out),
            run,
            watcher,
            beside=samples.metrics if samples else None,
            reference_update=_reference_update(self, policy, reference if streamed else None),
        )
        save_policy(policy, context.tokenizer, run.path, dtype=context.saved_dtype(policy.model))
        summary: dict[str, Any] = basics(outcome, policy, rows_learnt(stated.train))
        summary |= _preferred(context, policy, stated)
        if samples and before:
            summary |= samples.compared(before, outcome.steps)
        return summary


# ---- the reference


def _reference(
    context: StageContext, recipe: DirectRecipe, policy: CausalPolicy, *, beside: bool
) -> Model | None:
    """The model to hold on to; None where the policy itself can state its numbers before it learns.

    With adapters it is the policy without them. For all weights a copy stays in memory only where
    sampled answers are to be compared with it, or where it speaks ``beside`` the learning.
    """
    if recipe.reference is None:
        asked = beside and recipe.objective.needs_reference
        adapted = recipe.lora is not None
        if not (adapted or asked or recipe.sampled_prompts):
            return None
        return placed(context, policy.reference(), recipe.reference_device)
    check_same_vocabulary(context.tokenizer, load_tokenizer(recipe.reference), recipe.reference)
    model = load_causal(recipe.reference, precision=recipe.precision)
    other = CausalPolicy(model.requires_grad_(requires_grad=False))
    return placed(context, other, recipe.reference_device)


def _reference_update(
    recipe: DirectRecipe, policy: CausalPolicy, beside: Model | None
) -> MovingReference | FixedReference | None:
    """A reference that follows the policy, where the objective has one; or the one ``beside``."""
    objective: Any = recipe.objective
    if not objective.reference_moves:
        if beside is None or not objective.needs_reference:
            return None
        return FixedReference(beside, token_budget=recipe.token_budget)
    return MovingReference(
        policy, mix=objective.mix, every=objective.every, token_budget=recipe.token_budget
    )


def _kept(
    recipe: DirectRecipe, model: Model
) -> contextlib.AbstractContextManager[ReferenceRows | None]:
    """The cache of this model, opened once: naming its file takes a reading of all weights."""
    if not (recipe.reference_cache and recipe.objective.needs_reference):
        return contextlib.nullcontext()
    return ReferenceCache(recipe.reference or recipe.model).rows(model)


def _stated(
    context: StageContext, recipe: DirectRecipe, model: Model, rows: PreferenceRows
) -> PreferenceRows:
    """The rows with the log-probabilities of the reference, where the objective asks for them."""
    with _kept(recipe, model) as kept:
        said = _ReferencePass(context, recipe, model, kept)
        streamed = isinstance(rows.train, StreamedBatches)
        train = rows.train if streamed else said.of(rows.train)
        held_out = said.of(rows.held_out)
        pairs = held_out if rows.pairs is rows.held_out else said.of(rows.pairs)
        stated = replace(
            rows, train=train, held_out=held_out, pairs=pairs, golden=said.of(rows.golden)
        )
        said.done()
    return stated


@dataclass
class _ReferencePass:
    """Rows with the reference's log-probabilities; as they are where no objective needs them."""

    context: StageContext
    recipe: DirectRecipe
    model: Model
    kept: ReferenceRows | None
    """The cache of the reference's log-probabilities, on disk."""
    heard: ReferenceWork = field(default_factory=lambda: ReferenceWork(0))

    def of(self, rows: Any) -> Any:
        """The rows with their reference; None where there are none."""
        if rows is None or not self.recipe.objective.needs_reference:
            return rows
        last = ReferenceWork(0)

        def progress(work: ReferenceWork) -> None:
            nonlocal last
            last = work

        stated = with_reference(
            rows,
            self.model,
            token_budget=self.recipe.token_budget,
            cache=self.kept,
            mismatched=getattr(self.recipe.objective, "needs_mismatched", True),
            progress=progress,
        )
        self.heard = ReferenceWork(
            total=self.heard.total + last.total,
            hits=self.heard.hits + last.hits,
            computed=self.heard.computed + last.computed,
            seconds=self.heard.seconds + last.seconds,
        )
        return stated

    def done(self) -> None:
        """Say how it went."""
        if self.heard.total:
            self.context.say(self.heard.line())


# ---- answers on the way


@dataclass(frozen=True)
class _Samples:
    """Held-out prompts that the policy answers at each validation."""

    context: StageContext
    questions: EvalPrompts
    sampler: Sampler
    policy: CausalPolicy
    reference: Model
    log: MetricsLog
    taken: dict[int, Answers] = field(default_factory=dict[int, Answers])
    """By step."""

    def metrics(self, step: int) -> dict[str, float]:
        """KL, length and share of answers cut off after this step; the answers go on record.

        Named apart from the KL and the lengths that an objective measures on its data.
        """
        means = self.at(step, write=True).means()
        return {
            "val_sampled_kl": means["kl"],
            "val_sampled_kl_units": float(len(self.questions.texts)),
            "val_sampled_length": means["length"],
            "val_sampled_cut_off": 1 - means["finished"],
        }

    def at(self, step: int, *, write: bool) -> Answers:
        """The answers with the weights of this step, which the policy has now."""
        if step not in self.taken:
            self.sampler.sync(self.policy)
            answers = answered(self.context, self.questions, self.sampler, self.reference)
            self.sampler.engine.release()  # pyright: ignore[reportAttributeAccessIssue]
            self.taken[step] = answers
            if write:
                rows = zip(answers.texts, answers.kl.tolist(), strict=True)
                self.log.samples(step, [{"prompt": p, "answer": a, "kl": k} for (p, a), k in rows])
        return self.taken[step]

    def compared(self, before: Answers, step: int) -> dict[str, Any]:
        """KL, length and ends of the answers then and now, and a few prompts with both replies."""
        after = self.at(step, write=False)
        found: dict[str, Any] = before.intervals("before") | after.intervals("after")
        rows, found["examples_rule"] = shown_rows(len(before.texts))
        found["examples"] = [
            {
                "prompt": before.texts[row][0],
                "before": before.texts[row][1],
                "after": after.texts[row][1],
            }
            for row in rows
        ]
        budget = self.context.recipe.token_budget
        exact = exact_kl(self.policy, self.reference, after.rollouts, budget)
        return found | mean_interval(exact, within=(0.0, math.inf)).named("kl_exact_after")


def _samples(
    context: StageContext,
    recipe: DirectRecipe,
    rows: PreferenceRows,
    policy: CausalPolicy,
    reference: Model | None,
    log: MetricsLog,
) -> _Samples | None:
    if not recipe.sampled_prompts or not rows.prompts or reference is None:
        return None
    questions = EvalPrompts.of(context, rows.prompts, recipe.sampled_prompts)
    params = context.sampling(SamplingParams(max_tokens=recipe.sampled_tokens), policy.model)
    sampler = Sampler(engine=TorchEngine(policy.model), params=params)
    return _Samples(context, questions, sampler, policy, reference, log)


# ---- what it prefers


def _preferred(context: StageContext, policy: CausalPolicy, rows: PreferenceRows) -> dict[str, Any]:
    """Implicit rewards of the held-out and of the golden comparisons."""
    found: dict[str, Any] = {}
    if rows.pairs is not None:
        found |= _measured(context, policy, rows.pairs, "")
    if rows.golden is not None:
        found["golden"] = _measured(context, policy, rows.golden, "golden judgements: ")
    return found


def _measured(
    context: StageContext, policy: CausalPolicy, pairs: Any, prefix: str
) -> dict[str, Any]:
    """Accuracy and calibration of the implicit reward, with its remarks said aloud."""
    recipe = context.recipe
    objective: Any = dict(recipe)["objective"]
    found = implicit_report(policy, pairs, objective, token_budget=recipe.token_budget)
    for sentence in found.sentences:
        context.say(prefix + sentence)
    return found.to_json()
