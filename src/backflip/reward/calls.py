"""Functions of Python as judges: found in files, and handed what their parameters ask for.

Imports nothing heavy: workers read this file.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from backflip.data.records import Prompt
from backflip.errors import UserError

__all__ = ["arguments", "call_of", "check_function", "load_function"]

GIVEN = ("prompt", "answer", "reference", "messages", "info")
"""Parameters of a reward function that are not columns of the data."""


def check_function(function: Callable[..., Any], records: Sequence[Prompt]) -> str | None:
    """Whether a reward function can judge answers to these prompts, before any is drawn.

    Returns a sentence on prompts without the reference answer that it asks for, if there are some.
    Raises UserError for a coroutine, a parameter that no prompt has, references that are nowhere.
    """
    call = getattr(function, "__call__", None)  # noqa: B004  (of an object, not whether it has one)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        raise UserError(
            "the reward function is a coroutine (async def), but it is called for one answer after "
            "another. Write a plain def, with asyncio.run inside."
        )
    columns = {name: value for record in records for name, value in record.info.items()}
    anyone = Prompt(records[0].messages if records else (), info=columns)
    arguments(function, "", "", anyone)
    needs = [p.name for p in _parameters(function) if p.default is p.empty]
    without = sum(not record.reference for record in records)
    if "reference" not in needs or not without:
        return None
    if without == len(records):
        raise UserError(
            f"the reward function asks for the reference answer, which none of {without} prompts "
            "has. Say which column holds it: data.columns.reference=NAME."
        )
    return f"{without} of {len(records)} prompts have no reference answer: the function sees ''"


def arguments(
    function: Callable[..., Any], prompt: str, answer: str, record: Prompt | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a reward function is called with. Raises UserError for a parameter nobody knows."""
    info: Mapping[str, Any] = record.info if record is not None else {}
    known = {"prompt": prompt, "answer": answer, "info": dict(info)}
    if record is not None:
        known |= {"reference": record.reference, "messages": record.messages}
    known = {**info, **known}
    parameters = _parameters(function)
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in plain if p.default is p.empty]
    if needed and all(p.name not in known for p in needed) and len(needed) <= 2:
        return ((answer,) if len(needed) == 1 else (prompt, answer)), {}
    others = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    for parameter in (*needed, *others):
        if parameter.name not in known:
            raise UserError(
                f"the reward function asks for {parameter.name!r}, which nobody can give it. "
                + _offer(info)
            )
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        bound = getattr(function, "keywords", {})
        return (), {name: value for name, value in known.items() if name not in bound}
    absent = record is not None and not record.reference
    handed = [
        p
        for p in parameters
        if p.name in known and not (absent and p.name == "reference" and p.default is not p.empty)
    ]
    if not handed:
        raise UserError(
            f"the reward function names nothing that it could be handed. {_offer(info)}"
        )
    first = tuple(known[p.name] for p in handed if p.kind is p.POSITIONAL_ONLY)
    return first, {p.name: known[p.name] for p in handed if p.kind is not p.POSITIONAL_ONLY}


def _offer(info: Mapping[str, Any]) -> str:
    columns = ", ".join(info) or "none"
    return f"It may ask for {', '.join(GIVEN)}, or a column of the data (there are: {columns})."


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Parameters that are still open: a partial's keywords are not; built-in functions have one."""
    try:
        found = inspect.signature(function).parameters.values()
    except ValueError:  # a built-in function that does not say
        return [inspect.Parameter("text", inspect.Parameter.POSITIONAL_ONLY)]
    bound = function.keywords if isinstance(function, functools.partial) else {}
    return [parameter for parameter in found if parameter.name not in bound]


def load_function(address: str) -> Callable[..., Any]:
    """The function ``FILE.py:NAME``. Raises UserError where there is none.

    The file may import its neighbours, and runs once, however often it is asked for.
    """
    file, colon, name = address.rpartition(":")
    path = Path(file).expanduser()
    if not colon or path.suffix != ".py":
        raise UserError(f"{address!r} is no function. Write FILE.py:NAME: my_rewards.py:brevity.")
    if not path.is_file():
        raise UserError(f"{address}: there is no file {path}.")
    module = _module(path.resolve())
    found = getattr(module, name, None)
    if not callable(found):
        there = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        raise UserError(f"{path} has no function {name!r}; it has: {', '.join(there) or 'none'}.")
    return cast("Callable[..., Any]", found)


def call_of(address: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The result of the function ``FILE.py:NAME``."""
    return load_function(address)(*args, **named)


def _module(path: Path) -> ModuleType:
    """A file of Python, run. It is known by a name that no other module has, and while it runs its
    folder comes first where modules are looked for, afterwards last.
    """
    content = path.read_bytes()
    known_as = f"{path.stem}_{hashlib.sha256(bytes(path) + content).hexdigest()[:12]}"
    if known_as in sys.modules:
        return sys.modules[known_as]
    spec = importlib.util.spec_from_file_location(known_as, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.modules[known_as] = module
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[known_as]
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
    return module
