"""The chunked vocabulary head is the plain one: values, entropy and gradients."""

from __future__ import annotations

import pytest
import torch

from backflip.functional.logprobs import KEPT, ROWS, linear_entropy, linear_logp

M, D, V = 2 * ROWS + 37, 12, 41
"""Rows for three chunks, the last of them shorter."""
CASES = [
    {"temperature": 1.0, "softcap": None, "biased": False},
    {"temperature": 0.7, "softcap": None, "biased": True},
    {"temperature": 1.3, "softcap": 2.0, "biased": False},
]


def drawn(biased: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(M, D, generator=generator)
    weight = torch.randn(V, D, generator=generator)
    bias = torch.randn(V, generator=generator) if biased else None
    return hidden, weight, bias, torch.randint(V, (M,), generator=generator)


def plain(hidden, weight, bias, temperature, softcap):
    z = torch.nn.functional.linear(hidden, weight, bias)
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    return (z / temperature).log_softmax(-1)


@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("learns", [True, False], ids=["head learns", "head frozen"])
@pytest.mark.parametrize("kept", [0, KEPT], ids=["computed again", "kept"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_log_softmax(
    case, kept: int, learns: bool, entropy: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("backflip.functional.logprobs.KEPT", kept)
    hidden, weight, bias, labels = drawn(case["biased"])
    factor = torch.linspace(-1, 2, M)
    found, expected = [], []
    for out in (found, expected):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight, bias) if x is not None]
        if not learns:
            leaves[1:] = [x.detach() for x in leaves[1:]]
        h, w, b = (*leaves, None)[:3]
        if out is found:
            logp, spread = linear_logp(
                h, w, labels, bias=b, temperature=case["temperature"],
                softcap=case["softcap"], entropy=entropy,
            )  # fmt: skip
        else:
            every = plain(h, w, b, case["temperature"], case["softcap"])
            logp = every.gather(1, labels[:, None])[:, 0]
            spread = -(every.exp() * every).sum(-1) if entropy else torch.zeros(M)
        (factor * logp).sum().backward()
        out += [logp.detach(), spread.detach(), *(x.grad for x in leaves if x.requires_grad)]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_a_second_backward_pass_gives_the_same_gradient():
    """What was kept for the first is used up by it."""
    hidden, weight, _, labels = drawn(biased=False)
    weight.requires_grad_()
    total = linear_logp(hidden, weight, labels)[0].sum()
    first, second = (torch.autograd.grad(total, weight, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_the_entropy_to_raise_has_the_gradient_of_the_entropy():
    hidden, weight, _, _ = drawn(biased=False)
    grads = []
    for of in (linear_entropy, None):
        leaf = hidden.clone().requires_grad_()
        every = plain(leaf, weight, None, 0.7, 3.0)
        value = (
            of(leaf, weight, temperature=0.7, softcap=3.0) if of else -(every.exp() * every).sum(-1)
        )
        value.sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-4)


def test_no_rows_have_no_log_probabilities():
    weight = torch.randn(V, D, requires_grad=True)
    logp, entropy = linear_logp(torch.zeros(0, D), weight, torch.zeros(0, dtype=torch.long))
    assert logp.shape == entropy.shape == (0,)
    logp.sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()
