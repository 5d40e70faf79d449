"""The page of ``feedback_load.py``: what was tried, and what came out."""

from __future__ import annotations

from typing import Any

ABOUT = {
    "load": (
        "A hundred raters",
        "100 raters, each answering every 2 s for 3 minutes, at random offsets, the first 2 s "
        "after they asked for the page. Times are from sending an answer to having read the whole "
        "response, which carries the next item as HTML; the raters' process shares the cores. "
        "Wished for: 95th percentile under 200 ms, no answer lost or doubled.",
    ),
    "kill": (
        "kill -9 while answering",
        "20 raters answer every 0.3 s; the server is killed again and again and started anew, "
        "once more between the last answer and the next page. Raters send again, with the "
        "same key, until they are acknowledged.",
    ),
    "tabs": (
        "Two tabs, double clicks, lost connections",
        "15 raters with two tabs each, an answer every 0.5 s in each tab; three answers in "
        "ten are sent twice at once, and of one in five the connection is cut within 30 ms, "
        "and it is sent again.",
    ),
    "lease": (
        "An expired lease",
        "One item for one rater, a lease of 10 s. The first rater falls asleep over it.",
    ),
    "clock": (
        "A clock that jumps",
        "The server's clock: right, a day ahead, a day behind, two days behind, right again; "
        "three answers each.",
    ),
    "disk": (
        "A full disk",
        "The database on a tmpfs of 16 MB that is filled while a rater holds ten items, and then "
        "cleared again.",
    ),
    "million": (
        "A million items",
        "Short pairs. Wished for: the next item in under 50 ms, the statistics page in under "
        "2 s. One rater at a time, through the server; answers beforehand through the store, "
        "in one thread.",
    ),
}


def page(rows: dict[str, Any]) -> str:
    parts = [
        "# The feedback server under load and under faults",
        "",
        f"On {rows['machine']}, by `python benchmarks/feedback_load.py`; the server is that of "
        "`backflip collect`, on 127.0.0.1.",
        "",
    ]
    for work, (title, about) in ABOUT.items():
        parts += [f"## {title}", "", about, "", *table(rows.get(work, {})), ""]
    return "\n".join(parts) + METHOD


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    if not found:
        return ["Not measured yet."]
    names = list(dict.fromkeys(name for made in found.values() for name in made))
    lines = ["| | " + " | ".join(LABELS[kind] for kind in found) + " |"]
    lines.append("|---" + "|---:" * len(found) + "|")
    for name in names:
        cells = " | ".join(shown(made.get(name)) for made in found.values())
        lines += [f"| {name} | {cells} |"]
    return lines


LABELS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


METHOD = """
## How it was measured

* *Acknowledged* answers are those of which a rater was told that they are kept. *Lost*:
  acknowledged and not in the database. *Doubled*: more than one answer of one rater to one item.
  *Never sent*: in the database under a key that no rater used. *Wrong counts*: items or projects
  whose incremental counts differ from what can be counted. All must be 0; `feedback_checks.proof`
  compares every answer with its event.
* Raters hold one item and the next one, as the page does, and keep an answer until it is
  acknowledged.
* PostgreSQL runs with its own defaults (durable) on the same cores; SQLite in WAL mode, an answer
  is on the disk before it is acknowledged.
* `tests/server/test_faults.py` tries the same faults in seconds, whenever the tests run.
"""
