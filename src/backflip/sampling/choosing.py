"""From scored samples to what is learnt: comparisons of them, or the best as demonstrations.

A chooser is a small setting with a name. It sees one prompt's usable answers at a time; what it
leaves out, prompts and answers, is counted by reason. Tokens stay the sampler's own.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import torch

from backflip.data.batches import ComparisonBatch, DemonstrationBatch, TokenSteps, dense_mask
from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.functional.best_of_n import win_probabilities
from backflip.sampling.samples import Sampled, numbered, plain

__all__ = [
    "CHOOSERS",
    "COMPARISON_CHOOSERS",
    "DEMONSTRATION_CHOOSERS",
    "AllWins",
    "Best",
    "BestRandom",
    "BestWorst",
    "Chosen",
    "Filters",
    "MaxMinMargin",
    "TopShare",
]

Data = TypeVar("Data", ComparisonBatch, DemonstrationBatch)
FEW = "fewer than two usable answers"
TIED = "all usable answers score the same"


@dataclass(frozen=True)
class Chosen(Generic[Data]):
    """Rows that are learnt from a round."""

    data: Data
    rows: tuple[tuple[int, ...], ...]
    """For each row of ``data``, its answers' places in the samples, best first."""
    dropped: Tally
    """Prompts that teach nothing, by reason."""
    set_aside: Tally
    """Answers that were not to be chosen, by reason."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which answers may be chosen. Unscored ones never are, nor one answer twice."""

    cut_off: bool = False
    """Take answers that a length limit cut off."""
    empty: bool = False
    """Take answers that are nothing but their end."""

    def against(self, sampled: Sampled, row: int) -> str | None:
        """Why the answer may not be chosen; None where it may."""
        finished = bool(sampled.rollouts.finished[row])
        if not bool(sampled.scores[row].isfinite()):
            return "without a score"
        if not self.cut_off and not finished:
            return "cut off"
        if not self.empty and finished and int(sampled.rollouts.mask[row].sum()) <= 1:
            return "empty"
        return None


@dataclass(frozen=True)
class _Prompt:
    """The usable answers of one prompt, best first, the first drawn first among equals."""

    number: int
    rows: list[int]
    scores: list[float]
    wins: list[float]
    """P(each beats an answer of the policy), by all answers that have a score."""


@dataclass(frozen=True, kw_only=True)
class ComparisonChooser(ABC):
    """Puts some answers of each prompt in order."""

    name: ClassVar[str]

    @abstractmethod
    def pick(self, scores: Sequence[float], chance: random.Random) -> Sequence[int] | str:
        """Places of the chosen among ≥ 2 answers, best first; or why the prompt is dropped.

        ``scores`` descend and are not all the same; ``chance`` is the prompt's own.
        """

    def margin(self, scores: Sequence[float]) -> float:
        """Margin that the label calls for between the chosen answers."""
        del scores
        return 0.0

    def wins(self, wins: Sequence[float]) -> Sequence[float] | None:
        """Win probabilities to learn; None where the order is all that is learnt."""
        del wins

    def __call__(
        self, sampled: Sampled, *, filters: Filters | None = None, seed: int = 0
    ) -> Chosen[ComparisonBatch]:
        """Comparisons of tokens, one for each prompt that says something.

        Raises UserError where no prompt is left.
        """
        dropped, set_aside, picked = Tally(), Tally(), list[_Prompt]()
        for prompt in _prompts(sampled, filters or Filters(), set_aside):
            if len(prompt.rows) < 2:
                dropped.add(FEW, _named(prompt))
                continue
            if prompt.scores[0] == prompt.scores[-1]:
                dropped.add(TIED, _named(prompt))
                continue
            chance = random.Random(f"{seed}/{prompt.number}")
            places = self.pick(prompt.scores, chance)
            if isinstance(places, str):
                dropped.add(places, _named(prompt))
            else:
                picked.append(_only(prompt, places))
        _check_any(picked, dropped, set_aside)
        return Chosen(
            self._comparisons(sampled, picked),
            tuple(tuple(prompt.rows) for prompt in picked),
            dropped,
            set_aside,
        )

    def _comparisons(self, sampled: Sampled, picked: Sequence[_Prompt]) -> ComparisonBatch:
        prompts = [_prompt_tokens(sampled, prompt.rows[0]) for prompt in picked]
        answers = [[_answer_tokens(sampled, row) for row in prompt.rows] for prompt in picked]
        masks = [[_answer_mask(sampled, row) for row in prompt.rows] for prompt in picked]
        wins = [self.wins(prompt.wins) for prompt in picked]
        batch = ComparisonBatch.of(
            prompts,
            answers,
            [dense_ranks(prompt.scores) for prompt in picked],
            masks=masks,
            wins=None if any(w is None for w in wins) else [w for w in wins if w is not None],
        )
        return replace(batch, margin=torch.tensor([self.margin(p.scores) for p in picked]))


