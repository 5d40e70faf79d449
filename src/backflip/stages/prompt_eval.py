"""Evaluation of a policy on held-out prompts: before, on the way, and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.collate import tokenize_prompts
from backflip.data.ragged import Ragged
from backflip.data.records import Messages, Prompt
from backflip.distributed.reading import evaluate_all
from backflip.evaluation.refusals import refusal
from backflip.functional.kl import answer_kl
from backflip.functional.statistics import (
    Interval,
    bounded_interval,
    mean_interval,
    paired_difference,
)
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.monitor.log import MetricsLog
from backflip.reward.protocol import Judgement, RewardSource
from backflip.reward.watched import GOLD
from backflip.stages.accuracy import Accuracy
from backflip.stages.context import StageContext
from backflip.stages.probes import feature_distance, features, probed
from backflip.stages.spoken import asked_after_reset, plain, spoken

__all__ = [
    "Answers",
    "EvalPrompts",
    "EvalResult",
    "PromptEval",
    "answered",
    "before_and_after",
    "shown_rows",
]

ROUNDING = 1e-5
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
    """Answers to each of the questions, as many to one as to another, side by side."""

    rollouts: Rollouts
    kl: torch.Tensor
    """From the reference, in nats an answer."""
    texts: list[tuple[str, str]]
    """Of each question, prompt and first answer as people read them."""
    each: int = 1
    """Answers to a question."""

    def by_question(self, x: Float[Tensor, " B"]) -> Float[Tensor, " Q"]:
        """The mean of a number over the answers to each question, those that lack it left out."""
        return x.reshape(-1, self.each).nanmean(1)

    def share(self, x: Bool[Tensor, " B"]) -> Interval:
        """The share of answers for which something is true, with its interval over questions."""
        return bounded_interval(x.float(), torch.arange(len(x)) // self.each)

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
            **mean_interval(self.by_question(self.kl)).named(f"kl_{when}"),
            f"length_{when}": self.means()["length"],
            **self.share(self.rollouts.finished).named(f"finished_{when}"),
        }


def answered(
    context: StageContext,
    questions: EvalPrompts,
    sampler: Sampler,
    reference: Any,
    *,
    each: int = 1,
) -> Answers:
    """Answer every question ``each`` times, with the same random numbers each time."""
    recipe = context.recipe
    several = replace(sampler, group_size=each)
    rollouts = several(questions.tokens, seed=recipe.seed, rows=questions.rows)
    ref = evaluate_all(reference, rollouts, {"logp"}, recipe.token_budget)["logp"]
    texts = [
        (
            asked_after_reset(rollouts, row, asked, context.template),
            spoken(rollouts, row, context.template),
        )
        for row, asked in zip(range(0, len(rollouts), each), questions.texts, strict=True)
    ]
    return Answers(rollouts, answer_kl(rollouts.logp, ref, rollouts.mask), texts, each)


@dataclass(frozen=True)
class EvalResult:
    """Answers to the held-out prompts at one time, with their judgement."""

    answers: Answers
    judgement: Judgement
    accuracy: Accuracy | None = None
    """Where the judge gives verdicts."""
    canaries: dict[str, float] = field(default_factory=dict[str, float])
    """Scores of answers that nobody wants; see ``probes.py``."""
    bounds: tuple[float, float] | None = None
    """The lowest and the highest score that there can be, where those are known."""

    @property
    def scores(self) -> Float[Tensor, " Q"]:
        """The mean score of the answers to each question."""
        return self.answers.by_question(self.judgement.scores)

    def part(self, name: str) -> Float[Tensor, " Q"]:
        """The mean of a part of the scores, likewise."""
        return self.answers.by_question(self.judgement.parts[name])

    def reward(self) -> Interval:
        """The mean score with its interval over questions; as that of an accuracy, where the
        scores have known bounds.
        """
        scores, each = self.judgement.scores, self.answers.each
        known, asked = scores.isfinite(), torch.arange(len(scores)) // each
        held, bounds = scores[known], self.bounds
        if bounds is None or not len(held) or not _inside(held, bounds):
            return mean_interval(self.scores[self.scores.isfinite()])
        return bounded_interval(held.clamp(*bounds), asked[known], within=bounds)

    def metrics(self) -> dict[str, float]:
        """Its means, as those of a validation."""
        means = {"reward": float(self.judgement.scores.nanmean())} | self.answers.means()
        metrics = {f"val_{name}": value for name, value in means.items()}
        if "heldout" in self.judgement.parts:
            metrics["val_reward_heldout"] = float(self.judgement.parts["heldout"].nanmean())
        refused = [refusal(answer) == "full" for _, answer in self.answers.texts]
        metrics["val_refusals"] = sum(refused) / max(len(refused), 1)
        if GOLD in self.judgement.parts:
            metrics["val_gold"] = float(self.judgement.parts[GOLD].nanmean())
        return metrics | self.canaries | (self.accuracy.metrics() if self.accuracy else {})


@dataclass(frozen=True)
class PromptEval:
    """Held-out prompts, answered with the same random numbers each time."""

    questions: EvalPrompts
    sampler: Sampler
    judge: RewardSource
    reference: Any
    context: StageContext
    log: MetricsLog
    each: int = 1
    """Answers to a question."""
    sittings: dict[int, EvalResult] = field(default_factory=dict[int, EvalResult])
    """By step, so that the same weights are evaluated once."""
    start: list[Tensor] = field(default_factory=list[Tensor])
    """The reward model's hidden states of the answers of the first sitting, by the start."""

    def metrics(self, step: int) -> dict[str, float]:
        """The means of a sitting after this step, whose samples go on record."""
        return self.sit(step, write=True).metrics()

    def at(self, step: int) -> EvalResult:
        """The sitting with the weights of this step, which the policy has now."""
        return self.sittings.get(step) or self.sit(step, write=False)

    def sit(self, step: int, *, write: bool) -> EvalResult:
        """Answer and judge; with ``write``, log the samples as of ``step``."""
        answers = answered(
            self.context, self.questions, self.sampler, self.reference, each=self.each
        )
        judgement = self.judge(answers.rollouts)
        recipe: Any = self.context.recipe
        cut = not bool(answers.rollouts.finished.all())
        bounds = recipe.shaping.bounds(recipe.reward.bounds, cut=cut)
        accuracy, canaries = self._accuracy(answers, judgement), self._canaries(answers)
        result = EvalResult(answers, judgement, accuracy, canaries, bounds)
        if write:
            scores, kl = result.scores.tolist(), answers.by_question(answers.kl).tolist()
            rows = [
                {"prompt": p, "answer": a, "score": s, "kl": k}
                for (p, a), s, k in zip(answers.texts, scores, kl, strict=True)
            ]
            if result.accuracy is not None:  # by question, so that runs can be compared
                for row, share in zip(rows, result.accuracy.sampled.mean(1).tolist(), strict=True):
                    row["right"] = share
            self.log.samples(step, rows)
        self.sittings[step] = result
        return result

    def _canaries(self, answers: Answers) -> dict[str, float]:
        """Of reward models alone: who checks answers is not taken in by an empty one."""
        recipe: Any = self.context.recipe
        if not recipe.reward.scorers() or recipe.environment is not None:
            return {}
        found = probed(getattr(self.judge, "source", self.judge), answers.rollouts, self.each)
        if (now := features(self.judge, answers.rollouts)) is not None:
            self.start.append(now) if not self.start else None
            found["val_feature_distance"] = feature_distance(now, self.start[0])
        return found

    def _accuracy(self, answers: Answers, judgement: Judgement) -> Accuracy | None:
        """Of answers with verdicts; the most likely answer to each question is checked too."""
        if judgement.right() is None:
            return None
        sampler, greedy = cast("Any", self.sampler), None
        if isinstance(getattr(sampler, "params", None), SamplingParams):
            params = replace(sampler.params, temperature=0.0)
            likeliest = replace(sampler, params=params, group_size=1, allow_filters=True)
            asked, seed = self.questions, self.context.recipe.seed
            greedy = self.judge(likeliest(asked.tokens, seed=seed, rows=asked.rows))
        rows = answers.rollouts.steps.answer.rows()
        said = [plain(row.tolist(), self.context.template) for row in rows]
        recipe: Any = self.context.recipe
        return Accuracy.of(judgement, said, answers.each, recipe.reward.final, greedy)


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
    """Rewards and accuracy with their intervals, KL, and a few prompts with both replies."""
    summary: dict[str, Any] = {
        "reward_before": _parts(before.reward()),
        "reward_after": _parts(after.reward()),
        **before.answers.intervals("before"),
        **after.answers.intervals("after"),
        "reward_gain": _parts(_gain(before, after)),
    }
    if before.accuracy is not None and after.accuracy is not None:
        summary["accuracy_before"] = before.accuracy.summary()
        summary["accuracy_after"] = after.accuracy.summary()
        summary["unchecked_before"] = before.accuracy.unchecked
        summary["unchecked_after"] = after.accuracy.unchecked
    for part, name in (("heldout", "reward_heldout"), (GOLD, "gold")):
        if part in after.judgement.parts:
            old, new = before.part(part), after.part(part)
            summary[f"{name}_before"] = _interval(old)
            summary[f"{name}_after"] = _interval(new)
            summary[f"{name}_gain"] = _parts(_paired(old, new))
    return summary | _examples(before, after)


