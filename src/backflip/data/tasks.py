"""Tasks that a program makes and checks: ``task:sorting``, ``task:arithmetic``.

Questions for models that were made from scratch; the answer of each is known, and so is that of
every step where a task has steps. Settings stand behind the name, as in
``task:arithmetic:numbers=4,largest=19,size=20000``.
"""

from __future__ import annotations

import inspect
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
"""Questions of a task, no two of them alike, unless its ``size`` says otherwise."""
PATIENCE = 1_000
"""Questions that were made before, one after another, at which there are taken to be no others."""


def sorting(draw: random.Random) -> dict[str, Any]:
    """Six to ten digits, to be written in order."""
    digits = [draw.choice("0123456789") for _ in range(draw.randint(6, 10))]
    return {"question": f"sort {''.join(digits)}", "answer": "".join(sorted(digits))}


def arithmetic(draw: random.Random, numbers: int = 3, largest: int = 99) -> dict[str, Any]:
    """Signs between numbers up to ``largest``; the answer is reached line by line.

    ``steps`` are the lines, ``reference`` is the number on the last one.
    """
    terms = [draw.randint(0, largest) for _ in range(numbers)]
    signs = [draw.choice("+-") for _ in range(numbers - 1)]
    steps, value = list[str](), terms[0]
    for sign, term in zip(signs, terms[1:], strict=True):
        reached = value + term if sign == "+" else value - term
        steps.append(f"{value}{sign}{term}={reached}")
        value = reached
    return {
        "question": str(terms[0])
        + "".join(f"{s}{n}" for s, n in zip(signs, terms[1:], strict=True)),
        "answer": "\n".join(steps),
        "reference": str(value),
        "steps": steps,
    }


TASKS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "arithmetic": arithmetic,
    "sorting": sorting,
}
"""Makers of one question each, by name; what they take beside the draw are settings."""
LEAST = {"numbers": 2, "largest": 1, "size": 1, "seed": 0}
"""Smallest value of each setting."""


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
        _given(source.removeprefix(PREFIX))


def questions(task: str, count: int | None = None) -> list[dict[str, Any]]:
    """``count`` questions of a task, or its ``size``: the same whenever they are asked for.

    Raises UserError for an unknown task or setting, and where there are not so many questions.
    """
    name, given = _given(task)
    count = given.pop("size", ROWS) if count is None else count
    draw, found, again = random.Random(given.pop("seed", 0)), dict[str, dict[str, Any]](), 0
    while len(found) < count:
        row = TASKS[name](draw, **given)
        again = again + 1 if row["question"] in found else 0
        found.setdefault(row["question"], row)
        if again == PATIENCE:
            raise UserError(
                f"{PREFIX}{task} has hardly more than {len(found)} different questions, and "
                f"{count} are asked for. Set size={len(found)}, or make the task larger."
            )
    return list(found.values())


def _given(task: str) -> tuple[str, dict[str, int]]:
    """The name of a task and its settings. Raises UserError for what it does not know."""
    name, _, rest = task.partition(":")
    if name not in TASKS:
        known = ", ".join(f"{PREFIX}{one}" for one in TASKS)
        raise UserError(f"there is no {PREFIX}{name}; there are {known}")
    given = dict[str, int]()
    own = {*[*inspect.signature(TASKS[name]).parameters][1:], "size", "seed"}
    for part in rest.split(",") if rest else []:
        key, _, value = (word.strip() for word in part.partition("="))
        if key not in own:
            raise UserError(
                f"{PREFIX}{task}: {name} has no setting {key!r}; it has {', '.join(sorted(own))}."
            )
        if not value.isdecimal() or int(value) < LEAST[key]:
            raise UserError(
                f"{PREFIX}{task}: {key} is {value!r}; it must be a whole number, {LEAST[key]} or "
                "more."
            )
        given[key] = int(value)
    return name, given
