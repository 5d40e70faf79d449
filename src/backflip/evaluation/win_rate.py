"""Win rates of one policy's answers over another's to the same prompts, and over rounds.

Beside it stands what "the longer answer wins" would say: where the two move together, ask whether
the judge rewards anything but length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.errors import UserError
from backflip.functional.statistics import Interval, mean_interval, share_interval
from backflip.monitor.text import KL_BY_ANSWERS, Estimate, ranged, share_ranged
from backflip.reward.protocol import RewardSource
from backflip.sampling.draw import judge_all
from backflip.sampling.samples import Sampled
from backflip.text import counted

__all__ = ["RoundRow", "WinRate", "compare", "round_row", "rounds_table", "win_rate"]


@dataclass(frozen=True)
class WinRate:
    """One set of answers against another, every answer to a prompt against every other's."""

    rate: Interval
    """Share of wins, a tie counting half, each prompt the same; Wilson's interval over prompts."""
    longer: Interval
    """The same if the longer answer won."""
    wins: int
    ties: int
    losses: int
    prompts: int
    unjudged: int
    """Prompts left out because one side has no score."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite."""
        return {
            **self.rate.named("win_rate"),
            **self.longer.named("longer"),
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "prompts": self.prompts,
            "unjudged": self.unjudged,
        }


def compare(source: RewardSource, ours: Rollouts, theirs: Rollouts) -> WinRate:
    """``win_rate`` by what ``source`` says of both."""
    return win_rate(judge_all(source, ours).sampled, judge_all(source, theirs).sampled)


def win_rate(ours: Sampled, theirs: Sampled) -> WinRate:
    """How often an answer of ours scores higher than one of theirs to the same prompt.

    ``group`` says which prompt an answer is to. Raises UserError where the prompts are not the
    same, or no prompt has a score on both sides.
    """
    one, two = _by_prompt(ours), _by_prompt(theirs)
    _check_prompts(ours, theirs, one, two)
    sums, rates, longer, unjudged = (
        torch.zeros(3, dtype=torch.long),
        list[float](),
        list[float](),
        0,
    )
    for number, rows in one.items():
        mine, other = _scored(ours, rows), _scored(theirs, two[number])
        if not (len(mine) and len(other)):
            unjudged += 1
            continue
        said = _signs(ours.scores[mine], theirs.scores[other])
        sums += torch.stack([(said > 0).sum(), (said == 0).sum(), (said < 0).sum()])
        rates.append(_share(said))
        longer.append(_share(_signs(_lengths(ours, mine), _lengths(theirs, other))))
    if not rates:
        raise UserError(
            f"none of {counted(len(one), 'prompt')} has a score on both sides, so there is no "
            "win rate. See "
            "what the scorer says."
        )
    wins, ties, losses = sums.tolist()
    return WinRate(
        share_interval(rates),
        share_interval(longer),
        wins,
        ties,
        losses,
        len(rates),
        unjudged,
    )


@dataclass(frozen=True)
class RoundRow:
    """How the policy did on the held-out prompts after a round; round 0 is before the first."""

    round: int
    against_start: WinRate
    """Against the answers of round 0."""
    reward: Interval
    length: float
    """Mean length of an answer, in tokens."""
    finished: Interval
    """Share of the answers that the policy ended by itself."""
    kl: Interval
    """KL to the reference by the answers, in nats; NaN where nobody measured it."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, null where one is not finite."""
        return {
            "round": self.round,
            **self.against_start.to_json(),
            **self.reward.named("reward"),
            "length": self.length,
            **self.finished.named("finished"),
            **self.kl.named("kl"),
        }


def round_row(
    number: int,
    now: Sampled,
    start: Sampled,
    *,
    kl: Float[Tensor, " B"] | None = None,
) -> RoundRow:
    """Measure a round: its answers, those of round 0 to the same prompts, and each answer's KL."""
    judged, group = now.scores.isfinite(), now.rollouts.group
    return RoundRow(
        number,
        win_rate(now, start),
        mean_interval(now.scores[judged], group[judged]),
        float(now.rollouts.mask.sum(-1).float().mean()),
        share_interval(now.rollouts.finished.float(), group),
        mean_interval([]) if kl is None else mean_interval(kl, group),
    )


def rounds_table(rows: Sequence[RoundRow]) -> str:
    """The rounds as a table in Markdown."""
    lines = [
        "| round | win rate against round 0 | longer | reward | length | finished | "
        f"{KL_BY_ANSWERS} |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate, longer, finished = (
            share_ranged(Estimate.of(part))
            for part in (row.against_start.rate, row.against_start.longer, row.finished)
        )
        cells = [
            str(row.round),
            f"{rate[0]} [{rate[1]}]",
            longer[0],
            _ranged(row.reward),
            f"{row.length:.1f}",
            f"{finished[0]} [{finished[1]}]",
            "not measured" if math.isnan(row.kl.estimate) else f"{_ranged(row.kl)} nats",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ranged(found: Interval) -> str:
    """A mean with its interval, where it has one."""
    value, ends = ranged(Estimate.of(found), digits=3)
    return f"{value} [{ends or 'unknown'}]"


def _by_prompt(sampled: Sampled) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(sampled.rollouts.group.tolist()):
        rows.setdefault(number, []).append(row)
    return rows


def _check_prompts(
    ours: Sampled, theirs: Sampled, one: dict[int, list[int]], two: dict[int, list[int]]
) -> None:
    strangers = sorted(one.keys() ^ two.keys())
    if strangers:
        raise UserError(
            f"{counted(len(strangers), 'prompt was', 'prompts were')} answered by one side only, "
            f"as prompt {strangers[0]}. Let both answer the same prompts."
        )
    for number in one:
        asked = [_prompt(s, rows[number][0]) for s, rows in ((ours, one), (theirs, two))]
        if asked[0] != asked[1]:
            raise UserError(
                f"prompt {number} is not the same on both sides: {len(asked[0])} and "
                f"{len(asked[1])} tokens that differ. Let both answer the same prompts, with the "
                "same tokenizer and template."
            )


def _prompt(sampled: Sampled, row: int) -> list[int]:
    return sampled.rollouts.steps.prompt.row(row).tolist()


def _scored(sampled: Sampled, rows: Sequence[int]) -> Int[Tensor, " n"]:
    index = torch.tensor(rows, dtype=torch.long)
    return index[sampled.scores[index].isfinite()]


def _lengths(sampled: Sampled, rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    return sampled.rollouts.mask[rows].sum(-1)


def _signs(mine: Tensor, other: Tensor) -> Tensor:
    """1, 0 or −1 for every answer of ours against every answer of theirs."""
    return (mine[:, None] - other[None, :]).sign()


def _share(signs: Tensor) -> float:
    return float((signs.double().mean() + 1) / 2)
