"""Classes of anybody as environments: what a class is shows in the methods that it has."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backflip.data.chat import ChatTemplate
from backflip.data.following import Following
from backflip.data.records import BadRecordError, Message, Prompt, Tally
from backflip.environments.calls import native_calls
from backflip.environments.columns import reset_arguments
from backflip.environments.protocol import Environment, Limits
from backflip.environments.stepped import SteppedEnvironment
from backflip.environments.tools import Schemas, ToolEnvironment, closed
from backflip.environments.watchdog import Watchdog
from backflip.errors import UserError

__all__ = ["Made", "check_environment", "has_tools", "made_by", "rewards"]

NEXT = (Message("user", "Next."),)
RESULT = (Message("tool", "Done.", extra='{"name": "tool", "tool_call_id": "call00000"}'),)


def has_tools(kind: type[Any]) -> bool:
    """Whether a class is one of tools, and not one of steps.

    It is where it has ``get_reward``, has no ``step``, or its ``step`` returns a text.
    """
    step = getattr(kind, "step", None)
    if step is None or hasattr(kind, "get_reward"):
        return True
    try:
        return typing.get_type_hints(step).get("return") is str
    except (NameError, TypeError):
        return inspect.signature(step).return_annotation in (str, "str")


def rewards(factory: Any, records: Sequence[Prompt] = (), watchdog: Watchdog | None = None) -> bool:
    """Whether episodes of a factory's objects have a reward of their own.

    One object is made and an episode of the first record begun: ``__init__`` or ``reset`` may set
    ``reward``. Where none can begin, it is believed, and the run will say why. Raises UserError as
    ``made_by``.
    """
    thing, watchdog = made_by(factory), watchdog or Watchdog(Limits().seconds)
    try:
        if not has_tools(type(thing)) or hasattr(thing, "get_reward"):
            return True
        for record in records[:1]:
            watchdog(thing.reset, **reset_arguments(thing.reset, record, 0))
        return hasattr(thing, "reward")
    except UserError:
        raise
    except (Exception, SystemExit):
        return True
    finally:
        with contextlib.suppress(Exception, SystemExit):
            closed(thing, watchdog)


def made_by(factory: Callable[[], Any]) -> Any:
    """A factory's object. Raises UserError where there is none, or it is no environment."""
    name = getattr(factory, "__name__", str(factory))
    try:
        thing = factory()
    except Exception as error:
        raise UserError(
            f"environment {name} cannot be made: {type(error).__name__}: {error}. It is called "
            "without arguments."
        ) from error
    check_environment(type(thing), name)
    return thing


def check_environment(kind: Any, name: str) -> None:
    """Raises UserError for what is no class, or has no ``reset``, before anything is made of it."""
    if not callable(kind):
        raise UserError(
            f"{name} is no class. Give one that has reset and tools, or reset and step."
        )
    if not isinstance(kind, type):
        return
    if not callable(getattr(kind, "reset", None)):
        raise UserError(
            f"{name} has no method reset, by which an episode begins. Give it one, beside tools or "
            "step."
        )
    if has_tools(kind):
        Schemas.of(kind)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A factory of environments out of a factory of anybody's objects."""

    factory: Callable[[], Any]
    """The class, or a function that makes an object of it."""
    template: ChatTemplate
    limits: Limits
    watchdog: Watchdog
    troubles: Tally
    calls: Literal["auto", "plain"] = "auto"
    """The chat template's own form of calls where it has one, or lines of text."""
    explain: bool = True
    """Name the tools in the system message, where calls are plain."""

    def __call__(self) -> Environment:
        """Raises UserError where the object cannot be made, or is no environment."""
        thing = made_by(self.factory)
        if not has_tools(type(thing)):
            return SteppedEnvironment(thing, self.limits, self.watchdog)
        return ToolEnvironment(
            thing,
            Schemas.of(type(thing)),
            native_calls(self.template) if self.calls == "auto" else None,
            self.limits,
            self.watchdog,
            self.troubles,
            self.explain,
        )

    def remarks(self) -> list[str]:
        """Sentences on a chat template that is not made for several turns.

        Raises UserError for one whose turns cannot go on behind what the policy wrote.
        """
        native = native_calls(self.template) if self.calls == "auto" else None
        said = RESULT if native is not None else NEXT
        try:
            following = Following(self.template)
            following(said)
            keeps = following.keeps_turns(said)
        except BadRecordError as error:
            raise UserError(
                f"the chat template cannot go on behind an answer: {error}. Set "
                "template=chatml|hh|plain."
            ) from error
        found: list[str] = []
        if not keeps:
            found.append(
                f"chat template {self.template.name!r} writes an earlier turn of the assistant "
                "otherwise than its last one (without its thoughts, say): in episodes the policy "
                "goes on reading what it wrote itself; whoever serves it by the template will not"
            )
        if self.calls == "auto" and native is None and "tool_calls" in self.template.writes:
            found.append(
                f"chat template {self.template.name!r} writes calls of tools in a form that is not "
                "read here (no JSON, or no tools or results): calls are lines NAME: ARGUMENT"
            )
        return found
