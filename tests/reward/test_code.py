"""Programs are checked by tests that they cannot reach; solutions of published problems pass."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backflip.data.formats import load
from backflip.data.records import Prompt, messages
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.code import Code, last_block, problem_of
from tests.reward.forged import FORGERIES
from tests.reward.witness import sandbox_here

BOX = sandbox_here()
pytestmark = pytest.mark.skipif(not BOX.strong, reason=BOX.line())
DOUBLE = {"test_list": ["assert double(2) == 4", "assert double([1]) == [1, 1]"]}
RIGHT = "def double(x): return 2 * x"


def verdict(program: str, info: Mapping[str, Any] = DOUBLE, reference: str = "", **how) -> Verdict:
    return Code(**how).check(f"So:\n```python\n{program}\n```\n", reference, "", info)


def outcome(program: str, info: Mapping[str, Any] = DOUBLE, reference: str = "") -> str:
    return verdict(program, info, reference).outcome


BLOCKS = [
    ("```python\na\n```\nor\n```py\nb\n```\nwhich prints\n```\n4\n```", "b\n"),
    ("```\na\n```", "a\n"),
    ("~~~Python title=x\r\na\r\n~~~", "a\n"),
    ("1. so:\n   ```python\n   a\n   ```", "   a\n"),
    ("````python\n```\na\n```\n````", "```\na\n```\n"),
    ("```python\na", None),
    ("```bash\nls\n```", None),
    ("def f(): pass", None),
]


@pytest.mark.parametrize(("text", "found"), BLOCKS)
def test_the_last_closed_block_of_python_is_the_program(text: str, found: str | None):
    assert last_block(text) == found


def test_outcomes_are_told_apart():
    assert outcome(RIGHT) == "correct"
    assert outcome("def double(x): return x + 2") == "incorrect"
    assert outcome("def double(x) return") == "incorrect"
    assert Code().check("The answer is 4.", "", "", DOUBLE).outcome == "unparsable"
    assert outcome(RIGHT, {}) == "error"
    assert outcome(RIGHT, {"test_list": ["assert double(2 = 4"]}) == "error"
    late = verdict("while True: pass", processor_seconds=1.0, seconds=60.0)
    assert late.outcome == "timeout"
    assert Code(incorrect=-1.0).score(late) == -1.0, "the answer's fault, not the check's"


def test_a_share_of_the_tests_is_paid_where_it_is_asked_for():
    half = verdict("def double(x): return 4", pay="share", incorrect=-1.0)
    assert (half.outcome, half.score) == ("scored", 0.5)
    assert Code(incorrect=-1.0).score(half) == 0.0
    assert verdict(RIGHT, pay="share").outcome == "correct", "of all tests: it counts as right"
    assert verdict("def double(x): return 0", pay="share").outcome == "incorrect"
    assert outcome("def double(x): return 4") == "incorrect"


@pytest.mark.parametrize(
    ("info", "why"),
    [
        ({"input_output": {"inputs": ["1", "2"], "outputs": ["1"]}}, "2 inputs and 1 output"),
        ({"input_output": '{"fn_name": "f", "inputs": [[1]]}'}, "1 input and 0 outputs"),
        ({"tests": {"inputs": ["1"], "outputs": ["1", "2"]}}, "1 input and 2 outputs"),
        ({"tests": [{"input": "1", "output": "1"}, {"input": "2"}]}, "1 of 2 tests without an"),
        ({"test_list": []}, "no tests"),
    ],
)
def test_a_question_of_whose_tests_some_would_be_dropped_is_left_out_in_words(info, why: str):
    record = Prompt(messages(("user", "f?")), info=info)
    assert why in Code().lacks(record)
    assert verdict("f = 1", info).outcome == "error"


PAIR = "class Pair:\n  def __init__(self, a, b): self.a, self.b = a, b\n"
NAMED = """import typing
class Q(typing.NamedTuple):
  x: int
  y: int = 2
  def norm(self): return self.x + self.y
