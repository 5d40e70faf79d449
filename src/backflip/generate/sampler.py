"""Act: prompts in, rollouts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.ragged import Ragged
from backflip.errors import UserError
from backflip.generate.engine import Completion, Engine, Progress, SamplingParams
from backflip.models.special_tokens import other_ends


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws ``group_size`` answers per prompt for reinforcement learning.

    A policy gradient needs answers of the policy itself. Greedy choice, top-k, top-p, min-p and
    logit bias draw from something else; they are refused unless ``allow_filters`` says that the
    recipe corrects for them.
    """

    engine: Engine
    params: SamplingParams
    group_size: int = 1
    allow_filters: bool = False

    def __post_init__(self) -> None:
        if self.params.filters and not self.allow_filters:
            raise UserError(
                f"sampler: {', '.join(self.params.filters)} would draw answers that are not the "
                "policy's own, which biases every ratio. Leave the setting out, or set "
                "allow_filters in a recipe that weighs answers by policy over sampler."
            )

    @property
    def exact(self) -> bool:
        """Whether ``Rollouts.logp`` is the learner's own log-probability, up to 1e-4 nats."""
        return self.engine.exact and not self.allow_filters

    def __call__(
        self,
        prompts: Sequence[Sequence[int]] | Ragged[Any],
        *,
        seed: int,
        groups: Sequence[int] | None = None,
        rows: Tensor | None = None,
        progress: Progress | None = None,
    ) -> Rollouts:
        """Answers to tokenised prompts, those of the first prompt first.

        ``groups``: a number for each prompt, its place by default; ``rows``: the number of its
        record, its group by default. Another step of a run is another ``seed``.
        """
        if isinstance(prompts, Ragged):
            prompts = [prompt.tolist() for prompt in prompts.rows()]
        answers = self.engine.generate(
            prompts, self.params, group=self.group_size, seed=seed, progress=progress
        )
        drawn = self.allow_filters
        return rollouts(prompts, answers, groups=groups, rows=rows, drawn=drawn)

    @property
    def renews(self) -> bool:
        """Whether weights are handed over in the middle of answers."""
        return getattr(self.engine, "renews", False)

    def renew(self, policy: Any, weights: Any, step: int) -> None:
        """Go on with these weights at once; ``policy``: a copy that nobody else changes; ``step``:
        of learning, behind them.
        """
        engine: Any = self.engine
        engine.renew(policy.model, weights, step)

    def sync(self, policy: Any) -> None:
        """From now on, draw with the weights that ``policy.model`` has now."""
        self.engine.sync(policy.model)


def suited(params: SamplingParams, template: ChatTemplate, model: Any) -> SamplingParams:
    """The same, ended where the template and the model's generation config say so.

    Ids that the tokenizer lacks are never drawn.
    """
    known = min(len(template.tokenizer), int(model.config.get_text_config().vocab_size))
    both = dict.fromkeys((*template.stop_tokens, *other_ends(template.tokenizer, model)))
    stop_tokens = params.stop_tokens or tuple(both)
    return replace(params, stop_tokens=stop_tokens, vocab_size=known)


def rollouts(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Completion],
    *,
    groups: Sequence[int] | None = None,
    rows: Tensor | None = None,
    drawn: bool = False,
) -> Rollouts:
    """Completions as a record; ``finished`` where a stop token or stop string ended them.

    ``logp`` is the policy's, or, with ``drawn``, that of the filtered distribution that the tokens
    were drawn from: the denominator of an importance weight.
    """
    numbers = range(len(prompts)) if groups is None else groups
    if len(numbers) != len(prompts):
        raise UserError(f"sampler: {len(numbers)} groups for {len(prompts)} prompts.")
    steps = TokenSteps.of([prompts[a.prompt_index] for a in answers], [a.tokens for a in answers])
    logp = torch.zeros(len(answers), steps.width)
    group = torch.tensor(list(numbers), dtype=torch.long)
    places = torch.tensor([a.prompt_index for a in answers], dtype=torch.long)
    version = torch.zeros(len(answers), steps.width, dtype=torch.long)
    for row, answer in enumerate(answers):
        values = answer.behaviour_logp if drawn else answer.logp
        logp[row, : len(values)] = torch.tensor(values)
        version[row, : len(values)] = torch.tensor(answer.versions or 0)
    return Rollouts(
        steps=steps,
        mask=steps.mask,
        logp=logp,
        group=group[places],
        finished=torch.tensor([a.finish_reason != "length" for a in answers], dtype=torch.bool),
        row=(group if rows is None else rows)[places],
        version=version,
    )
