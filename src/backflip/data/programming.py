"""Adapters of programming problems: a task, a solution, and tests that stay with the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from backflip.data.columns import Fields
from backflip.data.records import BadRecordError, Demonstration, Message
from backflip.data.rows import Format, Line, demonstration, has

__all__ = ["PROGRAMMING"]

ENDING = "Answer with the whole program in one ```python block."


def _mbpp(line: Line) -> Demonstration:
    """A task in words, with its tests as Austin et al. (2021, section 3) show them."""
    fields = line.fields
    task = fields["prompt" if "prompt" in fields else "text"]
    tests = fields.keep("test_list")
    for name in ("test_setup_code", "test_imports", "challenge_test_list"):
        fields.keep(name)
    listed = isinstance(tests, Sequence) and not isinstance(tests, str)
    lines = list(cast("Sequence[Any]", tests)) if listed else []
    if not lines or not all(isinstance(one, str) for one in lines):
        raise BadRecordError("tests that are no list of statements", "give a list of asserts")
    shown = block("\n".join(lines))
    asked = f"{_text('text', task)}\n\nIt must pass these tests:\n\n{shown}\n\n{ENDING}"
    return _solved(line, asked, _text("code", fields["code"]))


def _humaneval(line: Line) -> Demonstration:
    """The beginning of a program, to be written to its end (Chen et al., 2021)."""
    fields = line.fields
    start, rest = (_text(name, fields[name]) for name in ("prompt", "canonical_solution"))
    for name in ("test", "entry_point"):
        _text(name, fields.keep(name))
    asked = f"Complete this program:\n\n{block(start)}\n\n{ENDING}"
    return _solved(line, asked, start + rest)


def _solved(line: Line, asked: str, code: str) -> Demonstration:
    return demonstration(line, (Message("user", asked), Message("assistant", block(code))))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRecordError(f"column {name!r} holds no text", "remove the row, or fill it")
    return value.replace("\r\n", "\n")


def block(code: str) -> str:
    """Code between the marks of Markdown."""
    return f"```python\n{code.strip(chr(10))}\n```"


def _is_mbpp(fields: Fields) -> bool:
    return has("test_list", "code")(fields) and ("text" in fields or "prompt" in fields)


PROGRAMMING = (
    Format(
        "mbpp",
        "text (or prompt), code, test_list, of google-research-datasets/mbpp",
        fits=_is_mbpp,
        read=_mbpp,
        kind=Demonstration,
    ),
    Format(
        "humaneval",
        "prompt, canonical_solution, test, entry_point, of openai/openai_humaneval",
        fits=has("prompt", "canonical_solution", "test", "entry_point"),
        read=_humaneval,
        kind=Demonstration,
    ),
)
"""Problems whose tests are columns that reward=code asks for."""
