"""The first stage: imitate demonstrations."""

from __future__ import annotations

from typing import Any

from backflip.algorithms.sft import SFT
from backflip.data.collate import Batches, tokenize_demonstrations
from backflip.data.records import Demonstration
from backflip.models.causal import CausalPolicy
from backflip.models.save import save_policy
from backflip.recipes.ground import Ground, parameter_count, passes, total_steps
from backflip.recipes.schema import SFTRecipe
from backflip.recipes.watcher import Watcher
from backflip.train.driver import drive, keep_batches
from backflip.train.offline import OfflineLoop, assess
from backflip.train.run import RunFolder

__all__ = ["run_sft"]


def run_sft(recipe: SFTRecipe, run: RunFolder, watcher: Watcher) -> dict[str, Any]:
    """Fine-tune, write ``model/``, return the summary."""
    ground = Ground.of(recipe, watcher.say)
    train, held = ground.records(Demonstration)
    data = ground.told(
        tokenize_demonstrations(train, ground.template, fit=ground.fit(), turns=recipe.turns)
    )
    policy = CausalPolicy(ground.causal())
    batches = Batches(data, size=recipe.batch_size, seed=recipe.seed, epochs=passes(recipe))
    total = total_steps(recipe, batches.per_epoch)
    watcher.announce(recipe, policy, rows=len(data), steps=total)
    learner = ground.learner(policy, recipe.optimizer, total)
    learner.on_skip = keep_batches(run)
    objective = SFT()

    def validate(step: int) -> dict[str, float]:
        del step
        return assess(objective, policy, held_out, recipe.token_budget) if held_out else {}

    held_out = (
        ground.told(tokenize_demonstrations(held, ground.template, turns=recipe.turns))
        if held
        else None
    )
    outcome = drive(
        OfflineLoop(learner, objective),
        batches,
        run=run,
        stage="sft",
        total=total,
        modules={"policy": policy},
        watch=watcher,
        assess=validate,
        eval_every=recipe.eval_every,
        checkpoint_every=recipe.checkpoint_every,
        keep_last=recipe.keep_last,
    )
    save_policy(policy, ground.tokenizer, run.path)
    parameters, trainable = parameter_count(policy)
    return {
        "steps": outcome.steps,
        "rows": len(data),
        "parameters": parameters,
        "trainable": trainable,
        **{k: v for k, v in outcome.metrics.items() if k in ("loss", "val_loss")},
    }