def _examples(before: EvalResult, after: EvalResult) -> dict[str, Any]:
    """A few prompts with both replies, and the rule by which they were chosen."""
    rows, rule = shown_rows(len(before.answers.texts))
    if (each := after.answers.each) > 1:
        rule += f" Each score is the mean of {each} answers, of which the first is shown."
    examples = [
        {
            "prompt": before.answers.texts[i][0],
            "before": before.answers.texts[i][1],
            "after": after.answers.texts[i][1],
            "score_before": float(before.scores[i]),
            "score_after": float(after.scores[i]),
        }
        for i in rows
    ]
    return {"examples_rule": rule, "examples": examples}


def _gain(before: EvalResult, after: EvalResult) -> Interval:
    """Of the scores, within what the bounds of the scores allow."""
    found, bounds = _paired(before.scores, after.scores), (before.bounds, after.bounds)
    if None in bounds:
        return found
    most = max(end for pair in bounds if pair for end in pair)
    least = min(end for pair in bounds if pair for end in pair)
    if not all(_inside(one.scores.nan_to_num(least), (least, most)) for one in (before, after)):
        return found
    width = most - least
    return replace(found, low=max(found.low, -width), high=min(found.high, width))


def _paired(before: torch.Tensor, after: torch.Tensor) -> Interval:
    """Of the same prompts, one by one: how hard they are cancels."""
    both = after.isfinite() & before.isfinite()
    return paired_difference(after[both], before[both])


def _inside(scores: torch.Tensor, bounds: tuple[float, float]) -> bool:
    """Whether scores keep their bounds, up to the rounding of float32."""
    low, high = bounds
    return low < high and bool(((scores - scores.clamp(low, high)).abs() <= ROUNDING).all())


def _interval(scores: torch.Tensor) -> dict[str, float | int | None]:
    return _parts(mean_interval(scores[scores.isfinite()]))


def _parts(interval: Interval) -> dict[str, float | int | None]:
    return {name.removeprefix("mean_"): value for name, value in interval.named("mean").items()}
