"""Tools: the methods of a plain class, as users of TRL's ``environment_factory`` write them.

The class has ``reset``, tools (each public method, with type hints and a docstring that says what
its arguments mean) and perhaps ``get_reward``. An episode ends with the first turn that calls
no tool.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from backflip.data.records import Message, Messages, Prompt, Tally
from backflip.environments.arguments import coerced, hints_of, read
from backflip.environments.calls import Call, CallFormat, Malformed, PlainCalls
from backflip.environments.columns import asked_with, reset_arguments, system_with
from backflip.environments.protocol import BrokenError, Limits, Step
from backflip.environments.watchdog import TooLongError, Watchdog
from backflip.errors import UserError

__all__ = ["Schemas", "ToolEnvironment", "tools_of"]

OWN = ("reset", "get_reward", "close")
"""Public methods that are no tools."""
MOST_CALLS = 8
"""Calls in one turn that are made."""


def tools_of(kind: type[Any]) -> dict[str, Callable[..., Any]]:
    """The tools of a class by name: its public methods, inherited ones too."""
    methods = inspect.getmembers(kind, predicate=inspect.isfunction)
    return {n: method for n, method in methods if not n.startswith("_") and n not in OWN}


@dataclass(frozen=True)
class Schemas:
    """Descriptions of a class's tools."""

    listed: Sequence[Mapping[str, Any]]
    """JSON schemas, as chat templates take them."""
    plain: PlainCalls
    hints: Mapping[str, Mapping[str, Any]]
    """By tool and argument, its type; ** for arguments of other names."""

    @staticmethod
    def of(kind: type[Any]) -> Schemas:
        """Raises UserError where there is no tool, or a method does not say what it takes."""
        from transformers.utils.chat_template_utils import (
            DocstringParsingException,
            TypeHintParsingException,
            get_json_schema,
        )

        found = tools_of(kind)
        if not found:
            raise UserError(
                f"{kind.__name__} has no tool. Give it a public method beside {', '.join(OWN[:2])}."
            )
        listed, hints = list[Mapping[str, Any]](), dict[str, dict[str, Any]]()
        for name, method in found.items():
            try:
                listed.append(get_json_schema(method.__get__(object())))
                hints[name] = hints_of(method)
            except (
                DocstringParsingException,
                TypeHintParsingException,
                TypeError,
                NameError,
            ) as error:
                raise UserError(
                    f"{kind.__name__}.{name} cannot be a tool: {str(error)[:160]}. Give it type "
                    "hints and a docstring with a line under Args: for each argument, or begin its "
                    "name with _ where it is none."
                ) from error
        readers = {
            name: {argument: partial(read, hint=hint) for argument, hint in of.items()}
            for name, of in hints.items()
        }
        return Schemas(listed, PlainCalls(readers), hints)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.plain.parameters)

    def typed(self, call: Call) -> dict[str, Any]:
        """A call's arguments as its tool's hints name them. Raises ValueError."""
        hints, found = self.hints[call.name], dict[str, Any]()
        for name, value in call.arguments.items():
            try:
                found[name] = coerced(value, hints.get(name, hints.get("**", Any)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return found

    def words(self) -> str:
        """The tools and the plain form of calls, for a system message."""
        lines = ["Tools may be used. A call is a line of its own:"]
        for one in self.listed:
            about = one["function"]
            fields = about["parameters"].get("properties", {})
            shape = next(iter(fields)).upper() if len(fields) == 1 else json.dumps(dict(fields))
            lines.append(f"{about['name']}: {shape}\n  {about.get('description', '')}")
            lines += [f"  {n}: {field.get('description', '')}" for n, field in fields.items()]
        return "\n".join([*lines, "The result comes in the next message."])


@dataclass
class ToolEnvironment:
    """An object with tools as an environment."""

    thing: Any
    schemas: Schemas
    native: CallFormat | None
    """The template's own form of calls; None: plain calls, and results in the user's name."""
    limits: Limits
    watchdog: Watchdog
    troubles: Tally
    """Calls that failed, by reason."""
    explain: bool = True
    """Tell the policy in words which tools there are, where calls are plain."""
    where: str = ""

    def reset(self, prompt: Prompt, seed: int) -> Messages:
        self.where = str(prompt.where)
        begin = self.thing.reset
        shown = self.watchdog(begin, **reset_arguments(begin, prompt, seed))
        if shown is not None and not isinstance(shown, str):
            raise BrokenError(f"reset returned a {type(shown).__name__}, neither a text nor None")
        messages = asked_with(prompt.messages, self.limits.cut(shown or ""))
        if self.native is None:
            return system_with(messages, self.schemas.words()) if self.explain else messages
        offered = json.loads(messages[0].tools) if messages[0].tools else []
        tools = json.dumps([*offered, *self.schemas.listed], ensure_ascii=False)
        return (replace(messages[0], tools=tools), *messages[1:])

    def step(self, text: str) -> Step:
        calls = (self.native or self.schemas.plain).read(text)
        if not calls:
            return Step(done=True)
        told: list[tuple[str, str]] = []
        malformed = failed = 0
        for call in calls[:MOST_CALLS]:
            name, result, wrong = self._made(call)
            malformed, failed = malformed + (wrong == "malformed"), failed + (wrong == "failed")
            told.append((name, result))
        if left := calls[MOST_CALLS:]:
            told[-1] = (told[-1][0], f"{told[-1][1]}\nerror: {len(left)} more calls were not made")
            malformed += len(left)
        made = len(calls) - malformed
        return Step(self._said(told), calls=made, malformed=malformed, failed=failed)

    def end(self) -> float:
        """``get_reward()``, or the attribute ``reward``; 0 for an object that has neither."""
        asked = getattr(self.thing, "get_reward", None)
        if callable(asked):
            return self.watchdog(number, self.watchdog(asked), "get_reward returned")
        return self.watchdog(number, self.watchdog(getattr, self.thing, "reward", 0.0), "reward is")

    def close(self) -> None:
        """The object's own ``close``, where it has one."""
        closed(self.thing, self.watchdog)

    def _made(self, call: Call | Malformed) -> tuple[str, str, str]:
        """(name, text for the policy, ``malformed``, ``failed`` or nothing) of one call."""
        if isinstance(call, Malformed):
            return "error", self._wrong(call.reason), "malformed"
        tool = getattr(self.thing, call.name, None) if call.name in self.schemas.names else None
        if tool is None:
            known = ", ".join(self.schemas.names)
            return (
                call.name,
                self._wrong(f"there is no tool {call.name!r}, but {known}"),
                "malformed",
            )
        try:
            inspect.signature(tool).bind(**call.arguments)
            arguments = self.schemas.typed(call)
        except (TypeError, ValueError) as error:
            return call.name, self._wrong(f"{call.name}: {error}"), "malformed"
        try:
            return call.name, self.watchdog(self._text, tool, arguments), ""
        except TooLongError as error:
            if error.lost:
                raise
            return call.name, self._wrong(f"{call.name}: {error}"), "failed"
        except UserError:
            raise
        except BaseException as error:  # whatever a tool raises is an answer to its call
            if isinstance(error, KeyboardInterrupt):
                raise
            told = f"{type(error).__name__}: {error}"
            return call.name, self._wrong(told[:200]), "failed"

    def _text(self, tool: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """A tool's result as text, in its bounds; a coroutine of it where the tool is one."""
        result = tool(**arguments)
        if inspect.isawaitable(result):
            return self._later(result)
        return self._shown(result)

    async def _later(self, result: Any) -> str:
        return self._shown(await result)

    def _shown(self, result: Any) -> str:
        if isinstance(result, list) and result and all(isinstance(x, Mapping) for x in result):
            texts = [part.get("text") for part in result if part.get("type") == "text"]
            if len(texts) == len(result):
                result = "\n".join(map(str, texts))
        return self.limits.cut(result if isinstance(result, str) else str(result))

    def _wrong(self, reason: str) -> str:
        self.troubles.add(reason, self.where)
        return f"error: {reason}"

    def _said(self, told: Sequence[tuple[str, str]]) -> Messages:
        """Results as messages: of tools where the template knows them, else one of the user."""
        if self.native is None:
            alone = len(told) == 1
            text = "\n".join(result if alone else f"{name}: {result}" for name, result in told)
            return (Message("user", text if text.strip() else "(nothing)"),)
        return tuple(
            Message(
                "tool", text, extra=json.dumps({"name": name, "tool_call_id": f"call{place:05d}"})
            )
            for place, (name, text) in enumerate(told)
        )


def closed(thing: Any, watchdog: Watchdog) -> None:
    """Calls an object's ``close``, where it has one, within the time of the watchdog."""
    if callable(close := getattr(thing, "close", None)):
        watchdog(close)


def number(said: Any, what: str) -> float:
    """A finite number. Raises BrokenError for anything else."""
    try:
        found = float(said)
    except (TypeError, ValueError):
        found = math.nan
    if isinstance(said, str | bytes) or not math.isfinite(found):
        raise BrokenError(f"{what} {repr(said)[:80]}, which is no finite number")
    return found
