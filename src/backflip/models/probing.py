"""How a model can be read: as a forest, in padded rows, or each row alone.

Plain transformers on one row is the definition. A few short rows are read in every way, with all
windows of the model shortened so far that the rows go beyond them; the fastest way that gives the
same hidden states is taken. It costs some forward passes over some 25 tokens, whatever the model's
own windows are.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

from backflip.errors import UserError

Rows = list[list[int]]
Reader = Callable[[Rows], list[Tensor]]
"""From rows of tokens to the hidden states of each, [L, D]."""
SHORT = 4
"""Length to which windows are shortened."""
REACH = re.compile(
    r"window(_size)?$|chunk_(size|length)$|block_(size|length)$|floor_scale$|index_topk$"
    r"|original_max_position_embeddings$"
)
"""Names of the numbers that say from which length on a layer reads in another way."""
COMMON = 12
"""Tokens that both rows of the probe begin with."""
DIFFERENT = 1e-4
"""Relative difference of two readings in float32 that rounding does not explain."""


def probe_rows(vocabulary: int) -> Rows:
    """Two rows of different length with the same first tokens."""
    start = [(7 * i + 3) % vocabulary for i in range(COMMON)]
    return [
        start + [(5 * i + 2) % vocabulary for i in range(5)],
        start + [(11 * i + 4) % vocabulary for i in range(14)],
    ]


def agree(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Whether two readings [L, D] of the same rows differ by rounding at most, at every token."""
    return all(_difference(x, y) <= _rounding(x, y) for x, y in zip(a, b, strict=True))


def _difference(a: Float[Tensor, "L D"], b: Float[Tensor, "L D"]) -> float:
    a, b = a.float(), b.float()
    scale = b.norm(dim=-1).clamp(min=1e-12)
    worst = ((a - b).norm(dim=-1) / scale).max()
    return float(worst) if worst.isfinite() else float("inf")


def _rounding(*readings: Tensor) -> float:
    loose = 20 if any(x.is_cuda for x in readings) else 1  # a device may round to TF32
    return loose * max(DIFFERENT, *(8 * torch.finfo(x.dtype).eps / loose for x in readings))


def check_causal(kind: str, vocabulary: int, alone: Reader) -> None:
    """Refuse a model that cannot be read, or whose tokens see what comes behind them.

    Raises:
        UserError: in words what the model does instead.

    """
    one, other = probe_rows(vocabulary)
    try:
        first, second = alone([one, other[: len(one)]])
    except Exception as error:  # whatever the forward pass of an unknown model stumbles over
        said = str(error).strip().splitlines()[:1] or [""]
        raise UserError(
            f"{kind} cannot be read as a language model here: its forward pass ends in "
            f"{type(error).__name__} ({said[0][:200]}). Use a model of another type."
        ) from error
    if not agree([first[:COMMON]], [second[:COMMON]]):
        raise UserError(
            f"{kind}, as its config.json sets it up, lets a token see the tokens behind it (an "
            "encoder, or bidirectional attention): such a model has no log-probability of an "
            "answer. Use a causal model (of the config: is_decoder=true, or "
            "use_bidirectional_attention=false, if it was trained so)."
        )


def fastest(
    vocabulary: int, model: nn.Module, alone: Reader, faster: Sequence[Reader]
) -> int | None:
    """Number of the first reader that gives what reading each row ``alone`` does; None if none."""
    rows = probe_rows(vocabulary)
    with shortened(model):
        try:
            expected = alone(rows)
        except Exception:  # a layer that cannot be shortened is not put to the test
            return None
        for number, read in enumerate(faster):
            # A way that does not fit the model fails in as many manners as there are models.
            with contextlib.suppress(Exception):
                if agree(read(rows), expected):
                    return number
    return None


def keeps(vocabulary: int, model: nn.Module, whole: Reader, stepwise: Reader) -> bool:
    """Whether a model that reads token by token, from its cache, says what it says of whole rows.

    Both readers get two rows of the same length.
    """
    one, other = probe_rows(vocabulary)
    with shortened(model), contextlib.suppress(Exception):
        rows = [one, other[: len(one)]]
        return agree(stepwise(rows), whole(rows))
    return False


def causal_up_to(vocabulary: int, model: nn.Module, alone: Reader) -> float:
    """Longest row in which no token is read with regard to those behind it; mostly infinite.

    Doge picks the keys of its window by rank, among those behind the token too; an indexer
    (DeepSeek 3.2) breaks its ties so.
    """
    one, other = probe_rows(vocabulary)
    indexed = [value for _, name, value in _reaches(model) if name == "index_topk"]
    if indexed:  # not put to the test: AXK2 reads it under a name that ``shortened`` cannot reach
        return float(min(indexed))
    with shortened(model), contextlib.suppress(Exception):
        (first,), (second,) = alone([one]), alone([other])
        if agree([first[:COMMON]], [second[:COMMON]]):
            return math.inf
    return float(min((value for _, _, value in _reaches(model)), default=math.inf))


@contextlib.contextmanager
def shortened(model: nn.Module) -> Iterator[None]:
    """Inside, every window and chunk of the model is ``SHORT``, in configs and layers alike."""
    own = list(_reaches(model))
    try:
        for place, name, _ in own:
            place[name] = SHORT
        yield
    finally:
        for place, name, value in own:
            place[name] = value


def _reaches(model: nn.Module) -> Iterator[tuple[dict[str, Any], str, int]]:
    """(where it is kept, name, value) of the numbers from which on layers read in another way."""
    tables: dict[int, dict[str, Any]] = {}
    for module in model.modules():
        tables[id(vars(module))] = vars(module)
        _collect(getattr(module, "config", None), tables)
    for table in tables.values():
        for name, value in table.items():
            if type(value) is int and value > SHORT and REACH.search(str(name)):
                yield table, name, value


def _collect(inner: Any, found: dict[int, dict[str, Any]]) -> None:
    """The entries of a config, and of the configs and tables in it."""
    if isinstance(inner, PreTrainedConfig):
        inner = vars(inner)
    if isinstance(inner, dict) and id(inner) not in found:
        found[id(inner)] = inner
        for value in list(inner.values()):
            _collect(value, found)
