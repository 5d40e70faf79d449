"""Programs checked by unit tests, in the sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from backflip.errors import UserError
from backflip.reward.sandbox.box import Mode, opened
from backflip.reward.sandbox.runner import Limits
from backflip.reward.sandbox.suite import Problem, check
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier
from backflip.text import counted

if TYPE_CHECKING:
    from backflip.data.records import Prompt
    from backflip.reward.verifiers.source import VerifierReward

__all__ = ["Code", "last_block", "problem_of"]

FENCE = re.compile(
    r"^ {0,3}(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n]*\n(.*?)^ {0,3}\1[`~]*[ \t]*$", re.M | re.S
)
PYTHON = ("python", "python3", "py", "py3")
COLUMNS = "test_list, test and entry_point, tests, or input_output"
SPARE = 5.0
"""Seconds that a check takes beside the program's own."""


@dataclass(frozen=True, kw_only=True)
class Code(Verifier):
    """The last Python block of the answer passes the tests of its question.

    Tests are columns of the data: ``test_list`` (MBPP, statements, after ``test_setup_code``),
    ``test`` and ``entry_point`` (HumanEval), ``input_output`` (APPS) or ``tests``, a list of
    statements or of objects with ``input`` and ``output``. See ``docs/sandbox.md`` for whatever is
    kept from a program, and for limits of what tests can see of it.
    """

    needs_reference = False

    pay: Literal["all", "share"] = "all"
    """Whether an answer must pass all tests, or is paid for the share that it passes."""
    sandbox: Mode = "strict"
    """``strict`` refuses to run where this machine lacks layers; ``weak`` runs with the others."""
    processor_seconds: float = 5.0
    """Time of the processor that a program and its tests may take each."""
    megabytes: int = 512
    """Memory that a program may take."""
    seconds: float = 20.0
    """Seconds of the clock for one check."""

    def lacks(self, record: Prompt) -> str:
        try:
            absent = problem_of(record.info, record.reference) is None
        except TestsError as error:
            return str(error)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            return f"tests that cannot be read ({type(error).__name__})"
        return f"no tests (no column {COLUMNS})" if absent else ""

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        for name in ("processor_seconds", "megabytes"):
            if not getattr(self, name) > 0:
                yield f"{where}.{name} is {getattr(self, name):g}; it must be above 0."
        if self.seconds <= SPARE:
            yield f"{where}.seconds is {self.seconds:g}; it must be above {SPARE:g}."
        try:
            opened(self.sandbox)
        except UserError as error:
            yield str(error)

    def build(self, given: Any) -> VerifierReward:
        given.context.say(opened(self.sandbox).line())
        return super().build(given)

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del prompt
        try:
            problem = problem_of(info, reference)
        except TestsError as error:
            return Verdict("error", reason=str(error))
        if problem is None:
            return Verdict("error", reason=f"the question has no tests: no column {COLUMNS}")
        program = last_block(answer)
        if program is None:
            return Verdict("unparsable", reason="no Python block")
        limits = Limits(
            seconds=self.processor_seconds,
            wall=self.seconds - SPARE,
            memory=self.megabytes << 20,
        )
        found = check(opened(self.sandbox), program, problem, limits)
        if found.outcome != "tested":
            late = found.outcome == "timeout"  # the program's fault: it is scored as wrong
            return Verdict(found.outcome, 0.0 if late else None, found.reason)
        if self.pay == "share":
            return Verdict.share(found.passed / found.total, found.reason)
        right = found.passed == found.total
        return Verdict("correct" if right else "incorrect", reason=found.reason)


class TestsError(ValueError):
    """Tests of which some have no input or no output."""


def last_block(text: str) -> str | None:
    """The last closed block of Markdown that is Python's, or else that names no language."""
    blocks = [(tag.lower(), code) for _, tag, code in FENCE.findall(text.replace("\r\n", "\n"))]
    tagged = [code for tag, code in blocks if tag in PYTHON]
    found = tagged or [code for tag, code in blocks if not tag]
    return found[-1] if found else None


def problem_of(info: Mapping[str, Any], reference: str) -> Problem | None:
    """The tests in the columns of a question; None where there are none."""
    trusted = last_block(reference) or reference
    entry = str(info.get("entry_point") or "")
    more = [*_list(info.get("test_list")), *_list(info.get("challenge_test_list"))]
    if more:
        setup = [info.get("test_setup_code"), *_list(info.get("test_imports"))]
        return Problem(
            setup="\n".join(map(str, filter(None, setup))), tests=tuple(more), trusted=trusted
        )
    if (test := info.get("test")) is not None and entry:
        return Problem(setup=str(test), tests=(f"check({entry})",), entry=entry, trusted=trusted)
    given = _opened(info.get("input_output"))
    if isinstance(given, Mapping):
        return _input_output(given)
    return _listed(_opened(info.get("tests")), entry, trusted)


def _list(value: Any) -> list[Any]:
    value = _opened(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _opened(value: Any) -> Any:
    """A column's value, which may be JSON in a text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return None
    return value


def _input_output(given: Mapping[str, Any]) -> Problem | None:
    """Tests in APPS's form: lists of inputs and of outputs, of a function where one is named.

    Of a function, ``checking.Suite.called`` says what lists around outputs and keys mean. Raises
    TestsError.
    """
    inputs, outputs = (_list(given.get(name)) for name in ("inputs", "outputs"))
    if len(inputs) != len(outputs):
        said = f"{counted(len(inputs), 'input')} and {counted(len(outputs), 'output')}"
        raise TestsError(f"tests with {said}: each input has an output")
    pairs = list(zip(inputs, outputs, strict=True))
    if not pairs:
        return None
    if name := given.get("fn_name"):
        calls = tuple({"args": _arguments(x), "output": y, "apps": True} for x, y in pairs)
        return Problem(entry=str(name), calls=calls)
    return Problem(
        programs=tuple({"input": _text(one), "output": _text(out)} for one, out in pairs)
    )


def _arguments(given: Any) -> list[Any]:
    """The arguments of a call: those in a list, or the only one."""
    found = _opened(given)
    return list(found) if isinstance(found, list | tuple) else [given if found is None else found]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "\n".join(map(str, value))


def _listed(tests: Any, entry: str, trusted: str) -> Problem | None:
    """Tests in one list: statements, or objects with ``input`` and ``output``."""
    if isinstance(tests, Mapping):
        return _input_output(tests)
    rows = _list(tests)
    if not rows:
        return None
    if all(isinstance(one, str) for one in rows):
        return Problem(tests=tuple(rows), entry=entry, trusted=trusted)
    if lost := sum(not isinstance(one, Mapping) or "output" not in one for one in rows):
        raise TestsError(f"{lost} of {counted(len(rows), 'test')} without an output")
    if entry:
        calls = [{"args": _arguments(one.get("input")), "output": one["output"]} for one in rows]
        return Problem(entry=entry, calls=tuple(calls), trusted=trusted)
    pairs = [{"input": _text(one.get("input", "")), "output": _text(one["output"])} for one in rows]
    return Problem(programs=tuple(pairs))
