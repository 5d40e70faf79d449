"""RMSNorm and SwiGLU by chunks: the same bits forward, the same gradients, whatever the chunk."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from transformers import Gemma2Config, LlamaConfig, Qwen3Config
from transformers.models.gemma2 import Gemma2Model
from transformers.models.llama import LlamaModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3 import Qwen3Model

from backflip.models import chunked
from backflip.models.chunked import chunk_layers, rms_norm, silu_product

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


@pytest.fixture(autouse=True, params=[1, 100, 1 << 16])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row at a time, several with a rest, all at once."""
    monkeypatch.setattr(chunked, "CHUNK", request.param)


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    assert gradcheck(lambda x, w: rms_norm(x, w, 1e-5), (draw(2, 7, 9), draw(9)))
    assert gradcheck(silu_product, (draw(2, 7, 9), draw(2, 7, 9)))


def test_a_weight_that_does_not_learn_gets_no_gradient() -> None:
    x, weight = draw(5, 8), torch.ones(8, dtype=torch.float64)
    rms_norm(x, weight, 1e-5).sum().backward()
    assert weight.grad is None
    assert x.grad is not None


def test_the_norm_has_the_bits_of_transformers() -> None:
    torch.manual_seed(1)
    norm, x = LlamaRMSNorm(40), draw(1, 33, 40, dtype=torch.float32)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
    assert torch.equal(rms_norm(x, norm.weight, norm.variance_epsilon), norm(x))


@pytest.mark.parametrize(
    ("kind", "config", "known"),
    [
        (LlamaModel, LlamaConfig(**SIZES), 2 * 3 + 1),
        (Qwen3Model, Qwen3Config(**SIZES), 2 * 5 + 1),  # it normalises queries and keys too
        (Gemma2Model, Gemma2Config(**SIZES), 0),  # its norm adds 1 to the weight, its gate is GELU
    ],
)
def test_a_model_gives_the_same_with_its_gradients(kind: type, config: object, known: int) -> None:
    torch.manual_seed(2)
    plain = kind(config)
    other = copy.deepcopy(plain)
    assert chunk_layers(other) == known
    tokens = torch.randint(0, 50, (2, 11))
    expected, got = plain(tokens).last_hidden_state, other(tokens).last_hidden_state
    assert torch.equal(got, expected)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (got * weight).sum().backward()
    for (name, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=2e-5, rtol=1e-4, msg=name)


def test_a_copy_has_weights_of_its_own() -> None:
    torch.manual_seed(3)
    model = LlamaModel(LlamaConfig(**SIZES))
    chunk_layers(model)
    tokens = torch.randint(0, 50, (1, 5))
    before, other = model(tokens).last_hidden_state, copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    assert torch.equal(model(tokens).last_hidden_state, before)
    assert not torch.equal(other(tokens).last_hidden_state, before)


def test_other_types_go_the_way_they_went() -> None:
    torch.manual_seed(4)
    model = LlamaModel(LlamaConfig(**SIZES)).to(torch.bfloat16)
    tokens = torch.randint(0, 50, (1, 5))
    expected = model(tokens).last_hidden_state
    chunk_layers(model)
    assert torch.equal(model(tokens).last_hidden_state, expected)
