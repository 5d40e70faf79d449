"""An engine whose every word is written by the test, and templates that know tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from backflip.data.chat import ChatTemplate
from backflip.data.records import Prompt, Tally, messages
from backflip.environments.episodes import EpisodeSampler
from backflip.environments.made import Made
from backflip.environments.protocol import Limits
from backflip.environments.watchdog import Watchdog
from backflip.generate.engine import Completion, SamplingParams
from tests.data.tiny import byte_tokenizer

HERMES = (
    "{% if tools %}{{ '<|im_start|>system\\nTools:' }}{% for tool in tools %}"
    "{{ '\\n' + (tool | tojson) }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}"
    "{% endif %}{{ '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% else %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
    '{% for call in m.tool_calls or [] %}{{ \'\\n<tool_call>\\n{"name": "\' + call.function.name '
    "+ '\", \"arguments\": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""In the manner of Hermes and Qwen."""
LLAMA3 = (
    "{% if tools %}{{ '<|im_start|>system\\n' }}{% for tool in tools %}{{ tool | tojson }}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}{% for m in messages %}{% if m.tool_calls %}"
    '{{ \'<|im_start|>assistant\\n{"name": "\' + m.tool_calls[0].function.name + \'", '
    "\"parameters\": ' + (m.tool_calls[0].function.arguments | tojson) + '}<|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""In the manner of Llama 3: a call is a turn of JSON, and its text is left out."""

LIMITS = Limits(seconds=5.0)


def template_of(jinja: str) -> ChatTemplate:
    tokenizer = byte_tokenizer(jinja)
    tokenizer.eos_token = "<|im_end|>"
    return ChatTemplate(tokenizer)


@dataclass
class Scripted:
    """Writes what ``speak`` says to the text so far; every token has log-probability −½."""

    template: ChatTemplate
    speak: Callable[[str], str]
    asked: list[list[list[int]]] = field(default_factory=list)
    """The prompts of each call."""

    exact: bool = True

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, *, group: int = 1, **_: Any
    ) -> list[Completion]:
        self.asked.append([list(p) for p in prompts])
        tokenizer: Any = self.template.tokenizer
        found = []
        for place, prompt in enumerate(prompts):
            for answer in range(group):
                text = self.speak(tokenizer.decode(prompt))
                tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
                tokens = [*tokens, self.template.turn_end]
                cut = len(tokens) > params.max_tokens
                tokens = tokens[: params.max_tokens]
                logp = [-0.5] * len(tokens)
                reason = "length" if cut else "stop"
                found.append(Completion(place, answer, tokens, logp, logp, reason))
        return found

    def sync(self, model: Any = None) -> None:
        pass


def stage(
    factory: Callable[[], Any],
    speak: Callable[[str], str],
    *,
    jinja: str = HERMES,
    records: Sequence[Prompt] = (Prompt(messages(("user", "Go.")), reference="42"),),
    limits: Limits = LIMITS,
    most: int = 200,
    group: int = 1,
    **made: Any,
) -> EpisodeSampler:
    """Episodes in which ``speak`` plays the policy."""
    template, troubles = template_of(jinja), Tally()
    engine = Scripted(template, speak)
    params = SamplingParams(max_tokens=most, stop_tokens=template.stop_tokens)
    return EpisodeSampler(
        engine=engine,
        params=params,
        template=template,
        make=Made(
            factory=factory,
            template=template,
            limits=limits,
            watchdog=Watchdog(limits.seconds),
            troubles=troubles,
            **made,
        ),
        records=records,
        limits=limits,
        group_size=group,
        troubles=troubles,
    )


def play(sampler: EpisodeSampler, **given: Any) -> Any:
    """Rollouts of every record."""
    tokens = [sampler.template.prompt(record.messages) for record in sampler.records]
    return sampler(tokens, seed=0, **given)


def written(sampler: EpisodeSampler, rollouts: Any, row: int = 0) -> list[tuple[bool, str]]:
    """The answer in pieces: (whether the policy wrote it, text)."""
    tokens = rollouts.steps.answer.row(row).tolist()
    pieces: list[tuple[bool, list[int]]] = []
    for token, own in zip(tokens, rollouts.mask[row].tolist(), strict=False):
        if not pieces or pieces[-1][0] != own:
            pieces.append((own, []))
        pieces[-1][1].append(token)
    return [(own, sampler.template.tokenizer.decode(part)) for own, part in pieces]
