"""A decoding step that is recorded once and played again.

On CUDA a step of a small model is hundreds of kernels that run for less time than they take to
launch. As long as the same rows stay, only the numbers that go in change, not the kernels: so they
are recorded as a CUDA graph, which launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

Thunk = Callable[[], Tensor]
Recorder = Callable[[Thunk], Thunk]
"""Runs a computation and returns one that does the same again, on the same memory."""
STEADY = 3
"""Steps that an arrangement of rows must have lasted before it is worth a recording."""
IDLE = 0.25
"""Share of rows that may stand idle before they are cleared away, which ends a recording."""


@dataclass(frozen=True)
class StepInputs:
    """All that differs from one step of R rows to the next."""

    tokens: Int[Tensor, " R"]
    cosine: Float[Tensor, "R 1 D"]
    sine: Float[Tensor, "R 1 D"]
    write_at: Int[Tensor, " R"]
    """Where in the cache of the rows' own keys each of them writes."""
    own_bias: Float[Tensor, "R 1 1 M"] | None
    """-inf behind each row's end; None where all rows end at M."""


class StepGraph:
    """The step of one arrangement of rows."""

    def __init__(
        self, read: Callable[[StepInputs], Tensor], inputs: StepInputs, record: Recorder
    ) -> None:
        """Record ``read`` on memory that holds ``inputs`` now; nothing in it may be None."""
        self.inputs = StepInputs(
            **{f.name: getattr(inputs, f.name).clone() for f in fields(inputs)}
        )
        self.replay = record(lambda: read(self.inputs))

    def __call__(self, inputs: StepInputs) -> Tensor:
        """The result of ``read(inputs)``."""
        for field in fields(inputs):
            getattr(self.inputs, field.name).copy_(getattr(inputs, field.name))
        return self.replay().clone()


def cuda_graph(thunk: Thunk) -> Thunk:
    """A recorder: warm up beside the main stream, as capturing asks for, then capture."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        thunk()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may learn meanwhile
        out = thunk()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay
