"""Generation against the definition: families, log-probabilities, company, reproducibility."""

from __future__ import annotations

import itertools

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedModel

from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.torch import cache, weights
from backflip.generate.torch.engine import TorchEngine, fill_holes
from backflip.models.causal import CausalPolicy
from tests.generate.reference import FAMILIES, PROMPTS, VOCABULARY, answer_logp, greedy, words
from tests.models.families import tiny

FAST = {"llama", "qwen2", "qwen3", "mistral"}


def model_of(family: str, **settings: object) -> PreTrainedModel:
    if family != "mistral":
        return tiny(family)
    torch.manual_seed(0)
    settings = {"sliding_window": None, **settings}
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.2,
        tie_word_embeddings=True,
        **settings,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def sample(model: nn.Module, *, max_rows: int = 64, group: int = 3, seed: int = 0, **params):
    params = {"max_tokens": 12, "stop_tokens": (2, 5, 17, 31), **params}
    engine = TorchEngine(model, max_rows=max_rows, decode=words)
    return engine.generate(PROMPTS, SamplingParams(**params), group=group, seed=seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_transformers(family: str):
    """Prompts of different lengths together; transformers gets them one by one, unpadded."""
    model = model_of(family)
    ours = sample(model, group=1, temperature=0.0, max_tokens=20, stop_tokens=(2,))
    for prompt, answer in zip(PROMPTS, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=2,
            pad_token_id=0,
            attention_mask=torch.ones(1, len(prompt)),
        )
        assert answer.tokens == theirs[0, len(prompt) :].tolist()
        assert answer.tokens == greedy(model, prompt, 20, stop=(2,))


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_the_learners(family: str):
    """Temperature before the softmax, refilled rows, answers of every length."""
    model = model_of(family)
    answers = sample(model, max_rows=4, temperature=0.7)
    assert len({len(a.tokens) for a in answers}) > 1
    for answer in answers:
        expected = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens, 0.7)
        torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)
        assert answer.behaviour_logp == answer.logp


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_llama_family_is_decoded_by_our_own_network(family: str):
    assert (TorchEngine(model_of(family)).slow_because is None) == (family in FAST)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gemma3"])
def test_an_answer_depends_neither_on_max_rows_nor_on_its_company(family: str):
    """Each answer draws from its own stream of random numbers."""
    model = model_of(family)
    together = sample(model, group=3, seed=5)
    for max_rows in (1, 2, 5):
        alone = sample(model, group=3, seed=5, max_rows=max_rows)
        assert [a.tokens for a in alone] == [a.tokens for a in together]
    fewer = TorchEngine(model).generate(
        PROMPTS[:2], SamplingParams(max_tokens=12, stop_tokens=(2, 5, 17, 31)), group=2, seed=5
    )
    kept = [a for a in together if a.prompt_index < 2 and a.answer_index < 2]
    assert [a.tokens for a in fewer] == [a.tokens for a in kept]


def test_a_longer_limit_only_continues_an_answer():
    model = model_of("llama")
    short = sample(model, max_tokens=5, stop_tokens=())
    long = sample(model, max_tokens=100, stop_tokens=())
    assert [a.tokens for a in short] == [a.tokens[:5] for a in long]
    for answer in long[::5]:  # beyond the first chunk of the cache
        expected = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)


def test_another_seed_and_another_place_give_other_answers():
    model = model_of("llama")
    one, two = sample(model, seed=1, stop_tokens=()), sample(model, seed=2, stop_tokens=())
    assert all(a.tokens != b.tokens for a, b in zip(one, two, strict=True))
    for group in (one[:3], one[3:6]):
        assert len({tuple(a.tokens) for a in group}) == 3
    same = TorchEngine(model).generate([PROMPTS[0]] * 2, SamplingParams(max_tokens=12))
    assert same[0].tokens != same[1].tokens


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_sampled_pairs_have_the_models_probabilities(family: str):
    """Chi-square over every pair of first two tokens; 15 000 draws from a peaked small model."""
    torch.manual_seed(3)
    size = 5
    config = tiny(family).config.__class__(**{**tiny(family).config.to_dict(), "vocab_size": size})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.12)
    prompt, n, temperature = [3, 1, 4], 15_000, 1.3
    params = SamplingParams(max_tokens=2, temperature=temperature)
    answers = TorchEngine(model, max_rows=5000).generate([prompt], params, group=n, seed=9)
    seen = torch.zeros(size, size)
    for a, b in (answer.tokens for answer in answers):
        seen[a, b] += 1
    chi2, cells = 0.0, 0
    for pair in itertools.product(range(size), repeat=2):
        expected = n * float(answer_logp(model, prompt, pair, temperature).sum().exp())
        chi2 += (float(seen[pair]) - expected) ** 2 / expected
        cells += 1
    mean, deviation = cells - 1, (2 * (cells - 1)) ** 0.5
    assert chi2 < mean + 4 * deviation


