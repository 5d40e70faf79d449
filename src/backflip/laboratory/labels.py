"""Comparisons of the start's own answers, labelled by the gold, on request some wrongly."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from backflip.data.batches import Rollouts
from backflip.data.collate import tokenize_prompts
from backflip.data.ragged import Ragged
from backflip.data.records import Prompt, Tally
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.reward.judge import as_text
from backflip.reward.protocol import RewardSource
from backflip.rounds.policy_sampler import PolicySampler
from backflip.stages.context import StageContext
from backflip.stages.rewards.context import RewardContext
from backflip.text import counted
from backflip.training.run_folder import write_atomically

__all__ = ["Answers", "Start", "resampled", "with_noise", "write_labels"]

SPARE = 2.5
"""Prompts answered for each comparison that is wanted: some pairs are ties, or cut off."""
HELD_OUT = 256
"""Comparisons by which the accuracy of every proxy is measured."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answers:
    """Answers to some prompts, and what the gold says of each."""

    rollouts: Rollouts
    gold: list[float]


class Start:
    """The policy that all begins with, its prompts, and the gold that judges it."""

    def __init__(self, recipe: Any, model: str, say: Any) -> None:
        self.recipe, self.model = recipe, model
        stage = recipe.online.model_copy(update={"model": model})
        self.context = StageContext.of(stage, say)
        train, held = self.context.records(Prompt)
        self.records = (*train, *held)
        template, fit = self.context.template, stage.fit
        made = [tokenize_prompts(rows, template, fit=fit) for rows in (train, held)]
        self.train, self.held = (self.context.told(one) for one in made)
        self.places = list(made[0].kept), [len(train) + place for place in made[1].kept]

    @cached_property
    def gold(self) -> RewardSource:
        """Whoever knows what is wanted."""
        return RewardContext(self.context, None, self.records, None).source(self.recipe.gold)

    def answers(self, prompts: Ragged[Any], rows: Sequence[int], each: int, seed: int) -> Answers:
        """``each`` answers to every prompt, judged by the gold; ``rows``: of their records."""
        online = self.recipe.online
        sampler = PolicySampler(self.context, self.model, online.sampling, each, online.max_rows)
        rollouts = sampler(prompts, seed=seed, rows=torch.tensor(rows))
        return Answers(rollouts, self.gold(rollouts).scores.tolist())

    def pairs(self, count: int, *, held_out: bool) -> tuple[list[Row], Tally]:
        """Up to ``count`` comparisons of two answers to a prompt; why others were left out."""
        prompts, places = (self.held if held_out else self.train), self.places[held_out]
        asked = min(len(prompts), int(SPARE * count))
        which = list(range(len(prompts)))
        random.Random(self.recipe.seed).shuffle(which)
        which = which[:asked]
        found = self.answers(
            prompts[torch.tensor(which)], [places[i] for i in which], 2, self.recipe.seed + 1
        )
        rows, lost, said = list[Row](), Tally(), self._texts(found.rollouts)
        for pair in range(asked):
            first, second = 2 * pair, 2 * pair + 1
            a, b = found.gold[first], found.gold[second]
            if not bool(found.rollouts.finished[first : second + 1].all()):
                lost.add("an answer was cut off", f"prompt {which[pair]}")
            elif a == b or not math.isfinite(a + b):
                lost.add("a tie, or no score by the gold", f"prompt {which[pair]}")
            else:
                better, worse = (first, second) if a > b else (second, first)
                rows.append(self._row(places[which[pair]], said[better], said[worse]))
        return rows[:count], lost

    def _texts(self, rollouts: Rollouts) -> list[str]:
        template = self.context.template
        return [as_text(template, row.tolist()) for row in rollouts.steps.answer.rows()]

    def _row(self, record: int, chosen: str, rejected: str) -> Row:
        asked = [{"role": m.role, "content": m.content} for m in self.records[record].messages]
        answers = {"chosen": chosen, "rejected": rejected}
        said = {k: [{"role": "assistant", "content": text}] for k, text in answers.items()}
        return {"prompt": asked, **said}


def write_labels(start: Start, folder: Path, count: int) -> tuple[list[Row], Path]:
    """(the pool of comparisons, file of the held-out ones), written once.

    Raises UserError where there are fewer than ``count``.
    """
    pool, held = folder / "pool.jsonl", folder / "held_out.jsonl"
    if not here().once(held.is_file):
        for path, wanted, apart in ((pool, count, False), (held, HELD_OUT, True)):
            rows, lost = start.pairs(wanted, held_out=apart)
            for line in lost.lines():
                start.context.say(f"  pairs of answers left out of {path.stem}: {line}")
            here().once(lambda path=path, rows=rows: _write(path, rows))
    rows = [json.loads(line) for line in pool.read_text(encoding="utf-8").splitlines()]
    if len(rows) < count:
        raise UserError(
            f"the start's answers gave {counted(len(rows), 'comparison')} that the gold can tell "
            f"apart, and labels asks for {count}. Ask for fewer, or give more prompts."
        )
    return rows, held


def with_noise(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """The comparisons with a share of their labels flipped, chosen by lot."""
    wrong = set(random.Random(seed).sample(range(len(rows)), round(share * len(rows))))
    turned = {"chosen": "rejected", "rejected": "chosen"}
    return [
        {turned.get(k, k): v for k, v in row.items()} if i in wrong else row
        for i, row in enumerate(rows)
    ]


def resampled(rows: Sequence[Row], seed: int) -> list[Row]:
    """A bootstrap sample of the comparisons."""
    return random.Random(seed).choices(rows, k=len(rows))


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(path, "".join(lines))
