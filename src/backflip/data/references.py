"""Reference answers: the columns that hold them, and the final answers of worked solutions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backflip.data.columns import at, is_empty, plain

__all__ = ["BESIDE", "WORKED", "boxed", "final_line", "settled"]

BESIDE = (
    *("reference", "reference_answer", "ground_truth", "expected_answer", "final_answer", "target"),
    "reward_model.ground_truth",
)
"""Names of a column with the reference answer beside one that answers in full."""
WORKED = "worked_solution"
"""The further column in which a worked solution goes on, whose final answer is the reference."""
BOX = re.compile(r"\\(?:boxed|fbox)\s*")


def settled(
    reference: str, info: Mapping[str, Any], column: str | None
) -> tuple[str, dict[str, Any], str]:
    """(the reference answer of a row, its further columns, a remark on where it was found).

    Args:
        reference: the answer that the row gives in full; empty where it gives none.
        info: columns that nobody has read.
        column: the column that a recipe names for it.

    """
    left = dict(info)
    named = {plain(name): name for name in info}
    for name in (column,) if column else BESIDE:
        first, dot, rest = name.partition(".")
        real = name if name in info else named.get(plain(first), first) + dot + rest
        value = at(info, real)
        if not is_empty(value):
            left.pop(real if real in left else real.partition(".")[0], None)
            return str(value), left, ""
    for short, mark in ((final_line(reference), "####"), (boxed(reference), r"\boxed")):
        if short:
            remark = f"the reference answer is what follows {mark} in the row's own answer"
            return short, left | {WORKED: reference}, remark
    return reference, left, ""


def final_line(text: str) -> str:
    """The text behind ``####`` in the last line of a solution, as GSM8K marks it; else nothing."""
    last = text.rstrip().rpartition("\n")[2]
    return last.removeprefix("####").strip() if last.startswith("####") else ""


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed``; None without one, empty where it is not closed."""
    boxes = list(BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    if text[start : start + 1] != "{":
        return re.split(r"[\s$]", text[start:], maxsplit=1)[0]
    depth = 0
    for sign in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(sign[0], 0)
        if depth == 0:
            return text[start + 1 : start + sign.start()].strip()
    return ""
