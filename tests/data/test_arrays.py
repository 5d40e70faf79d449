"""A JSON list read value by value: the same values as the whole, however the file is cut."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.data import arrays
from backflip.data.arrays import values

LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(rows=st.lists(VALUE), chunk=st.integers(1, 40), indent=st.none() | st.integers(0, 2))
def test_values_are_those_of_the_whole_whatever_the_chunk(
    rows: list[Any], chunk: int, indent: int | None
):
    text = json.dumps(rows, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "CHUNK", chunk)
        assert list(values(io.StringIO(f" \n{text}\n "))) == rows


def test_a_number_is_not_cut_at_the_end_of_a_chunk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrays, "CHUNK", 2)
    assert list(values(io.StringIO("[12345,678]"))) == [12345, 678]


def test_values_that_python_and_pandas_write_are_read():
    """NaN and infinities, numbers beyond 64 bits, halves of surrogate pairs."""
    text = '[NaN, -Infinity, 12345678901234567890123, "\\ud800"]'
    found = list(values(io.StringIO(text)))
    assert math.isnan(found[0])
    assert found[1:] == [-math.inf, 12345678901234567890123, "\ud800"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no list"),
        ('{"a": 1}', "there is no list"),
        ("[1, 2", "expected , or ]"),
        ("[1 2]", "expected , or ] and found '2', at character 3"),
        ("[1,]", "Expecting value"),
        ('[{"a": }]', "Expecting value"),
        ("[1] [2]", "something follows the list"),
    ],
)
def test_what_is_malformed_is_refused_where_it_is(text: str, said: str):
    with pytest.raises(ValueError, match=said.replace("]", r"\]").replace("[", r"\[")):
        list(values(io.StringIO(text)))


def test_what_stands_before_the_fault_is_handed_out():
    found = values(io.StringIO('[{"a": 1}, {"a": 2}, oops]'))
    assert next(found) == {"a": 1}
    assert next(found) == {"a": 2}
    with pytest.raises(ValueError, match="Expecting value"):
        next(found)
