"""Low-rank adapters (Hu et al., 2021) through peft."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

from torch import nn

from backflip.data.errors import UserError
from backflip.models.causal import is_adapted

ALL = "all-linear"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """What is adapted, and how strongly."""

    rank: int = 16
    """Columns of A and B: how many directions an update may take."""
    alpha: float = 32.0
    """The update is alpha / rank · B·A."""
    target: str | tuple[str, ...] = ALL
    """Names of the modules to adapt; all-linear takes every linear layer but the head."""


def add_lora(model: nn.Module, settings: LoraSettings) -> Any:
    """Freeze ``model`` and put fresh adapters on it: B starts at zero, so nothing changes yet.

    Raises:
        UserError: the model has no linear layer of a name in ``settings.target``.

    """
    from peft import LoraConfig, get_peft_model

    target = ALL if settings.target == ALL else _targets(model, settings.target)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=0.0,
        target_modules=target,
        task_type="CAUSAL_LM" if hasattr(model, "prepare_inputs_for_generation") else None,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        warnings.filterwarnings("ignore", category=FutureWarning)
        return get_peft_model(model, config)  # pyright: ignore[reportArgumentType]


def _targets(model: Any, target: str | tuple[str, ...]) -> list[str]:
    """The names as a list, each of them a linear layer of the model, but not its head."""
    from transformers.pytorch_utils import Conv1D

    names = [target] if isinstance(target, str) else list(target)
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    missing = [n for n in names if not any(f".{path}".endswith(f".{n}") for path in linear)]
    if missing:
        seen = sorted({path.rsplit(".", 1)[-1] for path in linear})
        raise UserError(
            f"lora.target: {type(model).__name__} has no linear layer {', '.join(missing)} to "
            f"adapt; it has {', '.join(seen[:8])}. Name some of these, or {ALL}."
        )
    return names


def merged(model: nn.Module) -> Any:
    """A plain transformers model with the adapters' updates added in; ``model`` stays as it is."""
    if not is_adapted(model):
        return model
    return copy.deepcopy(model).merge_and_unload()  # pyright: ignore
