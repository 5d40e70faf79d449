"""The special tokens of a model: which end an answer, which is padding, what the template writes.

Other programs learn them from the tokenizer and the config alone, so these must say what is done
here: a model stops where they say, and a classifier reads its score where they say.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from backflip.data.chat import ChatTemplate
from backflip.errors import UserError
from backflip.models.heads import Reading

PADDING = "<|pad|>"
"""Added to the tokenizer of a reward model where every special token has another use."""
PLAIN_NAMES = ("<pad>", "[pad]", "<|pad|>", "<padding>", "<|padding|>")
TALK = (
    {"role": "user", "content": "Ping?"},
    {"role": "assistant", "content": "Pong."},
    {"role": "user", "content": "Once more?"},
    {"role": "assistant", "content": "Pong, pong."},
)


def template_of(tokenizer: Any, template: str | None = None) -> ChatTemplate | None:
    """The template of a tokenizer, or else ``template``; None where neither can be read."""
    try:
        return ChatTemplate(tokenizer, None if tokenizer.chat_template else template)
    except UserError:
        return None


def ends(tokenizer: Any, template: ChatTemplate | None) -> tuple[int, ...]:
    """Ids that end an answer: the template's end of turn, and the end of text."""
    if template is not None:
        return template.stop_tokens
    return () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)


def other_ends(tokenizer: Any, model: Any) -> tuple[int, ...]:
    """Control tokens that a model's own generation config lists as ends.

    An id that is ordinary text in this tokenizer is left out: it was listed for another one.
    """
    config = getattr(model, "generation_config", None) or model.config
    listed = as_list(getattr(config, "eos_token_id", None))
    others = (tokenizer.bos_token_id, tokenizer.unk_token_id)
    control = _control(tokenizer)
    return tuple(token for token in listed if token in control and token not in others)


def as_list(value: Any) -> list[int]:
    """The ids of a setting that is one id, several or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def padding_token(
    tokenizer: Any, template: ChatTemplate | None, stops: Collection[int], rows: int
) -> int | None:
    """A token that never ends an answer; None where every special token has another use.

    Classifiers of transformers read the last token that is not padding: were padding the end of
    turn, as in many tokenizers, they would read one token too early.

    Args:
        tokenizer: whose own padding is taken where it ends nothing.
        template: of conversations; tokens that it writes are no padding.
        stops: tokens that end an answer.
        rows: of the model's embedding.

    """
    own = tokenizer.pad_token_id
    if own is not None and own not in stops and own < rows:
        return int(own)
    taken = {*stops, tokenizer.eos_token_id, tokenizer.bos_token_id} | _written(template)
    names = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    names |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    free = [(i, name) for i, name in names.items() if i not in taken and i < rows]
    unknown = tokenizer.unk_token_id
    best = min(free, key=lambda it: (_rank(it[1], it[0] == unknown), it[0]), default=None)
    return None if best is None else int(best[0])


def with_padding(
    tokenizer: Any,
    template: ChatTemplate | None,
    stops: Collection[int],
    rows: int,
    *,
    needed: bool,
) -> Any:
    """A copy of the tokenizer whose padding ends no answer.

    ``needed``: add a token where none is free, for a model whose reading depends on it. Without
    it, padding is then the end of text, which a language model passes over by its mask.
    """
    copied = copy.deepcopy(tokenizer)
    found = padding_token(tokenizer, template, stops, rows)
    if found is not None:
        copied.pad_token = tokenizer.convert_ids_to_tokens(found)
    elif needed:
        copied.add_special_tokens({"pad_token": PADDING})
    elif tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        copied.pad_token = tokenizer.eos_token
    return copied


def ended_template(template: ChatTemplate) -> str:
    """The template as Jinja text that writes nothing behind the end of the last answer.

    A score is read at the last token of a text: so this is the token at which it was learnt. Where
    the template writes no end of its own, the end of text is written.
    """
    end = "" if template.turn_end is not None else template.tokenizer.eos_token
    if not template.tail and not end:
        return template.source
    tail = json.dumps(template.tail, ensure_ascii=False)
    more = f" + {json.dumps(end, ensure_ascii=False)}" if end else ""
    size = len(template.tail)
    lead = "{{ '' }}" if template.source.startswith("\n") else ""
    body = lead + template.source.removesuffix("\n")
    whole = f"written[:-{size}]" if size else "written"
    fits = f" and written[-{size}:] == {tail}" if size else ""
    wrapped = (
        f"{{% set written %}}{body}{{{{ '' }}}}{{% endset %}}"
        "{% if messages and messages[-1]['role'] == 'assistant' and not add_generation_prompt"
        f"{fits} %}}{{{{ {whole}{more} }}}}{{% else %}}{{{{ written }}}}{{% endif %}}"
    )
    if _says_the_same(template, wrapped):
        return wrapped
    warnings.warn(
        f"chat template {template.name!r} writes {template.tail!r} behind the end of an answer, "
        "and cannot be wrapped so that it does not. Cut that off before other programs score a "
        "text: the score is read at the last token.",
        stacklevel=2,
    )
    return template.source


def reading_of(template: ChatTemplate | None, padding: int | None) -> Reading:
    """Where transformers reads the score of answers that ``template`` writes out in full."""
    if template is None:
        return Reading(padding)
    tokenizer = template.tokenizer
    end = template.turn_end
    if end is None:
        written = tokenizer(template.tail, add_special_tokens=False)["input_ids"]
        return Reading(padding, (tokenizer.eos_token_id,), tuple(written))
    mark = tokenizer.convert_ids_to_tokens(end)
    written = tokenizer(mark + template.tail, add_special_tokens=False)["input_ids"]
    return Reading(padding, (end,), tuple(written))


def _rank(name: str, unknown: bool) -> int:
    """How fit a special token is for padding, 0 the fittest: by its name."""
    lower = name.lower()
    if lower in PLAIN_NAMES or "pad_id" in lower:
        return 0
    if unknown:
        return 1
    return 2 if any(word in lower for word in ("pad", "reserved", "unused", "extra")) else 3


def _control(tokenizer: Any) -> frozenset[int]:
    return frozenset(tokenizer.all_special_ids) | frozenset(tokenizer.added_tokens_decoder)


def _written(template: ChatTemplate | None) -> set[int]:
    """Tokens that the template writes around messages."""
    if template is None:
        return set()
    text = _render(template, template.source, TALK, False) or ""
    text += _render(template, template.source, TALK[:1], True) or ""
    return set(template.tokenizer(text, add_special_tokens=False)["input_ids"])


def _says_the_same(template: ChatTemplate, wrapped: str) -> bool:
    """Whether the wrapped template differs behind the end of the last answer only."""
    end = "" if template.turn_end is not None else template.tokenizer.eos_token
    for size in (2, 4):
        whole = _render(template, template.source, TALK[:size], False)
        if whole is None and size == 4:
            continue
        if whole is None or _render(template, wrapped, TALK[:size], False) != (
            whole.removesuffix(template.tail) + end
        ):
            return False
    asked = _render(template, template.source, TALK[:1], True)
    return asked is not None and asked == _render(template, wrapped, TALK[:1], True)


def _render(
    template: ChatTemplate, source: str, talk: Sequence[Mapping[str, str]], generate: bool
) -> str | None:
    """The text of a conversation; None where the template refuses it."""
    from jinja2.exceptions import TemplateError

    try:
        return template.tokenizer.apply_chat_template(
            list(talk), chat_template=source, tokenize=False, add_generation_prompt=generate
        )
    except (TemplateError, TypeError, ValueError):
        return None
