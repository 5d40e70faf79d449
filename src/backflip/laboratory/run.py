"""The laboratory's work: a start, labels by the gold, proxies, and policies trained against them.

    RUN/sft/              the start, where the recipe has a stage that makes it
    RUN/labels/           comparisons of the start's answers, labelled by the gold
    RUN/proxy_NAME/       a reward model: an ordinary run, as are those that follow
    RUN/best_of_n.json    what choosing by each proxy does to the gold
    RUN/against_NAME/     a policy trained against a proxy, against the gold, or with a remedy

Whatever is there is not done again, so that a run which broke goes on where it broke.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.laboratory.choosing import best_of_n_courses
from backflip.laboratory.courses import BIN, Course
from backflip.laboratory.labels import Row, Start, resampled, with_noise, write_labels
from backflip.laboratory.settings import ENSEMBLES, OveroptimizationRecipe
from backflip.monitor.log import MetricsLog
from backflip.monitor.trackers import open_trackers
from backflip.progress import task
from backflip.stages.base import RunContext, Stage
from backflip.stages.rewards.models import EnsembleOfModels, Model
from backflip.training.environment import note_environment
from backflip.training.run_folder import write_atomically

__all__ = ["run_laboratory"]

GOLD = "gold"
"""The run whose reward is the gold itself."""


@dataclass(frozen=True)
class Proxy:
    """One proxy to be made."""

    name: str
    labels: int
    noise: float = 0.0
    model: str | None = None
    """None: the policy that all begins with."""


def proxies_of(recipe: OveroptimizationRecipe) -> list[Proxy]:
    """The weak one first."""
    most = max(recipe.labels)
    made = [Proxy(f"labels_{count}", count) for count in recipe.labels]
    made += [Proxy(f"model_{_plain(size)}", most, 0.0, size) for size in recipe.sizes]
    return made + [Proxy(f"noise_{share:g}", most, share) for share in recipe.noise]


def _plain(model: str) -> str:
    """A model's name as part of a folder's."""
    return model.rpartition(":")[2].replace("/", "_")


def run_laboratory(recipe: OveroptimizationRecipe, given: RunContext) -> dict[str, Any]:
    """Do what is missing; returns the courses and the table of remedies."""
    if recipe.sft is not None:
        given.learn(recipe.sft)
    begin = recipe.model if recipe.sft is None else str(recipe.sft.run / "model")
    here().once(lambda: note_environment(given.run))
    start = Start(recipe, begin, given.progress.say)
    rows, held = write_labels(start, given.run.path / "labels", max(recipe.labels))
    bench = _Bench(recipe, given, start, rows, held)
    accuracy = {proxy.name: bench.proxy(proxy) for proxy in proxies_of(recipe)}
    chosen = bench.best_of_n(list(accuracy))
    log = MetricsLog(given.run.path, trackers=_trackers(recipe, given.run.path))
    try:
        courses = bench.courses(list(accuracy), log)
    finally:
        log.close()
    weak = proxies_of(recipe)[0].name
    return {
        "weak": weak,
        "proxies": {p.name: _about(p, accuracy[p.name]) for p in proxies_of(recipe)},
        "best_of_n": chosen,
        "courses": {name: course.to_json() for name, course in courses.items()},
        "remedies": remedies(courses, weak, "early_stop" in recipe.remedies),
    }


def _about(proxy: Proxy, summary: Mapping[str, Any]) -> dict[str, Any]:
    named = ("accuracy", "accuracy_low", "accuracy_high", "parameters")
    known = {name: summary.get(name) for name in named}
    return {"labels": proxy.labels, "noise": proxy.noise, **known}


def _trackers(recipe: OveroptimizationRecipe, path: Path) -> Any:
    settings = recipe.model_dump(mode="json")
    return open_trackers(recipe.trackers if here().leads else (), path, settings)


@dataclass(frozen=True)
class _Bench:
    """A start with its labels, and the stages that are run on them."""

    recipe: OveroptimizationRecipe
    given: RunContext
    start: Start
    rows: list[Row]
    held: Path

    def proxy(self, proxy: Proxy) -> dict[str, Any]:
        """The summary of a proxy's training."""
        rows = with_noise(self.rows[: proxy.labels], proxy.noise, self.recipe.seed)
        return self._reward_model(proxy.name, rows, proxy.model)

    def members(self) -> list[str]:
        """Folders of an ensemble's members, each from its own sample of the weak proxy's labels."""
        rows, made = self.rows[: self.recipe.labels[0]], list[str]()
        for number in range(1, self.recipe.members + 1):
            name, seed = f"member_{number}", self.recipe.seed + 100 + number
            self._reward_model(name, resampled(rows, seed), None, seed)
            made.append(self._model_of(name))
        return made

    def best_of_n(self, proxies: list[str]) -> dict[str, Any]:
        """Best of n by every proxy, and by the gold."""
        path = self.given.run.path / "best_of_n.json"
        if not here().once(path.is_file):
            self.given.progress.say("best of n: answers of the start, chosen by each proxy")
            with task("best of n"):
                found = best_of_n_courses(self.start, {n: self._model_of(n) for n in proxies})
            here().once(lambda: write_atomically(path, json.dumps(found) + "\n"))
        return json.loads(path.read_text(encoding="utf-8"))

    def courses(self, proxies: list[str], log: MetricsLog) -> dict[str, Course]:
        """All runs, one after the other, with what came of each in the log."""
        found, runs = dict[str, Course](), self._runs(proxies)
        log.truncate_after(0)
        with task("policies", len(runs), lasting=True) as done:
            for number, (name, stage) in enumerate(runs.items(), start=1):
                self.given.progress.say(f"a policy against {name.replace('_', ' ')}")
                self.given.learn(stage)
                course = found[name] = Course.of(stage.run)
                if len(course.kl) < BIN:
                    raise UserError(
                        f"{stage.run}: the policy was stopped after {len(course.kl)} steps, and a "
                        f"course has a point for every {BIN}. Lower online.optimizer.lr, or raise "
                        "what stopped it, such as online.kl_stop."
                    )
                told = {"gold": course.gold_at(len(course.gold)).estimate, "kl": course.kl[-1]}
                log.append(number, self.recipe.stage, told)
                done.reach(number)
        return found

    def _runs(self, proxies: list[str]) -> dict[str, Stage]:
        """The stages that train policies, by their names."""
        recipe, weak = self.recipe, Model(model=self._model_of(proxies[0]))
        plain = replace(recipe.online.shaping, missing_eos=None)  # gold judges what stands there
        runs = {GOLD: self._online(GOLD, {"reward": recipe.gold, "gold": None, "shaping": plain})}
        for name in proxies:
            runs[name] = self._online(name, {"reward": Model(model=self._model_of(name))})
        if wanted := [name for name in recipe.remedies if name in ENSEMBLES]:
            models = tuple(self.members())
            for name in wanted:
                reward = EnsembleOfModels(models=models, combine=ENSEMBLES[name])  # pyright: ignore
                runs[name] = self._online(name, {"reward": reward})
        if "kl" in recipe.remedies:
            priced: Any = replace(recipe.online.algorithm, kl_coef=recipe.kl_coef)  # pyright: ignore
            runs["kl"] = self._online("kl", {"reward": weak, "algorithm": priced})
        if "length" in recipe.remedies:
            shaping = replace(recipe.online.shaping, length_penalty=recipe.length_penalty)
            runs["length"] = self._online("length", {"reward": weak, "shaping": shaping})
        return runs

    def _online(self, name: str, changes: Mapping[str, Any]) -> Stage:
        own = {"model": self.start.model, "run": self.given.run.path / f"against_{name}"}
        return self.recipe.online.model_copy(update={"gold": self.recipe.gold, **own, **changes})

    def _reward_model(
        self, name: str, rows: list[Row], model: str | None, seed: int | None = None
    ) -> dict[str, Any]:
        """The summary of a reward model's training on these comparisons."""
        source = self.given.run.path / "labels" / f"{name}.jsonl"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if not here().once(source.is_file):
            here().once(lambda: write_atomically(source, text))
        stage = self.recipe.reward_model
        data = stage.data.model_copy(update={"source": str(source), "validation": str(self.held)})
        changes: dict[str, Any] = {"data": data, "run": self.given.run.path / f"proxy_{name}"}
        changes |= {"model": model or self.start.model, "policy": self.start.model}
        changes |= {} if seed is None else {"seed": seed}
        return self.given.learn(stage.model_copy(update=changes))

    def _model_of(self, name: str) -> str:
        return str(self.given.run.path / f"proxy_{name}" / "model")


def remedies(courses: Mapping[str, Course], weak: str, stopped: bool) -> list[dict[str, Any]]:
    """A row for each remedy against the weak proxy: gold at start, best and end of its run."""
    names = [weak, *(name for name in courses if name in (*ENSEMBLES, "kl", "length")), GOLD]
    rows = [_row(name, courses[name]) for name in names if name in courses]
    step = courses[weak].first_alarm
    if stopped:
        course = courses[weak]
        at = len(course.gold) if step is None else step
        rows.insert(-1, _row("early_stop", course) | {"end": course.gold_at(at).as_json()})
        rows[-2] |= {"end_d": max(course.kl_at(at), 0.0) ** 0.5, "stopped": step}
    return rows


def _row(name: str, course: Course) -> dict[str, Any]:
    d = course.points[0]
    told = {"name": name, "start": course.start.as_json(), "end_d": d[-1]}
    told |= {"end": course.gold_at(len(course.gold)).as_json(), "peak_d": d[course.peak]}
    return told | {"best": course.to_json()["best"]}
