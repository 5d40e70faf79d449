"""A policy that is a table: exact, differentiable, and fast enough to learn in a tenth of a second.

Its answers have up to WIDTH tokens out of TOKENS; token 0 ends one. What is rewarded is WANTED.
"""

from __future__ import annotations

import torch
from torch import nn

from backflip.algorithms.base import OnlineAlgorithm
from backflip.data.batches import Experience, Rollouts, Scored, TokenSteps
from backflip.functional.credit import at_end
from backflip.reward.protocol import Judgement
from backflip.training.learner import Learner
from backflip.training.online import OnlineLoop
from backflip.training.values import NoValues

WIDTH, TOKENS, WANTED = 5, 6, 3
PROMPTS = [[1], [2], [3]]


class Table(nn.Module):
    """One distribution over the tokens for each place of an answer, whatever was said before."""

    device = torch.device("cpu")

    def __init__(self, *, spread: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.logits = nn.Parameter(spread * torch.randn(WIDTH, TOKENS, generator=generator))

    def evaluate(self, steps: TokenSteps, want: set[str]) -> dict[str, torch.Tensor]:
        logp = self.logits.log_softmax(-1)[: steps.width]
        rows = [torch.nn.functional.pad(row, (0, steps.width - len(row))) for row in rows_of(steps)]
        tokens = torch.stack(rows)
        entropy = -(logp.exp() * logp).sum(-1).expand(tokens.shape)
        chosen = logp.expand(len(tokens), -1, -1).gather(2, tokens[..., None])[..., 0]
        found = {"logp": chosen, "entropy": entropy.detach(), "entropy_to_raise": entropy}
        found["values"] = torch.zeros_like(chosen)
        return {name: torch.where(steps.mask, found[name], 0.0) for name in want}

    def plan(self, batch, token_budget: int) -> list[torch.Tensor]:
        return list(torch.arange(len(batch)).split(max(token_budget // (WIDTH + 1), 1)))


def rows_of(steps: TokenSteps) -> list[torch.Tensor]:
    return list(steps.answer.rows())


class TableSampler:
    """Draws from a table, a group of answers for each prompt."""

    exact = True

    def __init__(self, table: Table, group_size: int = 8) -> None:
        self.table, self.group_size = table, group_size

    def __call__(self, prompts, *, seed: int) -> Rollouts:
        rows = len(prompts) * self.group_size
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            chances = self.table.logits.softmax(-1).repeat(rows, 1)
            drawn = torch.multinomial(chances, 1, generator=generator).view(rows, WIDTH)
        answers = [_ended(row) for row in drawn.tolist()]
        steps = TokenSteps.of([p for p in prompts for _ in range(self.group_size)], answers)
        with torch.no_grad():
            logp = self.table.evaluate(steps, {"logp"})["logp"]
        finished = torch.tensor([answer[-1] == 0 for answer in answers])
        group = torch.arange(len(prompts)).repeat_interleave(self.group_size)
        return Rollouts(steps, steps.mask, logp, group, finished)

    def sync(self, policy) -> None:
        self.table = policy


def _ended(row: list[int]) -> list[int]:
    return row[: row.index(0) + 1] if 0 in row else row


def share_wanted(rollouts: Rollouts) -> Judgement:
    """The share of WANTED among WIDTH tokens."""
    return Judgement(
        torch.tensor([float((r == WANTED).sum()) / WIDTH for r in rows_of(rollouts.steps)])
    )


def table_loop(algorithm: OnlineAlgorithm, *, lr: float = 0.2) -> OnlineLoop:
    """A loop whose policy starts uniform, with itself as the reference."""
    table, reference = Table(), Table()
    optimizer = torch.optim.Adam(table.parameters(), lr=lr)
    return OnlineLoop(
        learner=Learner(table, optimizer, token_budget=10_000),
        reference=reference,
        sampler=TableSampler(table),
        reward=share_wanted,
        values=NoValues(),
        algorithm=algorithm,
        minibatches=1,
    )


def off_policy(algorithm: OnlineAlgorithm, *, spread: float = 1.0) -> tuple[Table, Experience]:
    """A policy, and credited answers that another policy gave: ratios far from 1."""
    old, reference = Table(spread=spread), Table(spread=-0.5 * spread)
    rollouts = TableSampler(old)(PROMPTS, seed=3)
    with torch.no_grad():
        logp_ref = reference.evaluate(rollouts.steps, {"logp"})["logp"]
    rewards = at_end(share_wanted(rollouts).scores, rollouts.mask)
    values = torch.zeros_like(rewards)
    return Table(), algorithm.credit(Scored(rollouts, rewards, rollouts.logp, logp_ref, values))
