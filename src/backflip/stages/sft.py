"""The first stage: imitate demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from backflip.algorithms.ranges import Usual
from backflip.algorithms.sft import SFT
from backflip.data.batches import DemonstrationBatch
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Tokenized, tokenize_demonstrations
from backflip.data.conversations import split_at_last_answer
from backflip.data.records import BadRecordError, Demonstration, Prompt
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.save import save_policy
from backflip.monitor.log import MetricsLog
from backflip.stages.base import RunContext, Stage
from backflip.stages.context import StageContext
from backflip.stages.course import basics, learn_offline, rows_learnt
from backflip.stages.plans import Plan
from backflip.stages.prompt_eval import EvalPrompts
from backflip.stages.settings import Count
from backflip.stages.spoken import plain
from backflip.stages.streams import StageRows
from backflip.stages.watcher import Watcher

__all__ = ["SFTRecipe"]


class SFTRecipe(Stage):
    """Supervised fine-tuning: imitate demonstrations."""

    RATES: ClassVar[tuple[float, float]] = (2e-4, 2e-5)

    USUAL: ClassVar[tuple[Usual, ...]] = (
        Usual(1e-6, 1e-4, "1e-5 to 2e-5 for all weights", path="optimizer.lr", adapted=False),
        Usual(2e-5, 1e-3, "about 2e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(1, 3, "1 to 3; beyond, demonstrations are learnt by heart", path="epochs"),
    )

    stage: Literal["sft"] = "sft"
    """Which recipe this is."""
    batch_size: Count = 8
    """Conversations in an optimiser step."""
    turns: Literal["all", "last"] = "all"
    """Learn every turn of the assistant, or the last one only."""
    sampled_prompts: Annotated[int, Field(ge=0)] = 4
    """Held-out prompts answered greedily before and after, for the report; 0 answers none."""
    sampled_tokens: Count = 64
    """Longest of these answers."""

    @property
    def method(self) -> str:
        return "supervised fine-tuning on demonstrations"

    # ---- rows

    @property
    def record(self) -> type[Demonstration]:
        return Demonstration

    @property
    def rows_per_step(self) -> int:
        return self.batch_size

    def tokenize(
        self, records: Sequence[Demonstration], template: ChatTemplate
    ) -> Tokenized[DemonstrationBatch]:
        return tokenize_demonstrations(records, template, fit=self.fit, turns=self.turns)

    # ---- forecasts

    def trial_settings(self) -> dict[str, Any]:
        return {"sampled_prompts": 0}

    def beside(self, plan: Plan, step: float, row: float) -> tuple[float, float]:
        return 2 * plan.sampling(step, self.sampled_prompts, self.sampled_tokens), 0.0

    # ---- training

    def train(self, given: RunContext, watcher: Watcher) -> dict[str, Any]:
        """Fine-tune, write ``model/``, return the summary.

        Until the driver restores a checkpoint the policy has the weights that it started from, so
        a resumed run gives the same replies before training.
        """
        run, context = given.run, StageContext.of(self, watcher.say)
        data, held = given.rows, list[Demonstration]()
        if data is None:
            rows = StageRows.of(context, Demonstration)
            data, held = rows.train, rows.held
        held_out, measured = _tokens(context, held) if held else (None, [])
        policy = CausalPolicy(context.causal(), compute=context.masters[1])
        replies = _Replies.of(context, self, measured, policy, watcher.log)
        before = replies.take(0, write=run.latest_step() is None) if replies else []
        outcome = learn_offline(
            context, SFT(), policy, (data, held_out), run, watcher, validate_first=True
        )
        save_policy(policy, context.tokenizer, run.path, dtype=context.saved_dtype(policy.model))
        losses = {k: v for k, v in outcome.metrics.items() if k in ("loss", "val_loss")}
        summary: dict[str, Any] = basics(outcome, policy, rows_learnt(data)) | losses
        summary |= _loss_before(watcher.log)
        if replies:
            after = replies.take(outcome.steps, write=True)
            summary["examples"] = replies.examples(before, after)
        return summary


def _tokens(
    context: StageContext, records: list[Demonstration]
) -> tuple[DemonstrationBatch, list[Demonstration]]:
    """(rows, the records that they are of)."""
    made = context.recipe.tokenize(records, context.template)
    return context.told(made), [records[i] for i in made.kept]


def _loss_before(log: MetricsLog) -> dict[str, float]:
    """The validation before the first step, in nats a token."""
    first = log.history[0] if log.history else None
    found = first.metrics.get("val_loss") if first is not None and first.step == 0 else None
    return {} if found is None else {"val_loss_before": found}


@dataclass(frozen=True)
class _Replies:
    """The most likely replies to held-out prompts, beside those of the demonstrations."""

    context: StageContext
    questions: EvalPrompts
    references: list[str]
    sampler: Sampler
    policy: CausalPolicy
    log: MetricsLog

    @staticmethod
    def of(
        context: StageContext,
        recipe: SFTRecipe,
        held: Sequence[Demonstration],
        policy: CausalPolicy,
        log: MetricsLog,
    ) -> _Replies | None:
        """To the first of the prompts, each once; None where there are none."""
        asked = _asked(held, recipe.sampled_prompts)
        if not asked:
            return None
        prompts = [Prompt(messages) for messages in asked]
        questions = EvalPrompts.of(context, prompts, recipe.sampled_prompts)
        references = [asked[messages] for messages in questions.messages]
        greedy = SamplingParams(max_tokens=recipe.sampled_tokens, temperature=0.0)
        params = context.sampling(greedy, policy.model)
        sampler = Sampler(engine=TorchEngine(policy.model), params=params, allow_filters=True)
        return _Replies(context, questions, references, sampler, policy, log)

    def take(self, step: int, *, write: bool) -> list[str]:
        """The policy's replies of now; with ``write`` it goes on record as of ``step``."""
        self.sampler.sync(self.policy)
        drawn = self.sampler(self.questions.tokens, seed=self.context.recipe.seed)
        self.sampler.engine.release()  # pyright: ignore[reportAttributeAccessIssue]
        answers = drawn.steps.answer.rows()
        written = [plain(answer.tolist(), self.context.template) for answer in answers]
        if write:
            rows = zip(self.questions.texts, written, self.references, strict=True)
            said = [{"prompt": p, "answer": a, "reference": r} for p, a, r in rows]
            self.log.samples(step, said)
        return written

    def examples(self, before: Sequence[str], after: Sequence[str]) -> list[dict[str, str]]:
        """Each prompt with both replies and the answer that people wrote."""
        rows = zip(self.questions.texts, before, after, self.references, strict=True)
        return [{"prompt": p, "before": b, "after": a, "reference": r} for p, b, a, r in rows]


def _asked(records: Sequence[Demonstration], most: int) -> dict[Any, str]:
    """The first prompts, with the last answer of their conversations; plain text asks nothing."""
    found: dict[Any, str] = {}
    for record in records:
        if len(found) == most:
            break
        prompt, answer = split_at_last_answer(record.messages)
        try:
            Prompt(prompt)
        except BadRecordError:
            continue
        found.setdefault(prompt, answer[0].content.strip())
    return found