@dataclass(frozen=True, kw_only=True)
class BestWorst(ComparisonChooser):
    """The best of n against the worst (RLHF Workflow: Dong et al., 2024, §3); n = 2 is online DPO
    (Guo et al., 2024).
    """

    name: ClassVar[str] = "best_worst"

    def pick(self, scores: Sequence[float], chance: random.Random) -> Sequence[int] | str:
        del chance
        return (0, len(scores) - 1)


@dataclass(frozen=True, kw_only=True)
class BestRandom(ComparisonChooser):
    """The best against any that scores less: a rejected answer as the policy usually writes it."""

    name: ClassVar[str] = "best_random"

    def pick(self, scores: Sequence[float], chance: random.Random) -> Sequence[int] | str:
        return (0, chance.choice([i for i, score in enumerate(scores) if score < scores[0]]))


@dataclass(frozen=True, kw_only=True)
class MaxMinMargin(ComparisonChooser):
    """Best against worst where they are far enough apart; the label calls for that distance."""

    name: ClassVar[str] = "max_min_margin"
    minimum: float = 0.0
    """Prompts whose best and worst are less than this apart are dropped; in units of the score."""
    scale: float = 1.0
    """The margin of the comparison is this times the difference of the scores."""

    def pick(self, scores: Sequence[float], chance: random.Random) -> Sequence[int] | str:
        del chance
        if scores[0] - scores[-1] < self.minimum:
            return f"best and worst less than {self.minimum:g} apart"
        return (0, len(scores) - 1)

    def margin(self, scores: Sequence[float]) -> float:
        return self.scale * (scores[0] - scores[-1])


@dataclass(frozen=True, kw_only=True)
class AllWins(ComparisonChooser):
    """Answers with their estimated win probabilities over all n samples (SPPO: Wu et al., 2024)."""

    name: ClassVar[str] = "all_wins"
    keep: int | None = 2
    """Answers kept of each prompt, from best to worst in even steps: 2 are the best and the worst,
    as SPPO's authors took them. None keeps all."""

    def __post_init__(self) -> None:
        if self.keep is not None and self.keep < 2:
            raise UserError(f"all_wins: keep must be 2 or more answers, got {self.keep}.")

    def pick(self, scores: Sequence[float], chance: random.Random) -> Sequence[int] | str:
        del chance
        last, kept = len(scores) - 1, min(self.keep or len(scores), len(scores))
        return [round(i * last / (kept - 1)) for i in range(kept)]

    def wins(self, wins: Sequence[float]) -> Sequence[float] | None:
        return wins


@dataclass(frozen=True, kw_only=True)
class DemonstrationChooser(ABC):
    """Takes the answers that deserve to be imitated: rejection sampling."""

    name: ClassVar[str]

    @abstractmethod
    def keep(self, prompts: Sequence[_Prompt], dropped: Tally) -> list[_Prompt]:
        """Of the prompts with usable answers those that are learnt, with the chosen answers."""

    def __call__(
        self, sampled: Sampled, *, filters: Filters | None = None
    ) -> Chosen[DemonstrationBatch]:
        """The chosen answers, each counting once.

        Raises UserError where none is left.
        """
        dropped, set_aside, usable = Tally(), Tally(), list[_Prompt]()
        for prompt in _prompts(sampled, filters or Filters(), set_aside):
            if prompt.rows:
                usable.append(prompt)
            else:
                dropped.add("no usable answer", _named(prompt))
        picked = self.keep(usable, dropped)
        _check_any(picked, dropped, set_aside)
        rows = [row for prompt in picked for row in prompt.rows]
        steps = TokenSteps.of(
            [_prompt_tokens(sampled, row) for row in rows],
            [_answer_tokens(sampled, row) for row in rows],
        )
        mask = dense_mask([_answer_mask(sampled, row) for row in rows], steps)
        data = DemonstrationBatch(steps, mask, torch.ones(len(rows)))
        return Chosen(data, tuple((row,) for row in rows), dropped, set_aside)


@dataclass(frozen=True, kw_only=True)
class Best(DemonstrationChooser):
    """The best answer to each prompt: Llama 2's rejection sampling (Touvron et al., 2023, §3.2.3),
    RAFT with local ranking (Dong et al., 2023).
    """

    name: ClassVar[str] = "best"
    minimum: float | None = None
    """Prompts whose best answer scores less are dropped."""

    def keep(self, prompts: Sequence[_Prompt], dropped: Tally) -> list[_Prompt]:
        kept: list[_Prompt] = []
        for prompt in prompts:
            if self.minimum is not None and prompt.scores[0] < self.minimum:
                dropped.add(f"best answer scores less than {self.minimum:g}", _named(prompt))
            else:
                kept.append(_only(prompt, [0]))
        return kept


