"""Arguments of a call brought to the types that a tool's hints name."""

from __future__ import annotations

import collections.abc
import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["coerced", "hints_of", "read"]

WORDS: dict[str, bool] = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
NOTHING = ("null", "none", "")
LISTS: dict[Any, Callable[[Any], Any]] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset,
    collections.abc.Sequence: list, collections.abc.Iterable: list, collections.abc.Set: set,
    collections.abc.Collection: list, collections.abc.MutableSequence: list,
}  # fmt: skip
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def hints_of(method: Callable[..., Any]) -> dict[str, Any]:
    """The type of each argument; of further ones under ``**``."""
    hints = typing.get_type_hints(method)
    named = inspect.signature(method).parameters.values()
    found = {one.name: hints.get(one.name, Any) for one in named if one.name != "self"}
    further = next((one.name for one in named if one.kind is one.VAR_KEYWORD), None)
    return found if further is None else found | {"**": found.pop(further)}


def read(text: str, hint: Any) -> Any:
    """An argument out of bare text, as in a plain call. Raises ValueError."""
    members = _members(hint)
    if str in members and len(members) > 1:  # a text fits it too: the others come first
        others = [one for one in members if one is not str]
        for one in others:
            try:
                return coerced(text, one)
            except ValueError:
                continue
        return text
    return coerced(text, hint)


def coerced(value: Any, hint: Any) -> Any:
    """A value of JSON, or a text, as one of the type ``hint``.

    Words such as off are read for bool, digits for numbers, JSON for lists and mappings, values or
    names for enumerations. A type that is none of these takes whatever comes. Raises ValueError,
    in words.
    """
    members = _members(hint)
    if len(members) > 1:
        return _of_union(value, members)
    kind = next(iter(members))
    if isinstance(kind, enum.EnumType):
        return value if isinstance(value, kind) else _of_enum(value, kind)
    if kind in PLAIN:
        return PLAIN[kind](value)
    return _of_generic(value, typing.get_origin(kind) or kind, typing.get_args(kind))


def _of_generic(value: Any, origin: Any, inside: tuple[Any, ...]) -> Any:
    if origin is typing.Literal:
        return _of_options(value, {repr(one): one for one in inside}, inside)
    if origin in LISTS:
        return _of_list(value, origin, inside)
    return _of_mapping(value, inside) if origin in MAPPINGS else value


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union, each without what is only written beside it; else the type alone."""
    while True:
        if type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif hasattr(hint, "__supertype__"):  # NewType
            hint = hint.__supertype__
        elif typing.get_origin(hint) in (typing.Annotated, typing.Final):
            hint = typing.get_args(hint)[0]
        else:
            break
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(one for member in typing.get_args(hint) for one in _members(member))
    return (type(None) if hint is None else hint,)


def _of_union(value: Any, members: tuple[Any, ...]) -> Any:
    """The first member that takes a value: one of its very type, else by what it can be read as."""
    for one in members:
        if isinstance(one, type) and type(value) is one:
            return value
    for one in sorted(members, key=lambda one: one is str):
        try:
            return coerced(value, one)
        except ValueError:
            continue
    raise _wrong(value, " or ".join(map(_name, members)))


def _bool(value: Any) -> bool:
    found = WORDS.get(value.strip().lower()) if isinstance(value, str) else None
    if isinstance(value, bool | int | float) and value in (0, 1):
        found = bool(value)
    if found is None:
        raise _wrong(value, "true or false")
    return found


def _int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = _float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise _wrong(value, "a whole number")
    return int(value)


def _float(value: Any) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError
        return float(value)
    except (ValueError, TypeError, OverflowError):
        raise _wrong(value, "a number") from None


def _str(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise _wrong(value, "a text")


def _none(value: Any) -> None:
    if value is not None and not (isinstance(value, str) and value.strip().lower() in NOTHING):
        raise _wrong(value, "null")


PLAIN: dict[Any, Callable[[Any], Any]] = {
    bool: _bool, int: _int, float: _float, str: _str, type(None): _none,
}  # fmt: skip


def _of_options(value: Any, names: Mapping[str, Any], options: tuple[Any, ...]) -> Any:
    """The option that a value is, or can be read as."""
    for one in options:
        if type(one) is type(value) and one == value:
            return one
    for one in options:
        try:
            if not isinstance(one, enum.Enum) and coerced(value, type(one)) == one:
                return one
        except ValueError:
            continue
    if isinstance(value, str) and value.strip() in names:
        return names[value.strip()]
    raise _wrong(value, " or ".join(names))


def _of_enum(value: Any, kind: enum.EnumType) -> Any:
    members: list[Any] = list(kind)
    names = {one.name: one for one in members}
    if isinstance(value, str) and value.strip() in names:
        return names[value.strip()]
    for one in members:
        try:
            if _of_options(value, {}, (one.value,)) == one.value:
                return one
        except ValueError:
            continue
    raise _wrong(value, " or ".join(names))


def _parsed(value: Any, what: str) -> Any:
    """What a text holds as JSON; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise _wrong(value, what) from None


def _of_list(value: Any, origin: Any, inside: tuple[Any, ...]) -> Any:
    items = _parsed(value, "a list in JSON")
    if not isinstance(items, list | tuple | set | frozenset):
        raise _wrong(value, "a list")
    items = list(items)
    if origin is tuple and inside and inside[-1] is not Ellipsis:
        if len(items) != len(inside):
            raise _wrong(value, f"a list of {len(inside)}")
        return tuple(coerced(one, hint) for one, hint in zip(items, inside, strict=True))
    hint = inside[0] if inside else Any
    try:
        return LISTS[origin](coerced(one, hint) for one in items)
    except TypeError:  # a set of lists
        raise _wrong(value, "a list of values") from None


def _of_mapping(value: Any, inside: tuple[Any, ...]) -> Any:
    found = _parsed(value, "an object in JSON")
    if not isinstance(found, Mapping):
        raise _wrong(value, "an object")
    key, content = inside if len(inside) == 2 else (Any, Any)
    return {coerced(name, key): coerced(one, content) for name, one in found.items()}


def _name(kind: Any) -> str:
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind))


def _wrong(value: Any, wanted: str) -> ValueError:
    return ValueError(f"{str(value)[:60]!r} is not {wanted}")
