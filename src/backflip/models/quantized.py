"""Frozen weights in 4 or 8 bits, through bitsandbytes.

``nf4``: 4-bit NormalFloat in blocks of 64 with scales that are quantised themselves (QLoRA:
Dettmers et al., 2023). ``int8``: a scale for each row of a matrix, as in LLM.int8() (Dettmers et
al., 2022); but products are taken with the dequantised weights and not with activations in 8 bits,
so that a policy says the same wherever it is read: learning, sampling, padded, alone.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import math
import re
import warnings
from collections.abc import Iterator
from types import MethodType
from typing import Any, Literal, TypeAlias, cast

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor, nn

from backflip.errors import UserError

Quantization: TypeAlias = Literal["nf4", "int8"]
PACKED = ("nf4", "fp4", "int8")
"""Quantisations of bitsandbytes, of a folder that was saved in one."""
INSTALL = "pip install 'backflip[quantized]'"
ROOM = 0.6
"""Share of a device's free memory that a dequantised copy may take."""
_EXPERTS = re.compile(r"(?:^|_)(?:n|num)_(?:\w+_)?experts$")
# It asks for a package of kernels on each import, also where peft alone imports it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def installed() -> bool:
    """Whether bitsandbytes is there, without importing it."""
    return importlib.util.find_spec("bitsandbytes") is not None


def settings(kind: Quantization, dtype: torch.dtype) -> Any:
    """The quantisation that transformers is to load a model with; products are in ``dtype``."""
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def stored(config: Any) -> str | None:
    """The quantisation that a model's files are in: nf4, fp4, int8, or another method's name."""
    found: Any = getattr(config, "quantization_config", None)
    if found is None:
        return None
    given: dict[str, Any] = found if isinstance(found, dict) else found.to_dict()
    if given.get("load_in_4bit"):
        return str(given.get("bnb_4bit_quant_type", "fp4"))
    return "int8" if given.get("load_in_8bit") else str(given.get("quant_method", "unknown"))


def check(name: str, config: Any, asked: Quantization | None) -> bool:
    """Whether a model will be held in 4 or 8 bits.

    Raises:
        UserError: its files are in a type that does not learn or is not known here, bitsandbytes is
            missing, or it is a mixture of experts, whose weights would stay as they are.

    """
    kind = stored(config)
    if kind is not None and kind not in PACKED:
        raise UserError(
            f"{name} is stored in {kind.upper()}, which is not supported. Give the model in 16 or "
            "32 bits; quantization=nf4 or int8 then packs its linear layers while it loads."
        )
    if kind and asked and kind != asked:
        raise UserError(
            f"quantization is {asked}, and the files of {name} are in {kind} already. "
            + (f"Set quantization={kind}." if kind != "fp4" else "Give the model in 16 bits.")
        )
    if not (kind or asked):
        return False
    if not installed():
        raise UserError(f"{name} in {kind or asked} needs bitsandbytes: {INSTALL}.")
    if number := experts(config):
        raise UserError(
            f"{name} is a mixture of {number} experts ({config.model_type}), which are not linear "
            "layers to bitsandbytes and would stay as they are: quantization of mixtures of "
            "experts is not supported. Set quantization=null, or give a dense model."
        )
    return True


