"""``report.html``: a run, or several side by side, on one page that needs nothing but a browser.

The page holds its own style, script and drawings, loads nothing, and says in its content security
policy that no other script may run. All text from the run goes through jinja2's escaping.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from backflip.monitor import panels, verdict
from backflip.monitor.folder import Run, Stage, flat_recipe, number, read_run
from backflip.monitor.progress import duration
from backflip.monitor.rounds_verdict import STAGE as ROUNDS_STAGE
from backflip.monitor.rounds_verdict import rounds_table
from backflip.monitor.titles import title

HERE = Path(__file__).parent
MOST_STEPS, MOST_SAMPLES, MOST_LETTERS = 20, 12, 2000


def write_report(folder: Path | str, path: Path | str | None = None) -> Path:
    """Write the report of a run, by default to ``report.html`` in its folder."""
    target = Path(path) if path is not None else Path(folder) / "report.html"
    return _write(target, render(folder))


def render(folder: Path | str, *, live: str = "") -> str:
    """The page of one run. A live page knows its version and asks its server for a newer one.

    Raises UserError when there is no run in the folder.
    """
    run = read_run(folder)
    alarms = [{**alarm, "stage": _title(s)} for s in run.stages for alarm in s.alarms]
    return _page(
        "report.html",
        live=live,
        run=run,
        heading=run.name,
        verdict=verdict.sentences(run),
        cards=verdict.cards(run),
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
    stages = list(dict.fromkeys(stage.name for _, run in runs for stage in run.stages))
    return _page(
        "compare.html",
        live="",
        heading=f"{len(runs)} runs compared",
        table=verdict.table(runs),
        settings=_differences(runs),
        keys=[(name, panels.colour_of(i)) for i, (name, _) in enumerate(runs)],
        stages=[
            {"id": name, "title": _common_title(runs, name), "charts": main, "engine": engine}
            for name in stages
            for main, engine in [panels.compared_charts(runs, name)]
        ],
    )


def write_comparison(folders: Sequence[Path | str], path: Path | str) -> Path:
    """Write the comparison of several runs."""
    return _write(Path(path), compare(folders))


def _title(stage: Stage) -> str:
    return title(stage.name, stage.objective)


def _common_title(runs: Sequence[tuple[str, Run]], name: str) -> str:
    """What all runs together call a stage: ``DPO, KTO`` where they have several objectives."""
    same = [_title(stage) for _, run in runs for stage in run.stages if stage.name == name]
    return ", ".join(dict.fromkeys(same))


def _section(stage: Stage) -> dict[str, Any]:
    return {
        "id": stage.name,
        "title": _title(stage),
        "time": None if stage.seconds is None else duration(stage.seconds),
        "step": stage.entries[-1].step if stage.entries else None,
        "charts": panels.main_charts(stage),
        "engine": panels.engine_charts(stage),
        "samples": _samples(stage),
        "table": rounds_table(stage) if stage.name == ROUNDS_STAGE else None,
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
        "answer": _text(sample.get("answer")),
        "score": _score(sample.get("score")),
        "cut": sample.get("finished") is False,
    }


def _examples(run: Run) -> list[dict[str, Any]]:
    """The same prompts answered before and after, from the summary or from the samples."""
    stage, said = run.find("examples")
    if stage is None and not said:
        said = next((e for e in map(_from_samples, reversed(run.stages)) if e), [])
    return [
        {
            "prompt": _text(example.get("prompt")),
            "before": _text(example.get("before")),
            "after": _text(example.get("after")),
            "score_before": _score(example.get("score_before")),
            "score_after": _score(example.get("score_after")),
            "reference": _text(example.get("reference")),
        }
        for example in said
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


def _score(value: Any) -> str | None:
    score = number(value)
    return None if score is None else f"{score:.2f}".replace("-", "−")


def _page(template: str, **values: Any) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(HERE)
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    script = (HERE / "script.html").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = Markup((HERE / "style.html").read_text(encoding="utf-8"))
    page = pages.get_template(template)
    return page.render(style=style, script=Markup(script), script_hash=digest, **values)


def _write(path: Path, page: str) -> Path:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8", errors="replace") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path
