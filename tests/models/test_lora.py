"""What is adapted is what was named, and what cannot be is refused."""

from __future__ import annotations

import pytest

from backflip.errors import UserError
from backflip.models.lora import LoraSettings, add_lora
from tests.models.families import tiny


def adapted_layers(model) -> set[str]:
    return {
        n.split(".lora_A")[0].rsplit(".", 1)[-1]
        for n, _ in model.named_parameters()
        if "lora_A" in n
    }


@pytest.mark.parametrize("target", ["q_proj", ("q_proj",)])
def test_the_named_layers_are_adapted(target):
    assert adapted_layers(add_lora(tiny("llama"), LoraSettings(target=target))) == {"q_proj"}


@pytest.mark.parametrize(
    ("family", "target", "there"),
    [
        ("llama", ("q_proj", "c_attn"), "q_proj"),
        ("gpt2", ("q_proj",), "c_attn"),
        ("llama", "query", "q_proj"),
        ("llama", ("self_attn",), "q_proj"),
        # Log-probabilities are read from the head's own weights, past any adapter on it.
        ("llama", ("lm_head",), "q_proj"),
    ],
)
def test_a_target_that_is_not_there_is_told_what_is(family, target, there):
    with pytest.raises(UserError, match=rf"has no linear layer .*it has .*{there}") as error:
        add_lora(tiny(family), LoraSettings(target=target))
    assert "\n" not in str(error.value)
