"""Generation by a server over a real socket: the same answers, and every fault in words."""

from __future__ import annotations

import math
import time
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model

from backflip.errors import UserError
from backflip.generate.engine import Engine, SamplingParams
from backflip.generate.openai.adapters import Adapters
from backflip.generate.openai.client import Client
from backflip.generate.openai.completions import seed_of
from backflip.generate.openai.engine import OpenAIEngine
from backflip.generate.openai.meeting import address
from backflip.generate.torch.engine import TorchEngine
from tests.data.tiny import byte_tokenizer
from tests.generate.reference import PROMPTS, answer_logp, words
from tests.generate.vllm import Vllm, serving
from tests.models.families import tiny

PARAMS = SamplingParams(max_tokens=10, stop_tokens=(2, 5, 17, 31, 40, 41, 44))


class Letters:
    """As much of a tokenizer as stop strings need."""

    decode = staticmethod(words)

    def encode(self, text, add_special_tokens=False):
        return [ord(c) % 50 for c in text]


@pytest.fixture
def served():
    with serving(Vllm(tiny("llama"), tokenizer=Letters())) as server:
        yield server


def engine_at(server, model=None, **settings) -> OpenAIEngine:
    how = {"timeout": 20.0, "retries": 2, "first_wait": 0.01, "key": settings.pop("key", None)}
    how |= {name: settings.pop(name) for name in ("timeout", "retries") if name in settings}
    client = Client(url=server.url, **how)
    if (folder := settings.pop("adapters", None)) is not None:
        settings["handover"] = Adapters(folder, client)
    settings = {"tokenizer": Letters(), **settings}
    return OpenAIEngine(model or tiny("llama"), client, **settings)


def test_answers_are_the_models_own_with_its_log_probabilities(served):
    """Token ids in and out: what the server draws from a seed is what the same model draws."""
    engine: Engine = engine_at(served)
    answers = engine.generate(PROMPTS, PARAMS, group=3, seed=4)
    assert [(a.prompt_index, a.answer_index) for a in answers] == [
        (i, j) for i in range(len(PROMPTS)) for j in range(3)
    ]
    local = TorchEngine(tiny("llama"))
    for answer in answers:
        prompt = PROMPTS[answer.prompt_index]
        seed = seed_of(4, answer.prompt_index) + answer.answer_index
        assert answer.tokens == local.generate([prompt], PARAMS, seed=seed)[0].tokens
        expected = answer_logp(tiny("llama"), prompt, answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)
        ended = answer.tokens[-1] in PARAMS.stop_tokens
        assert answer.finish_reason == ("stop" if ended else "length")
    assert not engine.exact
    assert {a.finish_reason for a in answers} == {"stop", "length"}


def test_the_same_seed_is_the_same_batch_whoever_else_is_in_it(served):
    engine, params = engine_at(served, concurrency=3), SamplingParams(max_tokens=5)
    together = engine.generate(PROMPTS, params, group=2, seed=1)
    assert engine.generate(PROMPTS[:2], params, group=2, seed=1) == together[:4]
    other = engine.generate(PROMPTS, params, group=2, seed=2)
    assert [a.tokens for a in other] != [a.tokens for a in together]


def test_everything_that_a_generation_config_could_change_is_said(served):
    params = SamplingParams(max_tokens=4, vocab_size=len(range(48)))
    engine_at(served).generate(PROMPTS[:1], params)
    body = served.asked[-1]
    assert (body["top_k"], body["top_p"], body["min_p"], body["repetition_penalty"]) == (
        -1,
        1,
        0,
        1,
    )
    assert body["ignore_eos"]
    assert not body["add_special_tokens"]
    vocabulary = tiny("llama").config.vocab_size
    assert set(body["logit_bias"]) == {str(i) for i in range(48, vocabulary)}


def test_stop_strings_end_an_answer_and_progress_sees_each_token(served):
    seen: list[tuple[int, int, int]] = []
    params = SamplingParams(max_tokens=30, stop_strings=("K", "B"))
    answers = engine_at(served).generate(
        PROMPTS, params, group=2, progress=lambda *told: seen.append(told)
    )
    assert any(a.finish_reason == "stop_string" for a in answers)
    for answer in answers:
        assert not {"K", "B"} & set(words(answer.tokens[:-1]))
        mine = [t for p, a, t in seen if (p, a) == (answer.prompt_index, answer.answer_index)]
        assert mine == answer.tokens


