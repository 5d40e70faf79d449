"""Best of n at inference: the answers that a reward model likes most, and what n buys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, tokenize_prompts
from backflip.data.records import Prompt
from backflip.data.sources import Source, name_of
from backflip.errors import UserError
from backflip.evaluation.best_of_n import Picked, Point, best_of_n, best_of_n_curve
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler, suited
from backflip.generate.torch.engine import TorchEngine
from backflip.models.load import load_causal, load_tokenizer
from backflip.models.save import load_reward_model
from backflip.monitor.text import TOO_FEW, standing
from backflip.recipes.slips import check_choice
from backflip.reward.model import RewardModelSource
from backflip.reward.protocol import RewardSource
from backflip.stages.prompt_eval import shown_prompt
from backflip.stages.sources import account, load
from backflip.training.reference import check_same_vocabulary
from backflip.training.run_folder import write_atomically

__all__ = ["BestOfN", "Prompts", "answer_best_of_n"]


@dataclass(frozen=True)
class BestOfN:
    """The result of choosing among n answers."""

    points: Sequence[Point]
    """Expected reward for 1, 2, 4 … answers, with intervals, and KL to the policy."""
    answers: Path
    """The best answer to each prompt, as JSON lines."""
    prompts: int
    notes: tuple[str, ...]
    """Sentences on answers left out, answers not judged, and numbers that stand on too little."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "points": [point.to_json() for point in self.points],
            "answers": str(self.answers),
            "prompts": self.prompts,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Prompts:
    """A source of prompts, and how it is read."""

    data: Source
    format: str | None = None
    limit: int | None = None
    max_length: int | None = None
    """Tokens beyond which a prompt is dropped and counted."""
    template: str | None = None
    columns: Mapping[str, str] | None = None


def answer_best_of_n(
    model: str,
    prompts: Prompts,
    judge: str | RewardSource,
    *,
    n: int,
    out: Path,
    sampling: Mapping[str, Any],
    seed: int = 0,
) -> BestOfN:
    """Draw ``n`` answers to each prompt, write the best ones to ``out``, reckon up the curve.

    ``sampling``: settings of ``SamplingParams``. Raises UserError for fewer than 2 answers, greedy
    answers, a judge that reads other tokens.
    """
    params = SamplingParams(**sampling)
    check_choice(n, params.temperature)
    tokenizer = load_tokenizer(model)
    chat = ChatTemplate(tokenizer, prompts.template)
    form, limit = prompts.format, prompts.limit
    loaded = load(prompts.data, Prompt, format=form, limit=limit, columns=prompts.columns)
    made = tokenize_prompts(loaded.records, chat, fit=Fit(prompts.max_length))
    if not len(made.data):
        none = f"no prompt fits: {'; '.join(made.dropped.lines())}"
        raise UserError(f"{name_of(prompts.data)}: {none}")
    source = _source(judge, tokenizer, chat)
    causal = load_causal(model)
    engine = TorchEngine(causal, decode=tokenizer.decode)
    drawn = suited(params, chat, causal)
    sampler = Sampler(engine=engine, params=drawn, group_size=n, allow_filters=True)
    picked = best_of_n(sampler, source, made.data, seed=seed)
    asked = [shown_prompt(loaded.records[i].messages) for i in made.kept]
    write_atomically(out, _lines(picked, asked, chat))
    left_out = [f"left out: {line}" for line in made.dropped.lines()]
    return _found(picked, out, len(made.data), account(loaded, chat) + left_out)


def _found(picked: Picked, out: Path, prompts: int, said: list[str]) -> BestOfN:
    """The curve, and after ``said`` what could not be judged or stands on too little."""
    said = [*said, *(f"not judged: {line}" for line in picked.scoring.tally().lines())]
    points = best_of_n_curve(picked.scoring)
    if not points[-1].reward.enough:
        on = standing(points[-1].prompts)
        said.append(f"{on} with {points[-1].n} scored answers: {TOO_FEW} what choosing is worth.")
    return BestOfN(points, out, prompts, tuple(said))


def _source(judge: str | RewardSource, tokenizer: Any, chat: ChatTemplate) -> RewardSource:
    if not isinstance(judge, str):
        return judge
    check_same_vocabulary(tokenizer, load_tokenizer(judge), judge)
    model = load_reward_model(judge, template=chat.source)
    return RewardModelSource(model.requires_grad_(requires_grad=False))


def _lines(picked: Picked, prompts: Sequence[str], chat: ChatTemplate) -> str:
    """One best answer a line."""
    best, ends = picked.answers, set(chat.stop_tokens)
    tokenizer: Any = chat.tokenizer
    lines: list[str] = []
    for place, number in enumerate(best.rollouts.group.tolist()):
        tokens = best.rollouts.steps.answer.row(place).tolist()
        answer = tokenizer.decode([token for token in tokens if token not in ends]).strip()
        said = {"prompt": prompts[number], "answer": answer, "score": float(best.scores[place])}
        lines.append(json.dumps(said, ensure_ascii=False) + "\n")
    return "".join(lines)
