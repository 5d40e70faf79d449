"""A trained model's matrices, laid out for products with few rows.

On a CPU oneDNN multiplies 16 rows with weights in its own block order about twice as fast as with
weights as they lie in the model. Such a copy costs the memory of the weights once more and 0.2 s
for 135 million of them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor, nn

from backflip.models.quantized import dense

ROWS_EXPECTED = 16


class UnsupportedLayerError(Exception):
    """A module computes something else than x Wᵀ + b (+ a plain low-rank term)."""


class Linear:
    """y = x Wᵀ + b with weights that do not change."""

    def __init__(
        self,
        weight: Float[Tensor, "O I"],
        bias: Float[Tensor, " O"] | None,
        narrow: torch.dtype | None = None,
    ) -> None:
        """``narrow``: the type to multiply in, where it is another than that of the rows."""
        weight = weight.detach() if narrow is None else weight.detach().to(narrow)
        self.narrow = narrow
        self.bias = None if bias is None else bias.detach().to(weight.dtype, copy=True)
        self.packed = can_pack(weight)
        if self.packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS_EXPECTED)
        self.weight = weight

    def __call__(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        if self.narrow is not None:
            return self._product(x.to(self.narrow)).to(x.dtype)
        return self._product(x)

    def _product(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return nnf.linear(x, self.weight, self.bias)


def can_pack(weight: Tensor) -> bool:
    """Whether this build of torch can reorder the weight for oneDNN."""
    return (
        weight.device.type == "cpu"
        and (weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and has_bfloat16()))
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled  # pyright: ignore[reportAttributeAccessIssue]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 itself (AVX512-BF16, AMX, ARM's BF16)."""
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and ask is not None and bool(ask())


@torch.no_grad()
def effective(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear layer, active LoRA adapters added: W + Σ scale · B A.

    Those of a quantised layer are dequantised.

    Raises:
        UnsupportedLayerError: not a plain linear layer, nor one with plain LoRA adapters.

    """
    linear: Any = module
    if (weight := _plain_weight(linear)) is not None:
        return weight, linear.bias
    layer = _lora_linear(module)
    base = layer.base_layer
    weight = _plain_weight(base)
    if weight is None:
        raise UnsupportedLayerError(f"LoRA over {type(base).__name__}")
    if layer.disable_adapters:
        if layer.merged:
            raise UnsupportedLayerError("adapters that are merged and disabled at once")
        return weight, base.bias
    for name in layer.active_adapters:
        if name not in layer.lora_A or name in layer.merged_adapters:
            continue
        if name in layer.lora_variant or layer.lora_bias.get(name):
            raise UnsupportedLayerError("a variant of LoRA")
        weight = weight + layer.get_delta_weight(name).to(weight.dtype)
    return weight, base.bias


def _plain_weight(module: Any) -> Tensor | None:
    return module.weight if type(module) is nn.Linear else dense(module)


def _lora_linear(module: nn.Module) -> Any:
    """A layer of peft with plain LoRA; peft is imported only where it is in use."""
    if hasattr(module, "base_layer"):
        from peft.tuners import lora

        kinds = [lora.Linear]
        if dense(module.base_layer) is not None:  # pyright: ignore[reportArgumentType]
            kinds += [lora.Linear4bit, lora.Linear8bitLt]
        if type(module) in kinds:
            return module
    raise UnsupportedLayerError(type(module).__name__)


def plain_embedding(module: nn.Module) -> Tensor:
    """The table of an embedding that does nothing but look up.

    Raises:
        UnsupportedLayerError: an embedding with an adapter or a scale.

    """
    if type(module) is not nn.Embedding or module.max_norm is not None:
        raise UnsupportedLayerError(type(module).__name__)
    return module.weight.detach()
