# ruff: noqa: UP007, UP045
"""Arguments of calls are brought to the types of a tool's hints, or the call is malformed."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NewType, Optional, Union

import pytest

from backflip.environments.arguments import coerced, read
from backflip.environments.protocol import Limits
from tests.data.tiny import CHATML
from tests.environments.scripted import play, stage, written
from tests.environments.test_tools import call, once


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


Id = NewType("Id", int)
READ: list[tuple[str, Any, Any]] = [
    ("false", bool, False), ("Off", bool, False), ("1", bool, True), (" yes ", bool, True),
    ("3", int, 3), (" -3 ", int, -3), ("3.0", int, 3), ("2e2", float, 200.0), ("3", Id, 3),
    ("3", Optional[int], 3), ("null", Optional[int], None), ("", int | None, None),
    ("3", int | str, 3), ("three", Union[int, str], "three"), ("no", str | None, "no"),
    ("[1, 2, 3]", list[int], [1, 2, 3]), ('["1", "2"]', list[int], [1, 2]), ("[1]", list, [1]),
    ('[1, "x"]', tuple[int, str], (1, "x")), ("[1, 2]", tuple[float, ...], (1.0, 2.0)),
    ("[2, 2]", set[int], {2}), ("[true]", Sequence[bool], [True]),
    ('{"1": "off"}', dict[int, bool], {1: False}), ('{"a": [1]}', dict, {"a": [1]}),
    ("b", Literal["a", "b"], "b"), ("2", Literal[1, 2], 2), ("off", Literal[False], False),
    ("BLUE", Colour, Colour.BLUE), ("b", Colour, Colour.BLUE), ("2", Level, Level.HIGH),
    ("3", Annotated[int, "small"], 3), ("as it is", Any, "as it is"), ("3", str, "3"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "hint", "value"), READ)
def test_text_is_read_as_its_hint_says(text: str, hint: Any, value: Any):
    found = read(text, hint)
    assert (found, type(found)) == (value, type(value))
    assert coerced(found, hint) == value, "twice changes nothing"


@pytest.mark.parametrize(
    ("given", "hint", "value"),
    [
        ("2", int, 2), ("false", bool, False), (1, bool, True), (2, float, 2.0), (2.0, int, 2),
        (None, Optional[int], None), (3, str, "3"), ("3", int | str, "3"), (True, bool | int, True),
        (["1"], list[int], [1]), ([1, "2"], tuple[int, ...], (1, 2)),
        ({"a": "1"}, dict[str, int], {"a": 1}),
        (2, Level, Level.HIGH), ([{"k": "no"}], list[dict[str, bool]], [{"k": False}]),
    ],
)  # fmt: skip
def test_values_of_json_are_brought_to_their_hint(given: Any, hint: Any, value: Any):
    found = coerced(given, hint)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("given", "hint", "told"),
    [
        ("maybe", bool, "'maybe' is not true or false"), (2, bool, "'2' is not true"),
        ("three", int, "a number"), (2.5, int, "a whole number"), (True, int, "whole number"),
        ("inf", int, "whole number"), ("x", float, "a number"), (None, int, "a whole number"),
        ("x", int | None, "int or null"), ("1, 2", list[int], "a list in JSON"),
        ('{"a": 1}', list[int], "a list"), ('["x"]', list[int], "'x' is not a number"),
        ("[1]", tuple[int, int], "a list of 2"), ("[[1]]", set, "a list of values"),
        ("[1]", dict, "an object"), ({"a": "x"}, dict[str, int], "a number"),
        ("c", Literal["a", "b"], "'a' or 'b'"), ("GREEN", Colour, "RED or BLUE"),
        ({"a": 1}, str, "a text"), ("[" * 5000, list, "a list in JSON"),
    ],
)  # fmt: skip
def test_what_fits_no_hint_is_refused_in_words(given: Any, hint: Any, told: str):
    with pytest.raises(ValueError, match=told):
        coerced(given, hint)


class House:
    """Tools that take what they are handed at its word."""

    def reset(self) -> None: ...

    def lamp(self, on: bool) -> str:
        """
        Switches.

        Args:
            on: Whether it shines.
        """
        return "bright" if on else "dark"

    def add(self, a: int, b: int | None = None) -> str:
        """
        Adds.

        Args:
            a: One.
            b: The other.
        """
        return repr(a + (b or 0))

    def get_reward(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("said", "told", "counts"),
    [
        ("lamp: false", "dark", (1, 0)),
        ("lamp: on", "bright", (1, 0)),
        ("lamp: perhaps", "on: 'perhaps' is not true or false", (0, 1)),
        ('add: {"a": "2", "b": "3"}', "5", (1, 0)),
        ('add: {"a": 2, "b": null}', "2", (1, 0)),
        (call("lamp", on="false"), "dark", (1, 0)),
        (call("add", a="2", b="3"), "5", (1, 0)),
        (call("add", a="2", b="many"), "b: 'many' is not int or null", (0, 1)),
    ],
)
def test_a_tool_is_handed_what_its_hints_name(said: str, told: str, counts: tuple[int, int]):
    how = {"jinja": CHATML} if ":" in said.partition("<")[0] else {}
    sampler = stage(House, once(said), most=2000, limits=Limits(tokens=3000), **how)
    rollouts = play(sampler)
    assert told in written(sampler, rollouts)[1][1]
    played = rollouts.played
    assert played is not None
    assert (int(played.calls), int(played.malformed)) == counts
    assert sum(sampler.troubles.counts.values()) == counts[1]
