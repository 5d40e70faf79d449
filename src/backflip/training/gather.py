"""The answers of one step: drawn, judged, and drawn anew until there is something to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate
from typing import Any, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.curriculum import PromptPool
from backflip.data.ragged import Ragged, TensorRecord
from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.functional.group_credit import has_signal
from backflip.monitor.outcomes import FAILED
from backflip.reward.protocol import Judgement, RewardSource
from backflip.text import counted

__all__ = ["Gathering", "gather"]

APART = 7_368_787
"""Between the seeds of two rounds of one step."""


@dataclass
class Gathering:
    """Judged answers of one step, each with a score, and an account of all that were drawn."""

    kept: list[tuple[Rollouts, Judgement]] = field(default_factory=list[tuple[Rollouts, Judgement]])
    """Answers to learn from, round by round."""
    failures: Tally = field(default_factory=Tally)
    """Answers without a score, by reason."""
    rounds: int = 0
    drawn: int = 0
    unscored: int = 0
    prompts: int = 0
    signal: int = 0
    """Prompts whose answers differ in score, of all that were asked."""
    short: int = 0
    """Prompts that are missing of those asked for, after the last round."""
    failed: Counter[str] = field(default_factory=Counter[str])
    wanted: int = 0
    """Prompts with signal that make the step full."""
    course: dict[str, float] = field(default_factory=dict[str, float])
    """What a curriculum did: shares of its prompts, rounds, answers drawn."""

    def add(self, rollouts: Rollouts, judgement: Judgement, pool: PromptPool | None) -> Tensor:
        """Take in a round's answers; True for those to a prompt with signal, by unshaped scores."""
        self.rounds += 1
        self.drawn += len(rollouts)
        self.failures.update(judgement.failures)
        for name, part in judgement.parts.items():  # of the terms of a mix too
            if name.rpartition("_")[2] in FAILED:
                self.failed[name] += int(part.nansum())
        drawn = len(rollouts)
        rollouts, judgement = with_scores(rollouts, judgement)
        self.unscored += drawn - len(rollouts)
        self.kept.append((rollouts, judgement))
        scores = judgement.parts.get("unshaped", judgement.scores)
        differs = has_signal(scores, rollouts.group)
        found: Any = torch.unique(rollouts.group, return_inverse=True)  # pyright: ignore
        groups, row = cast("tuple[Tensor, Tensor]", found)
        size = torch.bincount(row)
        means = scores.new_zeros(len(groups)).index_add(0, row, scores) / size
        mixed = torch.zeros(len(groups), dtype=torch.bool).index_put((row,), differs)
        self.prompts += len(groups)
        self.signal += int(mixed.sum())
        if pool is not None:
            asked = torch.zeros_like(groups).index_put((row,), rollouts.row)
            right = judgement.right()
            if right is not None:
                right = scores.new_zeros(len(groups)).index_add(0, row, right) / size
            pool.note(asked, means, mixed, right)
        return differs

    def metrics(self) -> dict[str, float]:
        """Shares over all answers drawn; how many they were."""
        shares = {f"reward_{name}": count / self.drawn for name, count in self.failed.items()}
        metrics = dict(shares)
        if self.drawn > self.prompts:  # else nothing is compared
            metrics["signal"] = self.signal / self.prompts
        if self.unscored:
            metrics["unscored"] = self.unscored / self.drawn
        if self.short:
            metrics["prompts_short"] = float(self.short)
        return metrics | self.course

    def answers(self, prompts: int) -> tuple[Rollouts, Judgement]:
        """What was kept, of the first so many prompts."""
        rollouts, judgement = joined(self.kept)
        groups = cast("Tensor", torch.unique(rollouts.group))  # pyright: ignore
        self.short = max(0, self.wanted - len(groups)) if self.rounds > 1 else 0
        if len(groups) <= prompts:
            return rollouts, judgement
        first = rollouts.group < groups[prompts]
        return rollouts[first], judgement.of(first)


