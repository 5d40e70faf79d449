"""Recipes and settings by their names. Imports nothing heavy: a slip is answered at once."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from backflip.errors import UserError

HERE = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
SWEEP = "sweep.yaml"
"""The file by which a folder of runs is a sweep."""
ORDER = ("sft", "reward_model", "ppo", "rlhf")
"""Recipes that are listed first, in this order."""
TAGGED = ("algorithm", "objective", "choose", "imitate", "reward", "values", "environment", "gold")
"""Settings that are one of several kinds, told apart by name."""


def shipped() -> list[str]:
    """The names of the recipes that come with the package: whole stages, then the direct family."""
    names = sorted(path.stem for path in HERE.glob("*.yaml"))
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe. Raises UserError with the nearest name where there is none."""
    path = Path(name).expanduser()
    if str(name) in shipped():
        return HERE / f"{name}.yaml"
    if path.is_file():
        return path
    if path.suffix in SUFFIXES or path.parent != Path():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"recipe file {path} {reason}. Give a YAML file, or {any_of(shipped())}.")
    raise UserError(f"there is no recipe {str(name)!r}. {hint(str(name), shipped())}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError with the line of what is wrong."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "cannot be read"
        raise UserError(f"{path}{line} is not YAML: {what}. Correct the line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"recipe file {path} cannot be read: {error}.") from error
    if not isinstance(raw, dict):
        seen = type(raw).__name__
        raise UserError(f"{path} holds no settings but a {seen}. Write one `key: value` a line.")
    return raw


def pairs(overrides: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """``key=value`` as a mapping, values read as YAML. Raises UserError where there is no ``=``.

    The name of a kind may be said as ``reward.name=…`` for ``reward=…``.
    """
    found: dict[str, Any] = {}
    given = overrides.items() if isinstance(overrides, Mapping) else map(_pair, overrides)
    for key, value in given:
        group, _, last = key.rpartition(".")
        found[group if last == "name" and group.rpartition(".")[2] in TAGGED else key] = value
    return found


def nested(value: Any) -> Any:
    """Settings whose names have dots, as groups within groups; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    out: dict[Any, Any] = {}
    for name, inner in cast("Mapping[Any, Any]", value).items():
        first, dot, rest = name.partition(".") if isinstance(name, str) else (name, "", "")
        new, old = nested({rest: inner} if dot else inner), out.get(first)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            new = {**cast("Any", old), **cast("Any", new)}
        out[first] = new
    return out


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"{text!r} is not a setting. Write key=value, as in optimizer.lr=1e-5.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        return key.strip(), value


def hint(word: str, options: Iterable[str]) -> str:
    """The option that was probably meant, and all that there are."""
    options = list(options)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    meant = f"Did you mean {close[0]}? " if close else ""
    return f"{meant}There are: {', '.join(options)}."


def any_of(names: Sequence[str]) -> str:
    """``a, b or c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def with_columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with ``columns.prompt=ask`` and the like in one mapping, as of a recipe's data."""
    begin = "columns."
    named = {name.removeprefix("data."): value for name, value in given.items()}
    columns = {n.removeprefix(begin): str(v) for n, v in named.items() if n.startswith(begin)}
    others = {name: value for name, value in named.items() if not name.startswith(begin)}
    return others | ({"columns": columns} if columns else {})


def settings_of(command: Any, words: Sequence[str], name: str) -> dict[str, Any]:
    """The data, wherever it is named, and the settings beside it, by what the function takes."""
    kinds = {p.name: str(p.annotation) for p in inspect.signature(command).parameters.values()}
    known = [parameter for parameter in kinds if parameter != "model"]
    first = words[0].partition("=")[0] not in known
    given: dict[str, Any] = ({"data": words[0]} if first else {}) | pairs(
        words[1:] if first else words
    )
    given = with_columns(given) if "columns" in known else given
    for key, value in given.items():
        if key not in known:
            raise UserError(f"unknown setting {key!r} of {name}. {hint(key, known)}")
        if kinds[key].startswith("int") and not isinstance(value, int | None):
            raise UserError(f"{key} is {value!r}; it must be a whole number.")
        if kinds[key] == "float":
            try:
                given[key] = float(cast("Any", value))  # YAML takes 1e-3 for a word
            except (TypeError, ValueError) as error:
                raise UserError(f"{key} is {value!r}; it must be a number.") from error
    return given
