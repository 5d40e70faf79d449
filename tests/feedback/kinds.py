"""A project of every kind with answers in it, and what is read of its exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backflip.data.sources import read
from backflip.feedback.exchange.exports import export
from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store
from tests.feedback.answered import answer_all, ask, better, pair, project_of


def compared(store: Store, count: int = 12, **settings: Any) -> Project:
    """Question 0 is a tie, 1 both bad, 2 cannot be told, 3 splits; 6 and 9 have a dissenter."""
    project, people = project_of(
        store, "compare", [pair(n) for n in range(count)], scale=8, **settings
    )

    def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        number = number_of(payload)
        right, wrong = better(payload), "b" if better(payload) == "a" else "a"
        special = {
            0: {"choice": "tie"},
            1: {"choice": "both_bad"},
            2: {"choice": "cannot_tell", "reason": "I know nothing about it"},
            3: {"choice": [right, wrong, "tie"][rater]},
        }
        if number in special:
            return special[number]
        dissents = rater == 2 and number in (6, 9)
        return {"choice": wrong if dissents else right, "strength": 1 + number % 4}

    answer_all(project, people, said)
    return project


def number_of(payload: dict[str, Any]) -> int:
    return int(payload["prompt"][0]["content"].split()[1].rstrip("?"))


RANKED = [
    {"prompt": ask(f"name {n}"), "answers": [{"text": t, "source": t} for t in texts]}
    for n, texts in enumerate([["best", "middle", "worst"], ["worst", "best", "middle"]])
]
PLACES = {"best": 0, "middle": 1, "worst": 2}


def ranked(store: Store) -> Project:
    project, people = project_of(store, "rank", RANKED)
    answer_all(
        project,
        people,
        lambda _, payload: {"ranks": [PLACES[a["text"]] for a in payload["answers"]]},
    )
    return project


def rated(store: Store) -> Project:
    """Two answers to one prompt, one to another."""
    items = [
        {"prompt": ask(prompt), "answer": {"text": text}}
        for prompt, text in [("why?", "good one"), ("why?", "bad one"), ("how?", "good alone")]
    ]
    attributes = [{"name": "helpful", "low": 1, "high": 5}, {"name": "kind", "low": 0, "high": 10}]
    project, people = project_of(store, "rate", items, attributes=attributes)

    def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        good = payload["answer"]["text"].startswith("good")
        helpful = [5, 5, 4][rater] if good else [2, 1, 3][rater]
        return {"ratings": {"helpful": helpful, "kind": 8 if good else 3}}

    answer_all(project, people, said)
    return project


def thumbed(store: Store) -> Project:
    items = [
        {"prompt": ask(f"q{n}"), "answer": {"text": f"{word} {n}", "source": "m"}}
        for n, word in enumerate(["good", "bad", "good", "bad", "good"])
    ]
    project, people = project_of(store, "thumbs", items)
    answer_all(
        project, people, lambda _, payload: {"up": payload["answer"]["text"].startswith("good")}
    )
    return project


def written(store: Store) -> Project:
    items = [{"prompt": ask("say hello")}, {"prompt": ask("mend it"), "draft": {"text": "teh"}}]
    project, people = project_of(store, "write", items, raters=2)

    def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        draft = payload.get("draft")
        unchanged = draft and rater == 1
        text = "teh" if unchanged else f"the {rater}" if draft else f"hello {rater}"
        return {"text": text, "from_draft": bool(draft)}

    answer_all(project, people, said)
    return project


def stepped(store: Store) -> Project:
    """Fine to the end; bad at the second of three steps, where labelling stops."""
    items = [
        {"prompt": ask("2 + 2"), "steps": ["2 + 2 = 4", "done"], "source": "m"},
        {"prompt": ask("3 + 3"), "steps": ["3 + 3", "= 7", "done"], "source": "m"},
    ]
    project, people = project_of(store, "steps", items, stop_at_bad=True)

    def said(rater: int, payload: dict[str, Any]) -> dict[str, Any]:
        del rater
        return {"labels": [1, 0] if len(payload["steps"]) == 2 else [1, -1, None]}

    answer_all(project, people, said)
    return project


TALK = {
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!", "candidates": ["Hello!", "What?"], "picked": 0},
        {"role": "user", "content": "Name three rivers"},
        {
            "role": "assistant",
            "content": "Nile, Rhine, Po",
            "candidates": ["Nile", "The Rhine"],
            "picked": 1,
            "edited": True,
        },
        {"role": "user", "content": "Rank them"},
        {
            "role": "assistant",
            "content": "Po",
            "candidates": ["Po", "Rhine", "Nile", "Po"],
            "ranks": [0, 1, 1, 0],
        },
    ],
    "verdicts": {"be brief": "kept"},
}


def talked(store: Store) -> Project:
    item = {
        "opening": [{"role": "system", "content": "You are a guide."}],
        "policies": ["model-x", "model-y"],
        "rules": ["be brief"],
    }
    project, people = project_of(store, "talk", [item], raters=1)
    answer_all(project, people, lambda *_: TALK)
    return project


PROJECTS = {
    "compare": compared,
    "rank": ranked,
    "rate": rated,
    "thumbs": thumbed,
    "write": written,
    "steps": stepped,
    "talk": talked,
}


def rows_of(project: Project, format: str, tmp_path: Path, **given: Any) -> list[dict[str, Any]]:
    path = tmp_path / f"{format}.jsonl"
    export(project, format, path, **given)
    return [dict(row.fields) for row in read(str(path))]


def by_item(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {row["provenance"]["items"][0]: row for row in rows}
