from __future__ import annotations

from pathlib import Path

import pytest

from backflip.cli import chat as chatting
from backflip.errors import UserError
from backflip.evaluation.conversation import Conversation, _Teller
from tests.recipes.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def chat(model: Path, **settings: object) -> Conversation:
    return Conversation(model, **{"max_tokens": 12, **settings})


def test_the_pieces_that_are_heard_make_up_the_reply(model: Path):
    heard: list[str] = []
    reply = chat(model).say("Hello there", heard.append)
    assert len(heard) > 1
    assert "".join(heard).strip() == reply


def test_the_same_seed_says_the_same_again(model: Path):
    assert chat(model).say("Hello") == chat(model).say("Hello")
    assert chat(model).say("Hello") != chat(model, seed=1).say("Hello")


def test_what_was_said_is_remembered_until_it_is_reset(model: Path):
    """With temperature 0 a reply depends on the conversation alone."""
    talk = chat(model, temperature=0.0)
    first = talk.say("Hello there")
    assert [message.role for message in talk.messages] == ["user", "assistant"]
    talk.say("And you?")
    assert len(talk.messages) == 4
    talk.reset()
    assert talk.messages == []
    assert talk.say("Hello there") == first


def test_half_a_letter_is_never_told():
    """é is two bytes: with one token a byte, the first alone is no text."""
    whole, heard = "né!".encode(), list[str]()
    teller = _Teller(
        lambda tokens: bytes(tokens).decode("utf-8", errors="replace"), {0}, heard.append
    )
    for token in [*whole, 0]:
        teller(token)
    assert teller.finish() == "né!"
    assert heard == ["n", "é", "!"]


def test_nothing_cannot_be_said(model: Path):
    with pytest.raises(UserError, match="empty user message"):
        chat(model).say("  ")


def test_at_a_terminal_lines_are_turns_and_slashes_are_commands(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    lines = iter(["Hello", "", "/what", "/reset", "And you?", "/quit", "never read"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(chatting.Console, "input", lambda *_: next(lines))
    left, right = chat(model), chat(model, seed=3)
    chatting.talk(["left", "right"], [left, right])
    assert next(lines) == "never read"
    assert left.messages[0].content == "And you?"
    assert len(left.messages) == len(right.messages) == 2
    out = capsys.readouterr().out
    assert "left" in out
    assert out.count("/quit") == 2  # the greeting, and the answer to /what
