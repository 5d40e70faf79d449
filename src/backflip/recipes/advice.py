"""Settings that are allowed but outside of what the literature uses, with the source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from backflip.algorithms.ranges import Usual, declared
from backflip.data.records import Labelled
from backflip.functional.kl import FAR
from backflip.recipes.check import stages_of
from backflip.recipes.registry import Recipe
from backflip.rounds.rules import about_rounds
from backflip.rounds.settings import IterativeRecipe
from backflip.stages.settings import DirectRecipe, PPORecipe, Stage

EVER = math.inf


ALWAYS = (
    Usual(1e-8, 1e-5, "1e-5 in the OpenAI line, 1e-8 in PyTorch", path="optimizer.eps"),
    Usual(0.0, 0.1, "0 in RLHF, 0.1 at most elsewhere", path="optimizer.weight_decay"),
    Usual(0.0, 0.1, "0 to 3 % of the steps, rarely 10 %", path="optimizer.warmup"),
    Usual(
        0.01, 0.3, "1 to 30 % of the rows, to measure by and to learn from", path="data.held_out"
    ),
    Usual(4, 256, "8 to 64 is common (Hu et al., 2021)", path="lora.rank"),
)
BY_STAGE = {
    "sft": (
        Usual(1e-6, 1e-4, "1e-5 to 2e-5 for all weights", path="optimizer.lr", adapted=False),
        Usual(2e-5, 1e-3, "about 2e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(1, 3, "1 to 3; beyond, demonstrations are learnt by heart", path="epochs"),
    ),
    "reward_model": (
        Usual(1e-6, 5e-5, "9e-6 (Ouyang et al., 2022)", path="optimizer.lr", adapted=False),
        Usual(2e-5, 5e-4, "about 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(1, 2, "1; a second pass overfits (Ouyang et al., 2022)", path="epochs"),
        Usual(8, 512, "64 prompts (InstructGPT) to 512 pairs (Llama 2)", path="batch_size"),
    ),
    "direct": (
        Usual(1e-7, 1e-5, "5e-7 to 8e-6 for all weights", path="optimizer.lr", adapted=False),
        Usual(1e-6, 3e-4, "5e-6 to 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(1, 3, "1 to 3; on one's own samples 1", path="epochs"),
    ),
    "ppo": (
        Usual(1e-7, 1e-5, "1e-6 to 3e-6 for all weights", path="optimizer.lr", adapted=False),
        Usual(5e-6, 3e-4, "1e-5 to 1e-4 with LoRA", path="optimizer.lr", adapted=True),
        Usual(0.7, 1.0, "0.7 to 1", path="sampling.temperature"),
        Usual(
            -EVER,
            0.0,
            "−1 (Stiennon et al., 2020); above 0, rambling pays",
            path="shaping.missing_eos",
        ),
        Usual(0.0, EVER, "0; below, length is paid for", path="shaping.length_penalty"),
        Usual(1.0, FAR, f"beyond {FAR:g} nats replies are seldom English", path="kl_stop"),
    ),
}


def advise(recipe: Recipe) -> list[str]:
    """One sentence for each setting outside what the literature uses; often none."""
    found = [said for stage, prefix in stages_of(recipe) for said in _advice(stage, prefix)]
    return found + (list(about_rounds(recipe)) if isinstance(recipe, IterativeRecipe) else [])


def _advice(stage: Stage, prefix: str) -> Iterator[str]:
    found = [(one.path, _at(stage, one.path), one) for one in (*BY_STAGE[stage.stage], *ALWAYS)]
    for group in ("objective", "algorithm"):
        if (algorithm := getattr(stage, group, None)) is not None:
            found += [(f"{group}.{n}", value, one) for n, value, one in declared(algorithm, Usual)]
    for path, value, usual in found:
        applies = usual.adapted in (None, stage.lora is not None)
        if applies and value is not None and not usual.low <= value <= usual.high:
            yield f"{prefix}{path} is {value:g}; the literature has {usual.source}."
    if isinstance(stage, PPORecipe):
        yield from _about_rounds(stage, prefix)
    if isinstance(stage, DirectRecipe):
        yield from _about_labels(stage, prefix)


def _about_labels(stage: DirectRecipe, prefix: str) -> Iterator[str]:
    if stage.objective.learns_from is Labelled and (
        said := stage.objective.noise(stage.batch_size)
    ):
        yield f"{prefix}batch_size is {stage.batch_size}: {said}."


def _about_rounds(stage: PPORecipe, prefix: str) -> Iterator[str]:
    answers = stage.prompts_per_step * stage.answers_per_prompt // stage.minibatches
    if answers < 8:
        yield (
            f"{prefix}prompts_per_step × answers_per_prompt / minibatches is {answers}: whitening "
            "over fewer than 8 answers is mostly noise."
        )
    if stage.shaping.missing_eos is None:
        yield (
            f"{prefix}shaping.missing_eos is null: an answer that was cut off is judged as if it "
            "were whole, and the policy may learn never to stop."
        )
    if stage.kl_stop is None:
        yield f"{prefix}kl_stop is null: nothing ends the run when replies are no longer language."


def _at(stage: Stage, path: str) -> Any:
    """The value of a dotted name, or None where the recipe has no such setting."""
    value: Any = stage
    for name in path.split("."):
        value = getattr(value, name, None)
    return value