def test_log_probabilities_before_the_temperature_are_found_out(served):
    """vLLM's default states log softmax of the raw logits: not what was drawn from at T ≠ 1."""
    warm = SamplingParams(max_tokens=8, temperature=0.6)
    with pytest.raises(UserError, match="processed_logprobs"):
        engine_at(served).generate(PROMPTS, warm)
    served.processed = True
    for answer in engine_at(served).generate(PROMPTS, warm):
        expected = answer_logp(tiny("llama"), PROMPTS[answer.prompt_index], answer.tokens, 0.6)
        torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)


def test_a_probability_that_the_server_does_not_state_is_no_number(served):
    """With filters it is either the policy's or that of what was drawn from."""
    filtered = SamplingParams(max_tokens=4, top_p=0.7)
    raw = engine_at(served).generate(PROMPTS[:1], filtered)[0]
    assert all(map(math.isfinite, raw.logp))
    assert all(map(math.isnan, raw.behaviour_logp))
    served.processed = True
    processed = engine_at(served).generate(PROMPTS[:1], filtered)[0]
    assert all(map(math.isnan, processed.logp))
    greedy = engine_at(served).generate(PROMPTS, SamplingParams(max_tokens=6, temperature=0.0))
    local = TorchEngine(tiny("llama")).generate(
        PROMPTS, SamplingParams(max_tokens=6, temperature=0.0)
    )
    assert [a.tokens for a in greedy] == [a.tokens for a in local]
    assert {p for a in greedy for p in a.behaviour_logp} == {0.0}


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "html", "drop", "old ids"])
def test_what_passes_is_tried_again_and_changes_nothing(served, fault):
    engine = engine_at(served)
    params = SamplingParams(max_tokens=4)
    calm = engine.generate(PROMPTS[:2], params, seed=3)
    served.faults = [fault, fault]
    if fault == "old ids":  # an older vLLM's way to say them: no failure
        assert engine.generate(PROMPTS[:2], params, seed=3) == calm
    else:
        with pytest.warns(UserWarning, match="2 requests to .* failed and had to be made again"):
            assert engine.generate(PROMPTS[:2], params, seed=3) == calm
    assert not served.faults


def test_a_slow_server_is_waited_for_and_nothing_is_asked_twice(served):
    engine = engine_at(served, timeout=8.0)
    calm = engine.generate(PROMPTS[:2], PARAMS, seed=3)
    asked, served.faults = len(served.asked), ["slow", "slow"]
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert engine.generate(PROMPTS[:2], PARAMS, seed=3) == calm
    assert time.monotonic() - began > 0.9
    again = [body["prompt"] for body in served.asked[asked:]]
    assert sorted(again) == sorted(PROMPTS[:2])
    assert not served.faults


def test_a_server_that_hangs_is_given_up_within_the_time_limit(served):
    engine = engine_at(served, timeout=0.3, retries=1)
    engine.generate(PROMPTS[:1], PARAMS)
    served.faults = ["hang"] * 8
    began = time.monotonic()
    with pytest.raises(UserError, match=r"in 2 tries; the last: nothing whole within 0.3 s"):
        engine.generate(PROMPTS, PARAMS)
    assert time.monotonic() - began < 2.5  # a single hang lasts 3 s


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", r"in 3 tries; the last: HTTP 500 out of memory\. Is the server running"),
        ("cut", "bytes that are no whole JSON"),
        ("400", "refuses: HTTP 400 out of memory"),
        ("no ids", "without token ids.*return_token_ids"),
        ("far ids", "holds token 10000, but the policy knows"),
        ("other prompt", "one to other tokens"),
        ("no logp", "no log-probabilities"),
        ("bad logp", "log-probabilities that are none"),
        ("short", "a limit of its own|log-probabilities for 1 tokens"),
        ("abort", "ended by 'abort'"),
        ("fewer", "has 1 choices; 2 were asked for"),
        ("same index", "not numbered"),
        ("same", "the same random numbers"),
    ],
)
def test_what_does_not_pass_ends_in_a_sentence(served, fault, said):
    params = SamplingParams(max_tokens=12, stop_tokens=())
    served.faults = [fault] * 9
    with pytest.raises(UserError, match=said) as error:
        engine_at(served).generate(PROMPTS[:1], params, group=2)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_and_addresses_that_are_none():
    nobody = OpenAIEngine(
        tiny("llama"), Client(url="http://127.0.0.1:9/v1", retries=1, first_wait=0.01)
    )
    with pytest.raises(UserError, match=r"in 2 tries.*refused"):
        nobody.generate(PROMPTS, PARAMS)
    assert address("http://host:8000/") == address("http://host:8000/v1") == "http://host:8000/v1"
    for wrong in ("localhost:8000", "ftp://x", "http://"):
        with pytest.raises(UserError, match="is no address"):
            address(wrong)


