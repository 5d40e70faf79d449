"""Samples of episodes: whose words are whose."""

from __future__ import annotations

import torch

from backflip.data.batches import Played, Rollouts, TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.stages.spoken import asked_after_reset, spoken
from tests.data.tiny import CHATML, byte_tokenizer


def played(prompt: str, *turns: tuple[bool, str]) -> tuple[Rollouts, ChatTemplate]:
    tokenizer = byte_tokenizer(CHATML)
    parts = [(own, tokenizer.encode(text, add_special_tokens=False)) for own, text in turns]
    answer = [token for _, tokens in parts for token in tokens]
    steps = TokenSteps.of([tokenizer.encode(prompt, add_special_tokens=False)], [answer])
    own = torch.tensor([[mine for mine, tokens in parts for _ in tokens]])
    nothing = torch.zeros(1, dtype=torch.long)
    course = Played(torch.zeros(own.shape), *[nothing] * 4, broken=nothing.bool())
    rollouts = Rollouts(
        steps=steps,
        mask=own,
        logp=torch.zeros(own.shape),
        group=nothing,
        finished=torch.ones(1, dtype=torch.bool),
        row=nothing,
        played=course,
    )
    return rollouts, ChatTemplate(tokenizer)


def test_a_call_and_its_result_are_not_one_number():
    rollouts, template = played("", (True, "increment: 8"), (False, "8\n"), (True, "done"))
    assert spoken(rollouts, 0, template) == "policy: increment: 8\nenvironment: 8\npolicy: done"


def test_turns_of_a_template_are_without_its_marks():
    said = "<|im_end|>\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n"
    rollouts, template = played("", (True, "a"), (False, said), (True, ""), (True, "b"))
    assert spoken(rollouts, 0, template) == "policy: a\nenvironment: go on\npolicy: b"


def test_what_reset_puts_behind_a_prompt_is_shown():
    begin, end = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    rollouts, template = played(f"{begin}Guess 7. From 1 to 9.{end}", (True, "5"))
    shown = "Guess 7.\nenvironment: From 1 to 9."
    assert asked_after_reset(rollouts, 0, "Guess 7.", template) == shown
    rollouts, template = played(f"{begin}Guess 7.{end}", (True, "5"))
    assert asked_after_reset(rollouts, 0, "Guess 7.", template) == "Guess 7."
