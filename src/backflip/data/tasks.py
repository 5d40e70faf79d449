"""Tasks that a program makes and checks: ``task:sorting``, ``task:arithmetic``.

Questions for models that were made from scratch; the answer of each is known, and so is that of
every step where a task has steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from backflip.data import gym
from backflip.errors import UserError

__all__ = ["MADE", "TASKS", "check", "questions", "rows"]

PREFIX = "task:"
MADE = (PREFIX, gym.PREFIX)
"""Beginnings of sources whose rows are made by a program."""
ROWS = 8_000
"""Questions of a task, no two of them alike."""


def sorting(draw: random.Random) -> dict[str, Any]:
    """Six to ten digits, to be written in order."""
    digits = [draw.choice("0123456789") for _ in range(draw.randint(6, 10))]
    return {"question": f"sort {''.join(digits)}", "answer": "".join(sorted(digits))}


def arithmetic(draw: random.Random) -> dict[str, Any]:
    """Two signs between three numbers up to 99; the answer is reached line by line.

    ``steps`` are the lines, ``reference`` is the number on the last one.
    """
    numbers = [draw.randint(0, 99) for _ in range(3)]
    signs = [draw.choice("+-") for _ in range(2)]
    question = f"{numbers[0]}{signs[0]}{numbers[1]}{signs[1]}{numbers[2]}"
    first = numbers[0] + (numbers[1] if signs[0] == "+" else -numbers[1])
    last = first + (numbers[2] if signs[1] == "+" else -numbers[2])
    steps = [
        f"{numbers[0]}{signs[0]}{numbers[1]}={first}",
        f"{first}{signs[1]}{numbers[2]}={last}",
    ]
    return {
        "question": question,
        "answer": "\n".join(steps),
        "reference": str(last),
        "steps": steps,
    }


TASKS: Mapping[str, Callable[[random.Random], dict[str, Any]]] = {
    "arithmetic": arithmetic,
    "sorting": sorting,
}
"""Makers of one question each, by name."""


def rows(source: str) -> Iterable[Mapping[str, Any]]:
    """The rows of ``task:NAME`` or ``gym:NAME``. Raises UserError for one that is not known."""
    return (
        gym.gym_rows(source) if source.startswith(gym.PREFIX) else questions(source[len(PREFIX) :])
    )


def check(source: str) -> None:
    """Raises UserError for a source that cannot be made."""
    if source.startswith(gym.PREFIX):
        gym.check_gym(source)
    else:
        questions(source.removeprefix(PREFIX), 1)


def questions(name: str, count: int = ROWS) -> list[dict[str, Any]]:
    """Questions of a task, the same whenever they are asked for.

    Raises UserError for a task that is not known.
    """
    if name not in TASKS:
        known = ", ".join(f"{PREFIX}{task}" for task in TASKS)
        raise UserError(f"there is no {PREFIX}{name}; there are {known}")
    draw, found = random.Random(0), dict[str, dict[str, Any]]()
    while len(found) < count:
        row = TASKS[name](draw)
        found.setdefault(row["question"], row)
    return list(found.values())
