"""Dropout and its kin, off in everything that learns or judges here.

A policy that samples differently from how it learns has ratios that mean nothing; a reference, a
critic or a reward model that answers differently each time is no measure. So dropout of every
kind, layer drop, router jitter and sampled routing are off, a foreign adapter's ``lora_dropout``
included.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from transformers.modeling_layers import GradientCheckpointingLayer


def without_dropout(model: nn.Module) -> None:
    """Set every rate of dropout to 0, whatever train() and eval() say later.

    A rate is the p of a dropout layer, or a number under a name with "drop" in a module that stays
    in training mode (see ``settle``) or in the config that it looks up. Rates elsewhere count in
    training mode only, or are more than noise: PhiMoE's ``router_jitter_noise`` decides in eval
    mode which experts compete. The model's own config stays as it is, so that a saved model says
    what it said. Dropout of LoRA adapters is switched off with the rest, which is said once.
    """
    adapters = sorted({p for n, m in model.named_modules() if (p := _rate(m)) and "lora_" in n})
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        if hasattr(module, "gradient_checkpointing"):
            _without_rates(module)
    if adapters:
        warnings.warn(
            f"the adapters' own dropout (lora_dropout {', '.join(f'{p:g}' for p in adapters)}) is "
            "switched off: policy, reference, critic and reward model read without dropout.",
            stacklevel=3,
        )


def _without_rates(module: nn.Module) -> None:
    """Rates that it keeps itself; a layer that looks them up gets a config without them."""
    for name, value in vars(module).items():
        if _is_rate(name, value):
            setattr(module, name, 0.0)
    config = getattr(module, "config", None)
    if isinstance(module, GradientCheckpointingLayer) and config is not None:
        rates = [name for name, value in vars(config).items() if _is_rate(name, value)]
        if rates:
            module.config = copy.copy(config)
            vars(module.config).update(dict.fromkeys(rates, 0.0))


def _is_rate(name: str, value: object) -> bool:
    return "drop" in name and isinstance(value, float) and value > 0


def _rate(module: nn.Module) -> float:
    return float(module.p) if isinstance(module, _DropoutNd) else 0.0


def settle(model: nn.Module) -> None:
    """Leave training mode only to the layers that need it to checkpoint their activations.

    What else a module does while training (layer drop, jitter, an expert drawn by lot, a rate that
    is read from the config) is thereby off, under whatever name.
    """
    for module in model.modules():
        if module.training and not getattr(module, "gradient_checkpointing", False):
            module.training = False


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each module has its own flag back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
