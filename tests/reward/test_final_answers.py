"""Final answers: which part of a text is one, when two are one, and by what votes are counted."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("math_verify", reason="the extra backflip[math]")

from backflip.reward.verifiers.mathematics import Mathematics

R, W, U = "correct", "incorrect", "unparsable"


def said(reference: str, answer: str, **settings: Any) -> str:
    return Mathematics(**settings).check(answer, reference, "", {}).outcome


DIFFERENT = [
    # tiny numbers, everywhere
    (r"6.63\times 10^{-34}", r"1.6\times 10^{-19}"),
    (r"\frac{1}{20!}", r"\frac{1}{21!}"),
    ("1/2^{99}", "1/2^{98}"),
    ("(1e-7,1)", "(2e-7,1)"),
    ("[0.0000001,1)", "[0.0000002,1)"),
    (r"\{0.0000001,1\}", r"\{0.0000002,1\}"),
    ("x=0.0000001", "x=0.0000002"),
    ("x>1e-9", "x>2e-9"),
    (r"x<10^{-20}", r"10^{-21}>x"),
    (r"\frac{\pi}{20!}", r"\frac{\pi}{21!}"),
    (r"\frac{x}{2^{99}}", r"\frac{x}{2^{98}}"),
    ("e^{-100}", "e^{-101}"),
    ("2^{-60}", "0"),
    (r"\begin{pmatrix}10^{-20}\\1\end{pmatrix}", r"\begin{pmatrix}10^{-21}\\1\end{pmatrix}"),
    (r"(-\infty,10^{-20})\cup(1,2)", r"(-\infty,10^{-21})\cup(1,2)"),
    # what vanishes beside something large
    (r"\frac{2^{100}+1}{3\cdot 2^{101}}", r"\frac16"),
    (r"\frac{2^n+1}{3\cdot 2^{n+1}}", r"\frac{2}{3\cdot 2^{n+1}}"),
    (r"\pi+10^{-20}", r"\pi"),
    ("10^{50}", "10^{50}+1"),
    # remainders, bases, ellipses, letters, conditions, lists
    ("n≡1 (mod 3)", "n≡2 (mod 3)"),
    (r"1\bmod 3", r"2\bmod 3"),
    (r"n\equiv1\pmod3", r"n\equiv1\pmod4"),
    ("72", "0 mod 1"),
    ("1001_2", "1001_3"),
    ("52_8", "52_7"),
    (r"1001_{\text{two}}", r"1001_{\text{three}}"),
    ("1001 (base 2)", "1001 (base 3)"),
    ("1A_{16}", "1A_{12}"),
    (r"1,2,\ldots,n", r"1,3,5,\ldots,2n-1"),
    ("1,2,...,n", "1,2,...,2n"),
    (r"1+2+\cdots+n", r"1+2+\dots+2n"),
    (r"\{1,2,\dots,10\}", r"\{1,2,10\}"),
    ("TAC", "CAT"),
    ("ABC", "CAB"),
    (r"\text{cat}", r"\text{act}"),
    ("½ if n even", "½ if n odd"),
    ("1/2 when x>0", "1/2 when x<0"),
    ("0 if n is odd, 1 if n is even", "1 if n is odd, 0 if n is even"),
    (r"\begin{cases}1&n\text{ if odd}\\0&n\text{ if even}\end{cases}",
     r"\begin{cases}0&n\text{ if odd}\\1&n\text{ if even}\end{cases}"),
    ("1/2 if n even", "1/2"),
    ("5,5", "5"),
    ("1,1,2", "1,2,2"),
    # answers beside others
    *(("72", f"The answer is {hedged}") for hedged in (
        "71 or 72", "either 71 or 72.", "$71$ or $72$.", "71 and 72.", "71, 72", "72 (or 71)",
        "72, or maybe 71.", "72. Or 71.", "71 to 90", "not 72.", r"\boxed{71 \text{ or } 72}",
        r"\boxed{71} or \boxed{72}",
    )),
    ("72", "answer: 71 or 72"),
    ("72", "#### 71 or 72"),
    ("72", "The answer is 71 or the answer is 72"),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "answer"), DIFFERENT)
def test_different_answers_are_not_called_equal(reference: str, answer: str):
    assert said(reference, answer) == (U if "not 72" in answer else W)
    assert "answer" in answer or said(reference, f"so $\\boxed{{{answer}}}$") == W


SAME = [
    ("6.63e-34", r"6.63\times 10^{-34}"),
    ("6.63 x 10^-34", "0.663e-33"),
    ("1e3", "1000"),
    (r"\frac{1}{2^{99}}", "2^{-99}"),
    (r"\frac{2^n+1}{3\cdot 2^{n+1}}", r"\frac{1}{6}+\frac{1}{3\cdot 2^{n+1}}"),
    (r"\sqrt{2}\times10^{-20}", r"\frac{2\times10^{-20}}{\sqrt2}"),
    (r"\frac{\sqrt{5}-1}{2}", "0.618034"),
    (r"0.\overline{3}", "1/3"),
    ("n≡1 (mod 3)", r"n \equiv 4 \pmod 3"),
    (r"1\pmod 3", r"n\equiv 1\ (\text{mod } 3)"),
    ("2", r"\boxed{2 \pmod 5}"),
    ("1001_2", r"1001_{\text{two}}"),
    ("1001_2", "(1001)_{2}"),
    ("1001_2", "The answer is 1001 in base 2."),
    ("1,2,…,n", r"\{1, 2, \dots, n\}"),
    (r"1+2+\cdots+n", "1+2+...+n"),
    ("CAT", "The answer is CAT."),
    ("abc", r"a \cdot c \cdot b"),
    ("½ if n even", r"\frac12 \text{ if } n \text{ is even}"),
    ("0 if n is odd, 1 if n is even", "1 if n is even and 0 if n is odd"),
    ("11", "The answer is 11 when x = 4."),
    ("72", "The answer is 72 for each child."),
    ("1,2,2", "2,1,2"),
    (r"\{1,1,2\}", r"\{2,1\}"),
    ("3 or 4", "The answer is x = 3 or x = 4."),
    ("3,4", r"\boxed{3} and \boxed{4}"),
    ("1/2", "The answer is 1/2 or 0.5."),
    # every way of writing formulas in text
    ("72", r"The answer is \(72\)."),
    (r"\sqrt{2}", r"Hence \(\sqrt{2}\)."),
    ("(1,2)", r"so we get \((1,2)\)"),
    (r"\sqrt{2}", "Hence\n\\[\n\\sqrt{2}\n\\]"),
    ("2\\pi", "The answer is 2pi."),
    # tags, sentences, what follows
    ("72", "<answer>72</answer>"),
    ("72", "<think>3, 4</think><answer>It is 72, in 2 steps</answer> Is 3 right?"),
    ("72", "The answer is 72. I checked it 3 times."),
    ("72", "answer is 72 (not 71)"),
    ("72", "The answer is 72 because 71 is too few."),
    ("72", "72 is the answer."),
    ("72", "The answer is 72. Please tell me if this answer helps."),
    ("even", "The answer is even, as 4 is."),
    # money
    ("$5", "5 dollars"),
    ("5 dollars", r"\boxed{\$5}"),
    ("5 dollars", "The answer is $5."),
    ("$1,000", "1000 dollars"),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "answer"), SAME)
def test_one_answer_written_in_two_ways(reference: str, answer: str):
    assert said(reference, answer) == R


VOTES = [
    ("0.5", ["it is \\frac{1}{2}", "½", "0.5", r"\boxed{50\%}", "The answer is 0.50.", "1/2"]),
    ("72", ["The answer is 72", "The answer is 72 apples.", "<answer>72</answer>", r"so \(72\)",
            "answer is 72 (not 71)", "x = 72", "8 * 9"]),
    ("2,3", [r"\boxed{3, 2}", "The answer is x = 2 or x = 3", r"$2$ and $3$"]),
    ("even", [r"\boxed{\text{even}}", "The answer is even."]),
    ("1/3", [r"\boxed{\frac13}", r"0.\overline{3}"]),
]  # fmt: skip


@pytest.mark.parametrize(("vote", "answers"), VOTES)
def test_one_answer_is_one_vote_however_it_is_written(vote: str, answers: list[str]):
    assert {Mathematics().final(answer) for answer in answers} == {vote}


def test_a_percent_sign_is_a_vote_of_its_own_where_it_counts():
    votes = [Mathematics(percent="strict").final(one) for one in ("50%", "0.5", "50")]
    assert len(set(votes)) == 3


@pytest.mark.parametrize("answer", ["I do not know.", "The answer is not 72.", "", "\\boxed{}"])
def test_nobody_votes_without_an_answer(answer: str):
    assert Mathematics().final(answer) is None


FLOODS = [
    *(" " * 50_000, "(" * 5000, "{" * 5000, "$" * 20_000, "a " * 20_000, "1," * 5000),
    *("\\frac" * 5000, "answer " * 5000, "9" * 50_000),
]


@pytest.mark.parametrize("flood", FLOODS, ids=[flood[:8] for flood in FLOODS])
def test_a_vote_on_a_flood_ends(flood: str):
    """It is counted in the trainer's own process, which nobody kills."""
    Mathematics().final(f"The answer is {flood}")
    Mathematics().final(flood)
    Mathematics().final(f"\\boxed{{{flood}}}")
