"""RMSNorm and the gate of an MLP on a CPU, a cache-full of rows at a time.

transformers writes both as half a dozen operations over the whole batch, and each of them reads and
writes megabytes: on two cores that is memory traffic of a tenth of a training step. Here all the
operations of some rows happen while these are in the cache, forward and backward, and the backward
pass keeps the input alone. The forward pass gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

CHUNK = 1 << 16
"""Elements of one chunk: 256 KiB in float32; five of them fit in the second-level caches."""
_silu = torch.ops.aten.silu.out
_silu_backward = torch.ops.aten.silu_backward.grad_input


def chunk_layers(model: nn.Module) -> int:
    """Let the norms and gates of ``model`` that are known work in chunks; how many do.

    Known are RMSNorm as Llama writes it (Mistral, Qwen 2 and 3, SmolLM2) and MLPs of the form
    down(silu(gate(x)) · up(x)). Tensors that are not float32 on a CPU go the way they went.
    """
    norms = [module for module in model.modules() if _is_norm(module)]
    gates = [module for module in model.modules() if _is_gate(module)]
    for module, forward in [*((m, _norm) for m in norms), *((m, _gated) for m in gates)]:
        if "forward" not in module.__dict__:  # the second wrapper of a shared body changes nothing
            module.forward = MethodType(forward, module)
    return len(norms) + len(gates)


def _is_norm(module: nn.Module) -> bool:
    kind = type(module).__name__
    weight = getattr(module, "weight", None)
    return kind.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and weight is not None


def _is_gate(module: nn.Module) -> bool:
    names = ("gate_proj", "up_proj", "down_proj")
    act = type(getattr(module, "act_fn", None)).__name__
    return all(hasattr(module, name) for name in names) and act in ("SiLU", "SiLUActivation")


def _norm(self: Any, hidden_states: Tensor) -> Tensor:
    if not _fits(hidden_states, self.weight):
        return type(self).forward(self, hidden_states)
    return rms_norm(hidden_states, self.weight, self.variance_epsilon)


def _gated(self: Any, x: Tensor) -> Tensor:
    if not _fits(x, x):
        return type(self).forward(self, x)
    return self.down_proj(silu_product(self.gate_proj(x), self.up_proj(x)))


def _fits(*tensors: Tensor) -> bool:
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
    return plain and not torch.is_autocast_enabled("cpu")


def rms_norm(
    x: Float[Tensor, "*B D"], weight: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*B D"]:
    """Rows over √(mean of x² + eps), times ``weight`` (Zhang and Sennrich 2019, equation 4)."""
    return cast(Tensor, _RMSNorm.apply(x, weight, eps))


def silu_product(gate: Float[Tensor, "*B D"], up: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """silu(gate) · up: the inside of SwiGLU (Shazeer 2020, equation 6)."""
    return cast(Tensor, _SiluProduct.apply(gate, up))


def _chunks(count: int, width: int) -> Iterator[slice]:
    rows = max(1, CHUNK // width)
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # pyright: ignore
        rows = _rows(x)
        out, scale = torch.empty_like(rows), rows.new_empty(len(rows), 1)
        for part in _chunks(*rows.shape):
            torch.mul(rows[part], rows[part], out=out[part])
            torch.mean(out[part], -1, keepdim=True, out=scale[part])
            scale[part].add_(eps).rsqrt_()
            torch.mul(rows[part], scale[part], out=out[part])
            out[part].mul_(weight)
        ctx.save_for_backward(x, weight, scale)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore
        x, weight, scale = ctx.saved_tensors
        rows, grads = _rows(x), _rows(grad)
        learns = ctx.needs_input_grad[1]  # not with LoRA
        found, of_weight = torch.empty_like(rows), torch.zeros_like(weight) if learns else None
        for part in _chunks(*rows.shape):
            normal = rows[part] * scale[part]
            product = grads[part] * normal
            if of_weight is not None:
                of_weight += product.sum(0)
            along = torch.mv(product, weight).div_(rows.shape[1])[:, None]
            torch.mul(grads[part], weight, out=found[part])
            found[part].addcmul_(normal, along, value=-1).mul_(scale[part])
        return found.view(x.shape), of_weight, None


class _SiluProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:  # pyright: ignore
        gates, ups = _rows(gate), _rows(up)
        out = torch.empty_like(gates)
        for part in _chunks(*gates.shape):
            _silu(gates[part], out=out[part])
            out[part].mul_(ups[part])
        ctx.save_for_backward(gate, up)
        return out.view(gate.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore
        gate, up = ctx.saved_tensors
        gates, ups, grads = _rows(gate), _rows(up), _rows(grad)
        of_gate, of_up = torch.empty_like(gates), torch.empty_like(ups)
        for part in _chunks(*gates.shape):
            _silu(gates[part], out=of_up[part])
            of_up[part].mul_(grads[part])
            weighted = grads[part] * ups[part]
            _silu_backward(weighted, gates[part], grad_input=of_gate[part])
        return of_gate.view(gate.shape), of_up.view(up.shape)
