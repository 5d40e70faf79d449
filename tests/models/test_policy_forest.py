"""The forest must equal the naive padded forward: values and gradients, every family."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from backflip.data.batches import TokenSteps
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel, ValueModel
from tests.models.families import CONFIGS, FALLBACK, VOCABULARY, tiny

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def ragged_steps() -> TokenSteps:
    """Two prompts with several answers; some agree on their first words, one is repeated."""
    generator = torch.Generator().manual_seed(1)

    def words(n: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    system, first, second = words(5), words(9), words(3)
    common = words(6)
    answers = [
        (system + first, [*common, *words(4), 2]),
        (system + first, [*common, *words(2), 2]),
        (system + first, words(1)),
        (system + second, words(12)),
        (system + second, [*words(3), 2]),
        (system + first, [*common, *words(4), 2]),
    ]
    answers.append(answers[3])
    return TokenSteps.of([p for p, _ in answers], [a for _, a in answers])


def naive_logp(model: nn.Module, steps: TokenSteps, temperature: float = 1.0) -> Tensor:
    """One sequence at a time, no padding, no cache, no forest: the definition."""
    out = torch.zeros(len(steps), steps.width)
    for row in range(len(steps)):
        tokens = torch.tensor([steps.sequence(row)])
        logp = (model(input_ids=tokens).logits[0].float() / temperature).log_softmax(-1)
        start = int(steps.prompt.lengths[row])
        chosen = logp[start - 1 : -1].gather(1, tokens[0, start:, None])[:, 0]
        out[row, : len(chosen)] = chosen
    return out


def adapted(family: str) -> nn.Module:
    model = get_peft_model(
        tiny(family),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", [*CONFIGS, *FALLBACK])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.filterwarnings("ignore:.*prefix forest")
def test_log_probabilities_and_gradients_equal_the_naive_forward(family, lora):
    steps = ragged_steps()
    weights = torch.randn(len(steps), steps.width, generator=torch.Generator().manual_seed(3))
    model = adapted(family) if lora else tiny(family)
    plain = model.get_base_model() if lora else model

    expected = naive_logp(plain, steps, temperature=0.7)
    (expected * weights).sum().backward()
    expected_gradients = gradients(model)
    model.zero_grad()

    policy = CausalPolicy(model, temperature=0.7)
    assert policy.trunk.forest == (family in CONFIGS)
    logp = policy.evaluate(steps)["logp"]
    torch.testing.assert_close(logp, expected, **TOLERANCE)
    (logp * weights).sum().backward()
    actual = gradients(model)
    assert actual.keys() == expected_gradients.keys()
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, expected_gradients[name], **TOLERANCE, msg=name)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_model_can_still_be_called_and_can_generate(family):
    """Wrapping a model as a policy must not take it from its owner."""
    model, tokens = tiny(family), torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
    logits, answer = model(input_ids=tokens).logits, model.generate(tokens, max_new_tokens=5)
    CausalPolicy(model).evaluate(ragged_steps())
    torch.testing.assert_close(model(input_ids=tokens).logits, logits)
    assert model.generate(tokens, max_new_tokens=5).tolist() == answer.tolist()


@pytest.mark.parametrize("family", CONFIGS)
def test_cutting_into_micro_batches_changes_nothing(family):
    steps = ragged_steps()
    policy = CausalPolicy(tiny(family))
    whole = policy.evaluate(steps, {"logp", "entropy"})
    for budget in (12, 30):
        for rows in policy.plan(steps, budget):
            piece = policy.evaluate(steps[rows], {"logp", "entropy"})
            torch.testing.assert_close(piece["logp"], whole["logp"][rows], **TOLERANCE)
            torch.testing.assert_close(piece["entropy"], whole["entropy"][rows], **TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_activation_checkpointing_changes_no_gradient(family):
    steps, results = ragged_steps(), []
    for checkpointing in (False, True):
        model = tiny(family).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        policy = CausalPolicy(model)
        policy.evaluate(steps)["logp"].sum().backward()
        results.append(gradients(model))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, **TOLERANCE)


def test_entropy_is_that_of_the_tempered_distribution():
    steps = ragged_steps()
    model = tiny("llama")
    policy = CausalPolicy(model, temperature=2.0)
    got = policy.evaluate(steps, {"entropy", "entropy_to_raise"})
    torch.testing.assert_close(got["entropy"], got["entropy_to_raise"], **TOLERANCE)
    start = int(steps.prompt.lengths[0])
    logits = model(input_ids=torch.tensor([steps.sequence(0)])).logits[0, start - 1]
    exact = torch.distributions.Categorical(logits=logits / 2.0).entropy()
    torch.testing.assert_close(got["entropy"][0, 0], exact, **TOLERANCE)


def test_entropy_to_raise_has_the_gradient_of_the_entropy():
    steps = ragged_steps()[torch.tensor([2])]
    model = tiny("llama")
    CausalPolicy(model).evaluate(steps, {"entropy_to_raise"})["entropy_to_raise"].sum().backward()
    actual = gradients(model)
    model.zero_grad()
    tokens = torch.tensor([steps.sequence(0)])
    logits = model(input_ids=tokens).logits[0, -2]
    torch.distributions.Categorical(logits=logits).entropy().backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(actual[name], gradient, **TOLERANCE)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_score_is_read_at_the_last_token_of_the_answer(family):
    steps, model = ragged_steps(), tiny(family)
    reward = RewardModel(model, heads=2)
    scores = reward.raw_scores(steps)
    for row in range(len(steps)):
        body = model.base_model
        hidden = body(input_ids=torch.tensor([steps.sequence(row)])).last_hidden_state[0, -1]
        torch.testing.assert_close(scores[row], reward.score(hidden), **TOLERANCE)


def test_mean_pooling_averages_over_the_answer_only():
    steps, model = ragged_steps(), tiny("llama")
    reward = RewardModel(model, pooling="mean")
    got = reward.raw_scores(steps)
    body = model.base_model
    start = int(steps.prompt.lengths[1])
    hidden = body(input_ids=torch.tensor([steps.sequence(1)])).last_hidden_state[0, start:]
    torch.testing.assert_close(got[1], reward.score(hidden).mean(0), **TOLERANCE)


def test_a_value_is_expected_before_the_token_is_chosen():
    """Changing a token changes the values behind it, never the value that preceded it."""
    steps = TokenSteps.of([[5, 6, 7]], [[8, 9, 10, 11]])
    other = TokenSteps.of([[5, 6, 7]], [[8, 9, 30, 11]])
    model = tiny("llama")
    critic = ValueModel(model, head=torch.randn(1, 32))
    a, b = critic.values(steps)[0], critic.values(other)[0]
    torch.testing.assert_close(a[:3], b[:3], **TOLERANCE)
    assert abs(a[3] - b[3]) > 1e-3


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_the_last_token_of_an_answer_is_chosen_and_never_read(family):
    """Two answers of 3 to a prompt of 5: 5 + 2·2 tokens in the forest, or two padded rows of 7."""
    steps = TokenSteps.of([[5, 6, 7, 8, 9]] * 2, [[10, 11, 12], [20, 21, 22]])
    policy, read = CausalPolicy(tiny(family)), list[int]()
    table = policy.model.get_input_embeddings()
    table.register_forward_hook(lambda _, tokens, __: read.append(tokens[0].numel()))
    policy.evaluate(steps)
    assert read == [9 if policy.trunk.forest else 14]


def test_scores_are_standardised_on_the_answers_given():
    reward = RewardModel(tiny("llama"), heads=2)
    raw = reward.raw_scores(ragged_steps()).detach()
    reward.normalise(raw)
    scores = reward.scores(ragged_steps())
    torch.testing.assert_close(scores.mean(0), torch.zeros(2), **TOLERANCE)
    torch.testing.assert_close(scores.std(0), torch.ones(2), **TOLERANCE)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_reference_is_the_policy_as_it_was_in_memory(lora):
    """TRL reads the checkpoint again and so compares with another model."""
    model = tiny("llama")
    if lora:
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    policy, steps = CausalPolicy(model), ragged_steps()
    with torch.no_grad():
        for parameter in policy.parameters():
            if not lora:
                parameter.add_(0.01)
    before = policy.evaluate(steps)["logp"].detach()
    reference = policy.reference()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    torch.testing.assert_close(reference.evaluate(steps)["logp"], before, **TOLERANCE)
    assert (policy.evaluate(steps)["logp"] - before).abs().max() > 0.1