"""
VALUES = "[d.date(2020, 1, 2), {decimal.Decimal(1)}, 2 ** 99, (1j, b'x', None)]"
FORMS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"input_output": '{"inputs": ["3\\n", "4"], "outputs": ["6\\n", "8"]}'},
        "print(2 * int(input()))",
        "print(6)",
    ),
    (
        {"input_output": {"fn_name": "f", "inputs": [[1, 2]], "outputs": [[1, 2]]}},
        "class Solution:\n  def f(self, a, b): return (a, b)",
        "def f(a, b): return (b, a)",
    ),
    (
        {"input_output": {"fn_name": "f", "inputs": [[1], [2]], "outputs": [[2], [[3, 0]]]}},
        "def f(a): return 2 if a == 1 else (3, 0)",
        "def f(a): return [2] if a == 1 else [3]",
    ),
    (
        {"input_output": {"fn_name": "f", "inputs": [[{"1": 5}]], "outputs": [[3, 4]]}},
        "def f(d): return [3, d[1] - 1]",
        "def f(d): return 3",
    ),
    (
        {"tests": [{"input": 3, "output": 6}], "entry_point": "f"},
        "def f(x): return 2 * x",
        "def f(x=3): return x",
    ),
    (
        {"tests": [{"input": "", "output": "x 3.0 [1000.0]\n007"}]},
        "print('x 3.000 [1e3]'); print('007')",
        "print('x 3.000 [1e3]'); print('7')",
    ),
    (
        {"tests": [{"input": "", "output": "123456.78 0.3333333333333333 1.10.2"}]},
        "print('123456.780 0.333333333 1.10.2')",
        "print('123456.79 0.333333333 1.1.2')",
    ),
    (
        {"test_list": ["assert f(1).x == 1 and f(3).norm() == 5", "assert f(1) == (1, 2)"]},
        f"{NAMED}f = Q",
        f"{NAMED}def f(x): return (x, 2)",
    ),
    (
        {"test_list": ["import collections as c", "assert f(c.namedtuple('P', 'x y')(1, 2)) == 3"]},
        "def f(p): return p.x + p.y",
        "def f(p): return p.x",
    ),
    (
        {"test_list": ["assert f() == 2 and f().name == 'B' and f() + 1 == 3"]},
        "import enum\nclass C(enum.IntEnum):\n  B = 2\ndef f(): return C.B",
        "def f(): return 2",
    ),
    (
        {"tests": [{"input": "a b", "output": "b a"}]},
        "import sys; print(*sys.stdin.read().split()[::-1])",
        "print('b a'); raise SystemExit(1)",
    ),
    (
        {"tests": [{"input": [0.1], "output": 0.3}], "entry_point": "f"},
        "f = lambda x: x * 3",
        "f = 1",
    ),
    (
        {
            "entry_point": "f",
            "test": "def check(c):\n  import math\n  assert math.isclose(c(4), 2)",
        },
        "import math\nf = math.sqrt",
        "import math\nmath.isclose = lambda *a: True\nf = abs",
    ),
    (
        {"test_list": ["p = Pair(1, 2)", "assert total([p, Pair(3, 4)]) == 10", "assert p.a == 1"]},
        f"{PAIR}def total(x): return sum(p.a + p.b for p in x)",
        f"{PAIR}def total(x): return 11",
    ),
    (
        {"test_list": ["x = [3, 1]", "order(x)", "assert x == [1, 3]"]},
        "def order(x): x.sort()",
        "def order(x): return sorted(x)",
    ),
    (
        {
            "test_list": [
                "assert f(lambda x: x > 1, [1, 2]) == [2]",
                "assert f(str.isdigit, 'a') == []",
            ]
        },
        "def f(f, x): return [i for i in x if f(i)]",
        "def f(f, x): return [2]",
    ),
    (
        {"test_list": ["try:\n  f(0)\n  assert False\nexcept ZeroDivisionError: pass"]},
        "def f(x): return 1 // x",
        "def f(x): raise ValueError",
    ),
    (
        {"test_list": ["import itertools", "assert list(itertools.islice(f(), 3)) == [0, 1, 2]"]},
        "import itertools\nf = itertools.count",
        "def f(): yield from (0, 1)",
    ),
    (
        {"test_list": [f"import datetime as d, decimal\nassert f() == {VALUES}"]},
        f"import datetime as d, decimal\ndef f(): return {VALUES}",
        f"import datetime as d, decimal\ndef f(): return {VALUES.replace('99', '98')}",
    ),
]


@pytest.mark.parametrize(("info", "right", "wrong"), FORMS)
def test_every_form_of_tests_tells_right_from_wrong(info: dict[str, Any], right: str, wrong: str):
    assert verdict(right, info) == Verdict("correct")
    assert outcome(wrong, info) == "incorrect"


def test_a_name_of_pythons_own_is_the_answers_only_where_the_tests_are_about_it():
    both = {"test_list": ["assert abs(-f(2)) == 4"]}
    assert outcome("def f(x): return x\ndef abs(x): return 4", both) == "incorrect"
    plus = {"test_list": ["assert sum(10, 15) == 25"]}
    assert outcome("def sum(a, b): return a + b", plus) == "correct"
    tricky = {"test_list": ["assert set(sum(1, 2)) == {3}"]}
    reference = "```python\ndef sum(a, b): return [a + b]\n```"
    assert outcome("def sum(a, b): return [3]", tricky, reference) == "correct"
    assert (
        outcome("def sum(a, b): return []\ndef set(x): return {3}", tricky, reference)
        == "incorrect"
    )


def test_an_answer_does_not_change_what_it_is_compared_with():
    tests = {"test_list": ["x = [1]", "assert double(x) == x + x"]}
    assert outcome("def double(x):\n  x.clear()\n  return []", tests) == "incorrect"


QUICK = ("ends with", "equals all", "by gc", "by frames", "builtins", "open file", "asked")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if any(one in name for one in QUICK) else pytest.mark.slow)
        for name in FORGERIES
    ],
)
def test_a_forged_verdict_does_not_pass(name: str):
    said = verdict(FORGERIES[name])
    assert said.outcome == "incorrect", said


def solutions(name: str) -> Iterator[tuple[Prompt, str]]:
    root = Path(__file__).parents[2]
    folder = Path(os.environ.get("BACKFLIP_SHARED", str(root.parent / "shared")))
    file = folder / "data" / f"{name}.jsonl.gz"
    if not file.exists():
        pytest.skip(f"the rows of {name} are not here (set BACKFLIP_SHARED)")
    for record in load(str(file), Prompt).records:
        yield record, last_block(record.reference) or ""


def broken(code: str) -> Iterator[str]:
    """The code with one line broken: each ``return``, from the last on, returns something else."""
    lines = code.split("\n")
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Return)]
    for node in sorted(found, key=lambda one: -one.lineno):
        start = lines[node.lineno - 1][: node.col_offset]
        yield "\n".join(
            [*lines[: node.lineno - 1], f"{start}return ['broken']", *lines[node.end_lineno or 0 :]]
        )


def judged(pair: tuple[Prompt, str]) -> tuple[str, bool]:
    """(the outcome of a solution, whether some broken line of it is noticed)."""
    record, code = pair
    noticed = any(outcome(one, record.info, record.reference) != "correct" for one in broken(code))
    return outcome(code, record.info, record.reference), noticed


def all_judged(pairs: list[tuple[Prompt, str]]) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(judged, pairs))
    missed = [
        str(pair[0].where)
        for pair, said in zip(pairs, found, strict=True)
        if said != ("correct", True)
    ]
    assert missed == []


@pytest.mark.parametrize("name", ["mbpp", "humaneval"])
def test_some_solutions_pass_and_fail_when_a_line_is_broken(name: str):
    all_judged(list(solutions(name))[::130][:4])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mbpp", "humaneval"])
def test_all_solutions_pass_and_fail_when_a_line_is_broken(name: str):
    all_judged(list(solutions(name)))


def test_tests_stay_with_the_prompts_of_published_problems():
    record, code = next(solutions("mbpp"))
    assert record.info["test_list"][0] in record.messages[-1].content
    assert code not in record.messages[-1].content
    assert Code().lacks(record) == ""
    assert "no tests" in Code().lacks(Prompt(record.messages))
    assert problem_of(record.info, record.reference) is not None
