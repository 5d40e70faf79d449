"""Low-rank adapters (Hu et al., 2021) through peft."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import nn

from backflip.errors import UserError
from backflip.models.causal import is_adapted
from backflip.models.quantized import dequantized, is_quantized

ALL = "all-linear"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters: their modules, rank and scale."""

    rank: int = 16
    """Columns of A and B: how many directions an update may take."""
    alpha: float = 32.0
    """The update is alpha / rank · B·A."""
    target: str | tuple[str, ...] = ALL
    """Names of the modules to adapt; all-linear takes every plain linear layer but the head."""


def add_lora(model: nn.Module, settings: LoraSettings) -> Any:
    """Freeze ``model`` and put fresh adapters on it: B starts at zero, so nothing changes yet.

    Raises:
        UserError: the model has no linear layer of a name in ``settings.target``, or peft has
            something against it.

    """
    from peft import LoraConfig, get_peft_model

    target = ALL if settings.target == ALL else _targets(model, settings.target)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=0.0,
        target_modules=target,
        exclude_modules=_more_than_linear(model) if target == ALL else None,
        task_type="CAUSAL_LM" if hasattr(model, "prepare_inputs_for_generation") else None,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            return get_peft_model(model, config)  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            raise UserError(
                f"lora.target {settings.target}: peft does not adapt {type(model).__name__} so "
                f"({' '.join(str(error).split())[:200]}). Name the layers, or set lora=null."
            ) from error


@torch.no_grad()
def _more_than_linear(model: nn.Module) -> list[str]:
    """Layers that are linear by class and something else by deed, as the routers of experts are."""
    return [name for name, module in model.named_modules() if not _is_linear(module)]


def _is_linear(module: nn.Module) -> bool:
    """False for a subclass of a linear layer, from transformers, that says something else."""
    kind = type(module)
    if not (isinstance(module, nn.Linear) and kind.__module__.startswith("transformers.models.")):
        return True
    x = torch.ones(1, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
    try:
        return bool(torch.allclose(module(x), nnf.linear(x, module.weight, module.bias)))
    except Exception:  # it does not even take what a linear layer takes
        return False


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


def base_of(model: nn.Module) -> Any:
    """A plain transformers model without any adapters; ``model`` stays as it is."""
    return copy.deepcopy(model).unload() if is_adapted(model) else model  # pyright: ignore


def merged(model: nn.Module) -> Any:
    """A plain transformers model with the adapters' updates added in; ``model`` stays as it is.

    A quantised base is dequantised.
    """
    if is_quantized(model):  # or peft would round the sum to 4 bits again
        return dequantized(model)
    if not is_adapted(model):
        return model
    return copy.deepcopy(model).merge_and_unload()  # pyright: ignore
