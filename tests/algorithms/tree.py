"""A policy whose answers are a tree that can be enumerated, and an engine that draws from it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from backflip.data.batches import Rollouts, TokenSteps
from backflip.generate.engine import Completion
from backflip.generate.torch.filters import draw
from backflip.reward.protocol import Judgement

BEGIN = 9
"""The only token of the prompt."""


class Tree(nn.Module):
    """log π(token | place, token before), over ``width`` tokens and answers of ``length``."""

    device = torch.device("cpu")

    def __init__(self, length: int = 3, width: int = 4) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(length, width + 1, width))
        self.worth = nn.Parameter(torch.zeros(length, width + 1))

    @property
    def model(self) -> Tree:
        return self

    def at(self, steps: TokenSteps) -> tuple[torch.Tensor, torch.Tensor]:
        """(token before each, place of each), of answers that all have one length."""
        tokens = torch.stack(list(steps.answer.rows()))
        before = torch.cat([torch.full_like(tokens[:, :1], -1), tokens[:, :-1]], 1)
        return before, torch.arange(tokens.shape[1]).expand_as(tokens)

    def evaluate(self, steps: TokenSteps, want: Any = ("logp",)) -> dict[str, torch.Tensor]:
        before, place = self.at(steps)
        logp = self.logits[place, before].log_softmax(-1)
        tokens = torch.stack(list(steps.answer.rows()))
        entropy = -(logp.exp() * logp).sum(-1)
        out = {"logp": logp.gather(-1, tokens[..., None])[..., 0], "values": self.values(steps)}
        out |= {"entropy": entropy.detach(), "entropy_to_raise": entropy}
        return {name: out[name] for name in want}

    def values(self, steps: TokenSteps) -> torch.Tensor:
        before, place = self.at(steps)
        return self.worth[place, before]

    def plan(self, batch: Any, token_budget: int) -> list[torch.Tensor]:
        return list(torch.arange(len(batch)).chunk(2))  # a step is the same however it is cut


class TreeEngine:
    """Answers of a tree; ``exact``: all of them, as often as their probability says."""

    def __init__(self, tree: Tree, *, exact: bool = False) -> None:
        self.tree, self.exact = tree, exact
        self.asked: list[list[int]] = []

    def sync(self, model: Any = None) -> None: ...

    def generate(self, prompts, params, *, group=1, seed=0, progress=None):
        self.asked += [list(prompt) for prompt in prompts]
        made = []
        for number, prompt in enumerate(prompts):
            answers = self._all(prompt[1:], group) if self.exact else None
            for which in range(group):
                generator = torch.Generator().manual_seed(hash((seed, number, which)) % 2**31)
                tokens = answers[which] if answers else self._one(prompt[1:], params, generator)
                logp = self._logp(list(prompt[1:]), tokens)
                made.append(Completion(number, which, tokens, logp, logp, "stop"))
        return made

    def _next(self, begun):
        return self.tree.logits[len(begun), begun[-1] if begun else -1].detach().log_softmax(-1)

    def _one(self, begun, params, generator):
        tokens = list(begun)
        while len(tokens) < len(self.tree.logits):
            logp = self._next(tokens)
            drawn, _ = draw(logp[None], torch.rand(1, generator=generator))
            tokens.append(int(drawn if params.temperature else logp.argmax()))
        return tokens[len(begun) :]

    def _all(self, begun, group):
        width = self.tree.logits.shape[-1]
        tails = itertools.product(range(width), repeat=len(self.tree.logits) - len(begun))
        answers = []
        for tail in tails:
            often = group * float(torch.tensor(self._logp(begun, tail)).sum().exp())
            assert abs(often - round(often)) < 1e-4, "the group holds no such share of answers"
            answers += [list(tail)] * round(often)
        return answers

    def _logp(self, begun, tail):
        whole = [*begun, *tail]
        places = range(len(begun), len(whole))
        return [float(self._next(whole[:place])[whole[place]]) for place in places]


def reward_of(worth: torch.Tensor):
    """A source that scores an answer by a tensor over its tokens: ``worth[a, b, c]``."""

    def judged(rollouts: Rollouts) -> Judgement:
        rows = rollouts.steps.answer.rows()
        return Judgement(torch.stack([worth[tuple(row.tolist())] for row in rows]))

    return judged


def every_answer(tree: Tree) -> Rollouts:
    """All answers once, by the policy's own log-probabilities."""
    length, _, width = tree.logits.shape
    answers = [list(a) for a in itertools.product(range(width), repeat=length)]
    steps = TokenSteps.of([[BEGIN]] * len(answers), answers)
    logp = tree.evaluate(steps)["logp"].detach()
    group = torch.zeros(len(answers), dtype=torch.long)
    return Rollouts(steps, steps.mask, logp, group, torch.ones(len(answers), dtype=torch.bool))
