"""``backflip evaluate --compute``: accuracy of a policy over the tokens that it may write."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup, escape

from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.collate import tokenize_prompts
from backflip.data.ragged import Ragged
from backflip.data.records import Prompt
from backflip.errors import UserError
from backflip.evaluation.compute import DRAWS, WEIGHED, ComputePoint, Question, compute_curves
from backflip.functional.pass_at_k import settled
from backflip.functional.statistics import share_interval
from backflip.generate.engine import ended_after
from backflip.generate.sampler import Sampler
from backflip.models.load import load_causal, load_tokenizer
from backflip.models.process import ProcessModel, load_process_model
from backflip.monitor.charts import Chart, Series, colour_of, line_chart
from backflip.monitor.progress import shown
from backflip.monitor.report import as_page
from backflip.monitor.text import TOO_FEW, Estimate, share_ranged, standing
from backflip.recipes.load import load_recipe
from backflip.reward.judge import as_text
from backflip.reward.protocol import Judgement
from backflip.sampling.guided import StepBeam, think_longer
from backflip.stages.context import StageContext
from backflip.stages.rewards.context import PYTHON, RewardContext, checkable
from backflip.training.reference import check_same_vocabulary
from backflip.training.run_folder import write_atomically

__all__ = ["SHORT", "ComputeReport", "Work", "compute"]

STYLE = Path(__file__).parents[1] / "monitor" / "style.html"
WAIT = "\nWait"
"""Words that stand in place of an end (Muennighoff et al., 2025)."""
SHORT = {
    "max_tokens": "sampling.max_tokens",
    "temperature": "sampling.temperature",
    "limit": "data.limit",
    "format": "data.format",
    "max_length": "data.max_length",
}
"""Settings by their short names."""


@dataclass(frozen=True)
class ComputeReport:
    """Accuracy over tokens."""

    points: Sequence[ComputePoint]
    picture: Path
    """A page with the curves."""
    questions: int
    notes: tuple[str, ...]
    """Sentences on what was left out, estimated, or stands on too little."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "questions": self.questions,
            "points": [point.to_json() for point in self.points],
            "picture": str(self.picture),
            "notes": list(self.notes),
        }


def compute(
    model: str | Path,
    data: str | Path,
    reward: Any,
    *,
    process: str | Path | None = None,
    n: int = 16,
    waits: int = 2,
    out: str | Path = "compute.html",
    **settings: Any,
) -> ComputeReport:
    """Accuracy of a policy over the tokens that it may write: ``backflip evaluate --compute``.

    Args:
        model: who answers: a run, a folder or a hub name.
        data: questions, with what ``reward`` needs to check answers.
        reward: who says which answers are right, as in a recipe; or a function of Python.
        process: a process reward model, for best of n, weighted votes and beams by step.
        n: answers to each question.
        waits: how often the end of an answer is put off.
        out: a page with the curves.
        settings: max_tokens (256), temperature (1), seed, limit, format, max_length, template, and
            all further ones of the recipe ``grpo`` that say how answers are drawn.

    Raises UserError: a reward that gives no verdicts, a judge with other tokens, no model or data.

    """
    named = {SHORT.get(name, name): value for name, value in settings.items()}
    given = {"sampling.max_tokens": 256} | named
    given |= {"data.source": str(data), "reward": PYTHON if callable(reward) else reward}
    judge = None if process is None else str(process)
    how = _How(judge, n, waits, as_page(Path(out)), reward if callable(reward) else None)
    with shown(aside=True):
        return _report(str(model), given, how)


@dataclass(frozen=True)
class _How:
    """How answers are used."""

    process: str | None
    n: int
    waits: int
    out: Path
    function: Callable[..., Any] | None