def test_a_name_the_server_lacks_and_a_choice_that_is_not_made(served):
    with pytest.raises(UserError, match=r"no model big. It has: tiny"):
        engine_at(served, served="big").generate(PROMPTS, PARAMS)
    served.engines["second"] = served.engines["tiny"]
    with pytest.raises(UserError, match=r"several models. It has: tiny, second"):
        engine_at(served).generate(PROMPTS, PARAMS)
    engine_at(served, served="second").generate(PROMPTS, PARAMS)


def test_a_key_is_asked_for_by_its_variable_and_sent(served):
    served.key = "secret"
    with pytest.raises(UserError, match=r"HTTP 401 Unauthorized; engine.key_env") as error:
        engine_at(served).generate(PROMPTS, PARAMS)
    assert "secret" not in str(error.value)
    assert engine_at(served, key="secret").generate(PROMPTS[:1], PARAMS)


def test_another_tokenizer_or_other_weights_are_refused(served):
    with pytest.raises(UserError, match="another tokenizer"):
        engine_at(served, tokenizer=byte_tokenizer()).generate(PROMPTS, PARAMS)
    with pytest.raises(UserError, match="the server holds other weights"):
        engine_at(served, tiny("llama", seed=1)).generate(PROMPTS, PARAMS)
    served.tokenizes = False
    with pytest.warns(UserWarning, match="no /tokenize"):
        engine_at(served).generate(PROMPTS, PARAMS)


def test_answers_too_long_for_the_server_are_refused_before_they_are_asked_for(served):
    served.max_model_len = 12
    with pytest.raises(UserError, match=r"8 tokens and max_tokens 10 go beyond the 12"):
        engine_at(served).generate(PROMPTS, PARAMS)
    assert engine_at(served).generate(PROMPTS[1:2], SamplingParams(max_tokens=9))


def test_adapters_that_have_learnt_are_handed_over(served, tmp_path):
    """After ``sync`` the server writes with the learner's weights, and old adapters are let go."""
    model = get_peft_model(tiny("llama"), LoraConfig(r=4, target_modules="all-linear")).eval()
    engine = engine_at(served, model, adapters=tmp_path)
    engine.generate(PROMPTS, PARAMS)
    assert list(served.engines) == ["tiny"]
    for _ in range(2):
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.3)
        engine.sync(model)
        for answer in engine.generate(PROMPTS, PARAMS):
            expected = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens)
            torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)
    assert len(served.engines) == 2
    assert [folder.name for folder in tmp_path.iterdir()] == [list(served.engines)[1]]


def test_weights_that_cannot_be_handed_over_are_said(served, tmp_path):
    with pytest.raises(UserError, match="handed LoRA adapters alone, and here all weights learn"):
        engine_at(served, adapters=tmp_path).sync()
    fixed = engine_at(served)
    with pytest.warns(UserWarning, match="keeps the weights it was started with"):
        fixed.sync()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fixed.sync()
    served.loads = False
    model = get_peft_model(tiny("llama"), LoraConfig(r=2, target_modules="all-linear"))
    engine = engine_at(served, model, adapters=tmp_path)
    engine.sync()
    with pytest.raises(UserError, match=r"--enable-lora.*VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        engine.generate(PROMPTS, PARAMS)
