"""Where the steps of an answer begin, in tokens: lines, sentences, whatever the tokens hold."""

from __future__ import annotations

import pytest

from backflip.data.steps import ENDS, step_starts


def begun(pieces: list[str], at: str, *, strips: bool = False) -> list[str]:
    """The text of each step; ``strips``: the tokenizer drops a blank before the first token."""

    def decode(tokens: list[int]) -> str:
        text = "".join(pieces[token] for token in tokens)
        return text.lstrip(" ") if strips else text

    starts = step_starts(list(range(len(pieces))), decode, ENDS[at])
    ends = [*starts[1:], len(pieces)]
    return ["".join(pieces[a:b]) for a, b in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(
    ("pieces", "steps"),
    [
        (["a", "\n", "b"], ["a\n", "b"]),
        (["a", "\n", "\n", " ", "b"], ["a\n\n ", "b"]),
        (["a", "\n\nb", " c"], ["a", "\n\nb c"]),
        (["\n", "a"], ["\n", "a"]),
        (["a", "\n"], ["a\n"]),
        (["a"], ["a"]),
    ],
)
def test_lines(pieces: list[str], steps: list[str]):
    assert begun(pieces, "lines") == steps


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize(
    ("pieces", "steps"),
    [
        (["It", " is", " 3", ".", "5", ".", " So", "?"], ["It is 3.5.", " So?"]),
        (["He", " said", ' "No', '."', " Then"], ['He said "No."', " Then"]),
        (["One", ".", "\n", "Two"], ["One.\n", "Two"]),
        (["好", "。", "是"], ["好。", "是"]),
    ],
)
def test_sentences(pieces: list[str], steps: list[str], strips: bool):
    assert begun(pieces, "sentences", strips=strips) == steps
