"""Evaluation of a policy on held-out prompts: before, on the way, and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from backflip.data.batches import Ragged, Rollouts
from backflip.data.collate import tokenize_prompts
from backflip.data.records import Messages, Prompt
from backflip.distributed.reading import evaluate_all
from backflip.functional.kl import answer_kl
from backflip.functional.statistics import (
    Interval,
    mean_interval,
    paired_difference,
    share_interval,
)
from backflip.generate.sampler import Sampler
from backflip.monitor.log import MetricsLog
from backflip.reward.protocol import Judgement, RewardSource
from backflip.stages.context import StageContext

__all__ = [
    "Answers",
    "EvalPrompts",
    "EvalResult",
    "PromptEval",
    "answered",
    "before_and_after",
    "shown_rows",
]

SHOWN = 5
"""Held-out prompts whose replies a summary shows."""


@dataclass(frozen=True)
class EvalPrompts:
    """Held-out prompts, for the model and for people."""

    tokens: Ragged[Any]
    texts: list[str]
    messages: list[Messages] = field(default_factory=list[Messages])
    rows: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Numbers of the prompts' records, by which judges find them."""

    @staticmethod
    def of(
        context: StageContext, prompts: Sequence[Prompt], most: int, *, first_row: int = 0
    ) -> EvalPrompts:
        """The first ``most`` of the prompts that fit, whose records begin at ``first_row``."""
        apart = tokenize_prompts(prompts, context.template, fit=context.recipe.fit)
        tokens, kept = context.told(apart), apart.kept[:most]
        texts = [shown_prompt(prompts[i].messages) for i in kept]
        asked = [prompts[i].messages for i in kept]
        rows = torch.tensor(kept, dtype=torch.long) + first_row
        return EvalPrompts(tokens[torch.arange(len(kept))], texts, asked, rows)


@dataclass(frozen=True)
class Answers:
    """One answer to each of the questions."""

    rollouts: Rollouts
    kl: torch.Tensor
    """From the reference, in nats an answer."""
    texts: list[tuple[str, str]]
    """Prompt and answer as people read them."""

    def means(self) -> dict[str, float]:
        """KL in nats, length in tokens, and the share that the policy ended by itself."""
        return {
            "kl": float(self.kl.mean()),
            "length": float(self.rollouts.mask.sum(-1).float().mean()),
            "finished": float(self.rollouts.finished.float().mean()),
        }

    def intervals(self, when: str) -> dict[str, float | int | None]:
        """The same for a summary, as ``kl_before`` and so on; KL and the share with intervals."""
        return {
            **mean_interval(self.kl).named(f"kl_{when}"),
            f"length_{when}": self.means()["length"],
            **share_interval(self.rollouts.finished.float()).named(f"finished_{when}"),
        }


def answered(
    context: StageContext, questions: EvalPrompts, sampler: Sampler, reference: Any
) -> Answers:
    """Answer every question once, with the same random numbers each time."""
    recipe = context.recipe
    drawn = replace(sampler, group_size=1)(questions.tokens, seed=recipe.seed)
    rollouts = replace(drawn, row=questions.rows[drawn.group])
    ref = evaluate_all(reference, rollouts, {"logp"}, recipe.token_budget)["logp"]
    decode: Callable[[Any], str] = context.tokenizer.decode
    written = [plain(decode, a.tolist(), context) for a in rollouts.steps.answer.rows()]
    texts = list(zip(questions.texts, written, strict=True))
    return Answers(rollouts, answer_kl(rollouts.logp, ref, rollouts.mask), texts)


@dataclass(frozen=True)
class EvalResult:
    """Answers to the held-out prompts at one time, with their judgement."""

    answers: Answers
    judgement: Judgement

    def metrics(self) -> dict[str, float]:
        """Its means, as those of a validation."""
        means = {"reward": float(self.judgement.scores.nanmean())} | self.answers.means()
        metrics = {f"val_{name}": value for name, value in means.items()}
        if "heldout" in self.judgement.parts:
            metrics["val_reward_heldout"] = float(self.judgement.parts["heldout"].nanmean())
        return metrics


