"""Sources of expected scores that draw further answers: Monte Carlo, and a greedy answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.data.batches import Experience, Rollouts, TokenSteps
from backflip.data.steps import ENDS, step_starts
from backflip.functional.credit import first_choice, latest
from backflip.functional.group_credit import group_mean
from backflip.generate.engine import Engine, SamplingParams
from backflip.generate.sampler import Sampler
from backflip.reward.protocol import RewardSource

__all__ = ["At", "Greedy", "MonteCarlo"]

At: TypeAlias = Literal["lines", "sentences", "tokens"]


@dataclass
class MonteCarlo:
    """Mean score of fresh continuations of each state (VinePPO: Kazemnejad et al., 2024, §4).

    A state stands where a line or a sentence begins, or every so many tokens; between two of them
    the value of the earlier one holds. The first state is worth the mean score of the answers to
    its prompt, where there are two or more, and after the last choice stands the score itself:
    neither is drawn anew. The values are of scores alone: KL that is paid in the reward is not in
    them.
    """

    engine: Engine
    params: SamplingParams
    reward: RewardSource
    answers: int = 9
    """Continuations of each state; the paper's K."""
    every: int = 16
    """Choices from one state to the next, with ``at: tokens``."""
    seed: int = 0
    at: At = "tokens"
    decode: Callable[[list[int]], str] | None = None
    """Tokens to text; needed for lines and sentences."""
    seen: dict[str, float] = field(default_factory=dict[str, float])
    """Metrics of the last batch."""

    def states(self, rollouts: Rollouts) -> Bool[Tensor, "B T"]:
        mask = rollouts.mask
        steps = torch.arange(mask.shape[1], device=mask.device)
        first = steps == first_choice(mask)[:, None]
        if self.at == "tokens":
            return first | (mask & ((mask.cumsum(1) - 1) % self.every == 0))
        assert self.decode is not None, "lines and sentences are found in text"
        begun = torch.zeros_like(mask)
        for row, tokens in enumerate(rollouts.steps.answer.rows()):
            begun[row, step_starts(tokens.tolist(), self.decode, ENDS[self.at])] = True
        return first | (begun & mask)

    def __call__(
        self, policy: Any, rollouts: Rollouts, scores: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        del policy  # the engine draws with its weights
        states = self.states(rollouts)
        rows, places = states.nonzero(as_tuple=True)
        mean, size = group_mean(scores, rollouts.group)
        first = places == first_choice(rollouts.mask)[rows]
        open_ = ~first | (size[rows] < 2)
        value = mean[rows].clone()
        drawn = self._drawn(rollouts, rows[open_], places[open_])
        value[open_] = torch.where(drawn.isfinite(), drawn, value[open_])
        self.seen = {"continued_states": float(open_.sum())}
        if not drawn.isfinite().all():
            self.seen["unscored_states"] = float((~drawn.isfinite()).float().mean())
        at = torch.zeros_like(rollouts.logp)
        at[states] = value
        return torch.where(rollouts.mask, at.gather(1, latest(states)), 0.0)

    def _drawn(
        self, rollouts: Rollouts, rows: Int[Tensor, " S"], places: Int[Tensor, " S"]
    ) -> Float[Tensor, " S"]:
        """Mean scores of the continuations; NaN where none has one.

        States that may go on about as long are continued together: none runs for more than twice
        the tokens that its answer has left, and those beyond are cut off.
        """
        out = rollouts.logp.new_full((len(rows),), torch.nan)
        begun: list[int] = [int(place) for place in places]
        alike: dict[tuple[int, int], list[int]] = {}
        for number, place in enumerate(begun):
            least, left = max(self.params.min_tokens - place, 0), self.params.max_tokens - place
            alike.setdefault((least, left.bit_length()), []).append(number)
        for (least, _), numbers in alike.items():
            here, some = [begun[number] for number in numbers], torch.tensor(numbers)
            most = self.params.max_tokens - min(here)
            params = replace(self.params, min_tokens=least, max_tokens=most)
            out[some] = self._continued(rollouts[rows[some]], here, params)
        return out

    def _continued(
        self, rollouts: Rollouts, places: Sequence[int], params: SamplingParams
    ) -> Float[Tensor, " S"]:
        prompts = [prompt.tolist() for prompt in rollouts.steps.prompt.rows()]
        answers = [answer.tolist() for answer in rollouts.steps.answer.rows()]
        begun = [answer[:place] for answer, place in zip(answers, places, strict=True)]
        asked = [prompt + so_far for prompt, so_far in zip(prompts, begun, strict=True)]
        # The tokens are in it: random numbers of their own for every batch, and again on resuming.
        seed = self.seed + sum(7919 * n + token for n, row in enumerate(asked) for token in row)
        drawn = self.engine.generate(asked, params, group=self.answers, seed=seed)
        of = torch.tensor([one.prompt_index for one in drawn])
        left = [self.params.max_tokens - places[one.prompt_index] for one in drawn]
        whole = TokenSteps.of(
            [prompts[one.prompt_index] for one in drawn],
            [
                begun[one.prompt_index] + list(one.tokens[:most])
                for one, most in zip(drawn, left, strict=True)
            ],
        )
        ended = [
            one.finish_reason != "length" and len(one.tokens) <= most
            for one, most in zip(drawn, left, strict=True)
        ]
        judged = replace(
            rollouts[of],
            steps=whole,
            mask=whole.mask,
            logp=torch.zeros(whole.mask.shape),
            version=torch.zeros_like(whole.mask, dtype=torch.long),
            finished=torch.tensor(ended),
        )
        scores = self.reward(judged).scores
        return torch.stack([scores[of == row].nanmean() for row in range(len(rollouts))])

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return self.seen


@dataclass
class Greedy:
    """Score of the policy's greedy answer to each prompt (ReMax: Li et al., 2023).

    It is drawn with the same weights and limits, judged by the same reward, and not learnt from. A
    prompt whose greedy answer has no score teaches nothing: its answers are worth themselves.
    """

    sampler: Sampler
    reward: RewardSource
    seen: dict[str, float] = field(default_factory=dict[str, float])
    """Metrics of the last batch."""

    def states(self, rollouts: Rollouts) -> Bool[Tensor, "B T"]:
        return rollouts.mask

    def __call__(
        self, policy: Any, rollouts: Rollouts, scores: Float[Tensor, " B"]
    ) -> Float[Tensor, "B T"]:
        del policy  # the sampler draws with its weights
        groups = [int(group) for group in rollouts.group]
        rows = {group: row for row, group in reversed(list(enumerate(groups)))}
        numbers = {group: number for number, group in enumerate(rows)}
        first, of = torch.tensor(list(rows.values())), torch.tensor([numbers[g] for g in groups])
        params = replace(self.sampler.params, temperature=0.0)
        greedy = replace(self.sampler, params=params, group_size=1, allow_filters=True)
        drawn = greedy(rollouts.steps.prompt[first], seed=0)
        expected = self.reward(replace(drawn, row=rollouts.row[first])).scores
        known = expected.isfinite()
        self.seen = {"greedy_reward": float(expected.nanmean())} if known.any() else {}
        if not known.all():
            self.seen["greedy_unscored"] = 1 - float(known.float().mean())
        baseline = torch.where(known[of], expected[of], scores)
        return torch.where(rollouts.mask, baseline[:, None], 0.0)

    def learn(self, batch: Experience) -> Mapping[str, float]:
        return self.seen
