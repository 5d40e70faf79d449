"""Positions whose meaning changes with the length of the row, and where positions end.

Longrope has one set of frequencies for short rows and one for long ones; dynamic rope has new ones
for each length beyond the first. transformers picks them by the longest row of a batch, and
dynamic rope also by what was read before. Here a row counts by its own length alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn

from backflip.errors import UserError


def rotary(model: nn.Module) -> tuple[Any, ...]:
    """The modules that turn by positions and may change how."""
    found = (m for m in model.modules() if hasattr(m, "rope_type") and hasattr(m, "config"))
    return tuple(m for m in found if any(_changes(kind) for kind in _kinds(m).values()))


def _kinds(module: Any) -> dict[str | None, str]:
    """The type of rope by type of layer; under None where all layers have the same."""
    kind = module.rope_type
    return kind if isinstance(kind, dict) else {None: str(kind)}


def _changes(kind: str) -> bool:
    return kind == "longrope" or "dynamic" in kind


def switches(rotary: Iterable[Any]) -> set[tuple[str, float]]:
    """(longrope or dynamic, last length before the change) of each of these modules."""
    found: set[tuple[str, float]] = set()
    for module in rotary:
        for layer, kind in _kinds(module).items():
            if kind == "longrope":
                own = module.config.rope_parameters
                own = own if layer is None else own[layer]
                found.add((kind, float(own["original_max_position_embeddings"])))
            elif _changes(kind):
                found.add(("dynamic", float(getattr(module, "original_max_seq_len", math.inf))))
    return found


def companies(rotary: Iterable[Any], lengths: Iterable[int]) -> list[list[int]]:
    """Numbers of the rows whose positions mean the same, so that they may be read together."""
    changes = switches(rotary)
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(_company(changes, length), []).append(row)
    return list(groups.values())


def _company(switches: Iterable[tuple[str, float]], length: int) -> int:
    """0 up to the first change; beyond it 1 (longrope), or the length itself (dynamic rope)."""
    beyond = [length if kind == "dynamic" else 1 for kind, last in switches if length > last]
    return max(beyond, default=0)


def reset(rotary: Iterable[Any]) -> None:
    """Forget the frequencies that a long row has left behind in dynamic rope."""
    for module in rotary:
        for layer, kind in _kinds(module).items():
            prefix = "" if layer is None else f"{layer}_"
            original = getattr(module, f"{prefix}original_inv_freq", None)
            if "dynamic" in kind and original is not None:
                now = getattr(module, f"{prefix}inv_freq")
                module.register_buffer(
                    f"{prefix}inv_freq", original.to(now.device), persistent=False
                )
                setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def check_growth(model: nn.Module, prompts: list[int], max_tokens: int) -> None:
    """Refuse answers that would grow over a change of positions while they are written.

    Their first tokens were drawn with the old positions, and a learner, who sees the whole row,
    would read them with the new ones. Raises UserError.
    """
    for kind, switch in switches(rotary(model)):
        over = [
            n for n in prompts if n + max_tokens > switch and (kind == "dynamic" or n <= switch)
        ]
        if over:
            raise UserError(
                f"generate: a prompt of {max(over)} tokens and max_tokens {max_tokens} go beyond "
                f"{switch:g} tokens, where the positions of this model ({kind}) change: what is "
                "drawn before the change would be learnt with other probabilities. Shorten one of "
                f"the two so that they are {switch:g} together, or give the model fixed positions "
                "(rope_parameters in its config.json)."
            )


def last_position(model: Any) -> float:
    """How many positions a model has that learns each of them; infinite for all others."""
    for name, module in model.named_modules():
        own = name.rsplit(".", 1)[-1]
        if isinstance(module, nn.Embedding) and ("pos" in own or own == "wpe"):
            limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
            behind = module.padding_idx or 0
            offset = getattr(module, "offset", behind + 1 if behind else 0)
            rows = module.num_embeddings - offset
            return float(rows if limit is None else min(rows, limit))
    return math.inf


def check_length(model: Any, longest: int, limit: float) -> None:
    """Refuse a row of ``longest`` tokens where the model's own positions end at ``limit``."""
    if longest > limit:
        raise UserError(
            f"a row of {longest} tokens goes beyond the {limit:g} positions that "
            f"{model.config.model_type} has learnt. Give max_length={limit:g} or less, so "
            "that longer rows are left out, or a model with more positions."
        )
