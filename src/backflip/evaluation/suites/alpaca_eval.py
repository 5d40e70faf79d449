"""AlpacaEval 2: win rate against a baseline, raw and length-controlled (Dubois et al., 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, final

import numpy as np

from backflip.data.sources import read
from backflip.errors import UserError
from backflip.evaluation.annotations import (
    Annotated,
    annotated,
    read_annotations,
    read_coefficients,
)
from backflip.evaluation.answer_files import answers_by, turns_of
from backflip.evaluation.pairwise import By, Pair, both_orders, judge_by
from backflip.evaluation.suites.base import Suite, Table
from backflip.evaluation.suites.scorer import heard, judge_named
from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Asking, Subject, asked
from backflip.functional import length_control as lc
from backflip.functional.length_control import Coefficients, Prior
from backflip.functional.statistics import Interval, share_interval
from backflip.monitor.text import Estimate, share_ranged
from backflip.text import counted

__all__ = ["AlpacaEval", "Controlled", "controlled"]

NULL = "I cannot say anything useful about this."
"""An answer to nothing, which no judge may like."""
DRAWS = 200
FEWEST_MODELS = 5
"""Models with coefficients from which a prior is taken."""


@dataclass(frozen=True)
class Controlled:
    """One model's win rates, as shares."""

    model: str
    raw: Interval
    refit: Interval
    """Length-controlled, by coefficients of our own."""
    stated: float
    """Length-controlled, by published coefficients; NaN without them."""
    published: float
    """As published; NaN where nobody says."""
    chars: float
    """Mean length of its answers, in characters."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        given = {"stated": self.stated, "published": self.published, "chars": self.chars}
        return {
            "model": self.model,
            **self.raw.named("win_rate"),
            **self.refit.named("length_controlled"),
            **{name: value if math.isfinite(value) else None for name, value in given.items()},
        }


def controlled(
    rows: Rows, coefficients: Rows = (), difficulties: Rows = (), *, seed: int = 0
) -> list[Controlled]:
    """Every model of these annotations, with an interval over instructions.

    Difficulties of instructions come from models whose coefficients are known, in ``difficulties``
    and in ``rows``, and from published win rates of models that ``rows`` do not speak of. A model's
    own annotations and numbers take no part in the difficulties of its own refit. Without
    coefficients all models of ``rows`` are fitted jointly.
    """
    known, here = read_coefficients(coefficients), annotated(rows)
    further = annotated(difficulties) if difficulties else None
    pool = _pool(here, further, known)
    anchors = [
        (fit, rate) for name, (fit, rate) in known.items()
        if rate is not None and fit.psi and name not in here.models
    ]  # fmt: skip
    joint = None if pool else lc.fit_jointly(here.preference, here.feature)[1]
    whole = _gamma(pool, known, anchors) if joint is None else joint
    strange = [fit for name, (fit, _) in known.items() if name not in here.models and fit.psi]
    prior = Prior.of(strange) if len(strange) >= FEWEST_MODELS else None
    if joint is not None and prior is None:
        prior = lc.JOINT if len(here.models) > 1 else lc.ALONE
    found: list[Controlled] = []
    for place, model in enumerate(here.models):
        gamma = _gamma(pool, known, anchors, model) if joint is None else joint
        own = [row for row in rows if row["model"] == model]
        fit, rate = known.get(model, (None, None))
        stated = lc.length_controlled(fit, whole) / 100 if fit and joint is None else math.nan
        found.append(Controlled(
            model, share_interval([r["preference"] for r in own], [r["group"] for r in own]),
            _refit(here.preference[place], here.feature[place], gamma, prior, seed=seed), stated,
            math.nan if rate is None else rate / 100,
            float(np.mean([row["model_chars"] for row in own])),
        ))  # fmt: skip
    return found


def _pool(here: Annotated, further: Annotated | None, known: Mapping[str, Any]) -> list[Annotated]:
    """Annotations of models with coefficients, all on the instructions of ``here``."""
    parts = [here] if further is None else [here, _aligned(further, here)]
    some = [
        part.only([
            row for row, name in enumerate(part.models)
            if name in known and known[name][0].psi and not (number and name in here.models)
        ])
        for number, part in enumerate(parts)
    ]  # fmt: skip
    return [part for part in some if part.models]


def _aligned(further: Annotated, here: Annotated) -> Annotated:
    """The same instructions in the same order.

    Raises UserError where lengths of the baseline's answers show that they are others.
    """
    place = {name: number for number, name in enumerate(further.instructions)}
    index = [place.get(name, -1) for name in here.instructions]
    there = np.array([number >= 0 for number in index])
    alike = further.baseline[index] == here.baseline
    if not there.any() or (alike[there]).mean() < 0.9:
        raise UserError(
            "difficulties are of other instructions, or of another baseline: in "
            f"{int(alike[there].sum())} of {int(there.sum())} instructions with the same number "
            "the baseline's answer has the same length. Give annotations against the same answers."
        )
    said = np.where(there, further.preference[:, index], math.nan)
    x = np.where(there, further.feature[:, index], 0.0)
    return Annotated(further.models, here.instructions, said, x, here.baseline)


def _gamma(
    pool: Sequence[Annotated], known: Mapping[str, Any], anchors: Any, model: str = ""
) -> Any:
    """Difficulties, without what ``model`` itself says of them."""
    parts = [part.without(model) for part in pool]
    names = [name for part in parts for name in part.models]
    said, x = (np.concatenate([getattr(p, n) for p in parts]) for n in ("preference", "feature"))
    return lc.difficulties(said, x, [known[name][0] for name in names], anchors=anchors)


def _refit(said: Any, x: Any, gamma: Any, prior: Prior | None, *, seed: int) -> Interval:
    """Our own fit of one model, with a bootstrap over instructions for its interval."""
    known = np.isfinite(said)
    rng, count = np.random.default_rng(seed), int(known.sum())
    mine = said[known], x[known], gamma[known]

    def rate(rows: Any) -> float:
        fit: Coefficients = lc.refit(mine[0][rows], mine[1][rows], mine[2][rows], prior=prior)
        return lc.length_controlled(fit, mine[2][rows]) / 100

    value = lc.length_controlled(lc.refit(*mine, prior=prior), gamma) / 100
    if count < 2:
        return Interval(value, 0.0, 1.0, 0.95, count)
    drawn = [rate(rng.integers(count, size=count)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(value, min(float(low), value), max(float(high), value), 0.95, count)


@final
@dataclass(frozen=True, kw_only=True)
class AlpacaEval(Suite):
    """How often a judge prefers the model's answer to a baseline's, and how often it would if both
    were as long.
    """

    title: ClassVar[str] = "AlpacaEval 2: win rate, raw and length-controlled"

    judge: str = ""
    """Who compares the answers: a reward model or a language model."""
    by: By = "token"
    """A language model's verdict: the probabilities of A and B, or what it writes (words)."""
    null: int = 20
    """Instructions on which an empty answer is judged as well: no judge may prefer it."""
    baseline: str = ""
    """A model, or a file of its answers, in place of the column output."""
    coefficients: str = ""
    """File of published coefficients: model, theta, phi, psi, lc."""
    difficulties: str = ""
    """Annotations of further models on the same instructions, whose coefficients are known."""
    seed: int = 0
    """Of the bootstrap."""

    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row for each annotation; where the data hold none, the model answers and is judged."""
        if any("preference" in row or "rows" in row for row in data):
            found, notes = read_annotations(data)
            subject.notes += notes
            if not found:
                raise UserError(
                    f"suite alpaca_eval: no annotation can be used: {'; '.join(notes)}."
                )
            return found
        return self._asked(subject, data)

    def _asked(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The model's answers against those of the data, by the judge, in both orders."""
        if not self.judge:
            raise UserError(
                "suite alpaca_eval: who compares the answers? Give judge=MODEL; or data with "
                "annotations (preference)."
            )
        pairs = _answered(subject, data, self.baseline)
        judge = judge_named(self.judge, Asking())
        nothing = [Pair(pair.prompt, NULL, pair.second) for pair in [*pairs.values()][: self.null]]
        verdicts = both_orders(judge_by(judge, self.by), [*pairs.values(), *nothing])
        heard(subject, judge, verdicts.given + verdicts.swapped, "Try by=token.")
        subject.notes.append(verdicts.steady())
        found: list[dict[str, Any]] = []
        for place, (number, pair) in enumerate(pairs.items()):
            one = {
                "id": str(number), "model": subject.name, "instruction": str(number),
                "baseline_chars": float(len(pair.second)), "model_chars": float(len(pair.first)),
                "preference": verdicts.mean(place), "answer": pair.first,
            }  # fmt: skip
            if place < len(nothing):
                one["null"] = verdicts.mean(len(pairs) + place)
            found.append(one)
        if silent := sum(row["preference"] is None for row in found):
            subject.notes.append(
                f"{self.judge} gave no verdict on {silent} of {counted(len(found), 'pair')}, in "
                "either order: they are left out."
            )
        return found

    def _controlled(self, rows: Rows) -> list[Controlled]:
        known = tuple(
            (str(row.get("group", row["id"])), row["model"], row["instruction"],
             row["baseline_chars"], row["model_chars"], row["preference"])
            for row in rows if row["preference"] is not None
        )  # fmt: skip
        return _remembered(known, self.coefficients, self.difficulties, self.seed)

    def statistics(self, rows: Rows) -> list[Statistic]:
        """Of each model: the raw win rate, and the length-controlled one by our own fit."""
        found: list[Statistic] = []
        models = self._controlled(rows)
        for one in models:
            many = len(models) > 1
            prefix, before = (f"{one.model}/", f"{one.model}, ") if many else ("", "")
            where = {"model": one.model}
            found += [
                Statistic(f"{prefix}win_rate", f"{before}win rate", "preference", where),
                Statistic(
                    f"{prefix}length_controlled", f"{before}length-controlled", paired=False,
                    interval=lambda _, value=one.refit: value,
                ),
            ]  # fmt: skip
        if any(row.get("null") is not None for row in rows):
            found.append(Statistic("null", "win rate of an answer that says nothing", "null"))
        return found

    def tables(self, rows: Rows) -> list[Table]:
        """All models in order, where there are several or something is published of them."""
        models = sorted(self._controlled(rows), key=lambda one: -one.refit.estimate)
        if len(models) < 2 and not math.isfinite(models[0].stated):
            return []
        heads = ("model", "#win rate", "#length-controlled", "95 % interval",
                 "#by published coefficients", "#published", "#characters")  # fmt: skip
        lines = [
            (one.model, share_ranged(Estimate.of(one.raw), digits=2)[0],
             *share_ranged(Estimate.of(one.refit), digits=2), _share(one.stated),
             _share(one.published), f"{one.chars:.0f}")
            for one in models
        ]  # fmt: skip
        drawn = [Measure(Statistic(one.model, one.model), one.refit) for one in models]
        records = [one.to_json() for one in models]
        title = "Win rates; drawn is the length-controlled one"
        return [Table("models", title, heads, lines, records, drawn)]

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        """How the numbers were come by, and where they differ much."""
        models = self._controlled(rows)
        found = [_method(self, models)]
        for name in ("stated", "refit"):
            pairs = [(getattr(m, name), m.published) for m in models if math.isfinite(m.published)]
            values = [(v.estimate if isinstance(v, Interval) else v, p) for v, p in pairs]
            errors = [100 * abs(v - p) for v, p in values if math.isfinite(v)]
            if errors:
                by = "published coefficients" if name == "stated" else "our own fits"
                found.append(
                    f"By {by} the length-controlled win rate is {np.mean(errors):.2f} points off "
                    f"the published one on average, at most {max(errors):.2f}, over "
                    f"{counted(len(errors), 'model')}."
                )
        far = [m for m in models if lc.far(100 * m.raw.estimate, 100 * m.refit.estimate)]
        found += [
            f"{m.model}: raw {_share(m.raw.estimate)} and length-controlled "
            f"{_share(m.refit.estimate)} are far apart: the fit may have failed, or the model was "
            "built to please the judge."
            for m in far
        ]  # fmt: skip
        null = next((m.value for m in measures if m.statistic.name == "null"), None)
        if null is not None and null.estimate >= 0.1:
            found.append(
                f"An answer that says nothing wins {_share(null.estimate)} of "
                f"{counted(null.units or 0, 'comparison')}: this judge is not to be trusted."
            )
        return found