def test_stop_tokens_end_an_answer_and_belong_to_it():
    for answer in sample(model_of("llama"), max_tokens=30):
        inside, last = answer.tokens[:-1], answer.tokens[-1]
        assert not {2, 5, 17, 31} & set(inside)
        if answer.finish_reason == "stop":
            assert last in {2, 5, 17, 31}
        else:
            assert answer.finish_reason == "length"
            assert len(answer.tokens) == 30


def test_min_tokens_keeps_stop_tokens_away_and_says_so_in_the_behaviour():
    """The forbidden mass is missing from the distribution that was drawn from, only there."""
    model = model_of("llama")
    answers = sample(model, min_tokens=6)
    for answer in answers:
        assert not {2, 5, 17, 31} & set(answer.tokens[:6])
        expected = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)
        early = list(zip(answer.logp, answer.behaviour_logp, strict=True))
        assert all(drawn > own for own, drawn in early[:6])
        assert all(abs(drawn - own) < 1e-5 for own, drawn in early[6:])
    assert any(a.finish_reason == "stop" and len(a.tokens) == 7 for a in answers)


def test_a_stop_string_ends_an_answer_even_across_tokens():
    model = model_of("llama")
    free = sample(model, stop_tokens=(), max_tokens=12, group=1)[0].tokens
    text = words(free)
    stop = text[4:7]
    answer = sample(model, stop_tokens=(), stop_strings=(stop,), group=1)[0]
    assert answer.finish_reason == "stop_string"
    assert words(answer.tokens) == text[: text.index(stop) + 3]
    late = sample(model, stop_tokens=(), stop_strings=(stop,), group=1, min_tokens=12)[0]
    assert late.tokens == free
    with pytest.raises(UserError, match="decode"):
        TorchEngine(model).generate(PROMPTS, SamplingParams(stop_strings=("x",)))


def test_a_bias_forbids_or_forces_and_the_log_probability_stays_the_policys():
    model = model_of("qwen2")
    answers = sample(model, logit_bias={7: 1e4}, max_tokens=3)
    assert all(a.tokens == [7, 7, 7] for a in answers)
    assert all(abs(x) < 1e-6 for a in answers for x in a.behaviour_logp)
    expected = answer_logp(model, PROMPTS[0], [7, 7, 7])
    torch.testing.assert_close(torch.tensor(answers[0].logp), expected, atol=1e-4, rtol=0)
    banned = {t: float("-inf") for t in range(0, VOCABULARY, 2)}
    assert all(t % 2 for a in sample(model, logit_bias=banned) for t in a.tokens)


def test_padding_of_the_vocabulary_is_never_drawn():
    assert all(t < 9 for a in sample(model_of("llama"), vocab_size=9) for t in a.tokens)


def test_progress_sees_every_token_as_it_is_chosen():
    seen: dict[tuple[int, int], list[int]] = {}
    engine = TorchEngine(model_of("llama"), max_rows=3)
    answers = engine.generate(
        PROMPTS,
        SamplingParams(max_tokens=6),
        group=2,
        progress=lambda p, a, t: seen.setdefault((p, a), []).append(t),
    )
    assert seen == {(a.prompt_index, a.answer_index): a.tokens for a in answers}


def lora(model: PreTrainedModel, **settings: object) -> nn.Module:
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.3, **settings)
    wrapped = get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name or "magnitude" in name:
            parameter.data.normal_(std=0.3)
    return wrapped


