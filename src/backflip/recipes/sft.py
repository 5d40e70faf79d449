"""The first stage: imitate demonstrations."""

from __future__ import annotations

from typing import Any

from backflip.algorithms.sft import SFT
from backflip.data.batches import DemonstrationBatch
from backflip.data.collate import tokenize_demonstrations
from backflip.data.records import Demonstration
from backflip.models.causal import CausalPolicy
from backflip.models.save import save_policy
from backflip.recipes.ground import Ground, basics, learn_offline
from backflip.recipes.schema import SFTRecipe
from backflip.recipes.watcher import Watcher
from backflip.train.run import RunFolder

__all__ = ["run_sft"]


def run_sft(
    recipe: SFTRecipe,
    run: RunFolder,
    watcher: Watcher,
    ready: DemonstrationBatch | None = None,
) -> dict[str, Any]:
    """Fine-tune, write ``model/``, return the summary.

    ``ready``: learn these rows, as they are, instead of what the recipe names.
    """
    ground = Ground.of(recipe, watcher.say)
    data, held_out = _rows(ground, recipe) if ready is None else (ready, None)
    policy = CausalPolicy(ground.causal(), compute=ground.masters[1])
    outcome = learn_offline(ground, SFT(), policy, (data, held_out), run, watcher)
    save_policy(policy, ground.tokenizer, run.path, dtype=ground.saved_dtype(policy.model))
    losses = {k: v for k, v in outcome.metrics.items() if k in ("loss", "val_loss")}
    return basics(outcome, policy, len(data)) | losses


def _rows(
    ground: Ground, recipe: SFTRecipe
) -> tuple[DemonstrationBatch, DemonstrationBatch | None]:
    """(rows to learn, held-out rows) of the recipe's data."""
    train, held = ground.records(Demonstration)

    def tokens(records: list[Demonstration]) -> DemonstrationBatch:
        fit, turns = ground.fit(), recipe.turns
        return ground.told(tokenize_demonstrations(records, ground.template, fit=fit, turns=turns))

    return tokens(train), tokens(held) if held else None
