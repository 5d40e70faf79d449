"""A recorded step computes what a step computes; recordings last as long as their rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from backflip.generate.engine import SamplingParams
from backflip.generate.torch.decoder import LlamaDecoder
from backflip.generate.torch.engine import EndOfAnswer, TorchEngine
from backflip.generate.torch.graphs import STEADY
from tests.models.families import tiny

PROMPTS = [[3, 4, 5, 6, 7], [8, 9], [10, 11, 12]]


class Recordings:
    """Stands where CUDA would capture: notes how often it recorded and played."""

    def __init__(self) -> None:
        self.made = self.played = 0

    def __call__(self, thunk: Any) -> Any:
        self.made += 1
        thunk()

        def replay() -> torch.Tensor:
            self.played += 1
            return thunk()

        return replay


def engines(family: str, recordings: Recordings) -> tuple[TorchEngine, TorchEngine]:
    """(one that records its steps, one that does not), of the same model."""
    torch.manual_seed(0)
    model = tiny(family)
    recording = TorchEngine(model, max_rows=4)
    decoder = recording._ready()
    assert isinstance(decoder, LlamaDecoder)
    decoder.record = recordings
    return recording, TorchEngine(model, max_rows=4)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_recorded_step_writes_the_same_answers(family: str):
    """Over 64 tokens, so that the cache grows; rows that end at different times."""
    recordings = Recordings()
    recorded, plain = engines(family, recordings)
    params = SamplingParams(max_tokens=80, stop_tokens=(5, 17, 33))
    ours = recorded.generate(PROMPTS, params, group=3, seed=4)
    expected = plain.generate(PROMPTS, params, group=3, seed=4)
    assert recordings.played > recordings.made > 0
    assert [a.tokens for a in ours] == [a.tokens for a in expected]
    assert [a.finish_reason for a in ours] == [a.finish_reason for a in expected]
    assert len({len(a.tokens) for a in ours}) > 2
    for ours_one, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(
            torch.tensor(ours_one.logp), torch.tensor(theirs.logp), atol=1e-5, rtol=0
        )


def test_one_recording_serves_all_steps_of_the_same_rows():
    recordings = Recordings()
    recorded, _ = engines("llama", recordings)
    recorded.generate(PROMPTS[:1], SamplingParams(max_tokens=40), group=4)
    assert recordings.made == 1
    assert recordings.played == 39 - STEADY


def test_a_row_that_has_ended_stands_idle_rather_than_end_the_recording(monkeypatch):
    recordings = Recordings()
    recorded, _ = engines("llama", recordings)
    done: list[int] = []
    ended = {0: 9}

    def reason(end: EndOfAnswer, tokens: list[int]) -> Any:
        if len(tokens) == ended[0] and len(done) == 0:
            done.append(1)
            return "stop"
        return "length" if len(tokens) >= end.params.max_tokens else None

    monkeypatch.setattr(EndOfAnswer, "reason", reason)
    answers = recorded.generate(PROMPTS[:1], SamplingParams(max_tokens=40), group=4)
    assert recordings.made == 1
    assert sorted(len(a.tokens) for a in answers) == [9, 40, 40, 40]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graphs_write_what_eager_steps_write():
    torch.manual_seed(0)
    model = tiny("llama").cuda()
    params = SamplingParams(max_tokens=80, temperature=0.0)
    graphed, eager = TorchEngine(model, max_rows=4), TorchEngine(model, max_rows=4)
    decoder = eager._ready()
    assert isinstance(decoder, LlamaDecoder)
    decoder.record = None
    ours = graphed.generate(PROMPTS, params, group=2)
    assert [a.tokens for a in ours] == [a.tokens for a in eager.generate(PROMPTS, params, group=2)]