def check_device(device: torch.device) -> None:
    """Raises UserError where bitsandbytes has no kernels of 4 bits for a device."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    try:
        dequantize_4bit(*quantize_4bit(torch.ones(64, 1, device=device), quant_type="nf4"))
    except Exception as error:  # whatever a library without a kernel for this device stumbles over
        raise UserError(
            f"bitsandbytes does not quantise on {device.type} here ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}). Set quantization=null."
        ) from error


def experts(config: Any) -> int:
    """Experts of a mixture; 0 for a dense model."""
    counts = [n for n in _counts(config.get_text_config().to_dict()) if n > 1]
    return max(counts, default=0)


def _counts(config: dict[Any, Any]) -> Iterator[int]:
    """Numbers under names like num_local_experts, at any depth."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _counts(cast("dict[Any, Any]", value))
        elif isinstance(value, int) and _EXPERTS.search(str(name)):
            yield value


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Let the quantised layers of a model that was just loaded give the same on every path.

    In 4 bits the library's own products are kept on CUDA. On a CPU they round the scales of weights
    to bfloat16 at the first pass without a gradient, for good, where it knows AVX512-BF16.
    """
    from bitsandbytes.nn import modules as layers

    for module in model.modules():
        layer: Any = module
        if not isinstance(module, layers.Linear4bit | layers.Linear8bitLt):
            continue
        layer.dense_dtype = dtype
        if isinstance(module, layers.Linear4bit) and not _torn(layer.weight):
            layer.compute_dtype, layer.compute_type_is_set = dtype, True
            if layer.weight.is_cuda:
                continue
        layer.forward = MethodType(_with_dense_weight, module)


def remarks(name: str, model: nn.Module) -> Iterator[str]:
    """Sentences for a reader of a run on a model in few bits, or on one with experts."""
    whole: Any = model
    layers = [module for module in model.modules() if hasattr(module, "dense_dtype")]
    if layers:
        packed = sum(size(cast("Any", layer).weight) for layer in layers)
        base = sum(size(p) for n, p in model.named_parameters() if "lora_" not in n)
        yield (
            f"{packed / base:.0%} of the weights of {name} are held in {stored(whole.config)}; "
            "embeddings, norms and the head are not. model/ will be the dequantised base with the "
            "adapters added; adapter/ belongs on the base as it is held here"
        )
    if number := experts(whole.config):
        yield (
            f"{name} is a mixture of {number} experts: no loss balances their load here, so a "
            "router that learns may come to use few of them"
        )


def is_quantized(model: nn.Module) -> bool:
    return any(hasattr(module, "dense_dtype") for module in model.modules())


def dense(module: nn.Module) -> Float[Tensor, "O I"] | None:
    """The dequantised weight of a layer in the type of its products; None for any other layer."""
    dtype = getattr(module, "dense_dtype", None)
    if dtype is None:
        return None
    weight: Any = module.weight
    if weight.dtype == torch.int8:
        return (weight.float() * (weight.SCB / 127).unsqueeze(1)).to(dtype)
    from bitsandbytes.functional import dequantize_4bit

    state = weight.quant_state
    if _torn(weight):
        state = copy.copy(state)
        block, numbers = state.blocksize, math.prod(state.shape)
        state.shape = torch.Size(
            (numbers // block, block) if numbers % block == 0 else (numbers, 1)
        )
    found = cast("Tensor", dequantize_4bit(weight.data, state))
    return found.view(weight.quant_state.shape).to(dtype)


def _torn(weight: Any) -> bool:
    """Whether blocks go on from row to row: bitsandbytes 0.50 reads them wrongly on a CPU then."""
    return weight.quant_state.shape[-1] % weight.quant_state.blocksize != 0


def size(parameter: nn.Parameter) -> int:
    """Numbers that a parameter stands for: two to the byte where they have 4 bits."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def dequantized(model: Any) -> Any:
    """A plain transformers model with dense weights, adapters' updates added in.

    ``model``: quantised, wrapped by peft or not; it stays as it is.
    """
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        layer: Any = module
        base = getattr(layer, "base_layer", layer)
        weight = dense(base)
        if weight is None or name.endswith(".base_layer"):
            continue
        for adapter in getattr(layer, "active_adapters", ()):
            weight = weight + layer.get_delta_weight(adapter).to(weight.dtype)
        plain.set_submodule(name, _linear(base, weight))
    if hasattr(plain, "merge_and_unload"):
        plain = plain.merge_and_unload()
    plain.hf_quantizer.remove_quantization_config(plain)
    return plain


def _linear(base: Any, weight: Tensor) -> nn.Module:
    """A layer of the class that the model was written with: GPT-2 has matrices the other way."""
    from transformers.pytorch_utils import Conv1D

    turned = base.source_cls is Conv1D
    rows, columns = weight.shape
    with torch.device("meta"):
        linear: Any = Conv1D(rows, columns) if turned else nn.Linear(columns, rows)
    linear.weight, linear.bias = nn.Parameter(weight.T if turned else weight), base.bias
    return linear


def no_room(model: nn.Module) -> str | None:
    """Why a dequantised copy of the model does not fit beside it; None where it does."""
    layers = [module for module in model.modules() if hasattr(module, "dense_dtype")]
    free = _free(next(model.parameters()).device) if layers else None
    needed = sum(size(m.weight) * m.dense_dtype.itemsize for m in cast("list[Any]", layers))
    if free is None or needed <= ROOM * free:
        return None
    reason = f"a dequantised copy of its weights would take {needed / 1e9:.1f} GB"
    warnings.warn(
        f"{reason}, more than {ROOM:.0%} of what is free: answers are written through the "
        "quantised layers, which takes several times as long.",
        stacklevel=4,
    )
    return reason


def _free(device: torch.device) -> int | None:
    """Bytes that can still be had on a device; None on a CPU, where nobody knows."""
    if device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def _with_dense_weight(self: Any, x: Float[Tensor, "*n I"]) -> Float[Tensor, "*n O"]:
    product = cast("Tensor", _Product.apply(x, self))
    return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """x Wᵀ; the dequantised W is made again in the backward pass rather than kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
        ctx.layer = layer
        return nnf.linear(x, cast("Tensor", dense(layer)).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ cast("Tensor", dense(ctx.layer)).to(grads[0].dtype), None
