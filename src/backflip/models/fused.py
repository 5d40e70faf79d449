"""Two layers of the Llama family, written to touch memory less often.

On a CPU a layer norm or a gated activation costs little arithmetic and much traffic. These do the
same arithmetic in place, keep half as much for the backward pass and work the rest out again.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor, nn

GATED = frozenset({"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP"})
NORMS = frozenset({"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"})


def fuse(body: nn.Module) -> None:
    """Let the layers of ``body`` that are known here run their leaner form on a CPU."""
    for module in body.modules():
        name = type(module).__name__
        if name in GATED and isinstance(module.act_fn, nn.SiLU):
            module.forward = MethodType(_gated_forward, module)
        elif name in NORMS:
            module.forward = MethodType(_norm_forward, module)


def _gated_forward(self: Any, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


def _norm_forward(self: Any, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    return rms_norm(x, self.weight, self.variance_epsilon)


def swiglu(gate: Float[Tensor, "*shape"], up: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """silu(gate) · up (Shazeer, 2020)."""
    return _SwiGLU.apply(gate, up)


def rms_norm(
    x: Float[Tensor, "*shape D"], weight: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*shape D"]:
    """The root-mean-square norm: x / √(mean x² + eps) · weight (Zhang & Sennrich, 2019)."""
    return _RMSNorm.apply(x, weight, eps)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return nnf.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        d_up = nnf.silu(gate).mul_(grads[0])
        d_gate = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return d_gate, d_up


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        scale = scale.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        unit = x.float() * scale
        grad = grads[0].float()
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = (grad * unit).flatten(0, -2).sum(0).to(weight.dtype)
        inner = grad * weight
        along = torch.linalg.vecdot(inner, unit)[..., None].div_(x.shape[-1])
        d_x = inner.sub_(unit.mul_(along)).mul_(scale).to(x.dtype)
        return d_x, d_weight, None