def _method(suite: AlpacaEval, models: Sequence[Controlled]) -> str:
    """How difficulties of instructions were come by."""
    if suite.coefficients and any(math.isfinite(one.stated) for one in models):
        return (
            "Difficulties of instructions come from models with published coefficients; those "
            "that a model is fitted with hold neither its annotations nor its published numbers."
        )
    if suite.coefficients and suite.difficulties:
        return "Difficulties of instructions come from other models' published coefficients."
    if len(models) > 1:
        return f"Difficulties of instructions are fitted jointly to {len(models)} models."
    return (
        "With one model the difficulty of instructions cannot be told from noise, nor quite what "
        "length is worth from how good it is: length alone is controlled, and held to be worth "
        "little unless the annotations say otherwise. Give coefficients and difficulties, or "
        "annotations of several models."
    )


def _answered(
    subject: Subject, data: Sequence[Mapping[str, Any]], baseline: str
) -> dict[int, Pair]:
    """By number of the row: the model's answer, and the baseline's."""
    turns = {str(place): turns_of(row)[:1] for place, row in enumerate(data) if turns_of(row)}
    theirs = answers_by(baseline, turns) if baseline else {
        key: [str(data[int(key)]["output"])]
        for key in turns if data[int(key)].get("output") is not None
    }  # fmt: skip
    kept = [key for key in turns if key in theirs]
    if not kept:
        raise UserError(
            "suite alpaca_eval: rows need instruction (or prompt), and the baseline's answer as "
            "output; or give baseline=MODEL, or a file of its answers."
        )
    subject.leave_out(len(data) - len(kept), "rows without an instruction or a baseline's answer")
    prompts = [asked(turns[key][0]) for key in kept]
    return {
        int(key): Pair(prompt, texts[0], theirs[key][0])
        for key, prompt, texts in zip(kept, prompts, subject.answers(prompts), strict=True)
        if texts
    }


@lru_cache(maxsize=2)
def _remembered(
    rows: tuple[tuple[Any, ...], ...], coefficients: str, difficulties: str, seed: int
) -> list[Controlled]:
    """``controlled`` of these rows, which numbers, table and sentences all ask for."""
    names = ("group", "model", "instruction", "baseline_chars", "model_chars", "preference")
    data: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
    known = [row.fields for row in read(coefficients)] if coefficients else []
    more = read_annotations([row.fields for row in read(difficulties)])[0] if difficulties else []
    return controlled(data, known, more, seed=seed)


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.2f} %"
