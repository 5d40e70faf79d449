"""Results of a round: a row of a table, metrics for the curves, answers for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from backflip.evaluation.win_rate import round_row, win_rate
from backflip.functional.kl import answer_kl
from backflip.functional.statistics import finite, mean_interval
from backflip.rounds.policy_sampler import PolicySampler
from backflip.sampling.choosing import Chosen
from backflip.sampling.samples import Sampled, Scoring
from backflip.stages.context import StageContext
from backflip.stages.spoken import plain

__all__ = ["Learnt", "Sat", "metrics_of", "row_of", "samples_of", "summary_of"]

HELD_OUT = "heldout"
"""Name of a reward model's second head, which nobody optimises against."""
ENDS = ("", "_low", "_high", "_units")
"""Endings of an interval's entries, behind the name of its number."""
NOT_MEASURED = ("round",)
"""Numbers of a row that are no measurement."""


@dataclass(frozen=True)
class Sat:
    """Judged answers to the held-out prompts, with their KL from the start."""

    scoring: Scoring
    kl: Float[Tensor, " B"]
    """From the start, in nats an answer."""

    @staticmethod
    def of(scoring: Scoring, start: PolicySampler) -> Sat:
        rollouts = scoring.sampled.rollouts
        return Sat(scoring, answer_kl(rollouts.logp, start.logp(rollouts), rollouts.mask))

    def told(self, part: str) -> bool:
        """Whether the judgement has values of this part."""
        values = self.scoring.parts.get(part)
        return values is not None and bool(values.isfinite().any())

    def by(self, part: str) -> Sampled:
        """The answers with one part of the judgement as their scores."""
        return Sampled(self.scoring.sampled.rollouts, self.scoring.parts[part])


Learnt = tuple[Scoring, Mapping[str, Chosen[Any]]]
"""Answers that a round sampled, and the rows that each of its trainings learnt from."""


def row_of(number: int, now: Sat, start: Sat, learnt: Learnt | None) -> dict[str, Any]:
    """Plain numbers: how a round's policy does, and what it learnt from."""
    row = round_row(number, now.scoring.sampled, start.scoring.sampled, kl=now.kl).to_json()
    if now.told(HELD_OUT) and start.told(HELD_OUT):
        other = win_rate(now.by(HELD_OUT), start.by(HELD_OUT)).to_json()
        row |= {f"win_rate_heldout{end}": other[f"win_rate{end}"] for end in ENDS}
        row |= _mean("reward_heldout", now.scoring.parts[HELD_OUT])
        row |= _gain("reward_heldout", now.scoring.parts[HELD_OUT], start.scoring.parts[HELD_OUT])
    row |= _gain("reward", now.scoring.sampled.scores, start.scoring.sampled.scores)
    row["unscored"] = len(now.scoring.failed)
    if learnt is None:
        return row
    scoring, chosen = learnt
    row["sampled"] = {name: finite(value) for name, value in scoring.metrics().items()}
    row["answers"] = len(scoring.sampled)
    row["failures"] = dict(scoring.tally().counts)
    row["learnt"] = {
        name: {
            "rows": len(one.data),
            "dropped_prompts": dict(one.dropped.counts),
            "answers_set_aside": dict(one.set_aside.counts),
        }
        for name, one in chosen.items()
    }
    return row


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row that make a curve over rounds."""
    metrics = {name: value for name, value in row.items() if isinstance(value, int | float)}
    metrics = {name: value for name, value in metrics.items() if name not in NOT_MEASURED}
    metrics |= {
        f"sampled_{name}": value
        for name, value in row.get("sampled", {}).items()
        if value is not None
    }
    for name, said in row.get("learnt", {}).items():
        rows, dropped = said["rows"], said["dropped_prompts"]
        total = rows + sum(dropped.values())
        many = f"{name}_" if len(row["learnt"]) > 1 else ""
        metrics[f"{many}learnt_rows"] = rows
        metrics |= {f"{many}dropped_{_slug(why)}": n / total for why, n in dropped.items()}
    return {name: float(value) for name, value in metrics.items()}


def samples_of(sat: Sat, prompts: Sequence[str], context: StageContext) -> Iterator[dict[str, Any]]:
    """Held-out prompts with their answers, as people read them."""
    rollouts, scores = sat.scoring.sampled.rollouts, sat.scoring.sampled.scores.tolist()
    for place, number in enumerate(rollouts.group.tolist()):
        yield {
            "prompt": prompts[number],
            "answer": plain(rollouts.steps.answer.row(place).tolist(), context.template),
            "score": scores[place],
            "kl": float(sat.kl[place]),
            "finished": bool(rollouts.finished[place]),
        }


def summary_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All rows, and the first beside the last."""
    first, last = rows[0], rows[-1]
    failures: dict[str, int] = {}
    for row in rows:
        for reason, count in row.get("failures", {}).items():
            failures[reason] = failures.get(reason, 0) + count
    found: dict[str, Any] = {
        "rounds": [dict(row) for row in rows],
        "failures": failures,
    }
    for name in ("kl", "finished"):
        for when, row in (("before", first), ("after", last)):
            found |= {f"{name}_{when}{end}": row.get(name + end) for end in ENDS}
    for name in ("reward", "reward_heldout"):
        if name in last and name in first:
            found[f"{name}_gain"] = _named(last, f"{name}_gain")
            found |= {
                f"{name}_{when}": _named(row, name)
                for when, row in (("before", first), ("after", last))
            }
    ends = [f"win_rate{kind}{end}" for kind in ("", "_heldout") for end in ENDS]
    return found | {name: last[name] for name in ends if name in last}


def _named(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {end.removeprefix("_") or "mean": row.get(name + end) for end in ENDS}


def _mean(name: str, values: Tensor) -> dict[str, float | int | None]:
    return mean_interval(values[values.isfinite()]).named(name)


def _gain(name: str, now: Tensor, start: Tensor) -> dict[str, float | int | None]:
    """By how much it is more than at the start, prompt by prompt."""
    return _mean(f"{name}_gain", now - start)


def _slug(reason: str) -> str:
    return re.sub(r"\W+", "_", reason).strip("_")