def gather(
    draw: Callable[[Any, int], Rollouts],
    reward: RewardSource,
    prompts: Any,
    pool: PromptPool | None,
    *,
    seed: int,
) -> Gathering:
    """Answers to ``prompts``, judged. A curriculum of more than one round leaves out prompts whose
    answers all score the same and asks others in their place, until as many have signal.

    ``draw``: rollouts of prompts and a seed. Where no round had signal, the answers of the last one
    are kept: they still hold a policy to its reference.
    """
    rounds = 1 if pool is None else pool.curriculum.rounds
    wanted = len(prompts) if pool is None else max(len(prompts), pool.batches.size)
    made, found = Gathering(wanted=wanted), list[tuple[Rollouts, Judgement]]()
    for number in range(rounds):
        rollouts = draw(prompts, seed + APART * number)
        differs = made.add(rollouts, reward(rollouts), pool)
        if rounds > 1 and differs.any():
            rollouts, judgement = made.kept[-1]
            found.append((rollouts[differs], judgement.of(differs)))
        if made.signal >= wanted or pool is None or number == rounds - 1:
            break
        prompts = next(iter(pool))
    made.kept = found or made.kept[-1:]
    if pool is not None and pool.curriculum.selects:
        made.course |= pool.shares()
    if rounds > 1:
        made.course |= {"rounds": float(made.rounds), "answers_drawn": float(made.drawn)}
    return made


def with_scores(rollouts: Rollouts, judgement: Judgement) -> tuple[Rollouts, Judgement]:
    """The answers that have a score: the others teach nothing.

    Raises UserError where none has one.
    """
    scored = judgement.scores.isfinite()
    if scored.all():
        return rollouts, judgement
    if not scored.any():
        why = "; ".join(judgement.failures.lines()) or "no reason was given"
        raise UserError(f"none of {counted(len(rollouts), 'answer')} has a score: {why}.")
    return rollouts[scored], judgement.of(scored)


def joined(parts: Sequence[tuple[Rollouts, Judgement]]) -> tuple[Rollouts, Judgement]:
    """The answers of several rounds as those of one; groups are numbered on."""
    if len(parts) == 1:
        return parts[0]
    begin = accumulate((int(r.group.max()) + 1 for r, _ in parts), initial=0)
    rounds = [replace(r, group=r.group + at) for (r, _), at in zip(parts, begin, strict=False)]
    width = max(r.mask.shape[1] for r in rounds)
    return _joined(rounds, width), _judgement([j for _, j in parts], rounds, width)


def _joined(parts: Sequence[Any], width: int) -> Any:
    """The same field of several records, end to end; rows over choices are as wide as the widest.

    Whatever a record holds goes along, so that a field that is added to one is not lost here.
    """
    first = parts[0]
    if isinstance(first, Tensor):
        return _wide(parts, width) if first.dim() == 2 else torch.cat(list(parts))
    if isinstance(first, TensorRecord):
        names = [field.name for field in fields(first)]
        return replace(
            first, **{n: _joined([getattr(part, n) for part in parts], width) for n in names}
        )
    if isinstance(first, Tally):
        return _all(parts)
    return _end_to_end(parts) if isinstance(first, Ragged) else max(parts) if first else first


def _judgement(
    judgements: Sequence[Judgement], rounds: Sequence[Rollouts], width: int
) -> Judgement:
    """An outcome that no answer of a round had is 0 there."""
    names = dict.fromkeys(name for judgement in judgements for name in judgement.parts)
    parts = {
        name: torch.cat([j.parts.get(name, torch.zeros_like(j.scores)) for j in judgements])
        for name in names
    }
    pairs = list(zip(judgements, [r.mask for r in rounds], strict=True))
    told = [
        name for name in ("steps", "ends") if any(getattr(j, name) is not None for j, _ in pairs)
    ]
    terms = [judgement.terms for judgement in judgements if judgement.terms is not None]
    return Judgement(
        torch.cat([judgement.scores for judgement in judgements]),
        parts,
        steps=_wide([j.rewards(mask) for j, mask in pairs], width) if "steps" in told else None,
        failures=_all([judgement.failures for judgement in judgements]),
        ends=_wide([j.step_ends(mask) for j, mask in pairs], width) if "ends" in told else None,
        terms=torch.cat(terms) if len(terms) == len(judgements) else None,
        weights=judgements[0].weights,
    )


def _all(tallies: Sequence[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.update(tally)
    return whole


def _wide(rows: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat([nnf.pad(row, (0, width - row.shape[1])) for row in rows])


def _end_to_end(parts: Sequence[Ragged[Tensor]]) -> Ragged[Tensor]:
    begin = accumulate((int(part.offsets[-1]) for part in parts), initial=0)
    offsets = [
        p.offsets[int(n > 0) :] + b for n, (p, b) in enumerate(zip(parts, begin, strict=False))
    ]
    return Ragged(torch.cat([part.values for part in parts]), torch.cat(offsets))
