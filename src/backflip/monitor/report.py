"""``report.html``: a run, or several side by side, on one page that needs nothing but a browser.

The page holds its own style, script and drawings, loads nothing, and says in its content security
policy that no other script may run. All text from the run goes through jinja2's escaping.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from backflip.monitor.charts import colour_of
from backflip.monitor.folder import flat_recipe, read_run
from backflip.monitor.paired import paired_sentences
from backflip.monitor.run import Run, Stage
from backflip.monitor.text import number
from backflip.monitor.views import kind_of, title, view_of
from backflip.monitor.views.base import Card, Table, View
from backflip.text import duration, fixed

HERE = Path(__file__).parent
EMPTY = "(empty)"
MOST_STEPS, MOST_SAMPLES, MOST_LETTERS = 20, 12, 2000


def write_report(folder: Path | str, path: Path | str | None = None) -> Path:
    """Write the report of a run, by default to ``report.html`` in its folder."""
    target = Path(path) if path is not None else Path(folder) / "report.html"
    return write_page(target, render(folder))


def render(folder: Path | str, *, live: str = "") -> str:
    """The page of one run. A live page knows its version and asks its server for a newer one.

    Raises UserError when there is no run in the folder.
    """
    run = read_run(folder)
    alarms = [
        {**alarm, "stage": title(s.name, s.algorithm)} for s in run.stages for alarm in s.alarms
    ]
    return render_page(
        "report.html",
        live=live,
        run=run,
        heading=run.name,
        verdict=sentences(run),
        cards=cards(run),
        alarms=alarms,
        examples=_examples(run),
        examples_rule=_text(run.find("examples_rule")[1]),
        stages=[_section(stage) for stage in run.stages],
        environment=run.environment,
    )


def compare(folders: Sequence[Path | str]) -> str:
    """One page with the curves and results of several runs on top of one another.

    Raises UserError when a folder holds no run.
    """
    runs = list(zip(_names(folders), [read_run(folder) for folder in folders], strict=True))
    kinds: dict[str, list[tuple[int, str, Stage]]] = {}
    for colour, (name, run) in enumerate(runs):
        for stage in run.stages:
            kinds.setdefault(kind_of(stage.name), []).append((colour_of(colour), name, stage))
    return render_page(
        "compare.html",
        live="",
        heading=f"{len(runs)} runs compared",
        table=table(runs),
        paired=paired_sentences(runs),
        settings=_differences(runs),
        keys=[(name, colour_of(i)) for i, (name, _) in enumerate(runs)],
        stages=[_compared(stages) for stages in kinds.values()],
    )


def write_comparison(folders: Sequence[Path | str], path: Path | str) -> Path:
    """Write the comparison of several runs."""
    return write_page(Path(path), compare(folders))


# ---- results


def sentences(run: Run) -> list[str]:
    """The results in words, stage by stage."""
    return [line for stage in run.stages for line in _view(stage).sentences(stage) if line]


def cards(run: Run) -> list[Card]:
    """The headline numbers, those that exist."""
    drawn = [card for _, card in _placed_cards(run)]
    return [card for card in (*drawn, _time_card(run)) if card]


def table(runs: Sequence[tuple[str, Run]]) -> Table:
    """Runs side by side, with a column for each card that one of them has."""
    places: dict[str, tuple[int, int]] = {}
    rows: list[dict[str, str]] = []
    for name, run in runs:
        for place, card in _placed_cards(run):
            places[card.label] = max(place, places.get(card.label, place))
        values = {card.label: _with_ends(card) for card in cards(run)}
        alarms = sum(len(stage.alarms) for stage in run.stages)
        rows.append({"Run": name, "State": run.state, **values, "Alarms": str(alarms)})
    time = ["Time"] if any("Time" in row for row in rows) else []
    head = ["Run", "State", *sorted(places, key=places.__getitem__), *time, "Alarms"]
    return head, [[row.get(label, "—") for label in head] for row in rows]


def _with_ends(card: Card) -> str:
    return f"{card.value} [{card.ends}]" if card.ends else card.value


def _placed_cards(run: Run) -> list[tuple[tuple[int, int], Card]]:
    """The cards of all stages, with their places in a pipeline and in their view."""
    placed: list[tuple[tuple[int, int], Card]] = []
    for stage in run.stages:
        view = _view(stage)
        last = view.last_cards(stage) if stage is run.stages[-1] else ()
        drawn = enumerate((*view.cards(stage), *last))
        placed += [((view.place, index), card) for index, card in drawn if card]
    return placed


def _time_card(run: Run) -> Card | None:
    if run.seconds is None:
        return None
    several = [(s.name.replace("_", " "), s.seconds) for s in run.stages if s.seconds is not None]
    detail = ", ".join(f"{name} {duration(spent)}" for name, spent in several)
    return Card("Time", duration(run.seconds), detail if len(several) > 1 else "")


# ---- parts of the page


def _view(stage: Stage) -> View:
    return view_of(stage.name, stage.metrics())


def _compared(stages: Sequence[tuple[int, str, Stage]]) -> dict[str, Any]:
    """One kind of stage in several runs; ``DPO, KTO`` where they have several objectives."""
    first = stages[0][2]
    titles = dict.fromkeys(title(stage.name, stage.algorithm) for _, _, stage in stages)
    charts, engine = _view(first).compared_charts(stages)
    return {"id": first.name, "title": ", ".join(titles), "charts": charts, "engine": engine}


def _section(stage: Stage) -> dict[str, Any]:
    return {
        "id": stage.name,
        "title": title(stage.name, stage.algorithm),
        "time": None if stage.seconds is None else duration(stage.seconds),
        "step": stage.entries[-1].step if stage.entries else None,
        "charts": _view(stage).main_charts(stage),
        "engine": _view(stage).engine_charts(stage),
        "samples": _samples(stage),
        "table": _view(stage).table(stage),
    }


def _samples(stage: Stage) -> list[dict[str, Any]]:
    """Samples by step, thinned evenly: the first and the last step are always there."""
    by_step: dict[int, list[dict[str, Any]]] = {}
    for sample in stage.samples:
        if number(sample.get("step")) is not None:
            rows = by_step.setdefault(int(sample["step"]), [])
            if len(rows) < MOST_SAMPLES:
                rows.append(_sample(sample))
    steps = sorted(by_step)
    if len(steps) > MOST_STEPS:
        gap = (len(steps) - 1) / (MOST_STEPS - 1)
        steps = [steps[round(i * gap)] for i in range(MOST_STEPS)]
    return [{"step": step, "rows": by_step[step]} for step in steps]


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "prompt": _text(sample.get("prompt")),
        "answer": _answer(sample.get("answer")),
        "score": _score(sample.get("score")),
        "cut": sample.get("finished") is False,
    }


def _examples(run: Run) -> list[dict[str, Any]]:
    """Answers before and after to the same prompts, from the summary or from the samples."""
    stage, pairs = run.find("examples")
    if stage is None and not pairs:
        pairs = next((e for e in map(_from_samples, reversed(run.stages)) if e), [])
    return [
        {
            "prompt": _text(example.get("prompt")),
            "before": _answer(example.get("before")),
            "after": _answer(example.get("after")),
            "score_before": _score(example.get("score_before")),
            "score_after": _score(example.get("score_after")),
            "reference": _text(example.get("reference")),
        }
        for example in pairs
        if isinstance(example, dict)
    ]


def _from_samples(stage: Stage, most: int = 3) -> list[dict[str, Any]]:
    steps = [s["step"] for s in stage.samples if number(s.get("step")) is not None]
    if not steps or min(steps) == max(steps):
        return []
    first, last = (
        {_text(s.get("prompt")): s for s in stage.samples if s.get("step") == step}
        for step in (min(steps), max(steps))
    )
    return [
        {
            "prompt": prompt,
            "before": first[prompt].get("answer"),
            "after": last[prompt].get("answer"),
            "score_before": first[prompt].get("score"),
            "score_after": last[prompt].get("score"),
        }
        for prompt in first
        if prompt in last
    ][:most]


def _differences(runs: Sequence[tuple[str, Run]]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all runs."""
    flat = [flat_recipe(run.recipe) for _, run in runs]
    names = sorted({name for settings in flat for name in settings})
    rows = [(name, [settings.get(name, "—") for settings in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _names(folders: Sequence[Path | str]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    paths = [Path(folder).resolve() for folder in folders]
    for depth in range(1, max((len(path.parts) for path in paths), default=1)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({index})" for index, path in enumerate(paths, start=1)]


def _text(value: Any) -> str:
    """A prompt or an answer; a conversation becomes its turns, a long text is cut."""
    if isinstance(value, list):
        turns = [t for t in value if isinstance(t, dict)]
        value = "\n".join(f"{t.get('role', '')}: {t.get('content', '')}" for t in turns)
    text = "" if value is None else str(value)
    return text if len(text) <= MOST_LETTERS else text[:MOST_LETTERS] + " …"


def _answer(value: Any) -> str:
    """An answer as text; one without a letter is said to be empty."""
    return _text(value) if value is None or _text(value).strip() else EMPTY


def _score(value: Any) -> str | None:
    score = number(value)
    return None if score is None else fixed(score, 2)


def _tied(text: str) -> str:
    """Text in which no line breaks between a number and its percent sign."""
    return re.sub(r"(?<=\d) %", "\u00a0%", text)


def render_page(template: str, **values: Any) -> str:
    """A page of this room's templates, with its style and its script inside."""
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters["tied"] = _tied
    script = (HERE / "script.html").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = Markup((HERE / "style.html").read_text(encoding="utf-8"))
    page = pages.get_template(template)
    return page.render(style=style, script=Markup(script), script_hash=digest, **values)


def as_page(out: Path) -> Path:
    """The file of a page: with an ending by which a browser knows it."""
    return out if out.suffix.lower() in (".html", ".htm") else out.with_name(f"{out.name}.html")


def write_page(path: Path, page: str) -> Path:
    """Write a page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8", errors="replace") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path
