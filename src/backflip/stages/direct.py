"""The direct family: rows → what the reference says of them → a policy that was never scored."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import Any

from backflip.data.batches import ComparisonBatch
from backflip.data.streaming import StreamedBatches
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
from backflip.stages.context import Ground, basics, learn_offline, rows_learnt
from backflip.stages.preferences import PreferenceRows
from backflip.stages.prompt_eval import Answers, Questions, answered, shown_rows
from backflip.stages.settings import DirectRecipe
from backflip.stages.watcher import Watcher
from backflip.training.reference import (
    FixedReference,
    MovingReference,
    ReferenceWork,
    check_same_vocabulary,
    with_reference,
)
from backflip.training.reference_cache import ReferenceCache, ReferenceRows
from backflip.training.run_folder import RunFolder

__all__ = ["run_direct"]

Model = CausalPolicy | AdaptersOff


def run_direct(
    recipe: DirectRecipe,
    run: RunFolder,
    watcher: Watcher,
    ready: ComparisonBatch | None = None,
) -> dict[str, Any]:
    """Let the reference speak, learn, write ``model/``, return what the policy now prefers.

    Until the driver restores a checkpoint the policy has the weights that it started from, so a
    resumed run hears from the same reference. ``ready``: learn these comparisons, as they are,
    instead of what the recipe names.
    """
    ground = Ground.of(recipe, watcher.say)
    rows = (
        PreferenceRows.of(ground, recipe)
        if ready is None
        else PreferenceRows.ready(ground, recipe, ready)
    )
    policy = CausalPolicy(ground.causal(), compute=ground.masters[1])
    streamed = isinstance(rows.train, StreamedBatches)
    reference = _reference(ground, recipe, policy, beside=streamed)
    with _kept(recipe, reference or policy) as kept:
        said = _Statements(ground, recipe, reference or policy, kept)
        data = rows.train if streamed else said.of(rows.train)
        held_out = said.of(rows.held_out)
        pairs = held_out if rows.pairs is rows.held_out else said.of(rows.pairs)
        golden = said.of(rows.golden)
        said.done()
    samples = _samples(ground, recipe, rows, policy, reference, watcher.log)
    before = samples.at(0, write=run.latest_step() is None) if samples else None
    outcome = learn_offline(
        ground,
        recipe.objective,
        policy,
        (data, held_out),
        run,
        watcher,
        beside=samples.metrics if samples else None,
        referee=_referee(recipe, policy, reference if streamed else None),
    )
    save_policy(policy, ground.tokenizer, run.path, dtype=ground.saved_dtype(policy.model))
    summary: dict[str, Any] = basics(outcome, policy, rows_learnt(data))
    if pairs is not None:
        summary |= _measured(ground, policy, pairs, "")
    if golden is not None:
        summary["golden"] = _measured(ground, policy, golden, "golden judgements: ")
    if samples and before:
        after = samples.at(outcome.steps, write=False)
        exact = exact_kl(policy, samples.reference, after.rollouts, recipe.token_budget)
        summary |= _before_and_after(before, after)
        summary |= mean_interval(exact, within=(0.0, math.inf)).named("kl_exact_after")
    return summary


# ---- the reference


def _reference(
    ground: Ground, recipe: DirectRecipe, policy: CausalPolicy, *, beside: bool
) -> Model | None:
    """The model to hold on to; None where the policy itself can state its numbers before it learns.

    With adapters it is the policy without them. For all weights a copy stays in memory only where
    sampled answers are to be compared with it, or where it speaks ``beside`` the learning.
    """
    if recipe.reference is None:
        asked = beside and recipe.objective.needs_reference
        adapted = recipe.lora is not None
        return policy.reference() if adapted or asked or recipe.sampled_prompts else None
    check_same_vocabulary(ground.tokenizer, load_tokenizer(recipe.reference), recipe.reference)
    model = load_causal(recipe.reference, precision=recipe.precision)
    return CausalPolicy(model.requires_grad_(requires_grad=False))


def _referee(
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


@dataclass
class _Statements:
    """What the reference says of all rows, or the rows as they are where nobody asks it."""

    ground: Ground
    recipe: DirectRecipe
    model: Model
    kept: ReferenceRows | None
    """What it has said before, on disk."""
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
            self.ground.say(self.heard.line())


# ---- answers on the way


@dataclass(frozen=True)
class _Samples:
    """Held-out prompts that the policy answers at each validation."""

    ground: Ground
    questions: Questions
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
            answers = answered(self.ground, self.questions, self.sampler, self.reference)
            self.sampler.engine.release()  # pyright: ignore[reportAttributeAccessIssue]
            self.taken[step] = answers
            if write:
                rows = zip(answers.texts, answers.kl.tolist(), strict=True)
                self.log.samples(step, [{"prompt": p, "answer": a, "kl": k} for (p, a), k in rows])
        return self.taken[step]


def _samples(
    ground: Ground,
    recipe: DirectRecipe,
    rows: PreferenceRows,
    policy: CausalPolicy,
    reference: Model | None,
    log: MetricsLog,
) -> _Samples | None:
    if not recipe.sampled_prompts or not rows.prompts or reference is None:
        return None
    questions = Questions.of(ground, rows.prompts, recipe.sampled_prompts)
    params = ground.sampling(SamplingParams(max_tokens=recipe.sampled_tokens), policy.model)
    sampler = Sampler(engine=TorchEngine(policy.model), params=params)
    return _Samples(ground, questions, sampler, policy, reference, log)


def _before_and_after(before: Answers, after: Answers) -> dict[str, Any]:
    """KL, length and ends of the sampled answers, and a few prompts with both replies."""
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
    return found


# ---- what it prefers


def _measured(ground: Ground, policy: CausalPolicy, pairs: Any, prefix: str) -> dict[str, Any]:
    """Accuracy and calibration of the implicit reward, with its remarks said aloud."""
    recipe = ground.recipe
    assert isinstance(recipe, DirectRecipe)
    budget = recipe.token_budget
    found = implicit_report(policy, pairs, recipe.objective, token_budget=budget)
    for sentence in found.sentences:
        ground.say(prefix + sentence)
    return found.to_json()
