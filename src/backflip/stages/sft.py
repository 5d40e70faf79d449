"""The first stage: imitate demonstrations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backflip.algorithms.sft import SFT
from backflip.data.batches import DemonstrationBatch
from backflip.data.collate import Tokenized, tokenize_demonstrations
from backflip.data.conversations import split_at_last_answer
from backflip.data.records import BadRecordError, Demonstration, Prompt
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.save import save_policy
from backflip.monitor.log import MetricsLog
from backflip.stages.context import Ground, basics, learn_offline, rows_learnt
from backflip.stages.prompt_eval import Questions, plain
from backflip.stages.settings import SFTRecipe
from backflip.stages.streams import StageRows
from backflip.stages.watcher import Watcher
from backflip.training.run_folder import RunFolder

__all__ = ["run_sft"]


def run_sft(
    recipe: SFTRecipe,
    run: RunFolder,
    watcher: Watcher,
    ready: DemonstrationBatch | None = None,
) -> dict[str, Any]:
    """Fine-tune, write ``model/``, return the summary.

    Until the driver restores a checkpoint the policy has the weights that it started from, so a
    resumed run gives the same replies before training. ``ready``: learn these rows, as they are,
    instead of what the recipe names.
    """
    ground = Ground.of(recipe, watcher.say)
    tokenize = functools.partial(_tokenized, ground)
    rows = StageRows.of(ground, Demonstration, tokenize) if ready is None else None
    data, held = (rows.train, rows.held) if rows else (ready, [])
    assert data is not None
    held_out, measured = _tokens(ground, held) if held else (None, [])
    policy = CausalPolicy(ground.causal(), compute=ground.masters[1])
    replies = _Replies.of(ground, recipe, measured, policy, watcher.log)
    before = replies.take(0, write=run.latest_step() is None) if replies else []
    outcome = learn_offline(
        ground, SFT(), policy, (data, held_out), run, watcher, validate_first=True
    )
    save_policy(policy, ground.tokenizer, run.path, dtype=ground.saved_dtype(policy.model))
    losses = {k: v for k, v in outcome.metrics.items() if k in ("loss", "val_loss")}
    summary: dict[str, Any] = basics(outcome, policy, rows_learnt(data)) | losses
    summary |= _loss_before(watcher.log)
    if replies:
        summary["examples"] = replies.examples(before, replies.take(outcome.steps, write=True))
    return summary


def _tokens(
    ground: Ground, records: list[Demonstration]
) -> tuple[DemonstrationBatch, list[Demonstration]]:
    """(rows, the records that they are of)."""
    made = _tokenized(ground, records)
    return ground.told(made), [records[i] for i in made.kept]


def _tokenized(ground: Ground, records: Sequence[Demonstration]) -> Tokenized[DemonstrationBatch]:
    recipe = ground.recipe
    assert isinstance(recipe, SFTRecipe)
    fit, turns = ground.fit(), recipe.turns
    return tokenize_demonstrations(records, ground.template, fit=fit, turns=turns)


def _loss_before(log: MetricsLog) -> dict[str, float]:
    """The validation before the first step, in nats a token."""
    first = log.history[0] if log.history else None
    found = first.metrics.get("val_loss") if first is not None and first.step == 0 else None
    return {} if found is None else {"val_loss_before": found}


@dataclass(frozen=True)
class _Replies:
    """The most likely replies to held-out prompts, beside those of the demonstrations."""

    ground: Ground
    questions: Questions
    references: list[str]
    sampler: Sampler
    policy: CausalPolicy
    log: MetricsLog

    @staticmethod
    def of(
        ground: Ground,
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
        questions = Questions.of(ground, prompts, recipe.sampled_prompts)
        references = [asked[messages] for messages in questions.messages]
        greedy = SamplingParams(max_tokens=recipe.sampled_tokens, temperature=0.0)
        params = ground.sampling(greedy, policy.model)
        sampler = Sampler(engine=TorchEngine(policy.model), params=params, allow_filters=True)
        return _Replies(ground, questions, references, sampler, policy, log)

    def take(self, step: int, *, write: bool) -> list[str]:
        """What the policy replies now; with ``write`` it goes on record as of ``step``."""
        self.sampler.sync(self.policy)
        drawn = self.sampler(self.questions.tokens, seed=self.ground.recipe.seed)
        self.sampler.engine.release()  # pyright: ignore[reportAttributeAccessIssue]
        decode, answers = self.ground.tokenizer.decode, drawn.steps.answer.rows()
        written = [plain(decode, answer.tolist(), self.ground) for answer in answers]
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
