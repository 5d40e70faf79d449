"""What generation must agree with: one sequence at a time, no cache, no padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.models.families import VOCABULARY

PROMPTS = [[5, 9, 14, 33, 7, 8, 9, 41], [11, 3, 4], [20, 21, 22, 23, 24], [6, 6, 6]]
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gpt2", "gemma2", "gemma3", "bloom"]


def next_logits(model: nn.Module, tokens: Sequence[int]) -> Tensor:
    """Logits after a sequence, by the definition."""
    with torch.no_grad():
        return model(torch.tensor([list(tokens)]), use_cache=False).logits[0, -1]


def answer_logp(
    model: nn.Module, prompt: Sequence[int], answer: Sequence[int], temperature: float = 1.0
) -> Tensor:
    """Log-probability of each token of an answer, from one forward pass over the whole."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0]
    logp = (logits[len(prompt) - 1 : -1].float() / temperature).log_softmax(-1)
    return logp.gather(1, torch.tensor(list(answer))[:, None])[:, 0]


def greedy(model: nn.Module, prompt: Sequence[int], n: int, stop: Sequence[int] = ()) -> list[int]:
    """The most likely continuation, recomputed from scratch for every token."""
    answer: list[int] = []
    while len(answer) < n and not (answer and answer[-1] in stop):
        answer.append(int(next_logits(model, [*prompt, *answer]).argmax()))
    return answer


def words(tokens: Sequence[int]) -> str:
    """A text for tokens: one letter each, so that stop strings can be written down."""
    return "".join(chr(ord("A") + t) for t in tokens)


__all__ = ["FAMILIES", "PROMPTS", "VOCABULARY", "answer_logp", "greedy", "next_logits", "words"]