@pytest.mark.parametrize(("settings", "packed"), [({}, True), ({"use_dora": True}, False)])
def test_adapters_are_heard_and_the_model_is_left_as_it_was(settings: dict, packed: bool):
    """Plain LoRA is merged into the copy; a variant runs through the model itself."""
    model = lora(tiny("qwen3"), **settings).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    engine = TorchEngine(model)
    params = SamplingParams(max_tokens=8, temperature=1.4)
    answers = engine.generate(PROMPTS, params, group=2, seed=1)
    assert model.training
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert (engine.slow_because is None) == packed
    model.eval()
    for answer in answers:
        prompt = PROMPTS[answer.prompt_index]
        expected = answer_logp(model, prompt, answer.tokens, 1.4)
        torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)
    with model.disable_adapter():
        engine.sync()
        base = engine.generate(PROMPTS[:1], params, seed=1)[0]
        expected = answer_logp(model, PROMPTS[0], base.tokens, 1.4)
    torch.testing.assert_close(torch.tensor(base.logp), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_sync_takes_over_changed_weights(family: str):
    model = tiny(family)
    engine = TorchEngine(model)
    params = SamplingParams(max_tokens=6, temperature=0.0)
    old = engine.generate(PROMPTS, params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    engine.sync(model)
    new = engine.generate(PROMPTS, params)
    assert [a.tokens for a in new] == [greedy(model, p, 6) for p in PROMPTS]
    assert [a.tokens for a in new] != [a.tokens for a in old]


def test_dropout_is_off_while_sampling_and_back_afterwards():
    """Only what was training before trains again."""
    model = tiny("gpt2").train()
    model.transformer.h[0].eval()
    modes = [m.training for m in model.modules()]
    a, b = (sample(model, seed=4, stop_tokens=()) for _ in range(2))
    assert [x.tokens for x in a] == [x.tokens for x in b]
    assert [m.training for m in model.modules()] == modes


def test_the_model_still_learns_after_sampling_through_it():
    """No tensor that forbids gradients may stay behind, not even in rotary buffers."""
    for model in (
        tiny("gemma3"),
        AutoModelForCausalLM.from_config(
            LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=1,
                num_attention_heads=4,
                max_position_embeddings=24,
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
            )
        ),
    ):
        sample(model, max_tokens=16, stop_tokens=())
        model.train()
        model(torch.tensor([PROMPTS[0]])).logits.logsumexp(-1).sum().backward()
        assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("rope", "packed"),
    [
        ({"rope_type": "linear", "factor": 4.0}, True),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, True),
        ({"rope_type": "dynamic", "factor": 2.0}, False),
    ],
)
def test_scaled_rotary_positions_are_the_models(rope: dict, packed: bool):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=1,
            max_position_embeddings=64,
            initializer_range=0.3,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters={"rope_theta": 1e4, **rope},
        )
    ).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    assert (TorchEngine(model).slow_because is None) == packed
    for answer in sample(model, stop_tokens=()):
        expected = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)


def test_a_sliding_window_is_honoured():
    """Mistral with a window shorter than the prompt; without it the answers are others."""
    windowed, open_ = model_of("mistral", sliding_window=4), model_of("mistral")
    windowed.load_state_dict(open_.state_dict())
    answers = sample(windowed, group=1, temperature=0.0, stop_tokens=())
    assert [a.tokens for a in answers] == [greedy(windowed, p, 12) for p in PROMPTS]
    assert [a.tokens for a in answers] != [greedy(open_, p, 12) for p in PROMPTS]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_without_the_fast_operations_the_answers_are_the_same(
    family: str, monkeypatch: pytest.MonkeyPatch
):
    """Packed products and the flash kernel are optional; the plain path is what CUDA takes."""
    fast = sample(model_of(family), max_rows=5)
    monkeypatch.setattr(weights, "can_pack", lambda weight: False)
    monkeypatch.setattr(cache, "flash_for_cpu", lambda: None)
    plain = sample(model_of(family), max_rows=5)
    assert [a.tokens for a in plain] == [a.tokens for a in fast]
    for a, b in zip(plain, fast, strict=True):
        torch.testing.assert_close(torch.tensor(a.logp), torch.tensor(b.logp), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_a_model_that_learns_through_the_forest_still_generates(family: str):
    plain = sample(model_of(family), seed=2)
    policy = CausalPolicy(model_of(family))
    assert [a.tokens for a in sample(policy.model, seed=2)] == [a.tokens for a in plain]


def test_rows_that_leave_are_replaced_by_the_last():
    assert fill_holes([True, False, True, False, True]) == [0, 4, 2]
    assert fill_holes([False, False]) == []
    assert fill_holes([True, True]) == [0, 1]


def test_an_empty_list_has_no_answers_and_an_empty_prompt_is_refused():
    engine = TorchEngine(tiny("llama"))
    assert engine.generate([], SamplingParams()) == []
    with pytest.raises(UserError, match="prompt 1 has no tokens"):
        engine.generate([[3], []], SamplingParams())
    with pytest.raises(UserError, match="group"):
        engine.generate([[3]], SamplingParams(), group=0)
    with pytest.raises(UserError, match=r"prompt 0 holds token 61.*61 tokens"):
        engine.generate([[3, 61]], SamplingParams())
    with pytest.raises(UserError, match="stop_tokens holds token 99"):
        engine.generate([[3]], SamplingParams(stop_tokens=(99,)))
    with pytest.raises(UserError, match="128 positions"):
        engine.generate([[3] * 100], SamplingParams(max_tokens=29))
    with pytest.raises(ValueError, match="LlamaModel has no language-model head"):
        TorchEngine(tiny("llama").model).generate([[3]], SamplingParams())
    with pytest.raises(UserError, match="max_rows"):
        TorchEngine(tiny("llama"), max_rows=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_greedy_answers_are_the_same(family: str):
    model = model_of(family)
    params = SamplingParams(max_tokens=10, temperature=0.0)
    expected = [greedy(model, p, 10) for p in PROMPTS]
    answers = TorchEngine(model.cuda(), max_rows=3).generate(PROMPTS, params, group=2)
    assert [a.tokens for a in answers[::2]] == expected
