"""A round of questions as a command: a project, how to choose, and who estimates.

    python -m backflip.server.work.ask_command DATABASE PROJECT JSON

The JSON holds fields of ``choose.asking.Ask``, and ``judges``: reward models, which stand in for
the small model that would learn from the project's own answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from backflip.data.records import BadRecordError, Comparison
from backflip.errors import UserError
from backflip.feedback.choose.asking import FEWEST_JUDGED, Ask, Judge, Round, ask_next
from backflip.feedback.choose.embedding import Payloads
from backflip.feedback.choose.prescreen import Screen
from backflip.feedback.exchange.records import reply, turns
from backflip.feedback.kinds.compare import KIND as COMPARE
from backflip.feedback.kinds.compare import Compare
from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.projects.project import Project
from backflip.feedback.statistics.judgements import Floats
from backflip.feedback.tasks.items import payload_of
from backflip.text import counted

STRATEGIES = {
    "random": ("By chance", "No model; what every other way is measured against."),
    "disagreement": ("Ensemble disagreement", "Where draws of a model’s posterior part most."),
    "information": ("Information gain", "Where an answer should tell the model most."),
    "uncertainty": ("Uncertain posterior", "Where the label is least sure, begun items included."),
    "best_against_worst": ("Best against worst", "Where one answer seems far better: least noise."),
    "diversity": ("Diversity", "As unlike one another as can be; needs no answers yet."),
}  # fmt: skip
"""Ways to choose: their names, and what each looks for."""
CANDIDATES = 1000
"""Waiting items that reward models read; words of a small model are read ten times as fast."""


def offered(kind: str) -> list[str]:
    """The ways to choose that items of a kind have."""
    if kind_of(kind).two_texts:
        return list(STRATEGIES)
    return ["random", "diversity"] if kind_of(kind).readable else ["random"]


def check(kind: str, strategy: str) -> None:
    """Raises UserError for a way to choose that items of a kind do not have."""
    if strategy not in offered(kind):
        known = ", ".join(offered(kind))
        raise UserError(
            f"items of the kind {kind!r} are not chosen by {strategy[:30]!r}; use {known}."
        )


def ask(project: Project, asked: Mapping[str, Any], *, by: int | None = None) -> Round:
    """One round. Raises UserError for settings that are none, and where judges cannot read."""
    given = dict(asked)
    judges = given.pop("judges", None) or []
    unknown = sorted(set(given) - {field.name for field in fields(Ask)})
    if unknown:
        raise UserError(f"{unknown[0]!r} is no setting of a round of questions.")
    if judges and not kind_of(project.settings.kind).two_texts:
        raise UserError(
            f"reward models read pairs of texts: only the kind {COMPARE.name} has them."
        )
    if isinstance(given.get("screen"), Mapping):
        given["screen"] = Screen(**given["screen"])
    if judges:
        given.setdefault("candidates", CANDIDATES)
    return ask_next(project, Ask(**given), judge=jury(judges) if judges else None, by=by)


def jury(models: Sequence[str]) -> Judge:
    """Reward models as one judge with as many voices as they have heads.

    Items without words to read, being redacted or empty, have log odds 0.
    """

    def judge(payloads: Payloads) -> Floats:
        from backflip.reward.panel import log_odds

        records = [comparison(payload) for payload in payloads]
        read = [place for place, record in enumerate(records) if record is not None]
        odds = log_odds(models, [r for r in records if r is not None], told=_say).numpy()
        found = np.zeros((len(odds), len(payloads)))
        found[:, read] = odds
        return found

    return judge


def comparison(payload: Mapping[str, Any]) -> Comparison | None:
    """An item as two answers to a prompt; None where one of them has no words."""
    item = payload_of(dict(payload), COMPARE.name)
    assert isinstance(item, Compare)
    try:
        answers = tuple(reply(answer.text) for answer in item.answers)
        return Comparison(turns(item.prompt), answers, (0, 1))
    except BadRecordError:
        return None


def in_words(asked: Mapping[str, Any], made: Mapping[str, Any] | None) -> list[str]:
    """The result of a round, in sentences."""
    if made is None:
        return []
    if not made["candidates"] and not made["active"] and not made["random"]:
        return ["Nothing waits to be judged, so nothing was chosen. Import more items first."]
    used, wished = str(made["strategy"]), str(asked.get("strategy", ""))
    models = len(asked.get("judges") or ())
    name = STRATEGIES.get(used, (used, ""))[0]
    said = [
        f"{name}: {counted(made['active'], 'item comes', 'items come')} first, of "
        f"{made['candidates']:,} that were looked "
        f"at; {made['random']:,} more joined the random arm."
    ]
    if used != wished:
        said.append(
            f"Only {counted(made['judged'], 'item has', 'items have')} been judged; a model "
            f"needs {FEWEST_JUDGED}, so "
            "chance chose."
        )
    elif used not in ("random", "diversity") and models:
        said.append(
            "One reward model estimated."
            if models == 1
            else f"{models} reward models estimated, as an ensemble."
        )
    elif used not in ("random", "diversity"):
        said.append(f"The model learnt from {counted(made['judged'], 'judged item')}.")
    if made["released"]:
        said.append(
            f"{counted(made['released'], 'item')} of the round before: with the others again."
        )
    return said


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> None:
    """Says what the round did as JSON, in its last line."""
    from backflip.feedback.projects.store import open_store

    place, name, *more = arguments
    store = open_store(place)
    try:
        done = ask(store.project(name), json.loads(more[0]) if more else {})
    except UserError as error:
        sys.exit(f"Nothing was chosen: {error}")
    finally:
        store.close()
    _say(json.dumps(asdict(done)))


if __name__ == "__main__":
    main(sys.argv[1:])
