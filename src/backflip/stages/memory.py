"""Rules of settings that save memory: what does not go together, and what would have no effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backflip.distributed.world import here
from backflip.models.quantized import INSTALL, installed

__all__ = ["memory_faults"]


def memory_faults(stage: Any, prefix: str) -> Iterator[str]:
    """Sentences on few bits and on other places that a ``Stage`` cannot have."""
    if stage.quantization and stage.lora is None:
        yield (
            f"{prefix}quantization is {stage.quantization}, but {prefix}lora is null: weights in "
            f"few bits do not learn. Leave {prefix}lora on, or set {prefix}quantization=null."
        )
    if not installed():
        yield from _missing(stage, prefix)
    if here().size > 1:
        yield from _of_several(stage, prefix)
    if getattr(stage, "reference_device", "same") == "cpu" and (why := _no_reference(stage)):
        yield (f"{prefix}reference_device is cpu, but {why}. Leave {prefix}reference_device out.")


def _few_bits(stage: Any) -> list[str]:
    """Settings that ask for bitsandbytes."""
    critic = getattr(getattr(stage, "values", None), "optimizer", None)
    optimizers = {"optimizer": stage.optimizer, "values.optimizer": critic}
    asked = [f"{name}.state_bits=8" for name, o in optimizers.items() if o and o.state_bits == 8]
    return asked + ([f"quantization={stage.quantization}"] if stage.quantization else [])


def _of_several(stage: Any, prefix: str) -> Iterator[str]:
    """Sentences on settings that only a run of one process can have."""
    asked = _few_bits(stage)
    if getattr(stage, "reference_device", "same") == "cpu":
        asked.append("reference_device=cpu")
    for setting in asked:
        yield (
            f"{prefix}{setting} is not supported by several processes, which share weights and "
            "moments out in pieces. Leave it out, or run one process."
        )


def _missing(stage: Any, prefix: str) -> Iterator[str]:
    """Sentences on settings that need bitsandbytes where it is not installed."""
    for setting in _few_bits(stage):
        yield f"{prefix}{setting} needs bitsandbytes, which is not installed: {INSTALL}."


def _no_reference(stage: Any) -> str | None:
    """Why a stage holds no reference with weights of its own; None where it does."""
    objective = getattr(stage, "objective", None)
    if getattr(stage, "reference", None) is not None:
        return None
    if stage.lora is not None:
        return "with lora the reference is the policy without its adapters, which takes no memory"
    if objective is None:
        return None
    if objective.reference_moves:
        return "this objective's reference moves with the weights that learn"
    if stage.sampled_prompts or (stage.data.streaming and objective.needs_reference):
        return None
    return (
        "no reference stays in memory here: the policy states its numbers before it learns, and no "
        "sampled answers are compared with it"
    )
