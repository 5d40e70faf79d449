"""Conversations that go on: keys that are kept from turn to turn."""

from __future__ import annotations

import pytest
import torch

from backflip.generate.engine import SamplingParams
from backflip.generate.torch import prefixes
from backflip.generate.torch.engine import TorchEngine
from backflip.generate.torch.llama import LlamaNetwork
from backflip.generate.torch.prefixes import Prefixes
from tests.generate.reference import PROMPTS, words
from tests.models.families import tiny


def turns(engine: TorchEngine) -> list[tuple[list[int], list[float]]]:
    """Three turns: two answers to each prompt, each of which goes on twice."""
    asked, said = [list(p) for p in PROMPTS], []
    for turn in range(3):
        group = 2 if turn == 0 else 1
        params = SamplingParams(max_tokens=9, stop_tokens=(2, 5, 17, 31))
        drawn = engine.generate(asked, params, group=group, seed=turn)
        said += [(one.tokens, one.logp) for one in drawn]
        asked = [[*asked[i // group], *one.tokens, 7, 8] for i, one in enumerate(drawn)]
    return said


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
def test_a_conversation_that_goes_on_reads_only_what_is_new(
    family: str, monkeypatch: pytest.MonkeyPatch
):
    """Answers and log-probabilities of three turns are those of reading all of it each time."""
    model, read = tiny(family), list[int]()
    hidden = LlamaNetwork.hidden

    def counted(self: LlamaNetwork, tokens: torch.Tensor, *more: object) -> torch.Tensor:
        read.append(len(tokens))
        return hidden(self, tokens, *more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(LlamaNetwork, "hidden", counted)

    anew = turns(TorchEngine(model, max_rows=5, decode=words))
    all_of_it = sum(read)
    read.clear()
    engine = TorchEngine(model, max_rows=5, decode=words)
    with engine.conversation():
        going_on = turns(engine)
    assert [tokens for tokens, _ in going_on] == [tokens for tokens, _ in anew]
    for (_, ours), (_, theirs) in zip(going_on, anew, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-5)
    if family == "gemma2":  # it runs through its own forward pass, which keeps nothing
        return
    prompts = sum(len(p) for p in PROMPTS)
    written = sum(len(tokens) for tokens, _ in anew)
    last = 2 * len(PROMPTS)  # of the last turn: the last tokens of answers are read by nobody
    assert sum(read) == prompts + written - last + 2 * 2 * 2 * len(PROMPTS)
    assert sum(read) < all_of_it
    read.clear()
    turns(engine)
    assert sum(read) == all_of_it, "keys are given back at the end of a conversation"


def test_keys_beyond_the_memory_for_them_are_dropped_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
):
    kept, kv = Prefixes(), torch.zeros(2, 3, 4)
    monkeypatch.setattr(prefixes, "MOST_BYTES", 2 * kv.nbytes)
    for first in (1, 2, 3):
        kept.add([first, 0, 0, 9], kv)
    assert kept.take([1, 0, 0, 4]) is None
    assert kept.take([2, 0, 0]) is None, "the last token must be read: its logits are wanted"
    assert kept.take([2, 0, 0, 4]) is kv
    assert kept.take([2, 0, 0, 4]) is None
