"""Accuracy on held-out questions that a program checks: sampled, of several tries, greedy."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.functional.pass_at_k import majority_at_k, pass_at_k, settled
from backflip.functional.statistics import bounded_interval
from backflip.monitor.outcomes import FAILED
from backflip.reward.protocol import Judgement

__all__ = ["Accuracy"]


@dataclass(frozen=True)
class Accuracy:
    """Which of N sampled answers to each of Q questions are right, and the greedy one."""

    sampled: Float[Tensor, "Q N"]
    finals: Sequence[Sequence[Hashable]]
    """Of each question, the final answers by which votes are counted; None abstains."""
    greedy: Float[Tensor, " Q"] | None = None
    unchecked: int = 0
    """Sampled answers whose check failed or took too long; they count as wrong."""

    @staticmethod
    def of(
        judgement: Judgement,
        texts: Sequence[str],
        each: int,
        final: Callable[[str], Hashable],
        greedy: Judgement | None,
    ) -> Accuracy | None:
        """The accuracy of judged answers, ``each`` to a question; None without verdicts."""
        found = judgement.right()
        if found is None:
            return None
        ends = judgement.votes(texts, final)
        rows = [ends[at : at + each] for at in range(0, len(ends), each)]
        likeliest = None if greedy is None else greedy.right()
        failed = sum(int(judgement.parts[name].sum()) for name in FAILED if name in judgement.parts)
        return Accuracy(found.reshape(-1, each), rows, likeliest, failed)

    def by_question(self) -> dict[str, Float[Tensor, " Q"]]:
        """``pass_at_1``, ``pass_at_k`` for powers of 2 up to N, ``maj_at_N``, ``greedy``."""
        n = self.sampled.shape[1]
        correct = self.sampled.sum(1).long()
        tries = [k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k < n] + [n]
        found: dict[str, Any] = {f"pass_at_{k}": pass_at_k(n, correct, k).float() for k in tries}
        if n > 2:
            rows = zip(self.finals, self.sampled.tolist(), strict=True)
            votes = [majority_at_k(ends, settled(values, ends), n) for ends, values in rows]
            found[f"maj_at_{n}"] = torch.tensor(votes)
        return found if self.greedy is None else found | {"greedy": self.greedy}

    def metrics(self) -> dict[str, float]:
        """The means, as metrics of a validation."""
        return {f"val_{name}": float(shares.mean()) for name, shares in self.by_question().items()}

    def summary(self) -> dict[str, dict[str, float | int | None]]:
        """The same with 95 % intervals over questions, by name: mean, low, high, units."""
        found = {name: bounded_interval(shares) for name, shares in self.by_question().items()}
        questions, each = self.sampled.shape
        asked = torch.arange(questions).repeat_interleave(each)
        found["pass_at_1"] = bounded_interval(self.sampled.reshape(-1), asked)
        return {
            name: {"mean": i.estimate, "low": i.low, "high": i.high, "units": i.units}
            for name, i in found.items()
        }
