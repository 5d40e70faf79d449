"""Nobody draws lots while reading: each reading of an answer is the same, in every family."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from backflip.data.batches import TokenSteps
from backflip.errors import UserError
from backflip.functional.preference_losses import dpo
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel, ValueModel
from backflip.models.lora import LoraSettings, add_lora
from tests.models.every_family import FAMILIES, tiny_of
from tests.models.families import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*prefix forest")
RATE = 0.5
QUICK = ["opt", "xglm", "biogpt", "phimoe", "falcon", "gpt2", "bloom", "mixtral"]


def steps(vocabulary: int = 60) -> TokenSteps:
    generator = torch.Generator().manual_seed(0)

    def words(n: int) -> list[int]:
        return torch.randint(3, vocabulary, (n,), generator=generator).tolist()

    prompt, other = words(9), words(4)
    return TokenSteps.of([prompt, prompt, other, other], [words(n) for n in (4, 9, 6, 1)])


def at_chance(model: nn.Module) -> nn.Module:
    """The model with every rate of dropout that its config knows, and allows, turned up."""
    config = copy.deepcopy(model.config)
    rates = [n for n, v in vars(config).items() if type(v) in (int, float) and "drop" in n]
    for name in rates:
        setattr(config, name, RATE)
    try:
        again = type(model)(config)
    except ValueError:  # DiffLlama knows a rate and allows none but 0
        return model
    again.load_state_dict(model.state_dict())
    return again


def training(family: str, *, lora: bool, checkpointing: bool) -> nn.Module:
    """As a recipe makes it ready, in training mode all over."""
    model = at_chance(tiny_of(family))
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model = add_lora(model, LoraSettings()) if lora else model
    return model.train()


def check_readings(family: str, *, lora: bool, checkpointing: bool) -> None:
    """Two readings are the same bits, the gradient's are, and DPO begins at log 2."""
    policy = CausalPolicy(training(family, lora=lora, checkpointing=checkpointing))
    first, second = (policy.evaluate(steps())["logp"] for _ in range(2))
    assert torch.equal(first, second), family
    gradients = []
    for logp in (first, second):
        policy.zero_grad()
        logp.sum().backward()
        gradients.append([p.grad for p in policy.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True)), family
    with torch.no_grad():
        reference = policy.reference().evaluate(steps())["logp"].sum(-1)
    now = policy.evaluate(steps())["logp"].sum(-1)
    ratios = now - reference
    loss = dpo(ratios[0::2] - ratios[1::2], beta=0.1)
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(2)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", QUICK)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_two_readings_are_the_same_bits(family, lora, checkpointing):
    check_readings(family, lora=lora, checkpointing=checkpointing)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "kimi_linear"])  # minutes each
def test_two_readings_are_the_same_bits_in_every_family_that_loads(family, lora):
    """What cannot be made tiny, or is refused in words, is skipped and says why."""
    try:
        model = tiny_of(family)
    except Exception as error:
        pytest.skip(f"{family} cannot be made tiny: {error}")
    checkpointing = model.supports_gradient_checkpointing
    try:
        CausalPolicy(model)
        training(family, lora=lora, checkpointing=checkpointing)
    except UserError as error:
        pytest.skip(f"{family} is refused: {error}")
    check_readings(family, lora=lora, checkpointing=checkpointing)


@pytest.mark.parametrize("kind", [CausalPolicy, RewardModel, ValueModel])
@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_each_module_keeps_its_own_flag(kind, family):
    """An adapted model is in training mode above and in eval mode below, and stays so."""
    model = get_peft_model(tiny(family).eval(), LoraConfig(r=2, target_modules="all-linear"))
    before = {name: module.training for name, module in model.named_modules()}
    assert len(set(before.values())) == 2
    kind(model)
    assert {name: module.training for name, module in model.named_modules()} == before


def test_dropout_of_adapters_is_switched_off_and_said():
    def adapted() -> nn.Module:
        torch.manual_seed(0)
        settings = LoraConfig(r=2, target_modules="all-linear", lora_dropout=RATE)
        model = get_peft_model(tiny("llama"), settings)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
        return model

    expected = CausalPolicy(adapted().eval()).evaluate(steps())["logp"]
    with pytest.warns(UserWarning, match=r"lora_dropout 0\.5.*switched off"):
        policy = CausalPolicy(adapted().train())
    assert torch.equal(policy.evaluate(steps())["logp"], expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CausalPolicy(tiny("llama"))


def test_the_config_that_is_saved_keeps_its_rates():
    """Another trainer who goes on with the model gets the dropout that its maker chose."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=32, n_layer=1, n_head=2))
    CausalPolicy(model).evaluate(steps())
    assert model.config.attn_pdrop == model.config.resid_pdrop == 0.1


def test_a_jitter_that_decides_in_eval_mode_too_stays():
    """PhiMoE lets experts within its jitter compete, whether or not it trains."""
    model = tiny_of("phimoe", router_jitter_noise=0.2)
    plain, tokens = copy.deepcopy(model), torch.tensor([steps().sequence(1)])
    expected = plain(input_ids=tokens).logits.log_softmax(-1)[0, 8:-1]
    expected = expected.gather(1, tokens[0, 9:, None])[:, 0]
    actual = CausalPolicy(model.train()).evaluate(steps())["logp"][1]
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)
