"""Questions of reasoning-gym (Stojanovski et al., 2025), made when they are asked for.

    gym:chain_sum                               500 questions of one task, seed 0
    gym:chain_sum:size=2000,seed=7,min_terms=3  with settings of the task's own
    gym:chain_sum+gcd:size=1000                 a mixture of tasks, each as likely
    gym:chain_sum:system=default                after one of its system messages, on <answer> tags

A process of its own makes them, with one seed for the order of Python's sets, which some tasks
depend on: so they are the same in every run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import yaml

from backflip.errors import UserError

__all__ = ["INSTALL", "NO_OWN_ANSWER", "PREFIX", "GymTask", "check_gym", "gym_rows"]

PREFIX = "gym:"
INSTALL = "pip install 'backflip[gym]'"
SIZE = 500
NO_OWN_ANSWER = ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour")
"""Tasks with many solutions, whose own answer is none or scores 0: a reply is scored as it is."""


@dataclass(frozen=True)
class GymTask:
    """Tasks of reasoning-gym with their settings, as the name of a source says them."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]
    """``size`` and ``seed`` of the questions, ``system``, and the task's own."""

    @staticmethod
    @lru_cache(maxsize=64)
    def of(source: str) -> GymTask:
        """Raises UserError for a source that is badly written, or an unknown task or setting."""
        names, _, rest = source.removeprefix(PREFIX).partition(":")
        tasks = tuple(name.strip() for name in names.split("+"))
        task = GymTask(tasks, {"size": SIZE, "seed": 0} | _settings(rest, source))
        task._check(source)
        return task

    def _check(self, source: str) -> None:
        known = dict(_gym().factory.DATASETS)
        del known["composite"]  # which is what a mixture is
        for name in self.names:
            if name not in known:
                close = get_close_matches(name, known, n=3, cutoff=0.6)
                all_of_them = f"it has {len(known)}: {', '.join(sorted(known))}."
                meant = f"did you mean {' or '.join(close)}?" if close else all_of_them
                raise UserError(f"{source}: reasoning-gym has no task {name!r}; {meant}")
        own = {"size", "seed", "system"}
        if len(self.names) == 1:
            own |= {field.name for field in dataclasses.fields(known[self.names[0]][1])}
        for name in self.settings:
            if name not in own:
                what = self.names[0] if len(self.names) == 1 else "a mixture"
                raise UserError(
                    f"{source}: {what} has no setting {name!r}; it has {', '.join(sorted(own))}."
                )

        known = _gym().utils.SYSTEM_PROMPTS
        if (chosen := self.settings.get("system")) is not None and chosen not in known:
            raise UserError(f"{source}: system is one of {', '.join(known)}, not {chosen!r}.")

    def dataset(self) -> Any:
        """Reasoning-gym's own object. Raises UserError for values that it refuses."""
        gym = _gym()
        settings = {key: value for key, value in self.settings.items() if key != "system"}
        name = self.names[0]
        if len(self.names) > 1:
            spec = gym.composite.DatasetSpec
            name, settings["datasets"] = "composite", [spec(n, 1.0, {}) for n in self.names]
        try:
            return gym.create_dataset(name, **settings)
        except Exception as error:  # assertions, mostly, of whatever type
            raise UserError(
                f"gym:{'+'.join(self.names)} refuses its settings {dict(self.settings)}: "
                f"{type(error).__name__}: {error}"
            ) from error


def check_gym(source: str) -> None:
    """Raises UserError where a source cannot be made, without making it."""
    GymTask.of(source)


def gym_rows(source: str) -> list[dict[str, Any]]:
    """Rows with a prompt, a reference answer, the task, and its own entry, by which it scores."""
    check_gym(source)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from backflip.data.gym import write; write(sys.argv[1])",
            source,
        ],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip() or "no reason given").splitlines()[-1]
        raise UserError(last if last.startswith(PREFIX) else f"{source} cannot be made: {last}")
    return pickle.loads(done.stdout)


def write(source: str) -> None:
    """Put pickled rows of a source on the standard output, and whatever is printed elsewhere."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            task = GymTask.of(source)
            system = _gym().utils.SYSTEM_PROMPTS.get(task.settings.get("system"))
            said = {} if system is None else {"system": system.strip()}
            made = [_row(entry, source) | said for entry in task.dataset()]
        except UserError as error:
            sys.exit(str(error))
    sys.stdout.buffer.write(pickle.dumps(made))


def _row(entry: Mapping[str, Any], source: str) -> dict[str, Any]:
    task = entry["metadata"].get("source_dataset")
    answer = None if task in NO_OWN_ANSWER else entry["answer"]
    return {"prompt": entry["question"], "reference": answer, "gym": source, "gym_entry": entry}


def _settings(rest: str, source: str) -> dict[str, Any]:
    """``size=10,operators=[+, -]`` as a mapping; commas inside brackets part nothing."""
    found: dict[str, Any] = {}
    for part in filter(str.strip, re.split(r",(?![^\[{(]*[\]})])", rest)):
        name, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"{source}: {part!r} is no setting. Write gym:NAME:size=100,seed=1.")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{source}: the value of {name.strip()} cannot be read") from error
    return found


def _gym() -> Any:
    if find_spec("reasoning_gym") is None:
        raise UserError(f"gym:NAME needs reasoning-gym, which is not installed: {INSTALL}.")
    import_module("reasoning_gym.composite")
    return import_module("reasoning_gym")
