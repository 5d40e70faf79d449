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


def run_sft(recipe: SFTRecipe, run: RunFolder, watcher: Watcher) -> dict[str, Any]:
    """Fine-tune, write ``model/``, return the summary."""
    ground = Ground.of(recipe, watcher.say)
    train, held = ground.records(Demonstration)

    def tokens(records: list[Demonstration]) -> DemonstrationBatch:
        fit, turns = ground.fit(), recipe.turns
        return ground.told(tokenize_demonstrations(records, ground.template, fit=fit, turns=turns))

    data, held_out = tokens(train), tokens(held) if held else None
    policy = CausalPolicy(ground.causal(), compute=ground.masters[1])
    outcome = learn_offline(ground, SFT(), policy, (data, held_out), run, watcher)
    save_policy(policy, ground.tokenizer, run.path)
    losses = {k: v for k, v in outcome.metrics.items() if k in ("loss", "val_loss")}
    return basics(outcome, policy, len(data)) | losses
