"""Messages ↔ tokens: the mask is the assistant's own words and the end of its turn, no more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backflip.data.chat import ChatTemplate, Turns
from backflip.data.records import BadRecordError, Message, messages
from backflip.errors import UserError
from tests.data.tiny import CHATML, TEMPLATES, byte_tokenizer

END = {
    "chatml": "<|im_end|>",
    "llama2": "</s>",
    "gemma": "<end_of_turn>",
    "mistral": "</s>",
    "qwen3": "<|im_end|>",
}
TALK = messages(("user", "Hi"), ("assistant", "Yes?"), ("user", "Bye."), ("assistant", "So long."))
ANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SPOKEN = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="<>"),
    min_size=1,
    max_size=12,
).filter(lambda text: bool(text.strip()))


def said(tokenizer, ids, mask):
    """The learnt spans as text, one per run of True."""
    spans, run = [], []
    for token, own in [*zip(ids, mask, strict=True), (0, False)]:
        if own:
            run.append(token)
        elif run:
            spans.append(tokenizer.decode(run))
            run = []
    return spans


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_mask_covers_each_answer_and_its_end_of_turn_and_nothing_else(family, tokenizers):
    tokenizer = tokenizers[family]
    ids, mask = ChatTemplate(tokenizer).conversation(TALK)
    assert [span.strip() for span in said(tokenizer, ids, mask)] == [
        f"{'Yes?'}{' ' if family == 'llama2' else ''}{END[family]}",
        f"{'So long.'}{' ' if family == 'llama2' else ''}{END[family]}",
    ]


@pytest.mark.parametrize("family", TEMPLATES)
@ANY
@given(texts=st.lists(SPOKEN, min_size=2, max_size=6))
def test_any_conversation_is_the_templates_own_text_up_to_the_end_of_the_turn(
    family, tokenizers, texts
):
    """Unicode, spaces and all: tokens equal the template's, and each span says what was said."""
    tokenizer = tokenizers[family]
    texts = texts[: len(texts) // 2 * 2]
    turns = tuple(
        Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)
    )
    ids, mask = ChatTemplate(tokenizer).conversation(turns)
    rows = [{"role": m.role, "content": m.content} for m in turns]
    whole = tokenizer.apply_chat_template(rows, tokenize=True, return_dict=False)
    assert ids == whole[: len(ids)]
    assert tokenizer.decode(whole[len(ids) :]).strip() == ""
    spans = said(tokenizer, ids, mask)
    assert [span.removesuffix(END[family]).strip() for span in spans] == [
        text.strip() for text in texts[1::2]
    ]


@pytest.mark.parametrize("family", TEMPLATES)
def test_what_the_sampler_reads_is_what_training_reads(family, tokenizers):
    """The prompt of a pair is, token for token, the prompt that is sampled from."""
    template = ChatTemplate(tokenizers[family])
    prompt, answer, mask = template.answer(TALK[:3], TALK[3:])
    assert prompt == template.prompt(TALK[:3])
    assert mask == [True] * len(answer)
    assert answer[-1] == template.stop_tokens[0]


def test_a_later_turn_of_the_user_inside_an_answer_is_not_learnt(tokenizers):
    tokenizer = tokenizers["chatml"]
    _, answer, mask = ChatTemplate(tokenizer).answer(TALK[:1], TALK[1:])
    inside = [token for token, own in zip(answer, mask, strict=True) if not own]
    assert tokenizer.decode(inside) == "\n<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("family", ["llama2", "gemma", "mistral"])
def test_there_is_exactly_one_bos_even_when_the_tokenizer_adds_its_own(family):
    tokenizer = byte_tokenizer(TEMPLATES[family], add_bos=True)
    ids, _ = ChatTemplate(tokenizer).conversation(TALK[:2])
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", ["hh", "plain", "chatml"])
def test_named_templates_begin_with_bos_only_where_the_tokenizer_would_add_one(name):
    for add_bos in (False, True):
        tokenizer = byte_tokenizer(add_bos=add_bos)
        ids, _ = ChatTemplate(tokenizer, name).conversation(TALK)
        assert ids.count(tokenizer.bos_token_id) == int(add_bos)
        assert (ids[0] == tokenizer.bos_token_id) == add_bos


def test_the_hh_template_writes_the_transcripts_of_the_paper():
    tokenizer = byte_tokenizer()
    ids, mask = ChatTemplate(tokenizer, "hh").conversation(TALK)
    assert tokenizer.decode(ids) == (
        "\n\nHuman: Hi\n\nAssistant: Yes?</s>\n\nHuman: Bye.\n\nAssistant: So long.</s>"
    )
    assert said(tokenizer, ids, mask) == [" Yes?</s>", " So long.</s>"]


def test_a_saved_named_template_gives_the_same_tokens_as_the_tokenizers_own():
    tokenizer = byte_tokenizer(add_bos=True)
    named = ChatTemplate(tokenizer, "hh")
    tokenizer.chat_template = named.source
    assert ChatTemplate(tokenizer).conversation(TALK) == named.conversation(TALK)


def test_thoughts_that_the_template_forgets_are_not_learnt_and_do_not_break_the_mask(tokenizers):
    """Earlier thoughts vanish from the text; the last turn keeps them."""
    tokenizer = tokenizers["qwen3"]
    talk = messages(
        ("user", "Hi"),
        ("assistant", "<think>a</think>Yes?"),
        ("user", "Bye."),
        ("assistant", "<think>b</think>So long."),
    )
    ids, mask = ChatTemplate(tokenizer).conversation(talk)
    assert said(tokenizer, ids, mask) == ["Yes?<|im_end|>", "<think>b</think>So long.<|im_end|>"]


