"""The reference as a stage of the data: it states how likely it holds every answer, once.

At the start of a run the policy itself is the reference (new adapters change nothing, and full
fine-tuning has not taken its first step), so that no second model is ever in memory. Another model
states its numbers before the policy is loaded, and is forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from backflip.data.batches import ComparisonBatch, LabelledBatch, TokenSteps
from backflip.data.ragged import Ragged, TensorRecord, offsets_of
from backflip.data.referenced import ReferencedComparisons, ReferencedLabels
from backflip.distributed.reading import resident
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models.causal import AdaptersOff, CausalPolicy, adapters_are_new
from backflip.progress import Task, task
from backflip.text import counted
from backflip.training.reference_cache import ReferenceCache, ReferenceRows, row_key

__all__ = [
    "ReferenceWork",
    "check_same_vocabulary",
    "with_reference",
]

Plain = ComparisonBatch | LabelledBatch
Referenced = ReferencedComparisons | ReferencedLabels
WINDOW = 512
"""Answers that are cut into micro-batches together: cutting takes time that grows with the square
of their number."""


@dataclass(frozen=True)
class ReferenceWork:
    """Progress of the reference. Answers that occur several times count once."""

    total: int
    hits: int = 0
    """Answers that were in the cache."""
    computed: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        return self.hits + self.computed

    def line(self) -> str:
        """``reference: 1,200 of 1,350 answers from the cache, 150 computed in 12 s``."""
        if not self.hits:
            return f"reference: {counted(self.computed, 'answer')} computed in {self.seconds:.0f} s"
        cached = f"{self.hits:,} of {counted(self.total, 'answer')} from the cache"
        return f"reference: {cached}, {self.computed:,} computed in {self.seconds:.0f} s"


Progress = Callable[[ReferenceWork], None]


def with_reference(
    data: Plain | Referenced,
    model: CausalPolicy | AdaptersOff,
    *,
    token_budget: int,
    cache: ReferenceCache | ReferenceRows | None = None,
    mismatched: bool = True,
    progress: Progress | None = None,
) -> Referenced:
    """``data`` with log π_ref of every answer: Σ over its own tokens, in nats, on the CPU.

    One forward pass without a graph, in which answers to the same prompt share it; a labelled
    answer and its mismatched one do. What has a reference already gets this one instead.

    Args:
        data: of any size, on the CPU.
        model: the reference as it is now; a policy with new adapters is its base model.
        token_budget: forest tokens in one micro-batch.
        cache: where answers are looked up first and each micro-batch is kept at once, so that an
            interrupted pass goes on where it was. The rows of one model, opened already, serve
            several datasets without naming the model anew.
        mismatched: read the answers to other prompts too, which only KTO looks at; else they are 0.
        progress: told after every micro-batch and whenever rows were found in the cache.

    Raises:
        UserError: the model has other tokens than the data, or states what is not a number.

    """
    if isinstance(data, ReferencedComparisons | ReferencedLabels):
        data = data.comparisons if isinstance(data, ReferencedComparisons) else data.labelled
    if isinstance(model, CausalPolicy) and adapters_are_new(model.model):
        model = AdaptersOff(model)
    answers = _answers_of(data, mismatched=mismatched)
    _check_tokens(answers.steps, model)
    opened = isinstance(cache, ReferenceCache)
    with cache.rows(model) if opened else contextlib.nullcontext(cache) as rows:
        logp = _Pass(model, token_budget, rows, progress).logp(answers)
    return _referenced(data, logp, mismatched=mismatched)


def _referenced(data: Plain, logp: Float[Tensor, " N"], *, mismatched: bool) -> Referenced:
    """The data with log π_ref of its answers, in the order of ``_answers_of``."""
    if isinstance(data, ComparisonBatch):
        return ReferencedComparisons(data, Ragged(logp, data.answers.offsets))
    own = logp[: len(data)]
    other = logp[len(data) :] if mismatched else torch.zeros_like(own)
    return ReferencedLabels(data, own, other, kl=torch.zeros(len(data)))


def check_same_vocabulary(tokenizer: Any, other_tokenizer: Any, name: str) -> None:
    """Refuse a model ``name`` (a reference, a reward model) that was trained on other tokens.

    Further special tokens of its own, such as padding that was added to it, do no harm.
    """
    ours, theirs = tokenizer.get_vocab(), other_tokenizer.get_vocab()
    further = theirs.keys() - ours.keys()
    if ours.items() <= theirs.items() and further <= set(other_tokenizer.all_special_tokens):
        return
    strangers = len(set(ours.items()) ^ set(theirs.items()))
    raise UserError(
        f"{name} has another tokenizer than the policy: {strangers} entries differ. It is to read "
        "the policy's own tokens; give a model that was trained from the same base model."
    )


# ---- one pass over the answers


@dataclass(frozen=True)
class _Answers(TensorRecord):
    """The N answers of a dataset, wherever it keeps them."""

    steps: TokenSteps
    mask: Bool[Tensor, "N T"]
    prompt: Int[Tensor, " N"]
    """Equal where prompts are equal."""

    def sequences(self) -> tuple[TokenSteps, Int[Tensor, " S"], Int[Tensor, " B"]]:
        return self.steps, torch.arange(len(self)), self.prompt

    def keys(self) -> list[bytes]:
        prompts, answers = _pieces(self.steps.prompt), _pieces(self.steps.answer)
        marks = [mask.numpy().tobytes() for mask in self.mask]
        lengths = [len(answer) // 8 for answer in answers]
        return [
            row_key(prompt, answer, mark[:length])
            for prompt, answer, mark, length in zip(prompts, answers, marks, lengths, strict=True)
        ]


def _answers_of(data: Plain, *, mismatched: bool) -> _Answers:
    if isinstance(data, ComparisonBatch):
        steps, mask = data.answers.values, data.mask.values
    elif not mismatched:
        steps, mask = data.steps, data.mask
    else:
        both = (data.steps, data.mismatched)
        width = max(part.width for part in both)
        steps = TokenSteps(
            _joined([part.prompt for part in both]), _joined([part.answer for part in both]), width
        )
        mask = torch.zeros(2 * len(data), width, dtype=torch.bool)
        mask[: len(data), : data.steps.width] = data.mask
        mask[len(data) :, : data.mismatched.width] = data.mismatched_mask
    numbers: dict[bytes, int] = {}
    prompt = [numbers.setdefault(piece, len(numbers)) for piece in _pieces(steps.prompt)]
    return _Answers(steps, mask, torch.tensor(prompt, dtype=torch.long))


def _joined(parts: Sequence[Ragged[Tensor]]) -> Ragged[Tensor]:
    lengths = torch.cat([part.lengths for part in parts])
    return Ragged(torch.cat([part.values for part in parts]), offsets_of(lengths))


def _pieces(rows: Ragged[Tensor]) -> list[bytes]:
    """The bytes of every row, 8 a token."""
    values, ends = rows.values.long().numpy().tobytes(), _numbers(rows.offsets * 8)
    return [values[start:end] for start, end in itertools.pairwise(ends)]


def _numbers(x: Any) -> list[Any]:
    return x.tolist()


class _Pass:
    """Looks answers up, has the rest computed, and keeps it."""

    def __init__(
        self,
        model: CausalPolicy | AdaptersOff,
        token_budget: int,
        rows: ReferenceRows | None,
        progress: Progress | None,
    ) -> None:
        self.model, self.token_budget, self.rows = model, token_budget, rows
        self.progress = progress
        self.work, self.began = ReferenceWork(0), time.monotonic()
        self.reading = Task("the reference reads")

    def logp(self, answers: _Answers) -> Float[Tensor, " N"]:
        keys = answers.keys()
        once = {key: number for number, key in reversed(list(enumerate(keys)))}
        self.work = ReferenceWork(len(once))
        known: dict[bytes, float] = {}
        bar = task("the reference reads", len(once), "answers")
        with resident(self.model), bar as self.reading:
            for window in _windows(sorted(once.values()), _numbers(answers.prompt)):
                self._window(answers[torch.tensor(window)], [keys[row] for row in window], known)
        return torch.tensor([known[key] for key in keys], dtype=torch.float32)

    def _window(self, answers: _Answers, keys: list[bytes], known: dict[bytes, float]) -> None:
        found = here().once(lambda: self.rows.look_up(keys) if self.rows is not None else {})
        known |= found
        self._further(hits=len(found))
        missing = torch.tensor([key not in found for key in keys])
        parts, size = self._micro_batches(answers, missing), here().size
        for start in range(0, len(parts), size):
            here_and_there = parts[start : start + size]
            sums = here().spread(here_and_there, lambda part: _sums(self.model, answers[part]))
            names: list[bytes] = [keys[i] for part in here_and_there for i in _numbers(part)]
            new = dict(zip(names, itertools.chain.from_iterable(sums), strict=True))
            known |= here().once(lambda new=new: self._kept(new))
            self._further(computed=len(new))

    def _kept(self, new: dict[bytes, float]) -> dict[bytes, float]:
        return new if self.rows is None else self.rows.add(new)

    def _micro_batches(
        self, answers: _Answers, missing: Bool[Tensor, " N"]
    ) -> list[Int[Tensor, " n"]]:
        """Cut as if nothing were known, so that an interrupted pass goes on with the same bits."""
        if not missing.any():
            return []
        plan = self.model.plan(answers, self.token_budget)
        whole = [part for part in plan if missing[part].all()]
        torn = [part[missing[part]] for part in plan if not missing[part].all()]
        rest = torch.cat(torn) if torn else torch.zeros(0, dtype=torch.long)
        if len(rest):
            whole += [rest[i] for i in self.model.plan(answers[rest], self.token_budget)]
        return whole

    def _further(self, *, hits: int = 0, computed: int = 0) -> None:
        self.work = dataclasses.replace(
            self.work,
            hits=self.work.hits + hits,
            computed=self.work.computed + computed,
            seconds=time.monotonic() - self.began,
        )
        self.reading.reach(self.work.done)
        if self.progress is not None and hits + computed:
            self.progress(self.work)


def _windows(rows: Sequence[int], prompt: Sequence[int]) -> Iterator[list[int]]:
    """Rows by prompt, some ``WINDOW`` at a time, no prompt torn."""
    window: list[int] = []
    for row in sorted(rows, key=prompt.__getitem__):
        if len(window) >= WINDOW and prompt[row] != prompt[window[-1]]:
            yield window
            window = []
        window.append(row)
    if window:
        yield window


@torch.no_grad()
def _sums(model: CausalPolicy | AdaptersOff, answers: _Answers) -> list[float]:
    """Σ log π over the own tokens of each answer, as float32 has it."""
    logp = model.evaluate(answers.steps, ("logp",))["logp"].cpu()
    # float64: the sum must not depend on how long the other answers are.
    sums = _numbers(torch.where(answers.mask, logp.double(), 0.0).sum(-1).float())
    bad = [row for row, value in enumerate(sums) if not math.isfinite(value)]
    if bad:
        row = bad[0]
        raise UserError(
            f"the reference gives {len(bad)} of {len(sums)} answers a log-probability that is not "
            f"finite ({sums[row]}; the first begins with the tokens "
            f"{answers.steps.sequence(row)[:8]}). Its weights are damaged, or overflow: try "
            "precision=float32, or another model."
        )
    return sums


def _check_tokens(steps: TokenSteps, model: CausalPolicy | AdaptersOff) -> None:
    policy = model.policy if isinstance(model, AdaptersOff) else model
    size = int(policy.trunk.whole.get_input_embeddings().weight.shape[0])
    parts = (steps.prompt.values, steps.answer.values)
    largest = max((int(part.max()) for part in parts if len(part)), default=0)
    if largest >= size:
        raise UserError(
            f"the data has token {largest}, and the reference knows tokens up to {size - 1}: it "
            "has another vocabulary. Give a reference with the policy's own tokenizer."
        )
