"""What an environment of others is told when an episode begins: columns, a seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from backflip.data.adapters import REFERENCES
from backflip.data.records import Message, Messages, Prompt
from backflip.errors import UserError

__all__ = ["asked_with", "reset_arguments"]


def reset_arguments(reset: Callable[..., Any], prompt: Prompt, seed: int) -> dict[str, Any]:
    """What ``reset`` is called with: the columns of the row that it names, or all for ``**``.

    Among them are ``prompt`` (messages as mappings), ``seed``, and the reference answer under each
    name that its column may have. Raises UserError for a parameter that nobody can give.
    """
    known: dict[str, Any] = dict.fromkeys(REFERENCES, prompt.reference) if prompt.reference else {}
    rows = [{"role": m.role, "content": m.content, **m.fields} for m in prompt.messages]
    known |= {**prompt.info, "prompt": rows, "seed": seed}
    parameters = inspect.signature(reset).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return known
    named = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in known:
            raise UserError(
                f"reset of the environment asks for {parameter.name!r}, which no row has; it may "
                f"ask for {', '.join(known)}."
            )
    return {p.name: known[p.name] for p in named if p.name in known}


def asked_with(messages: Messages, observation: str) -> Messages:
    """The conversation with what an environment first shows behind the user's last message."""
    if not observation:
        return messages
    last = messages[-1]
    return (*messages[:-1], replace(last, content=last.content + observation))


def system_with(messages: Messages, text: str) -> Messages:
    """The conversation with ``text`` at the end of its system message, which it may begin."""
    if messages[0].role != "system":
        return (Message("system", text, tools=messages[0].tools), *messages)
    first = messages[0]
    return (replace(first, content=f"{first.content}\n\n{text}"), *messages[1:])
