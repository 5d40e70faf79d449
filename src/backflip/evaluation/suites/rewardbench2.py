"""RewardBench 2: the best of four, and ties (Malik et al., 2025, arXiv:2506.01937)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from backflip.evaluation.pairwise import By
from backflip.evaluation.scored import Answers, scored
from backflip.evaluation.suites.base import Suite
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Subject
from backflip.functional.statistics import Interval

__all__ = ["SUBSETS", "Rewardbench2", "best", "ties"]

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")


def best(scores: Sequence[float], correct: int = 1) -> float:
    """1 where the first answer alone scores highest, 1/n where n answers do, 0 where it does not.

    ``correct`` right answers stand first; with several, any of them that is highest will do.
    """
    top = max(scores)
    winners = [place for place, score in enumerate(scores) if score == top]
    return sum(place < correct for place in winners) / len(winners)


def ties(rows: Rows) -> float:
    """The score of the Ties subset, 0 to 1 but for its last term.

    Prompts come as ``ref:k``, with one right answer, and ``tied:k``, with many. d: spread of the
    right answers' scores on tied:k; m: least right less greatest wrong, on either. 0.30 P(m > 0 on
    tied) + 0.30 P(m > 0 on ref) + 0.20 P(m_tied > d) + 0.20 P(min(m_ref, m_tied) > d) + 0.01 mean
    tanh(min(m_ref, m_tied)/d − 1), where 0/0 counts 0. The last four are over k that have both.
    """
    margins = {str(row["id"]): _margins(row["scores"], int(row["correct"])) for row in rows}
    kinds = {
        kind: {key.partition(":")[2]: m for key, m in margins.items() if key.startswith(kind)}
        for kind in ("ref:", "tied:")
    }
    ref, tied = kinds["ref:"], kinds["tied:"]
    right = [float(np.mean([m > 0 for _, m in k.values()])) if k else 0.0 for k in (tied, ref)]
    score = 0.30 * right[0] + 0.30 * right[1]
    both = [(tied[key][0], tied[key][1], ref[key][1]) for key in tied if key in ref]
    if not both:
        return score
    d, m_tied, m_ref = np.array(both).T
    least = np.minimum(m_ref, m_tied)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.nan_to_num(np.tanh(least / d - 1), nan=0.0)
    score += 0.20 * float((m_tied > d).mean()) + 0.20 * float((least > d).mean())
    return score + 0.01 * float(gap.mean())


def _margins(scores: Sequence[float], correct: int) -> tuple[float, float]:
    """(Spread of the right answers, least right less greatest wrong)."""
    right, wrong = scores[:correct], scores[correct:]
    return max(right) - min(right), min(right) - max(wrong)


@final
@dataclass(frozen=True, kw_only=True)
class Rewardbench2(Suite):
    """The right answer among four, by subset; the score is the plain mean of the six subsets."""

    title: ClassVar[str] = "RewardBench 2"
    scores: ClassVar[bool] = True

    by: By = "token"
    """How a language model rates answers, where MODEL is no reward model."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row for each prompt."""
        kept = [
            r for r in data if r.get("prompt") is not None and r.get("chosen") and r.get("rejected")
        ]
        subject.leave_out(len(data) - len(kept), "rows without prompt, chosen and rejected")
        answers = [Answers.of(row) for row in kept]
        found: list[dict[str, Any]] = []
        for number, (row, said) in enumerate(
            zip(kept, scored(subject, answers, self.by), strict=True)
        ):
            chosen = row["chosen"]
            correct = int(row.get("num_correct") or (1 if isinstance(chosen, str) else len(chosen)))
            subset, key = str(row.get("subset", "")), str(row.get("id", number))
            known = None not in said
            tied = subset.lower() == "ties"
            found.append({
                "id": key, "group": key.partition(":")[2] if tied else key, "subset": subset,
                "correct": correct, "scores": said if known else None,
                "right": best([s for s in said if s is not None]) if known and not tied else None,
            })  # fmt: skip
        return found

    def statistics(self, rows: Rows) -> list[Statistic]:
        """The score and the subsets."""
        present = list(dict.fromkeys(row["subset"] for row in rows))
        subsets = [
            Statistic("subset_ties", "subset Ties, by its own definition", "scores",
                      {"subset": name}, of=ties, paired=False)
            if name.lower() == "ties" else
            Statistic(f"subset_{_plain(name)}", f"subset {name}", "right", {"subset": name})
            for name in present
        ]  # fmt: skip
        by_name = {name.lower(): one for name, one in zip(present, subsets, strict=True)}
        listed = [by_name[name.lower()] for name in SUBSETS if name.lower() in by_name]
        if not listed:
            return subsets
        score = Statistic(
            "score", "RewardBench 2 score", paired=False, interval=lambda some: _score(listed, some)
        )
        return [score, *subsets]

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        """What was left out."""
        del measures
        found: list[str] = []
        present = {row["subset"].lower() for row in rows}
        lacking = [name for name in SUBSETS if name.lower() not in present]
        if lacking and len(lacking) < len(SUBSETS):
            found.append(
                f"Not in these data: {', '.join(lacking)}. The score is the mean of the others, "
                "and no score of the leaderboard."
            )
        if silent := sum(row["scores"] is None for row in rows):
            found.append(
                f"{silent} of {len(rows)} prompts have an answer without a score: left out."
            )
        tied = [row for row in rows if row["subset"].lower() == "ties"]
        alone = [key for key in {r["group"] for r in tied}
                 if len([r for r in tied if r["group"] == key]) < 2]  # fmt: skip
        if alone:
            found.append(
                f"Ties: {len(alone)} prompts come without the other of ref and tied, and count in "
                "accuracy only."
            )
        return found


def _score(statistics: Sequence[Statistic], rows: Rows) -> Interval:
    """The mean of subsets, which are independent of each other: half-widths add in squares."""
    values = [value for one in statistics if math.isfinite((value := one(rows)).estimate)]
    if not values:
        return Interval(math.nan, 0.0, 1.0, 0.95, 0)
    mean = sum(value.estimate for value in values) / len(values)
    reach = math.sqrt(sum(((v.high - v.low) / 2) ** 2 for v in values)) / len(values)
    units = sum(value.units or 0 for value in values)
    return Interval(mean, max(mean - reach, 0.0), min(mean + reach, 1.0), 0.95, units)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_") or "none"
