"""A saved model behaves in plain transformers as it does here: ends, padding, scores."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
    GenerationConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from backflip.data.batches import TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.records import Message
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import suited
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel
from backflip.models.save import load_reward_model, save_policy, save_reward_model
from tests.data.tiny import CHATML, GEMMA, MISTRAL, byte_tokenizer
from tests.models.families import CONFIGS

WITHOUT_END = "{% for m in messages %}{{ '# ' + m.role + ': ' + m.content + '\n' }}{% endfor %}"
WITHOUT_END += "{% if add_generation_prompt %}{{ '# assistant:' }}{% endif %}"
QUESTION = Message("user", "Say")
ANSWERS = tuple(Message("assistant", text) for text in ("Yes", "a much longer answer than that"))


def tokenizer_of(kind: str):
    """Tokenizers of the field, each with a trap of its own."""
    template = {"mistral": MISTRAL, "gemma": GEMMA, "endless": WITHOUT_END}.get(kind, CHATML)
    tokenizer = byte_tokenizer(template, add_bos=kind == "adds bos")
    tokenizer.pad_token = None
    if kind == "pad is the end of turn":
        tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    if kind == "pad is the end of text":
        tokenizer.pad_token = tokenizer.eos_token
    if kind == "pads on the left":
        tokenizer.pad_token, tokenizer.padding_side = "<unk>", "left"
    return tokenizer


KINDS = (
    "pad is the end of turn",
    "pad is the end of text",
    "no padding",
    "adds bos",
    "pads on the left",
    "mistral",
    "gemma",
    "endless",
)


ENDS_ITSELF = ("mistral", "endless")
"""Templates without a line end behind a turn that they close."""


def model_of(family: str, tokenizer, auto=AutoModelForCausalLM, **settings):
    torch.manual_seed(0)
    known = CONFIGS[family].to_dict()
    del known["id2label"], known["label2id"]
    config = type(CONFIGS[family]).from_dict(known | settings)
    config.vocab_size = len(tokenizer)
    config.pad_token_id = settings.get("pad_token_id", 0)
    config.eos_token_id = tokenizer.eos_token_id
    model = auto.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
    return model.eval()


def text_of(tokenizer, answer: Message) -> str:
    talk = [{"role": m.role, "content": m.content} for m in (QUESTION, answer)]
    return tokenizer.apply_chat_template(talk, tokenize=False)


def steps_of(tokenizer) -> TokenSteps:
    parts = [ChatTemplate(tokenizer).answer((QUESTION,), (answer,)) for answer in ANSWERS]
    return TokenSteps.of([prompt for prompt, *_ in parts], [answer for _, answer, _ in parts])


@torch.no_grad()
def scored(model, tokenizer, texts) -> torch.Tensor:
    rows = tokenizer(texts, return_tensors="pt", padding=len(texts) > 1, add_special_tokens=False)
    return model(**rows).logits[:, 0]


def alike(one, other) -> None:
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


# ---- a policy


@pytest.mark.parametrize("kind", KINDS)
def test_ends_and_padding_of_a_saved_policy_are_those_that_hold_here(kind, tmp_path):
    tokenizer = tokenizer_of(kind)
    save_policy(CausalPolicy(model_of("llama", tokenizer)), tokenizer, tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path / "model")
    generation = GenerationConfig.from_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    stops = ChatTemplate(tokenizer).stop_tokens
    assert set(stops) <= set(generation.eos_token_id)
    assert saved.pad_token_id == config["pad_token_id"] == generation.pad_token_id
    assert saved.pad_token_id not in generation.eos_token_id
    assert saved.get_vocab() == tokenizer.get_vocab()


def test_padding_is_the_end_of_text_where_a_language_model_has_no_other_token(tmp_path):
    raw = json.loads(byte_tokenizer().backend_tokenizer.to_str())
    raw["added_tokens"] = [t for t in raw["added_tokens"] if t["content"] == "</s>"]
    lonely = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)), eos_token="</s>"
    )
    lonely.chat_template = WITHOUT_END
    model = model_of("llama", lonely)
    save_policy(CausalPolicy(model), lonely, tmp_path / "policy")
    saved = AutoTokenizer.from_pretrained(tmp_path / "policy" / "model")
    assert saved.pad_token_id == saved.eos_token_id
    save_reward_model(RewardModel(model), lonely, tmp_path / "reward")
    grown = AutoTokenizer.from_pretrained(tmp_path / "reward" / "model")
    assert grown.pad_token_id == len(lonely)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward" / "model")
    texts = [text_of(grown, answer) for answer in ANSWERS]
    alone = torch.cat([scored(classifier, grown, [text]) for text in texts])
    alike(scored(classifier, grown, texts), alone)


def test_an_end_of_another_tokenizer_is_not_taken_over(tmp_path):
    """A config that was never told its tokenizer names whatever lies at its default."""
    tokenizer = tokenizer_of("no padding")
    tokenizer.pad_token = "<end_of_turn>"
    model = model_of("llama", tokenizer)
    ordinary = tokenizer("y", add_special_tokens=False)["input_ids"][0]
    extra = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    model.generation_config.eos_token_id = [ordinary, extra]
    save_policy(CausalPolicy(model), tokenizer, tmp_path)
    found = GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id
    assert ordinary not in found
    assert found == [*ChatTemplate(tokenizer).stop_tokens, extra]
    assert AutoTokenizer.from_pretrained(tmp_path / "model").pad_token_id not in found
    here = suited(SamplingParams(), ChatTemplate(tokenizer), model).stop_tokens
    assert list(here) == found


# ---- a reward model of ours


# GPT-2 counts positions from where the padding begins: no left padding there.
WHERE = [("llama", kind, side) for kind in KINDS for side in ("left", "right")]
WHERE += [("qwen2", "no padding", "left"), ("gpt2", "mistral", "right")]


@pytest.mark.parametrize(("family", "kind", "side"), WHERE)
def test_a_reward_model_scores_alike_alone_padded_and_as_its_template_writes_it(
    family, kind, side, tmp_path
):
    tokenizer = tokenizer_of(kind)
    model = RewardModel(model_of(family, tokenizer))
    steps = steps_of(tokenizer)
    expected = model.raw_scores(steps).detach()[:, 0]
    save_reward_model(model, tokenizer, tmp_path)
    folder = tmp_path / "model"
    saved = AutoTokenizer.from_pretrained(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert saved.padding_side == "right"
    assert saved.pad_token_id == plain.config.pad_token_id
    saved.padding_side = side
    texts = [text_of(saved, answer) for answer in ANSWERS]
    alike(torch.cat([scored(plain, saved, [text]) for text in texts]), expected)
    alike(scored(plain, saved, texts), expected)
    line_end = plain.config.backflip.get("line_end", "")
    assert line_end.startswith("dropped") == (family == "llama" and kind not in ENDS_ITSELF)
    if line_end.startswith("dropped"):
        theirs = [text_of(tokenizer, answer) for answer in ANSWERS]
        alike(torch.cat([scored(plain, saved, [text]) for text in theirs]), expected)
        alike(scored(plain, saved, theirs), expected)
    alike(load_reward_model(str(folder)).raw_scores(steps).detach()[:, 0], expected)
    again = load_reward_model(str(folder)).raw_scores(steps_of(saved)).detach()[:, 0]
    alike(again, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_its_template_differs_from_the_old_one_behind_the_last_answer_only(kind, tmp_path):
    tokenizer = tokenizer_of(kind)
    save_reward_model(RewardModel(model_of("llama", tokenizer)), tokenizer, tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path / "model")
    told = [{"role": "user", "content": "Say"}, {"role": "assistant", "content": "Yes"}]
    turns = [*told, {"role": "user", "content": "And\n"}]
    old = {
        "asked": tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True),
        "open": tokenizer.apply_chat_template(turns, tokenize=False),
        "told": tokenizer.apply_chat_template(told, tokenize=False).rstrip("\n"),
    }
    if kind == "endless":
        old["told"] += "</s>"
    new = {
        "asked": saved.apply_chat_template(turns, tokenize=False, add_generation_prompt=True),
        "open": saved.apply_chat_template(turns, tokenize=False),
        "told": saved.apply_chat_template(told, tokenize=False),
    }
    assert new == old


def test_a_mean_cannot_be_read_elsewhere_and_the_config_says_so(tmp_path):
    tokenizer = tokenizer_of("no padding")
    model = RewardModel(model_of("llama", tokenizer), pooling="mean")
    steps = steps_of(tokenizer)
    save_reward_model(model, tokenizer, tmp_path)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "plain transformers cannot" in config["backflip"]["reads"]
    alike(load_reward_model(str(tmp_path)).raw_scores(steps), model.raw_scores(steps))


def test_a_reward_model_saved_before_is_still_read_at_its_last_token(tmp_path):
    """Its config says nothing of where it reads, and its padding may be the end of turn."""
    tokenizer = tokenizer_of("pad is the end of turn")
    model = RewardModel(model_of("llama", tokenizer))
    save_reward_model(model, tokenizer, tmp_path)
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    del config["backflip"]["reads"]
    config["pad_token_id"] = tokenizer.eos_token_id
    path.write_text(json.dumps(config))
    steps = steps_of(tokenizer)
    alike(load_reward_model(str(tmp_path)).raw_scores(steps), model.raw_scores(steps))


# ---- reward models of others


@pytest.mark.parametrize("padding", [None, 0, "eos"])
@pytest.mark.parametrize(
    ("family", "kind"),
    [*(("llama", kind) for kind in KINDS), ("qwen2", "gemma"), ("gpt2", "mistral")],
)
def test_a_foreign_reward_model_is_read_where_transformers_reads_it(
    family, kind, padding, tmp_path
):
    tokenizer = tokenizer_of(kind)
    pad = tokenizer.eos_token_id if padding == "eos" else padding
    auto = AutoModelForSequenceClassification
    plain = model_of(family, tokenizer, auto, num_labels=1, pad_token_id=pad)
    plain.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = [text_of(tokenizer, answer) for answer in ANSWERS]
    expected = torch.cat([scored(plain, tokenizer, [text]) for text in texts])
    found = load_reward_model(str(tmp_path)).scores(steps_of(tokenizer)).detach()[:, 0]
    alike(found, expected)


def foreign(config, tokenizer, folder):
    """A random classifier with one label, on disk."""
    torch.manual_seed(0)
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    plain = AutoModelForSequenceClassification.from_config(config).eval()
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return plain


SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_labels": 1}


def test_a_score_of_a_narrower_state_is_read_too(tmp_path):
    """OPT projects its states to the width of the embedding before they are scored."""
    tokenizer = tokenizer_of("pad is the end of text")
    plain = foreign(OPTConfig(**SIZE, word_embed_proj_dim=16, ffn_dim=48), tokenizer, tmp_path)
    texts = [text_of(tokenizer, answer) for answer in ANSWERS]
    expected = torch.cat([scored(plain, tokenizer, [text]) for text in texts])
    found = load_reward_model(str(tmp_path)).scores(steps_of(tokenizer)).detach()[:, 0]
    alike(found, expected)


def test_an_encoder_is_refused_by_its_name(tmp_path):
    tokenizer = tokenizer_of("pad is the end of text")
    foreign(DebertaV2Config(**SIZE, intermediate_size=48), tokenizer, tmp_path)
    with pytest.raises(UserError, match=r"DebertaV2ForSequenceClassification.*bf\.verifier"):
        load_reward_model(str(tmp_path))


def test_a_score_that_is_no_linear_function_of_the_last_state_is_refused(tmp_path, monkeypatch):
    tokenizer = tokenizer_of("pad is the end of text")
    plain = foreign(LlamaConfig(**SIZE, intermediate_size=48), tokenizer, tmp_path)
    usual = type(plain).forward

    def squashed(self, *args, **settings):
        out = usual(self, *args, **settings)
        out.logits = out.logits.sigmoid()
        return out

    monkeypatch.setattr(type(plain), "forward", squashed)
    with pytest.raises(UserError, match="LlamaForSequenceClassification whose score is not"):
        load_reward_model(str(tmp_path))


def test_without_a_template_of_its_own_the_one_that_is_given_is_read(tmp_path):
    tokenizer = tokenizer_of("pad is the end of text")
    bare = tokenizer_of("pad is the end of text")
    bare.chat_template = None
    plain = foreign(LlamaConfig(**SIZE, intermediate_size=48), bare, tmp_path)
    steps = steps_of(tokenizer)
    texts = [text_of(tokenizer, answer) for answer in ANSWERS]
    expected = torch.cat([scored(plain, tokenizer, [text]) for text in texts])
    found = load_reward_model(str(tmp_path), template=CHATML).scores(steps).detach()[:, 0]
    alike(found, expected)
    with pytest.warns(UserWarning, match="no chat template"):
        load_reward_model(str(tmp_path))


def test_more_labels_than_one_are_refused_unless_they_are_ours(tmp_path):
    tokenizer = tokenizer_of("no padding")
    auto = AutoModelForSequenceClassification
    plain = model_of("llama", tokenizer, auto, id2label={0: "NEGATIVE", 1: "POSITIVE"})
    plain.save_pretrained(tmp_path / "foreign")
    tokenizer.save_pretrained(tmp_path / "foreign")
    with pytest.raises(UserError, match=r"2 labels \(NEGATIVE, POSITIVE\).*num_labels=1") as error:
        load_reward_model(str(tmp_path / "foreign"))
    assert "\n" not in str(error.value)
    ours = RewardModel(model_of("llama", tokenizer), heads=2)
    save_reward_model(ours, tokenizer, tmp_path / "ours")
    assert load_reward_model(str(tmp_path / "ours")).heads == 2