@dataclass(frozen=True, kw_only=True)
class TopShare(DemonstrationChooser):
    """The best answers of the whole round, whatever they answer: RAFT with global ranking."""

    name: ClassVar[str] = "top_share"
    share: float = 0.125
    """Share of the usable answers."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"top_share: share must lie in (0, 1], got {self.share}.")

    def keep(self, prompts: Sequence[_Prompt], dropped: Tally) -> list[_Prompt]:
        order = sorted((-s, p, i) for p, at in enumerate(prompts) for i, s in enumerate(at.scores))
        most = max(1, round(self.share * len(order))) if order else 0
        places: dict[int, list[int]] = {}
        for _, number, place in order[:most]:
            places.setdefault(number, []).append(place)
        for number, prompt in enumerate(prompts):
            if number not in places:
                dropped.add(f"no answer among the best {self.share:.1%}", _named(prompt))
        return [_only(prompts[number], places[number]) for number in sorted(places)]


CHOOSERS: dict[str, type[ComparisonChooser] | type[DemonstrationChooser]] = {
    kind.name: kind for kind in (BestWorst, BestRandom, MaxMinMargin, AllWins, Best, TopShare)
}
"""By the name that a recipe gives."""
COMPARISON_CHOOSERS = {
    n: kind for n, kind in CHOOSERS.items() if issubclass(kind, ComparisonChooser)
}
"""Ways to put a round's answers in order."""
DEMONSTRATION_CHOOSERS = {n: k for n, k in CHOOSERS.items() if n not in COMPARISON_CHOOSERS}
"""Ways to choose the answers that are imitated."""


def dense_ranks(scores: Sequence[float]) -> list[int]:
    """0 for the highest; equal scores are ties."""
    levels = sorted(set(scores), reverse=True)
    return [levels.index(score) for score in scores]


def _prompts(sampled: Sampled, filters: Filters, set_aside: Tally) -> Iterator[_Prompt]:
    """Prompt by prompt, the answers that may be chosen."""
    names, place = numbered(sampled.rollouts.group)
    of: list[list[int]] = [list[int]() for _ in range(len(names))]
    for row, number in enumerate(plain(place)):
        of[int(number)].append(row)
    for number, rows in zip(plain(names), of, strict=True):
        usable, seen = list[int](), set[tuple[int, ...]]()
        for row in rows:
            tokens = tuple(_answer_tokens(sampled, row))
            reason = "said before" if tokens in seen else filters.against(sampled, row)
            if reason is None:
                usable.append(row)
                seen.add(tokens)
            else:
                set_aside.add(reason, f"answer {row}")
        yield _ordered(sampled, number, rows, usable)


def _ordered(sampled: Sampled, number: int, rows: list[int], usable: list[int]) -> _Prompt:
    scored = [row for row in rows if bool(sampled.scores[row].isfinite())]
    wins = win_probabilities(sampled.scores[torch.tensor(scored, dtype=torch.long)])
    win = dict(zip(scored, plain(wins), strict=True))
    score = {row: float(sampled.scores[row]) for row in usable}
    order = sorted(usable, key=lambda row: -score[row])
    return _Prompt(number, order, [score[r] for r in order], [win[r] for r in order])


def _only(prompt: _Prompt, places: Sequence[int]) -> _Prompt:
    return _Prompt(
        prompt.number,
        [prompt.rows[i] for i in places],
        [prompt.scores[i] for i in places],
        [prompt.wins[i] for i in places],
    )


def _check_any(picked: Sequence[_Prompt], dropped: Tally, set_aside: Tally) -> None:
    if picked:
        return
    why = "; ".join(dropped.lines()) or "there were none"
    answers = f" Answers set aside: {'; '.join(set_aside.lines())}." if len(set_aside) else ""
    raise UserError(
        f"no prompt of {dropped.total} is left to learn from: {why}.{answers} Sample more answers "
        "per prompt, let them be longer, or choose less strictly."
    )


def _named(prompt: _Prompt) -> str:
    return f"prompt {prompt.number}"


def _prompt_tokens(sampled: Sampled, row: int) -> list[int]:
    return plain(_steps(sampled).prompt.row(row))


def _answer_tokens(sampled: Sampled, row: int) -> list[int]:
    return plain(_steps(sampled).answer.row(row))


def _answer_mask(sampled: Sampled, row: int) -> list[bool]:
    return plain(sampled.rollouts.mask[row, : len(_answer_tokens(sampled, row))])


def _steps(sampled: Sampled) -> TokenSteps:
    steps: Any = sampled.rollouts.steps
    return steps