@dataclass(frozen=True)
class PromptEval:
    """Held-out prompts, answered with the same random numbers each time."""

    questions: EvalPrompts
    sampler: Sampler
    judge: RewardSource
    reference: Any
    context: StageContext
    log: MetricsLog
    sittings: dict[int, EvalResult] = field(default_factory=dict[int, EvalResult])
    """By step, so that the same weights are evaluated once."""

    def metrics(self, step: int) -> dict[str, float]:
        """The means of a sitting after this step, whose samples go on record."""
        return self.sit(step, write=True).metrics()

    def at(self, step: int) -> EvalResult:
        """The sitting with the weights of this step, which the policy has now."""
        return self.sittings.get(step) or self.sit(step, write=False)

    def sit(self, step: int, *, write: bool) -> EvalResult:
        """Answer and judge; with ``write``, log the samples as of ``step``."""
        answers = answered(self.context, self.questions, self.sampler, self.reference)
        judgement = self.judge(answers.rollouts)
        if write:
            scores, kl = judgement.scores.tolist(), answers.kl.tolist()
            self.log.samples(
                step,
                [
                    {"prompt": p, "answer": a, "score": s, "kl": k}
                    for (p, a), s, k in zip(answers.texts, scores, kl, strict=True)
                ],
            )
        self.sittings[step] = EvalResult(answers, judgement)
        return self.sittings[step]


def plain(decode: Callable[[Any], str], tokens: list[int], context: StageContext) -> str:
    """An answer as people read it, without the token that ended it."""
    ends = set(context.template.stop_tokens)
    return decode([t for t in tokens if t not in ends]).strip()


def shown_prompt(messages: Messages) -> str:
    """A prompt as people read it: the question alone, or the turns that led to it."""
    turns = [m for m in messages if m.role != "system"]
    if len(turns) == 1:
        return turns[0].content.strip()
    return "\n".join(f"{m.role}: {m.content.strip()}" for m in turns)


def shown_rows(count: int) -> tuple[list[int], str]:
    """(places of the prompts to show, the rule in words): evenly spaced, so that nobody picks."""
    step = max(1, count // SHOWN)
    rows = list(range(0, count, step))[:SHOWN]
    places = ", ".join(str(row + 1) for row in rows)
    which = (
        f"Held-out prompts {places} of {count}, chosen by their place"
        if count > 1
        else ("The only held-out prompt")
    )
    return rows, f"{which}; the same random numbers before and after."


def before_and_after(before: EvalResult, after: EvalResult) -> dict[str, Any]:
    """Rewards with their intervals, KL, and a few prompts with both replies."""
    summary: dict[str, Any] = {
        "reward_before": _interval(before.judgement.scores),
        "reward_after": _interval(after.judgement.scores),
        **before.answers.intervals("before"),
        **after.answers.intervals("after"),
    }
    summary["reward_gain"] = _gain(before.judgement.scores, after.judgement.scores)
    if "heldout" in after.judgement.parts:
        old, new = (sitting.judgement.parts["heldout"] for sitting in (before, after))
        summary["reward_heldout_before"] = _interval(old)
        summary["reward_heldout_after"] = _interval(new)
        summary["reward_heldout_gain"] = _gain(old, new)
    rows, summary["examples_rule"] = shown_rows(len(before.answers.texts))
    summary["examples"] = [
        {
            "prompt": before.answers.texts[i][0],
            "before": before.answers.texts[i][1],
            "after": after.answers.texts[i][1],
            "score_before": float(before.judgement.scores[i]),
            "score_after": float(after.judgement.scores[i]),
        }
        for i in rows
    ]
    return summary


def _gain(before: torch.Tensor, after: torch.Tensor) -> dict[str, float | int | None]:
    """Of the same prompts, one by one: how hard they are cancels."""
    both = after.isfinite() & before.isfinite()
    return _parts(paired_difference(after[both], before[both]))


def _interval(scores: torch.Tensor) -> dict[str, float | int | None]:
    return _parts(mean_interval(scores[scores.isfinite()]))


def _parts(interval: Interval) -> dict[str, float | int | None]:
    return {name.removeprefix("mean_"): value for name, value in interval.named("mean").items()}
