"""How a policy does on held-out prompts: before, on the way, and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from backflip.data.batches import Ragged, Rollouts
from backflip.data.records import Messages
from backflip.functional.kl import answer_kl
from backflip.functional.statistics import bootstrap_mean, paired_difference
from backflip.generate.sampler import Sampler
from backflip.monitor.log import MetricsLog
from backflip.recipes.ground import Ground
from backflip.reward.source import Judgement, RewardSource
from backflip.train.online import evaluate_all

__all__ = ["Exam", "Questions", "Sitting", "before_and_after", "shown_prompt"]


@dataclass(frozen=True)
class Questions:
    """Held-out prompts, for the model and for people."""

    tokens: Ragged[Any]
    texts: list[str]


@dataclass(frozen=True)
class Sitting:
    """How the policy did on the held-out prompts at one time."""

    rollouts: Rollouts
    judgement: Judgement
    kl: torch.Tensor
    texts: list[tuple[str, str]]

    def metrics(self) -> dict[str, float]:
        """Its means, as those of a validation."""
        metrics = {
            "val_reward": float(self.judgement.scores.mean()),
            "val_kl": float(self.kl.mean()),
            "val_length": float(self.rollouts.mask.sum(-1).float().mean()),
            "val_finished": float(self.rollouts.finished.float().mean()),
        }
        if "heldout" in self.judgement.parts:
            metrics["val_reward_heldout"] = float(self.judgement.parts["heldout"].mean())
        return metrics


@dataclass(frozen=True)
class Exam:
    """Held-out prompts, answered with the same random numbers each time."""

    questions: Questions
    sampler: Sampler
    judge: RewardSource
    reference: Any
    ground: Ground
    log: MetricsLog
    sittings: dict[int, Sitting] = field(default_factory=dict[int, Sitting])
    """By step, so that nobody sits twice with the same weights."""

    def metrics(self, step: int) -> dict[str, float]:
        """The means of a sitting after this step, whose samples go on record."""
        return self.sit(step, write=True).metrics()

    def at(self, step: int) -> Sitting:
        """The sitting with the weights of this step, which the policy has now."""
        return self.sittings.get(step) or self.sit(step, write=False)

    def sit(self, step: int, *, write: bool) -> Sitting:
        """Answer, be judged, and, with ``write``, put the samples on record as of ``step``."""
        recipe = self.ground.recipe
        rollouts = replace(self.sampler, group_size=1)(self.questions.tokens, seed=recipe.seed)
        judgement = self.judge(rollouts)
        ref = evaluate_all(self.reference, rollouts, {"logp"}, recipe.token_budget)["logp"]
        kl = answer_kl(rollouts.logp, ref, rollouts.mask)
        decode: Callable[[Any], str] = self.ground.tokenizer.decode
        answers = [plain(decode, a.tolist(), self.ground) for a in rollouts.steps.answer.rows()]
        texts = list(zip(self.questions.texts, answers, strict=True))
        if write:
            rows = zip(texts, judgement.scores.tolist(), kl.tolist(), strict=True)
            self.log.samples(
                step, [{"prompt": p, "answer": a, "score": s, "kl": k} for (p, a), s, k in rows]
            )
        self.sittings[step] = Sitting(rollouts, judgement, kl, texts)
        return self.sittings[step]


def plain(decode: Callable[[Any], str], tokens: list[int], ground: Ground) -> str:
    """An answer as people read it, without the token that ended it."""
    ends = set(ground.template.stop_tokens)
    return decode([t for t in tokens if t not in ends]).strip()


def shown_prompt(messages: Messages) -> str:
    """A prompt as people read it: the question alone, or the turns that led to it."""
    turns = [m for m in messages if m.role != "system"]
    if len(turns) == 1:
        return turns[0].content.strip()
    return "\n".join(f"{m.role}: {m.content.strip()}" for m in turns)


def before_and_after(before: Sitting, after: Sitting) -> dict[str, Any]:
    """Rewards with their intervals, KL, and three prompts with both replies."""
    summary: dict[str, Any] = {
        "reward_before": _interval(before.judgement.scores),
        "reward_after": _interval(after.judgement.scores),
        "kl_before": float(before.kl.mean()),
        "kl_after": float(after.kl.mean()),
        "finished_before": float(before.rollouts.finished.float().mean()),
        "finished_after": float(after.rollouts.finished.float().mean()),
    }
    gain = paired_difference(after.judgement.scores, before.judgement.scores)
    summary["reward_gain"] = {"mean": gain.estimate, "low": gain.low, "high": gain.high}
    if "heldout" in after.judgement.parts:
        summary["reward_heldout_before"] = _interval(before.judgement.parts["heldout"])
        summary["reward_heldout_after"] = _interval(after.judgement.parts["heldout"])
    summary["examples"] = [
        {
            "prompt": before.texts[i][0],
            "before": before.texts[i][1],
            "after": after.texts[i][1],
            "score_before": float(before.judgement.scores[i]),
            "score_after": float(after.judgement.scores[i]),
        }
        for i in range(min(3, len(before.texts)))
    ]
    return summary


def _interval(scores: torch.Tensor) -> dict[str, float]:
    interval = bootstrap_mean(scores)
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high}
