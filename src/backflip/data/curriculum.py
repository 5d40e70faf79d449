"""Which prompts an online run asks: all in turn, or more of those that it can learn from now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.data.batches import PromptBatch
from backflip.data.stream import Batches, mixed
from backflip.errors import UserError
from backflip.text import counted

__all__ = ["Curriculum", "PromptPool", "Spent"]

PATIENCE = 10
"""Steps on end without a prompt that has signal, after all their rounds, at which a run ends."""


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Prompts that are left out, asked again, or replaced where their answers teach nothing.

    A prompt has signal where its answers differ in score. By its last asking it is mixed (there
    was signal), solved or unsolved. Without signal it is solved where verdicts call all its answers
    correct, and else unsolved. Where there are no verdicts it is solved if its score is at least
    the mean of all that the run has asked so far; as long as all prompts scored the same, nobody
    knows, and it is asked as ever.
    """

    rounds: int = 1
    """Rounds of sampling for one step, at most: prompts without signal are replaced until the step
    is full (DAPO's dynamic sampling: Yu et al., 2025); 1 learns from whatever was drawn."""
    solved: float = 1.0
    """Chance that a solved prompt is asked when its turn comes; 0 asks it no more."""
    unsolved: float = 1.0
    """Chance that an unsolved one is."""
    replay: float = 0.0
    """Share of a round's prompts that are mixed ones asked again, out of their turn."""
    temperature_end: float | None = None
    """Sampling temperature at the last step, reached in a line; null keeps it."""
    answers: int | None = None
    """Answers after which the run ends; null does not count them."""
    minutes: float | None = None
    """Minutes of training after which the run ends; null does not look at the clock."""
    cpu_minutes: float | None = None
    """The same in minutes of processor time, of all threads, so that what else the machine does
    hardly counts. Time on an accelerator and in processes that check answers is not in it."""

    @property
    def selects(self) -> bool:
        """Whether some prompts are asked more often than others."""
        return self.solved < 1 or self.unsolved < 1 or self.replay > 0

    def faults(self, where: str, answers_per_prompt: int) -> Iterator[str]:
        """Sentences on settings that cannot be; ``where`` is the group's name."""
        for name in ("solved", "unsolved", "replay"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                yield f"{where}.{name} is {value:g}; it is a share, from 0 to 1."
        if self.rounds < 1:
            yield f"{where}.rounds is {self.rounds}; it must be 1 or more."
        if answers_per_prompt < 2 and (self.rounds > 1 or self.selects):
            yield (
                f"{where} looks for prompts whose answers differ in score, but each has one answer."
                " Set answers_per_prompt=8."
            )
        for name in ("temperature_end", "answers", "minutes", "cpu_minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                yield f"{where}.{name} is {value:g}; it must be above 0, or null."

    def temperature(self, start: float, step: int, total: int) -> float:
        """Of sampling at a step, from 1 to ``total``."""
        if self.temperature_end is None or total < 2:
            return start
        return start + (self.temperature_end - start) * min((step - 1) / (total - 1), 1.0)


@dataclass
class Spent:
    """Answers and time that a run has used up, and how long it has learnt nothing."""

    answers: int = 0
    minutes: float = 0.0
    cpu_minutes: float = 0.0
    barren: int = 0
    """Steps since a prompt last had signal."""

    def add(self, answers: int, signal: int, pool: PromptPool | None) -> None:
        """Account for a step: its answers, and how many prompts had signal.

        Raises UserError where a curriculum of several rounds has found none for long.
        """
        self.answers += answers
        self.barren = 0 if signal else self.barren + 1
        rounds = 1 if pool is None else pool.curriculum.rounds
        if rounds > 1 and self.barren >= PATIENCE:
            raise UserError(
                f"in {PATIENCE} steps on end, of up to {rounds} rounds each, no prompt had answers "
                "that differ in score: there is nothing to learn from. Give easier or harder "
                "prompts, a warm start by demonstrations, or more answers_per_prompt."
            )

    def over(self, curriculum: Curriculum) -> str | None:
        """Why the run ends here, or None."""
        answers = curriculum.answers
        if answers is not None and self.answers >= answers:
            return f"{counted(self.answers, 'answer')} were drawn (curriculum.answers: {answers:,})"
        for name, of in (("minutes", "training"), ("cpu_minutes", "processor time in training")):
            most, now = getattr(curriculum, name), getattr(self, name)
            if most is not None and now >= most:
                return f"{now:.1f} minutes of {of} (curriculum.{name}: {most:g})"
        return None


class PromptPool:
    """Batches of prompts, in an order that the seed and what was learnt of them decide.

    Without a curriculum they come as from ``Batches``. With one, the prompts of an epoch have their
    turn in the same order, solved and unsolved ones by chance, and some mixed ones are asked again.
    """

    def __init__(self, batches: Batches[PromptBatch], curriculum: Curriculum) -> None:
        self.batches, self.curriculum = batches, curriculum
        self.seen = torch.full((len(batches.data),), math.nan)
        """Of each prompt, the mean score when it was last asked."""
        self.right = torch.full((len(batches.data),), math.nan)
        """The share of its answers that were found correct; NaN without verdicts."""
        self.mixed = torch.zeros(len(batches.data), dtype=torch.bool)
        self.mean, self.asked, self.drawn, self.passed = 0.0, 0, 0, 0
        self._row = {int(row): place for place, row in enumerate(batches.data.row)}
        self._left: list[int] = []

    def __iter__(self) -> Iterator[PromptBatch]:
        if not self.curriculum.selects:
            yield from self.batches
            return
        while True:
            yield self.batches.data[self._chosen()]

    def note(
        self,
        rows: Int[Tensor, " G"],
        scores: Float[Tensor, " G"],
        signal: Bool[Tensor, " G"],
        right: Float[Tensor, " G"] | None = None,
    ) -> None:
        """Learn from the mean score of each prompt's answers, and whether they differed.

        ``right``: the share of them that were found correct; None without verdicts.
        """
        self.mean += (float(scores.sum()) - len(scores) * self.mean) / (self.asked + len(scores))
        self.asked += len(scores)
        places = torch.tensor([self._row[int(row)] for row in rows], dtype=torch.long)
        self.seen[places] = scores.to(self.seen.dtype)
        self.right[places] = math.nan if right is None else right.to(self.right.dtype)
        self.mixed[places] = signal

    def shares(self) -> dict[str, float]:
        """Shares of the prompts asked so far: mixed, solved, unsolved.

        They fall short of 1 by those of which nobody knows, see ``Curriculum``.
        """
        asked, (solved, unsolved) = self.seen.isfinite(), self._flat()
        states = {"mixed": asked & self.mixed, "solved": solved, "unsolved": unsolved}
        count = max(int(asked.sum()), 1)
        return {f"prompts_{name}": int(state.sum()) / count for name, state in states.items()}

    def account(self) -> str:
        """A sentence on the prompts that are asked less than in their turn; empty for none."""
        curriculum, states = self.curriculum, zip(("solved", "unsolved"), self._flat(), strict=True)
        found = [
            f"{counted(count, f'{name} prompt')} {_asked(getattr(curriculum, name))}"
            for name, state in states
            if (count := int(state.sum())) and getattr(curriculum, name) < 1
        ]
        if not found:
            return ""
        asked = f"{int(self.seen.isfinite().sum()):,} of {len(self.seen):,} prompts were asked"
        passed = f"{counted(self.passed, 'turn')} passed over in all"
        return f"curriculum: {asked}; by their last answers {', '.join(found)}; {passed}"

    def _flat(self) -> tuple[Bool[Tensor, " P"], Bool[Tensor, " P"]]:
        """(solved prompts, unsolved ones)."""
        asked, judged = self.seen.isfinite(), self.right.isfinite()
        scores = self.seen[asked]
        differ = len(scores) > 0 and bool(scores.max() > scores.min())
        high = torch.where(judged, self.right == 1, self.seen.double() >= self.mean)
        flat = asked & ~self.mixed & (judged | differ)
        return flat & high, flat & ~high

    def _chosen(self) -> Int[Tensor, " G"]:
        """Places of the next batch's prompts, none of them twice."""
        size = self.batches.size
        draw = torch.Generator().manual_seed(mixed(self.batches.seed + 1, self.drawn))
        self.drawn += 1
        again = torch.nonzero(self.mixed)[:, 0]
        again = again[torch.randperm(len(again), generator=draw)]
        chosen = {int(place): None for place in again[: round(self.curriculum.replay * size)]}
        chances, passed = self._chances(), 0
        while len(chosen) < size:
            if not self._left:
                self._left = [
                    int(place) for place in self.batches.order(self.batches.epoch).flip(0)
                ]
                self.batches.epoch += 1
            place = self._left.pop()
            passed += 1
            held = place not in chosen
            if held and torch.rand((), generator=draw) < chances[place]:
                chosen[place] = None
                continue
            self.passed += held
            if passed > 2 * len(self._row) + size:
                self._check_any(len(chosen))
                break
        return torch.tensor(list(chosen), dtype=torch.long)

    def _chances(self) -> list[float]:
        """Of each prompt, the chance that it is asked when its turn comes."""
        chances = torch.ones(len(self.seen), dtype=torch.double)
        solved, unsolved = self._flat()
        chances[solved], chances[unsolved] = self.curriculum.solved, self.curriculum.unsolved
        return chances.tolist()  # pyright: ignore

    def _check_any(self, chosen: int) -> None:
        if not chosen:
            shares = {name: f"{share:.0%}" for name, share in self.shares().items()}
            raise UserError(
                f"no prompt is left to ask: {shares['prompts_solved']} are solved, "
                f"{shares['prompts_unsolved']} unsolved. The run can end here, or raise "
                "curriculum.solved and curriculum.unsolved, or give it other prompts."
            )

    def state_dict(self) -> dict[str, Any]:
        pool = {"seen": self.seen.clone(), "mixed": self.mixed.clone(), "left": list(self._left)}
        pool |= {"mean": self.mean, "asked": self.asked, "drawn": self.drawn}
        pool |= {"right": self.right.clone(), "passed": self.passed}
        return {**self.batches.state_dict(), "pool": pool}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if waiting := state.get("asked"):
            raise UserError(
                f"answers of {counted(len(waiting), 'step')} wait in the checkpoint to be learnt "
                "from, which ahead=0 would lose. Resume with ahead as it was, or start a new run."
            )
        self.batches.load_state_dict(state)
        pool = state.get("pool")
        if pool is None:  # a run of before there were curricula
            return
        self.mean, self.asked, self.drawn = pool["mean"], pool["asked"], pool["drawn"]
        self._left, self.mixed = list(pool["left"]), pool["mixed"].clone()
        if "right" in pool:  # else scores are relative to means of then: all is asked anew
            self.seen, self.right = pool["seen"].clone(), pool["right"].clone()
            self.passed = pool["passed"]


def _asked(chance: float) -> str:
    return f"asked with chance {chance:g}" if chance else "asked no more"
