"""Iterative learning: sample, judge, choose, learn, measure; then again with the new policy.

A round is a folder of the run, and a round that broke goes on where it broke::

    RUN/round_0/held_out/      the start's answers to the held-out prompts, by which all is measured
    RUN/round_2/sampled/       answers of the policy of round 1, and what was said of them
    RUN/round_2/chosen.json    what is learnt of them, and what is not and why
    RUN/round_2/reward_model/  a run of its own, as are sft/ and direct/: those that the recipe has
    RUN/round_2/model/         the average, where policies are averaged
    RUN/round_2/held_out/      the new policy's answers to the held-out prompts
    RUN/round_2/summary.json   what it came to; written last
    RUN/model/                 the policy after the last round
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from backflip.data.batches import Rollouts
from backflip.data.collate import tokenize_prompts
from backflip.data.ragged import Ragged
from backflip.data.records import Messages, Prompt
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models.average import average
from backflip.monitor.log import MetricsLog
from backflip.monitor.progress import Progress
from backflip.monitor.text import KL_BY_ANSWERS, TOO_FEW, apart, estimate, share_ranged, standing
from backflip.monitor.trackers import open_trackers
from backflip.progress import task
from backflip.reward.judge import PolicyJudge
from backflip.reward.protocol import RewardSource
from backflip.rounds.answers import RoundAnswers, renumbered
from backflip.rounds.folders import RoundFolders, alarms_of, link, mixed
from backflip.rounds.judges import Judges
from backflip.rounds.people import People, stands_at_zero
from backflip.rounds.policy_sampler import PolicySampler, check_judge
from backflip.rounds.rows import Learnt, Sat, metrics_of, row_of, samples_of, summary_of
from backflip.rounds.settings import IterativeRecipe
from backflip.sampling.choosing import Chosen
from backflip.sampling.draw import Round, judge_all
from backflip.sampling.samples import Scoring
from backflip.stages.base import Learn, RunContext
from backflip.stages.context import StageContext
from backflip.stages.prompt_eval import EvalPrompts
from backflip.text import counted
from backflip.training.environment import note_environment
from backflip.training.run_folder import write_atomically

__all__ = ["run_rounds"]


def run_rounds(recipe: IterativeRecipe, given: RunContext) -> dict[str, Any]:
    """Do the rounds that are missing; write ``model/``, return a row for each.

    Raises UserError where nobody judges, no prompt is left to learn from, or a round's folder is
    damaged.
    """
    run, progress, learn = given.run, given.progress, given.learn
    judge: RewardSource | None = given.functions.get("judge")
    stage = recipe.links()[-1][1].model_copy(update={"data": recipe.data})
    context = StageContext.of(stage, progress.say)
    check_judge(recipe, context, judge)
    prompts, messages, held = _prompts(context, recipe)
    folders = RoundFolders(recipe, run.path)
    before = here().once(folders.rows_so_far)
    named = recipe.trackers if here().leads else ()
    trackers = open_trackers(named, run.path, recipe.model_dump(mode="json"))
    log = MetricsLog(run.path, trackers=trackers)
    try:
        here().once(lambda: note_environment(run))
        log.truncate_after(len(before) - 1)
        judges = Judges(recipe, folders, judge, context, messages)
        answers = RoundAnswers(recipe, folders, judges, context, prompts)
        rounds = _Rounds(recipe, folders, progress, learn, judges, answers, context, held, log)
        rows = rounds.go(before)
    finally:
        log.close()
    here().once(lambda: link(Path(folders.policy(recipe.rounds)), run.model_path))
    return summary_of(rows)


def _prompts(
    context: StageContext, recipe: IterativeRecipe
) -> tuple[Ragged[Any], list[Messages], EvalPrompts]:
    """(prompts to learn on, the same as messages, held-out prompts)."""
    train, held = context.records(Prompt)
    tokenized = tokenize_prompts(train, context.template, fit=context.recipe.fit)
    made = context.told(tokenized)
    questions = EvalPrompts.of(context, held, recipe.validation_prompts) if held else None
    if questions is None or len(questions.tokens) < 2 or not len(made):
        seen = 0 if questions is None else len(questions.tokens)
        raise UserError(
            f"{recipe.data.source}: {counted(len(made), 'prompt')} to answer and {seen} held "
            "out; rounds "
            "need at least 1 and 2. Give more prompts, another data.held_out, or data.validation."
        )
    return made, [train[i].messages for i in tokenized.kept], questions


@dataclass
class _Rounds:
    """A run of rounds, with all that its steps share."""

    recipe: IterativeRecipe
    folders: RoundFolders
    progress: Progress
    learn: Learn
    judges: Judges
    answers: RoundAnswers
    context: StageContext
    held: EvalPrompts
    log: MetricsLog
    sat: dict[int, Sat] = field(default_factory=dict[int, Sat])
    """Answers to the held-out prompts, by round."""

    def go(self, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows of all rounds, those that were there first."""
        rows = list(before)
        start = max(len(rows), 1)
        with task("rounds", self.recipe.rounds, lasting=True) as rounds:
            rounds.first = rounds.done = start - 1
            for number in range(start, self.recipe.rounds + 1):
                self.progress.say(f"round {number} of {self.recipe.rounds}")
                rows += self._round(number, first=not rows)
                here().once(partial(self.folders.prune, number))
                rounds.reach(number)
        return rows

    def _round(self, number: int, *, first: bool) -> list[dict[str, Any]]:
        """One round; with ``first`` the row of round 0 too, which is not measured yet."""
        scoring = self._sampled(number)
        rows = [self._measured(0, None, judged=number)] if first else []
        chosen = self._chosen(number, scoring)
        for name, stage in self.folders.stages(number):
            done = self.learn(stage, chosen[name].data)
            self.log.alarms(alarms_of(stage.run, number, name))
            how = f"{counted(done['steps'], 'step')} on {counted(done['rows'], 'row')}"
            self.progress.say(f"  {name}: {how}")
        if models := self.folders.averaged(number):
            self.progress.say(
                f"  averaging the policies of the last {counted(len(models), 'round')}"
            )
            here().once(lambda: average(models, self.folders.folder(number)))
        return [*rows, self._measured(number, (scoring, chosen), judged=number)]

    # ---- sampling and judging

    def _sampled(self, number: int) -> Scoring:
        """Answers of the last policy to the prompts of this round, with their scores."""
        part, rows = self.answers.to_learn_from(number)
        speaker = self.answers.policy(number - 1, group=self.recipe.answers_per_prompt)
        drawn: Rollouts | None = None
        if not part.finished:
            with task(f"round {number}: answering", len(rows), "prompts") as answering:
                drawn = part.draw(speaker, tell=lambda done, _: answering.reach(done))
        if (stage := self.folders.reward_model(number)) is not None:
            self.learn(stage)
        if drawn is not None:
            self._score(part, self.judges.of_round(number, speaker, rows), drawn)
        scoring = part.load()
        if scoring.failed:
            said, total = "; ".join(scoring.tally().lines()[:3]), len(scoring.sampled)
            self.progress.say(
                f"  without a score: {len(scoring.failed)} of {total} answers: {said}"
            )
        return replace(scoring, sampled=renumbered(scoring.sampled, rows))

    def _measurer(self, number: int, judged: int, start: PolicySampler) -> RewardSource:
        """The judge that measures a policy on the held-out prompts."""
        if not self.judges.people:
            return self.judges.examiner(judged, start)
        relative = self.judges.relative
        if relative and number == 0:
            return stands_at_zero
        against = self._sit(0, judged).scoring.sampled.rollouts if relative else None
        return self.judges.raters(number, "held out", self.held.messages, against)

    def _score(self, part: Round, source: RewardSource, drawn: Rollouts) -> None:
        """Have a part's answers judged; a judge that writes says what it could not grade.

        Raises WaitingForLabels where people judge, who are not done.
        """
        if isinstance(source, People):
            self.progress.say(f"  {source.wait(drawn)}")
        try:
            part.score(source, show=self.context.tokenizer.decode)
        finally:
            if isinstance(source, PolicyJudge):
                for line in source.outcomes.lines():
                    self.progress.say(f"  the judge: {line}")

    # ---- choosing

    def _chosen(self, number: int, scoring: Scoring) -> dict[str, Chosen[Any]]:
        """Rows for each stage of the round, by the stage's name; on record in chosen.json."""
        recipe, sampled = self.recipe, self.answers.pool(number, scoring.sampled)
        chosen: dict[str, Chosen[Any]] = {}
        if recipe.sft is not None:
            chosen["sft"] = recipe.imitate(sampled, filters=recipe.filters)
        if recipe.direct is not None:
            seed = mixed(recipe.seed, number)
            chosen["direct"] = recipe.choose(sampled, filters=recipe.filters, seed=seed)
        said = {
            name: {
                "rows": len(one.data),
                "dropped_prompts": dict(one.dropped.counts),
                "answers_set_aside": dict(one.set_aside.counts),
            }
            for name, one in chosen.items()
        }
        path = self.folders.folder(number) / "chosen.json"
        here().once(lambda: write_atomically(path, json.dumps(said, indent=2) + "\n"))
        for name, one in chosen.items():
            self.progress.say(
                f"  {name} learns from {counted(len(one.data), 'row')}{_left_out(one)}"
            )
        return chosen

    # ---- measuring

    def _measured(self, number: int, learnt: Learnt | None, *, judged: int) -> dict[str, Any]:
        """The row of a round, on record; ``judged``: the round whose examiner speaks."""
        start, now = self._sit(0, judged), self._sit(number, judged)
        row = row_of(number, now, start, learnt)
        self.log.samples(number, samples_of(now, self.held.texts, self.context))
        self.log.append(number, "iterative", metrics_of(row))
        self.log.sync()
        path = self.folders.folder(number) / "summary.json"
        text = json.dumps(row, indent=2, ensure_ascii=False) + "\n"
        here().once(lambda: write_atomically(path, text))
        self.progress.say(f"  {_in_words(row)}")
        return row

    def _sit(self, number: int, judged: int) -> Sat:
        """The held-out answers of a policy, judged, with their KL to the start."""
        if number in self.sat and self.recipe.judge is not None:
            return self.sat[number]
        start = self.answers.policy(0)
        seed = mixed(self.recipe.seed, 0)  # the same random numbers for every policy
        part = self.answers.part(number, "held_out", self.held.tokens, seed)
        if not part.finished:
            drawn = part.draw(self.answers.policy(number) if number else start)
            self._score(part, self._measurer(number, judged, start), drawn)
        scoring = part.load()
        if self.recipe.judge is None and number != judged:
            scoring = judge_all(self.judges.examiner(judged, start), scoring.sampled.rollouts)
        self.sat[number] = Sat.of(scoring, start)
        return self.sat[number]


def _left_out(chosen: Chosen[Any]) -> str:
    parts = [
        f"{what}: {'; '.join(f'{n} {reason}' for reason, n in tally.counts.items())}"
        for what, tally in (("prompts", chosen.dropped), ("answers", chosen.set_aside))
        if len(tally)
    ]
    return f"; left out: {', '.join(parts)}" if parts else ""


def _in_words(row: Mapping[str, Any]) -> str:
    told = {name: estimate(row, name) for name in ("reward", "kl", "win_rate")}
    reward, kl, rate = told["reward"], told["kl"], told["win_rate"]
    parts = [] if reward is None else [f"reward {apart([reward.value], digits=3)[0]}"]
    parts.append(f"length {row['length']:.0f}")
    if kl is not None:
        parts.append(f"{KL_BY_ANSWERS} {apart([kl.value], digits=2)[0]} nats")
    text = ", ".join(parts)
    if row["round"] == 0 or rate is None:
        return text
    value, ends = share_ranged(rate, digits=0, beside=(0.5,))
    few = f", {standing(rate.units)}: {TOO_FEW}" if rate.doubt == TOO_FEW else ""
    return f"win rate against round 0: {value} ({ends}{few}); {text}"
