"""Environments of others with ``reset`` and ``step``: our own protocol, gymnasium's, OpenEnv's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backflip.data.records import Message, Prompt
from backflip.environments.columns import asked_with, reset_arguments
from backflip.environments.protocol import BrokenError, Limits, Said, Step
from backflip.environments.tools import closed, number
from backflip.environments.watchdog import Watchdog

__all__ = ["SteppedEnvironment", "is_ours"]

TEXTS = ("text", "content", "message", "observation", "prompt")
"""Fields of an observation that hold its text, the likeliest first."""


def is_ours(reset: Any) -> bool:
    """Whether ``reset`` is that of ``protocol.Environment``: of a prompt's record and a seed."""
    return [*inspect.signature(reset).parameters] == ["prompt", "seed"]


@dataclass
class SteppedEnvironment:
    """An object with ``reset`` and ``step`` as an environment; the action is the turn's text.

    ``step`` returns a ``Step``; gymnasium's (observation, reward, terminated, truncated, info), the
    older (observation, reward, done, info) or its first three; or an object with ``done`` and
    ``reward``, which is the observation or has one. Observations are text, messages, or token ids.
    """

    thing: Any
    limits: Limits
    watchdog: Watchdog

    def reset(self, prompt: Prompt, seed: int) -> Said:
        begin = self.thing.reset
        if is_ours(begin):
            return self.watchdog(self._said, self.watchdog(begin, prompt, seed), prompt)
        shown = self.watchdog(begin, **reset_arguments(begin, prompt, seed))
        if isinstance(shown, tuple) and len(shown) == 2 and isinstance(shown[1], Mapping):
            shown = shown[0]  # gymnasium: (observation, info)
        return self.watchdog(self._shown, shown, prompt)

    def step(self, text: str) -> Step:
        return self.watchdog(self._step, self.watchdog(self.thing.step, text))

    def _step(self, result: Any) -> Step:
        """A result of ``step``, whose observation and reward may be objects with code of theirs."""
        if isinstance(result, Step):
            return replace(result, said=self._bounded(result.said))
        if isinstance(result, tuple) and len(result) in (3, 4, 5):
            observation, reward, *rest = result
            done = any(map(bool, rest[:2] if len(result) == 5 else rest[:1]))
        elif hasattr(result, "done"):
            observation = getattr(result, "observation", result)
            reward, done = getattr(result, "reward", None), bool(getattr(result, "done", False))
        else:
            raise BrokenError(
                f"step returned a {type(result).__name__}; it returns (observation, reward, done), "
                "or an object with done and reward"
            )
        said = self._said(observation, None)
        return Step(said, done, 0.0 if reward is None else number(reward, "step gave the reward"))

    def end(self) -> float:
        asked = getattr(self.thing, "end", None)
        if asked is None:
            return 0.0
        return self.watchdog(number, self.watchdog(asked), "end returned")

    def close(self) -> None:
        """The object's own ``close``, where it has one."""
        closed(self.thing, self.watchdog)

    def _shown(self, shown: Any, prompt: Prompt) -> Said:
        return self._said(getattr(shown, "observation", shown), prompt)

    def _said(self, observation: Any, prompt: Prompt | None) -> Said:
        """What the policy reads; a text of ``reset`` stands behind the prompt's last message."""
        if _is_said(observation):
            return self._bounded(observation)
        text = self.limits.cut(_text_of(observation))
        if prompt is not None:
            return asked_with(prompt.messages, text)
        return (Message("user", text),) if text.strip() else ()

    def _bounded(self, said: Said) -> Said:
        return tuple(
            replace(one, content=self.limits.cut(one.content)) if isinstance(one, Message) else one
            for one in said
        )  # pyright: ignore[reportReturnType]


def _is_said(observation: Any) -> bool:
    """Whether it is a list of messages, or of token ids."""
    return (
        isinstance(observation, Sequence)
        and len(observation) > 0
        and (
            all(isinstance(one, Message) for one in observation)
            or all(type(one) is int for one in observation)
        )
    )


def _text_of(observation: Any) -> str:
    if observation is None or (isinstance(observation, Sequence) and not observation):
        return ""
    if isinstance(observation, str):
        return observation
    if isinstance(observation, Mapping):
        named = [observation[name] for name in TEXTS if name in observation]
    else:
        named = [getattr(observation, name) for name in TEXTS if hasattr(observation, name)]
    return str(named[0] if named and isinstance(named[0], str) else observation)
