"""The second stage: learn from comparisons what people prefer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.reward.base import prompts_with_a_winner
from backflip.algorithms.reward.bradley_terry import BradleyTerry
from backflip.algorithms.reward.plackett_luce import PlackettLuce
from backflip.data.batches import ComparisonBatch
from backflip.data.collate import Tokenized, tokenize_comparisons, with_head
from backflip.data.records import Comparison
from backflip.data.splits import half_of
from backflip.data.streaming import StreamedBatches
from backflip.errors import UserError
from backflip.evaluation.reward_model import report
from backflip.functional.reward_losses import decided_pairs
from backflip.models.heads import RewardModel
from backflip.models.load import load_config, parameter_count, parameters_of
from backflip.models.save import check_savable, save_reward_model
from backflip.reward.model import score_all
from backflip.stages.context import Ground, basics, learn_offline, rows_learnt
from backflip.stages.scale import scaled
from backflip.stages.settings import RewardModelRecipe
from backflip.stages.streams import StageRows
from backflip.stages.watcher import Watcher
from backflip.text import counted
from backflip.training.run_folder import RunFolder

__all__ = ["run_reward_model"]


def run_reward_model(recipe: RewardModelRecipe, run: RunFolder, watcher: Watcher) -> dict[str, Any]:
    """Train, set the scale, write ``model/``, return the held-out report."""
    ground = Ground.of(recipe, watcher.say)
    check_savable(load_config(recipe.model))
    rows = _Rows.of(ground, recipe)
    policy_size = parameters_of(recipe.policy) if recipe.policy else None
    heads = 2 if recipe.held_out_head else 1
    model = RewardModel(
        ground.causal(), heads=heads, pooling=recipe.pooling, compute=ground.masters[1]
    )
    held_out = rows.held_out
    outcome = learn_offline(ground, recipe.objective, model, (rows.train, held_out), run, watcher)
    scale: dict[str, float | int] = {}
    if recipe.normalise:
        scale = scaled(ground, recipe, model, (rows.sample, held_out), outcome.steps)
    save_reward_model(
        model, ground.tokenizer, run.path, dtype=ground.saved_dtype(model.trunk.model)
    )
    found = _report(ground, model, rows, policy_size)
    return basics(outcome, model, rows_learnt(rows.train)) | scale | found


@dataclass(frozen=True)
class _Rows:
    """The comparisons of the stage, read before anything is trained unless they are streamed."""

    train: ComparisonBatch | StreamedBatches[Comparison]
    sample: ComparisonBatch
    """Those to learn from, or of a streamed source its first ones."""
    held_out: ComparisonBatch | None
    golden: ComparisonBatch | None

    @staticmethod
    def of(ground: Ground, recipe: RewardModelRecipe) -> _Rows:
        """Raises UserError where there is nothing to learn from, or nothing to be measured by."""
        tokenize = functools.partial(_tokenized, ground, held_out_head=recipe.held_out_head)
        rows = StageRows.of(ground, Comparison, tokenize)
        held = rows.held
        _check_ties(ground, recipe, rows.sample)
        held_out = _decided(ground, held, "data: the held-out rows") if held else None
        golden = None
        if recipe.golden:
            records = ground.read(recipe.golden, Comparison)
            golden = _decided(ground, records, f"golden: {recipe.golden}")
        return _Rows(rows.train, rows.sample, held_out, golden)


def _tokenized(
    ground: Ground, records: Sequence[Comparison], *, held_out_head: bool
) -> Tokenized[ComparisonBatch]:
    made = tokenize_comparisons(records, ground.template, fit=ground.fit())
    if not held_out_head:
        return made
    halves = [half_of(records[i], seed=ground.recipe.seed) for i in made.kept]
    return replace(made, data=with_head(made.data, torch.tensor(halves)))


def _decided(ground: Ground, records: list[Comparison], what: str) -> ComparisonBatch:
    """Comparisons to measure by. Raises UserError where no pair of them is decided."""
    data: ComparisonBatch = ground.told(_tokenized(ground, records, held_out_head=False))
    if not len(decided_pairs(data.rank.values, data.answers.owner()).better):
        raise UserError(
            f"{what} hold {counted(len(data), 'comparison')}, nothing but ties: accuracy has no "
            "meaning. Give comparisons in which one answer is better than another."
        )
    return data


def _check_ties(ground: Ground, recipe: RewardModelRecipe, data: ComparisonBatch) -> None:
    """Say what an objective that cannot learn from ties leaves unused."""
    if not isinstance(recipe.objective, BradleyTerry | PlackettLuce):
        return
    undecided = len(data) - int(prompts_with_a_winner(data).sum())
    if undecided == len(data):
        raise UserError(
            f"{recipe.data.source}: nothing but ties ({undecided}) to learn from, which say "
            "nothing to this objective. Set objective=rao_kupper or objective=davidson, or give "
            "comparisons in which one answer is better."
        )
    if undecided:
        ground.say(
            f"  ties, which say nothing to this objective: {undecided} of "
            f"{counted(len(data), 'row')}; "
            "objective=rao_kupper and objective=davidson learn from them"
        )


def _report(
    ground: Ground, model: RewardModel, rows: _Rows, policy_size: int | None
) -> dict[str, Any]:
    """Held-out accuracy and calibration, of the second head too, and the golden judgements."""
    found: dict[str, Any] = {}
    size, _ = parameter_count(model)

    def scores(data: ComparisonBatch) -> Float[Tensor, "N heads"]:
        return score_all(model, data.answers.values, ground.recipe.token_budget, raw=True)

    if (held_out := rows.held_out) is not None:
        by_head = scores(held_out)
        sizes = {"parameters": size, "policy_parameters": policy_size}
        main = report(by_head[:, 0], held_out, **sizes)
        found |= main.to_json()
        for sentence in main.sentences:
            ground.say(sentence)
        if model.heads > 1:
            found["heldout_head"] = report(by_head[:, 1], held_out).to_json()
    if rows.golden is not None:
        golden = report(scores(rows.golden)[:, 0], rows.golden)
        found["golden"] = golden.to_json()
        for sentence in golden.sentences:
            ground.say(f"golden judgements: {sentence}")
    return found
