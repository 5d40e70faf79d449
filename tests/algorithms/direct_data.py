"""Little comparisons for the direct family, and a reference to state their log-probabilities."""

from __future__ import annotations

import torch

from backflip.algorithms.preference.base import tell
from backflip.algorithms.preference.cpo import CPO
from backflip.algorithms.preference.davidson_dpo import DavidsonDPO
from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.mixture import Mixture
from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.data.ragged import Ragged
from backflip.data.referenced import ReferencedComparisons

GOOD = 5


class Unigram(torch.nn.Module):
    """A policy for which every token is as likely everywhere: what counts can be added by hand."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.nn.Parameter(torch.randn(61, generator=generator).double())

    def evaluate(self, steps: TokenSteps) -> dict[str, torch.Tensor]:
        logp = torch.full((len(steps), steps.width), 99.0).double()  # padding is never looked at
        told = self.logits.log_softmax(0)[steps.answer.values]
        return {"logp": logp.masked_scatter(steps.mask, told)}

    def of(self, *tokens: int) -> float:
        """The log-likelihood of these tokens."""
        return float(self.logits.log_softmax(0)[list(tokens)].sum())


def comparisons(ranks, answers, masks=None) -> ComparisonBatch:
    """One prompt per list of answers, all prompts different."""
    prompts = [[10 + i % 8, 20, 21 + i // 8] for i in range(len(answers))]
    return ComparisonBatch.of(prompts, answers, ranks, masks=masks)


def good_beats_bad(seed: int, size: int = 16, answers: int = 2) -> ComparisonBatch:
    """The more GOOD tokens an answer begins with, the better; answers of a prompt are as long."""
    generator = torch.Generator().manual_seed(seed)
    rows, ranks = [], []
    for _ in range(size):
        row, length = [], int(torch.randint(answers + 1, answers + 4, (1,), generator=generator))
        for place in range(answers):
            words = torch.randint(30, 36, (length,), generator=generator)
            words[: answers - 1 - place] = GOOD
            row.append(words.tolist())
        order = torch.randperm(answers, generator=generator)
        rows.append([row[i] for i in order])
        ranks.append(order.tolist())
    return comparisons(ranks, rows)


def referenced(model, batch: ComparisonBatch) -> ReferencedComparisons:
    """What ``model`` says of every answer, stated beside it."""
    with torch.no_grad():
        logp = tell(model.evaluate(batch.answers.values)["logp"], batch).logp
    return ReferencedComparisons(batch, Ragged(logp, batch.answers.offsets))


def value(objective, model, batch) -> torch.Tensor:
    """What a learner minimises: every term over its own denominator, added."""
    counts = objective.counts(batch)
    losses = objective.loss(model, batch).losses
    return sum(loss.total / counts[name] for name, loss in losses.items())


def mixed() -> Mixture:
    """Two terms with a reference, one without, one that learns from ties."""
    return Mixture(
        terms=(DPO(), CPO(nll_coef=0.5), DavidsonDPO()), weights=(1.0, 0.5, 0.2), nll_coef=0.2
    )
