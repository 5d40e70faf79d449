"""The second stage: learn from comparisons what people prefer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.algorithms.bradley_terry import BradleyTerry
from backflip.algorithms.plackett_luce import PlackettLuce
from backflip.algorithms.rated import prompts_with_a_winner
from backflip.data.batches import ComparisonBatch, TokenSteps
from backflip.data.collate import tokenize_comparisons, with_head
from backflip.data.counting import counted
from backflip.data.errors import UserError
from backflip.data.records import Comparison
from backflip.data.splits import half_of
from backflip.evaluate.reward_model import report
from backflip.functional.reward_losses import decided_pairs
from backflip.generate.engine import Progress, SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch_engine import TorchEngine
from backflip.models.heads import RewardModel
from backflip.models.load import load_causal, load_config, parameter_count, parameters_of
from backflip.models.save import check_savable, save_reward_model
from backflip.recipes.ground import Ground, basics, learn_offline
from backflip.recipes.schema import RewardModelRecipe
from backflip.recipes.watcher import Watcher
from backflip.reward.model import score_all
from backflip.train.run import RunFolder

__all__ = ["run_reward_model"]

TELL_EVERY = 30.0
"""Seconds between two lines about answers that are being written."""
PROBES = 32
"""Prompts on whose answers, by the policy, the scale of the scores is set: held-out ones first."""


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
    if recipe.normalise:
        answers = _answers_for_scale(ground, recipe, rows)
        model.normalise(score_all(model, answers, recipe.token_budget, raw=True))
    save_reward_model(
        model, ground.tokenizer, run.path, dtype=ground.saved_dtype(model.trunk.model)
    )
    return basics(outcome, model, len(rows.train)) | _report(ground, model, rows, policy_size)


@dataclass(frozen=True)
class _Rows:
    """All comparisons of the stage, read before anything is trained."""

    train: ComparisonBatch
    held_out: ComparisonBatch | None
    golden: ComparisonBatch | None

    @staticmethod
    def of(ground: Ground, recipe: RewardModelRecipe) -> _Rows:
        """Raises UserError where there is nothing to learn from, or nothing to be measured by."""
        train, held = ground.records(Comparison)
        data = _tokens(ground, train, held_out_head=recipe.held_out_head)
        _check_ties(ground, recipe, data)
        held_out = _decided(ground, held, "data: the held-out rows") if held else None
        golden = None
        if recipe.golden:
            records = ground.read(recipe.golden, Comparison)
            golden = _decided(ground, records, f"golden: {recipe.golden}")
        return _Rows(data, held_out, golden)


def _tokens(ground: Ground, records: list[Comparison], *, held_out_head: bool) -> ComparisonBatch:
    tokenized = tokenize_comparisons(records, ground.template, fit=ground.fit())
    data = ground.told(tokenized)
    if not held_out_head:
        return data
    halves = [half_of(records[i], seed=ground.recipe.seed) for i in tokenized.kept]
    return with_head(data, torch.tensor(halves))


def _decided(ground: Ground, records: list[Comparison], what: str) -> ComparisonBatch:
    """Comparisons to measure by. Raises UserError where no pair of them is decided."""
    data = _tokens(ground, records, held_out_head=False)
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


def _answers_for_scale(ground: Ground, recipe: RewardModelRecipe, rows: _Rows) -> TokenSteps:
    """Answers whose scores are to have mean 0 and std 1: the policy's own.

    Where none is named it is the model that the stage starts from: in the usual order of things,
    what SFT made, and what PPO is to start from.
    """
    name = recipe.policy or recipe.model
    other = "" if recipe.policy else " (the model this one started from; policy=… names another)"
    ground.say(f"setting the scale of the scores on the answers of {name}{other}")
    prompts = _prompts(rows.held_out) if rows.held_out is not None else []
    prompts = [*prompts, *_prompts(rows.train)][:PROBES]
    policy = load_causal(name, precision=recipe.precision)
    params = ground.sampling(SamplingParams(max_tokens=64), policy)
    sampler = Sampler(engine=TorchEngine(policy), params=params, group_size=2)
    most = len(prompts) * sampler.group_size * params.max_tokens
    return sampler(prompts, seed=recipe.seed, progress=_telling(ground, most)).steps


def _telling(ground: Ground, most: int) -> Progress:
    """Says now and then how much has been written."""
    written, told = 0, time.monotonic()

    def token(*_: int) -> None:
        nonlocal written, told
        written += 1
        if time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            ground.say(f"  {written:,} tokens written, of {most:,} at most")

    return token


def _prompts(data: ComparisonBatch) -> list[list[int]]:
    """The first of the prompts, each once."""
    firsts = data.answers.offsets[:-1][: 2 * PROBES]
    found = [prompt.tolist() for prompt in data.answers.values[firsts].prompt.rows()]
    return [list(prompt) for prompt in dict.fromkeys(map(tuple, found))]


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