def _report(model: str, settings: dict[str, Any], how: _How) -> ComputeReport:
    """Draw the answers and measure all ways of using them.

    ``settings``: those of the recipe ``grpo`` that say what is asked, how it is drawn and checked.
    """
    n, waits, out = how.n, how.waits, how.out
    if n < 2 or waits < 0:
        raise UserError(f"n is {n} and waits {waits}; n must be 2 or more, waits 0 or more.")
    given: Any = {"values": "none", "lora": None, "run": str(out.parent)} | settings
    given |= {"answers_per_prompt": n}
    recipe: Any = load_recipe("grpo", given, model=model)
    if faults := [*recipe.reward.faults("reward")]:
        raise UserError(faults[0])
    said: list[str] = []
    work = Work.of(recipe, said.append, how.process, how.function)
    with ended_after(work.sampler.engine):
        rollouts = work.sampler(work.prompts, seed=recipe.seed)
        rollouts = replace(rollouts, row=work.rows[rollouts.group])
        points = compute_curves(work.questions(rollouts))
        if work.process is not None:
            points += work.beams(work.process, [w for w in (4, 16, 64) if w <= max(n, 4)])
        points += work.longer(rollouts, waits)
    votes = [point.budget for point in points if point.method == WEIGHED]
    if sampled := [str(k) for k in votes if math.comb(n, k) > DRAWS]:
        said.append(
            f"weighted votes of {', '.join(sampled)} of {n} answers are means over {DRAWS} draws, "
            "drawn by lot, not over all of them."
        )
    if not points[0].accuracy.enough:
        said.append(f"{standing(len(work.prompts), 'question')}: {TOO_FEW}.")
    report = ComputeReport(tuple(points), out, len(work.prompts), tuple(said))
    write_atomically(out, _page(report))
    return report


@dataclass(frozen=True)
class Work:
    """The parts of a measurement, loaded."""

    recipe: Any
    context: StageContext
    sampler: Sampler
    prompts: list[list[int]]
    rows: torch.Tensor
    """Numbers of the prompts' records."""
    records: Sequence[Prompt]
    judge: Callable[[Rollouts], Judgement]
    process: ProcessModel | None

    @staticmethod
    def of(
        recipe: Any,
        say: Callable[[str], None],
        process: str | None,
        function: Callable[..., Any] | None,
    ) -> Work:
        context = StageContext.of(recipe, say)
        data = recipe.data
        records = context.read(data.source, Prompt, data.format, data.limit, data.columns.given)
        records = checkable(recipe.reward, records, say)
        made = tokenize_prompts(records, context.template, fit=recipe.fit)
        tokens: Ragged[Any] = context.told(made)
        judge = recipe.reward.build(RewardContext(context, None, records, function))
        causal = load_causal(recipe.model, precision=recipe.precision)
        params = context.sampling(recipe.sampling, causal)
        engine = recipe.engine.build(causal, context.tokenizer, max_rows=recipe.max_rows)
        many = recipe.answers_per_prompt
        sampler = Sampler(engine=engine, params=params, group_size=many, allow_filters=True)
        loaded = None
        if process is not None:
            check_same_vocabulary(context.tokenizer, load_tokenizer(process), process)
            loaded = load_process_model(process, template=context.template.source)
        prompts = [prompt.tolist() for prompt in tokens.rows()]
        return Work(
            recipe, context, sampler, prompts, torch.tensor(made.kept), records, judge, loaded
        )

    def questions(self, rollouts: Rollouts) -> list[Question]:
        """The answers to each question, judged, with their final answers and their steps."""
        correct, finals = self._judged(rollouts)
        answers = [row.tolist() for row in rollouts.steps.answer.rows()]
        good: list[list[float]] = []
        if self.process is not None:
            finder = self.process.finder(self.context.template)
            good = self.process.estimates(rollouts.steps, [finder.ends(a) for a in answers])
        by_question: dict[int, list[int]] = {}
        for row, number in enumerate(rollouts.group.tolist()):
            by_question.setdefault(number, []).append(row)
        return [
            Question(
                right=settled([correct[r] for r in rows], [finals[r] for r in rows]),
                finals=tuple(finals[r] for r in rows),
                tokens=tuple(len(answers[r]) for r in rows),
                good=tuple(tuple(good[r]) for r in rows) if good else (),
            )
            for rows in by_question.values()
        ]

    def beams(self, model: ProcessModel, widths: Sequence[int]) -> list[ComputePoint]:
        """Beam search by step."""
        found: list[ComputePoint] = []
        for width in widths:
            search = StepBeam(
                engine=self.sampler.engine,
                params=self.sampler.params,
                template=self.context.template,
                model=model,
                width=width,
                expand=width // 2,
            )
            best, spent = search(self.prompts, seed=self.recipe.seed + 1)
            found.append(self._point("beam by step", width, [b.tokens for b in best], spent))
        return found

    def longer(self, rollouts: Rollouts, waits: int) -> list[ComputePoint]:
        """Longer thinking: the first answer to each question, its end put off again and again."""
        if not waits:
            return []
        each, params = self.recipe.answers_per_prompt, self.sampler.params
        answers = [row.tolist() for row in rollouts.steps.answer.rows()][::each]
        spent = [len(answer) for answer in answers]
        word = self.context.tokenizer(WAIT, add_special_tokens=False)["input_ids"]
        found = [self._point("longer thinking", 0, answers, spent)]
        for turn in range(1, waits + 1):
            answers, more = think_longer(
                self.sampler.engine,
                self.prompts,
                answers,
                params,
                word=word,
                seed=self.recipe.seed + 100 + turn,
            )
            spent = [a + b for a, b in zip(spent, more, strict=True)]
            found.append(self._point("longer thinking", turn, answers, spent))
        return found

    def _point(
        self, method: str, budget: int, answers: Sequence[Sequence[int]], spent: Sequence[int]
    ) -> ComputePoint:
        """One answer to each question, judged."""
        correct = self.verdicts(self.rollouts(answers, range(len(answers))))
        return ComputePoint(method, budget, sum(spent) / len(spent), share_interval(correct))

    def rollouts(self, answers: Sequence[Sequence[int]], questions: Sequence[int]) -> Rollouts:
        """Answers, each to a question by its number, as a judge takes them."""
        asked = torch.tensor(list(questions), dtype=torch.long)
        steps = TokenSteps.of([self.prompts[q] for q in questions], answers)
        return Rollouts(
            steps=steps,
            mask=steps.mask,
            logp=torch.zeros(steps.mask.shape),
            group=asked,
            finished=torch.ones(len(answers), dtype=torch.bool),
            row=self.rows[asked],
        )

    def verdicts(self, rollouts: Rollouts) -> list[float]:
        """1 where an answer is right, 0 elsewhere."""
        return self._judged(rollouts)[0]

    def _judged(self, rollouts: Rollouts) -> tuple[list[float], list[Hashable]]:
        """(1 where right, final answers by which votes are counted) of every answer."""
        judgement = self.judge(rollouts)
        for line in judgement.failures.lines():
            self.context.say(f"not checked, and counted as wrong: {line}")
        found = judgement.right()
        if found is None and judgement.failed().all():
            found = torch.zeros_like(judgement.scores)
        if found is None:
            raise UserError(
                "reward: it gives numbers and no verdicts, so nothing is right or wrong. Give a "
                "verifier, such as reward=mathematics, or a function that returns True or False."
            )
        template = self.context.template
        texts = [as_text(template, row.tolist()) for row in rollouts.steps.answer.rows()]
        return found.tolist(), judgement.votes(texts, self.recipe.reward.final)


