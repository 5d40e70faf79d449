"""Final answers in mathematics: hard cases of ours, and the labels and answers of public data."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("math_verify", reason="the extra backflip[math]")

from backflip.data.references import boxed
from backflip.reward.verifiers.algebra import same_formulas
from backflip.reward.verifiers.comparison import compared
from backflip.reward.verifiers.mathematics import Mathematics
from backflip.reward.verifiers.notation import plain
from backflip.reward.verifiers.pool import Pool
from backflip.reward.verifiers.source import check_of

DATA = Path(__file__).parents[3] / "shared" / "data"
R, W, U = "correct", "incorrect", "unparsable"
CASES = [
    # percent
    ("50", "50%", R),
    ("0.5", r"50\%", R),
    ("0.5", r"The answer is $50\%$.", R),
    ("50", r"\boxed{50\%}", R),
    ("50", "25%", W),
    # the last box
    ("18", r"\boxed{12} is a first guess, but it is \boxed{18}", R),
    ("12", r"\boxed{12} is a first guess, but it is \boxed{18}", W),
    ("18", r"The answer is 12. Hence \boxed{18}", R),
    (r"\frac{1}{2}", r"\boxed{\frac{\sqrt{4}}{4}}", R),
    ("18", r"It is \boxed{18", U),
    ("18", r"It is \boxed{}", U),
    ("7", r"\boxed 7", R),
    ("7", r"$\fbox{7}$", R),
    # signs that are not ASCII
    ("-5", "−5", R),
    ("-5", r"The answer is \boxed{−5}", R),
    ("5", "−5", W),
    ("-5", "- 5", R),
    ("-5", "The answer is - 5", R),
    ("5", "10 - 5", R),
    ("18", "١٨", R),
    ("18", "The answer is １８.", R),
    ("12.5", "١٢٫٥", R),
    ("18", "\x0018", R),
    ("18", "1\x008", R),
    ("18", "\u200b18\ufeff", R),
    ("18", "１９", W),
    # marks between thousands
    ("1234567", "1,234,567", R),
    ("1234", "1\u202f234", R),
    ("1234", "1'234", R),
    ("1234", r"\boxed{1{,}234}", R),
    (r"10,\!080", "10080", R),
    (r"\$32,\!348", "The answer is $32,348.", R),
    (r"11,\! 111,\! 111,\! 100", "11111111100", R),
    ("1234", "1.234", W),
    ("(1,234)", "1234", W),
    # fractions and mixed numbers
    ("3 1/4", "1", W),
    ("3 1/4", "13/4", R),
    ("3.25", "3 1/4", R),
    ("13/4", r"\boxed{3\frac{1}{4}}", R),
    (r"1\frac{4}{5}", "1.8", R),
    ("2 1/2", "The answer is 2½.", R),
    ("1/3", "0.333333", R),
    ("1/3", "0.33", W),
    (r"\frac43", "4/3", R),
    (r"\frac{1}{23}", r"\boxed{\frac{12}{3}}", W),
    ("x^{12}", r"\boxed{x^{1}2}", W),
    ("0.5", ".5", R),
    ("0", "1e-8", W),
    ("0.00000001", "0.00000002", W),
    # formulas
    (r"\frac{\sqrt{3}}{2}", r"\boxed{\sin(60^\circ)}", R),
    ("90^\\circ", "90", R),
    (r"2\sqrt{3}", "√12", W),
    (r"2\sqrt{3}", r"\boxed{√{12}}", R),
    ("x^2+2x+1", r"\boxed{(x+1)^2}", R),
    ("x²", r"\boxed{x^2}", R),
    ("3", r"\boxed{x=3}", R),
    ("3", r"\boxed{x>3}", W),
    (r"3 \pm 2 \sqrt{2}", r"\boxed{3 \pm 2\sqrt{2}}", R),
    # sets, points, intervals, matrices
    ("1,-2", r"\boxed{-2, 1}", R),
    ("(-2,1)", r"\boxed{(1,-2)}", W),
    (r"(2,\infty)", r"\boxed{[2,\infty)}", W),
    (r"\left(\frac{3}{5},\frac{8}{3}\right]", r"\boxed{(0.6, \frac{8}{3}]}", R),
    (r"\begin{pmatrix} 1/5 \\ -3 \end{pmatrix}",
     r"\boxed{\begin{pmatrix} 0.2 \\ -3 \end{pmatrix}}", R),
    # words, bases, units
    (r"\text{even}", "The answer is even.", R),
    ("even", r"\boxed{\text{odd}}", W),
    ("listen", r"\boxed{silent}", W),
    ("52_8", r"\boxed{52}", W),
    ("52_8", r"$52_8$", R),
    ("10", r"\boxed{10\text{ cm}}", R),
    # nothing to read
    ("18", "", U),
    ("18", " \n", U),
    ("18", "I do not know.", U),
    ("18", "\x00", U),
    # deep
    ("18", "\\boxed{" * 50 + "18" + "}" * 50, R),
    ("18", "(" * 300 + "18" + ")" * 300, U),
]  # fmt: skip


def said(reference: str, answer: str, **settings: Any) -> str:
    return Mathematics(**settings).check(answer, reference, "", {}).outcome


@pytest.mark.parametrize(
    ("reference", "answer", "outcome"), CASES, ids=[f"{a[:20]}|{b[:40]}" for a, b, _ in CASES]
)
def test_a_hard_case(reference: str, answer: str, outcome: str):
    assert said(reference, answer) == outcome


def test_a_million_digits_are_compared_at_once():
    assert said("9" * 1_000_000, "9" * 1_000_000) == R
    assert said("18", "9" * 1_000_000) == W


def test_a_percent_sign_may_have_to_stand_in_both():
    """Inside of a box, in dollars, behind the word answer, and with a gold that has one."""
    answers = ["50", "50%", r"\boxed{50\%}", r"The answer is $50\%$.", "The answer is 50%."]
    assert [said("50", one, percent="strict") for one in answers] == [R, W, W, W, W]
    assert [said("50%", one, percent="strict") for one in answers] == [W, R, R, R, R]
    assert said("18", r"\boxed{1800\%}", percent="strict") == W


def test_only_a_marked_answer_may_count():
    answers = [r"\boxed{18}", "so\n#### 18", "so\nA: 18", "The answer is 18.", "It is 18."]
    assert [said("18", one, marked=True) for one in answers] == [R, R, R, R, U]


HANGS = [
    r"\boxed{10^{10^{10^{10}}}}",
    r"\boxed{(10^{10^{10}})!}",
    "9**9**9**9",
]


def test_what_takes_too_long_is_a_timeout_and_costs_nothing_else():
    how, pool = Mathematics(seconds=0.7), Pool(2)
    answers = [part for hang in HANGS for part in (hang, r"\boxed{18}")]
    checks = [check_of(how, one, "18", "", {}) for one in answers]
    verdicts = pool.make(checks)
    outcomes = [verdict.outcome for verdict in verdicts]
    pool.close()
    assert outcomes == ["timeout", R] * len(HANGS)


# ---- public data


def rows_of(name: str) -> list[dict[str, Any]]:
    file = DATA / name
    if not file.exists():
        pytest.skip(f"{file} is not there")
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def test_all_labels_of_solutions_to_gsm8k_are_agreed_with():
    """3,600 solutions; nine of them break off before an answer, which all are labelled wrong."""
    verifier, outcomes = Mathematics(marked=True), Counter[str]()
    for row in rows_of("gsm8k_solutions.jsonl.gz"):
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            told = row[model]
            outcome = verifier.check(told["solution"], row["ground_truth"], "", {}).outcome
            assert (outcome == R) == told["is_correct"], told["solution"]
            outcomes[outcome] += 1
    assert outcomes == {R: 1392, W: 2199, U: 9}


@pytest.fixture(scope="module")
def answers() -> list[str]:
    return sorted({boxed(row["answer"]) or "" for row in rows_of("math500.jsonl.gz")})


def test_answers_of_math500_equal_themselves(answers: list[str]):
    assert len(answers) == 171
    assert {said(one, f"so $\\boxed{{{one}}}$") for one in answers} == {R}
    assert {said(row["answer"], row["answer"]) for row in rows_of("math500.jsonl.gz")} == {R}


SAME = {
    frozenset(pair)
    for pair in [
        (r"\frac14", r"\frac{1}{4}"),  # one number
        ("30", r"30^\circ"),  # units are dropped, degrees among them
        ("90", r"90^\circ"),
        ("-2,1", "1,-2"),  # two solutions in either order
        ("-2,1", "(-2,1)"),  # solutions written as a point, or the other way round
        ("1,-2", "(-2,1)"),
    ]
}
"""Different answers of MATH-500 that are called equal, and why."""


def called_equal(pairs: list[tuple[str, str]]) -> set[frozenset[str]]:
    right = (
        (one, other) for one, other in pairs if compared(plain(one), plain(other), same_formulas)
    )
    return {frozenset(pair) for pair in right}


def test_different_answers_of_math500_differ_but_for_those_that_are_one(answers: list[str]):
    """A 151st of all pairs."""
    pairs = list(itertools.permutations(answers, 2))[::151]
    assert called_equal(pairs) <= SAME
    assert called_equal([(a, b) for pair in SAME for a, b in itertools.permutations(pair)]) == SAME


@pytest.mark.slow
def test_no_other_answers_of_math500_are_one(answers: list[str]):
    assert called_equal(list(itertools.permutations(answers, 2))) == SAME


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (r"so \boxed{12}, no: \boxed{1{,}000}", "1000"),
        ("The total is $1,000.\n#### 1,000.0", "1000"),
        ("First 3 apples, then 7 more, so 10", "10"),
        (r"\boxed{\frac{1}{2}}", "0.5"),
        ("I do not know", None),
        ("", None),
    ],
)
def test_votes_are_counted_by_the_value_of_the_final_answer(answer: str, final: str | None):
    assert Mathematics().final(answer) == final


def test_without_a_mark_nobody_votes_where_only_marked_answers_count():
    assert Mathematics(marked=True).final("It is 10") is None
    assert Mathematics(within="answer").final("<answer>\\boxed{4}</answer> or 5") == "4"
