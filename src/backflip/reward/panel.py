"""Reward models as judges of pairs: the log odds that one answer is better, by each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, tokenize_comparisons
from backflip.data.records import Comparison
from backflip.models.load import load_tokenizer
from backflip.models.save import load_reward_model
from backflip.reward.model import score_all

CHUNK = 64
"""Pairs between two words about progress."""


def log_odds(
    models: Sequence[str],
    pairs: Sequence[Comparison],
    *,
    max_length: int = 1024,
    told: Callable[[str], None] = lambda _line: None,
) -> Float[Tensor, "M N"]:
    """Log odds of "the first answer is better", as every head of every model claims them.

    A pair that a model cannot read (answers equal as tokens, one that alone exceeds
    ``max_length``) has log odds 0: it knows nothing of it. Longer prompts lose their beginning.

    Args:
        models: folders, runs or hub names of reward models; one at a time is in memory.
        pairs: N comparisons of two; their ranks play no part.
        max_length: tokens of prompt and answer.
        told: called with a line about progress now and then.

    Raises:
        UserError: a name that is no reward model's; pairs of which none can be read.

    """
    fit = Fit(max_length, "cut")
    return torch.cat([_by_one(name, pairs, fit, told) for name in models])


def _by_one(
    name: str, pairs: Sequence[Comparison], fit: Fit, told: Callable[[str], None]
) -> Float[Tensor, "heads N"]:
    template, model = ChatTemplate(load_tokenizer(name)), load_reward_model(name)
    read = tokenize_comparisons(pairs, template, fit=fit)
    found = torch.zeros(model.heads, len(pairs))
    for start in range(0, len(read.kept), CHUNK):
        some = read.kept[start : start + CHUNK]
        answers = read.data.answers[start : start + CHUNK].values
        scores = score_all(model, answers, raw=True)
        found[:, some] = (scores[::2] - scores[1::2]).T
        told(f"{name}: {start + len(some):,} of {len(read.kept):,} pairs read")
    return found