def _page(report: ComputeReport) -> str:
    """The curves and the table as a page that needs nothing but a browser."""
    names = list(dict.fromkeys(point.method for point in report.points))
    series: list[Series] = []
    for place, name in enumerate(names):
        some = [p for p in report.points if p.method == name]
        band = [(p.accuracy.low, p.accuracy.high) for p in some]
        x, y = [p.tokens for p in some], [p.accuracy.estimate for p in some]
        series.append(Series(name, x, y, colour_of(place), band))
    title, unit = "Accuracy over tokens", "questions right"
    chart = Chart(title, series, unit, "tokens a question", percent=True, whiskers=True)
    figure = line_chart(chart)
    rows = Markup("").join(
        Markup("<tr><td>{}</td><td>{}</td><td>{:.0f}</td><td>{} [{}]</td></tr>").format(
            p.method, p.budget, p.tokens, *share_ranged(Estimate.of(p.accuracy))
        )
        for p in report.points
    )
    notes = Markup("").join(Markup("<p>{}</p>").format(escape(note)) for note in report.notes)
    names = ("method", "answers, beams or waits", "tokens a question", "accuracy, 95 % interval")
    head = Markup("<tr>{}</tr>").format(Markup("").join(map(Markup("<th>{}</th>").format, names)))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Test-time compute</title>'
        f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
        f'<main><h1>Test-time compute</h1><div class="single" style="margin:1rem 0">{figure}</div>'
        f"<table>{head}{rows}</table>{notes}</main></html>"
    )