def test_a_template_without_a_system_role_gets_the_system_message_in_the_users_first(tokenizers):
    template = ChatTemplate(tokenizers["gemma"])
    system = messages(("system", "Be brief."), ("user", "Hi"))
    assert not template.system_role
    assert template.prompt(system) == template.prompt(messages(("user", "Be brief.\n\nHi")))
    assert ChatTemplate(tokenizers["chatml"]).system_role


def test_a_template_that_rewrites_the_past_is_refused_for_all_turns_but_not_for_the_last(
    tokenizers,
):
    """Mistral's puts the system message into the last message of the user."""
    template = ChatTemplate(tokenizers["mistral"])
    talk = (Message("system", "Be brief."), *TALK)
    with pytest.raises(BadRecordError, match=r"'tiny' breaks the prefix property.*message 3"):
        template.conversation(talk)
    _, answer, _ = template.answer(talk[:-1], talk[-1:])
    assert tokenizers["mistral"].decode(answer) == "So long.</s>"


def test_one_refused_conversation_does_not_stop_the_others(tokenizers):
    template = ChatTemplate(tokenizers["mistral"])
    twice = messages(("user", "One."), ("user", "Two."))
    good, bad = template.answers([(TALK[:1], TALK[1:2]), (twice, TALK[1:2])])
    assert isinstance(good, Turns)
    assert isinstance(bad, BadRecordError)
    assert "Conversation roles must alternate" in bad.reason


MERGING = (
    "{% for m in messages %}{{ 'Answer:' + m.content if m.role == 'assistant' else m.content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)


def test_tokens_that_merge_over_the_start_of_an_answer_are_cut_where_the_sampler_begins():
    """The text is one token across the seam; a model that has read "Answ" cannot write it."""
    tokenizer = byte_tokenizer(MERGING.replace("Answer:", "Answ"), split=False)
    template = ChatTemplate(tokenizer)
    talk = messages(("user", "Q"), ("assistant", "er:Yes"))
    joint = tokenizer("QAnswer:Yes", add_special_tokens=False)["input_ids"]
    prompt, answer, _ = template.answer(talk[:1], talk[1:])
    assert joint[: len(prompt)] != prompt, "the trap is not set"
    assert prompt == template.prompt(talk[:1])
    assert tokenizer.decode(prompt + answer) == "QAnswer:Yes</s>"
    assert tokenizer.decode(answer) == "er:Yes</s>"


def test_a_template_that_ends_no_turn_gets_an_end_of_sequence_behind_the_last_answer():
    tokenizer = byte_tokenizer(MERGING.replace("m.content if", "m.content + '\\n' if"))
    ids, mask = ChatTemplate(tokenizer).conversation(TALK)
    assert said(tokenizer, ids, mask) == ["Yes?", "So long.</s>"]
    assert ids.count(tokenizer.eos_token_id) == 1


def test_text_without_a_prompt_is_learnt_whole_behind_a_start_token(tokenizers):
    tokenizer = tokenizers["chatml"]
    ids, mask = ChatTemplate(tokenizer).conversation(messages(("assistant", "Once.")))
    assert tokenizer.decode(ids) == "<s>Once.</s>"
    assert mask == [False] + [True] * (len(ids) - 1)


def test_stop_tokens_are_the_end_of_the_turn_and_of_the_sequence(tokenizers):
    gemma = tokenizers["gemma"]
    stops = ChatTemplate(gemma).stop_tokens
    assert gemma.convert_ids_to_tokens(list(stops)) == ["<end_of_turn>", "</s>"]
    assert ChatTemplate(tokenizers["llama2"]).stop_tokens == (gemma.eos_token_id,)


def test_a_model_without_a_chat_template_says_what_to_set():
    with pytest.raises(
        UserError, match=r"tiny has no chat template; set template=chatml.*hh.*plain"
    ):
        ChatTemplate(byte_tokenizer())


def test_an_unknown_template_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'chatlm' is not known; use chatml, hh, plain"):
        ChatTemplate(byte_tokenizer(), "chatlm")


def test_chatml_is_refused_where_its_tokens_would_fall_apart():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    assert ChatTemplate(tokenizer, "chatml").stop_tokens
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))
    plain = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>")
    with pytest.raises(UserError, match=r"needs a tokenizer with the token <\|im_end\|>"):
        ChatTemplate(plain, "chatml")


def test_a_template_that_ignores_the_generation_prompt_is_refused():
    """Otherwise the header of the turn would be learnt as the assistant's own words."""
    source = CHATML.split("{% if add_generation_prompt")[0]
    with pytest.raises(UserError, match="ignores add_generation_prompt"):
        ChatTemplate(byte_tokenizer(source))


def test_smollm2_learns_the_answer_and_im_end_but_not_the_line_break_behind(smollm2):
    template = ChatTemplate(smollm2)
    ids, mask = template.conversation(TALK)
    assert said(smollm2, ids, mask) == ["Yes?<|im_end|>", "So long.<|im_end|>"]
    assert template.stop_tokens == (smollm2.eos_token_id,)
    assert template.system_role
