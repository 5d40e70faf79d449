"""Votes on pairs of models as users have them: rows in the shapes of the field's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from backflip.data.published import FIRST, SECOND, TIES
from backflip.data.records import Tally
from backflip.errors import UserError
from backflip.functional.ladders import Votes

__all__ = ["SIDES", "VERDICTS", "read_votes", "votes_of"]

SIDES = (("model_a", "model_b"), ("left", "right"), ("model_1", "model_2"), ("first", "second"))
"""Columns that name the two models of a pair."""
VERDICTS = ("winner", "choice", "verdict", "vote", "preferred", "label")
"""Columns that say which of them won, where no ``votes`` are listed."""
PROMPTS = ("prompt", "question_id", "question", "instruction", "prompt_id", "uid")
DIGITS = ({"0", "1"}, {"1", "2"})
"""Two ways to number the sides."""


def read_votes(
    rows: Sequence[Mapping[str, Any]], *, winner: str = ""
) -> tuple[list[dict[str, Any]], list[str]]:
    """(A row for each vote: id, group, first, second, score; sentences on what was left out).

    A row of the file names two models (``model_a`` and ``model_b``, ``left`` and ``right``) and
    says who won in ``winner``: by side, by number, by the model's name, or a tie; or lists votes of
    several people as ``votes``: [[rater, verdict], …]. ``winner`` names another column. The prompt
    is a column ``prompt``; without one every row is taken as a prompt of its own.

    Raises UserError where no vote is left, or numbers could mean either side.
    """
    left, found = Tally(), list[dict[str, Any]]()
    said = [(row, *_said(row, winner)) for row in rows]
    start = _numbering([verdict for _, _, verdicts in said for verdict in verdicts])
    alone = 0
    for number, (row, sides, verdicts) in enumerate(said):
        if sides is None or not verdicts or sides[0] == sides[1]:
            why = "no two models" if sides is None else "no verdict"
            left.add("a model against itself" if sides and verdicts else why, f"row {number + 1}")
            continue
        prompt = next((str(row[name]) for name in PROMPTS if row.get(name) is not None), None)
        alone += prompt is None
        group = f"row {number}" if prompt is None else prompt
        for place, verdict in enumerate(verdicts):
            score = _score(verdict, sides, start)
            if score is None:
                left.add("no verdict that names a side or a tie", repr(verdict)[:60])
                continue
            vote = {"id": f"{number}.{place}", "group": group, "first": sides[0]}
            found.append(vote | {"second": sides[1], "score": score, "tie": float(score == 0.5)})
    if not found:
        raise UserError(
            f"none of {len(rows)} rows holds a vote: {'; '.join(left.lines())}. A row names two "
            "models, as model_a and model_b, and the winner, as model_a, model_b or tie."
        )
    notes = [f"left out: {line}" for line in left.lines()]
    return found, notes + _about_prompts(alone, len(rows))


def _about_prompts(alone: int, rows: int) -> list[str]:
    if not alone:
        return []
    return [
        f"{alone} of {rows} rows name no prompt: each is taken as a prompt of its own, so that "
        "intervals are too narrow if some share one."
    ]


def votes_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Votes, list[str]]:
    """(Votes, names of the models by their numbers) of rows as ``read_votes`` makes them."""
    models = sorted({row[side] for row in rows for side in ("first", "second")})
    number = {name: place for place, name in enumerate(models)}
    prompts = {name: place for place, name in enumerate(dict.fromkeys(r["group"] for r in rows))}
    first, second = (
        np.array([number[row[side]] for row in rows], np.int64) for side in ("first", "second")
    )
    score = np.array([row["score"] for row in rows], np.float64)
    cluster = np.array([prompts[row["group"]] for row in rows], np.int64)
    return Votes(first, second, score, cluster, len(models)), models


def _said(row: Mapping[str, Any], winner: str) -> tuple[tuple[str, str] | None, list[Any]]:
    """(The two models, all verdicts on them) of a row."""
    named = next((s for s in SIDES if all(row.get(name) is not None for name in s)), None)
    sides = None if named is None else (str(row[named[0]]), str(row[named[1]]))
    votes = row.get("votes")
    if not winner and isinstance(votes, Sequence) and not isinstance(votes, str):
        return sides, [_vote(one) for one in cast("Sequence[Any]", votes)]
    names = (winner,) if winner else VERDICTS
    return sides, [row[name] for name in names if row.get(name) is not None][:1]


def _vote(one: Any) -> Any:
    """The verdict of a vote: alone, or behind its rater."""
    if isinstance(one, Mapping):
        found = cast("Mapping[str, Any]", one)
        return next((found[name] for name in VERDICTS if name in found), None)
    is_pair = isinstance(one, Sequence) and not isinstance(one, str)
    return cast("Sequence[Any]", one)[-1] if is_pair and one else one


def _plain(verdict: Any) -> str:
    whole = isinstance(verdict, float) and verdict.is_integer()
    return str(int(verdict) if whole else verdict).strip().lower()


def _numbering(verdicts: Sequence[Any]) -> int:
    """Whether sides are numbered from 0 or from 1, by all that the file says."""
    seen = {text for verdict in verdicts if (text := _plain(verdict)) in {"0", "1", "2"}}
    if seen and not any(seen <= ways for ways in DIGITS):
        raise UserError(
            "winner is 0 in some rows and 2 in others: write model_a, model_b or tie instead."
        )
    if seen == {"1"}:
        raise UserError(
            "winner is 1 in every row that has a number, which may be the first or the second "
            "model: write model_a, model_b or tie instead."
        )
    return 0 if "0" in seen else 1


def _score(verdict: Any, sides: tuple[str, str], start: int) -> float | None:
    """1 for the first model, 0 for the second, ½ for a tie; None for anything else.

    A model's own name comes before words for sides, whatever it is called.
    """
    text = _plain(verdict)
    names = [_plain(side) for side in sides]
    if text in names:
        return 1.0 - names.index(text)
    if text.isdigit():
        return {str(start): 1.0, str(start + 1): 0.0}.get(text)
    if text in FIRST | {"model_1"}:
        return 1.0
    if text in SECOND | {"model_2"}:
        return 0.0
    return 0.5 if text in TIES | {"draw"} else None
