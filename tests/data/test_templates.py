"""A chat template from a file: read once, checked by its lines, part of the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from backflip.data.chat import ChatTemplate
from backflip.data.records import messages
from backflip.errors import UserError
from backflip.recipes.load import load_recipe, parse, read_yaml, to_yaml
from tests.data.tiny import byte_tokenizer

MINE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] | upper }}: "
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ message['content'] }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>ASSISTANT: {% endif %}\n"
)
TALK = messages(("user", "Hi"), ("assistant", "Yes?"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jinja"
    path.write_text(MINE)
    return path


def test_a_file_of_jinja_is_a_template_and_travels_with_the_tokenizer(mine: Path, tmp_path: Path):
    tokenizer = byte_tokenizer()
    template = ChatTemplate(tokenizer, str(mine))
    prompt, answer, mask = template.answer(TALK[:1], TALK[1:])
    assert tokenizer.decode(prompt) == "<|im_start|>USER: Hi<|im_end|><|im_start|>ASSISTANT: "
    assert tokenizer.decode(answer) == "Yes?<|im_end|>"
    assert all(mask)
    tokenizer.chat_template = template.source
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"role": message.role, "content": message.content} for message in TALK]
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    said = again.apply_chat_template(rows, tokenize=False)
    assert said == tokenizer.decode(prompt) + "Yes?<|im_end|>"


def test_a_recipe_holds_the_text_so_that_a_run_needs_no_file(mine: Path, tmp_path: Path):
    recipe = load_recipe("rlhf", [f"template={mine}"])
    saved = tmp_path / "recipe.yaml"
    saved.write_text(to_yaml(recipe))
    mine.unlink()
    again = parse(read_yaml(saved), "rlhf", "the run")
    assert again.template == MINE
    assert again.ppo.template == again.sft.template == MINE


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.jinja",
            "{% for m in messages %}\n{{ m.content }}\n{% endfro %}",
            "a.jinja:3",
        ),
        ("b.jinja", "{{ messages[0].content | shout }}", "b.jinja:1 is not Jinja: No filter"),
        ("c.jinja", "{{ messages[0].content", "c.jinja:1 is not Jinja"),
        ("d.jinja", " \n", "d.jinja is empty"),
        ("e.jinja", "Human: hello", "e.jinja is no Jinja: it has no {{"),
        ("f.txt", "\x00{{", "f.txt"),
    ],
)
def test_a_broken_file_is_said_with_its_line(tmp_path: Path, name: str, text: str, said: str):
    path = tmp_path / name
    path.write_text(text)
    for read in (
        lambda: load_recipe("dpo", [f"template={path}"]),
        lambda: ChatTemplate(byte_tokenizer(), str(path)),
    ):
        with pytest.raises(UserError) as error:
            read()
        assert said in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.jinja", "template file nowhere.jinja does not exist"),
        ("/nowhere/mine.txt", "template file /nowhere/mine.txt does not exist"),
        ("chatlm", "'chatlm' is not known; use chatml, hh, plain, or a file"),
        ("3", "it is 3; it must be"),
    ],
)
def test_a_template_that_is_not_there_is_said(given: str, said: str):
    with pytest.raises(UserError, match=r"^template in recipe sft: ") as error:
        load_recipe("sft", [f"template={given}"])
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["{{ 1 / 0 }}", "{{ absent.at.all }}", "{{ messages[9].role }}"])
def test_jinja_that_fails_when_it_is_read_is_a_users_error(text: str):
    with pytest.raises(UserError):
        ChatTemplate(byte_tokenizer(), text)
