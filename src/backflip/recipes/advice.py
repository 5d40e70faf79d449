"""Settings that are allowed but outside of what the literature uses, with the source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backflip.algorithms.preference.kto import KTO
from backflip.recipes.check import stages_of
from backflip.recipes.registry import Recipe
from backflip.rounds.rules import about_rounds
from backflip.rounds.settings import IterativeRecipe
from backflip.stages.objectives import NAMES
from backflip.stages.settings import DirectRecipe, PPORecipe, Stage

EVER = math.inf


@dataclass(frozen=True)
class Usual:
    """The range that a setting has in published work."""

    path: str
    low: float | int
    high: float | int
    source: str
    """Who, and what lies outside."""
    adapted: bool | None = None
    """Holds with LoRA (True), for all weights (False), or always (None)."""


ALWAYS = (
    Usual("optimizer.eps", 1e-8, 1e-5, "1e-5 in the OpenAI line, 1e-8 in PyTorch"),
    Usual("optimizer.weight_decay", 0.0, 0.1, "0 in RLHF, 0.1 at most elsewhere"),
    Usual("optimizer.warmup", 0.0, 0.1, "0 to 3 % of the steps, rarely 10 %"),
    Usual("data.held_out", 0.01, 0.3, "1 to 30 % of the rows, to measure by and to learn from"),
    Usual("lora.rank", 4, 256, "8 to 64 is common (Hu et al., 2021)"),
)
BY_STAGE = {
    "sft": (
        Usual("optimizer.lr", 1e-6, 1e-4, "1e-5 to 2e-5 for all weights", adapted=False),
        Usual("optimizer.lr", 2e-5, 1e-3, "about 2e-4 with LoRA", adapted=True),
        Usual("epochs", 1, 3, "1 to 3; beyond, demonstrations are learnt by heart"),
    ),
    "reward_model": (
        Usual("optimizer.lr", 1e-6, 5e-5, "9e-6 (Ouyang et al., 2022)", adapted=False),
        Usual("optimizer.lr", 2e-5, 5e-4, "about 1e-4 with LoRA", adapted=True),
        Usual("epochs", 1, 2, "1; a second pass overfits (Ouyang et al., 2022)"),
        Usual("batch_size", 8, 512, "64 prompts (InstructGPT) to 512 pairs (Llama 2)"),
        Usual("objective.centering_coef", 0.0, 0.1, "0.01 (Eisenstein et al., 2023)"),
    ),
    "direct": (
        Usual("optimizer.lr", 1e-7, 1e-5, "5e-7 to 8e-6 for all weights", adapted=False),
        Usual("optimizer.lr", 1e-6, 3e-4, "5e-6 to 1e-4 with LoRA", adapted=True),
        Usual("epochs", 1, 3, "1 to 3; on one's own samples 1"),
        Usual("objective.nll_coef", 0.0, 1.0, "0.2 (Llama 3.1) to 1 (Pang et al., 2024)"),
        Usual("objective.label_smoothing", 0.0, 0.3, "0.1 to 0.3 where labels are noisy"),
        Usual("objective.label_noise", 0.0, 0.4, "0.1 to 0.4 (Chowdhury et al., 2024)"),
    ),
    "ppo": (
        Usual("optimizer.lr", 1e-7, 1e-5, "1e-6 to 3e-6 for all weights", adapted=False),
        Usual("optimizer.lr", 5e-6, 3e-4, "1e-5 to 1e-4 with LoRA", adapted=True),
        Usual("algorithm.kl_coef", 0.01, 0.1, "0.01 to 0.1 (0.05 in TL;DR's reproductions)"),
        Usual("algorithm.kl_target", 1.0, 12.0, "6 nats an answer (Ziegler et al., 2019)"),
        Usual("algorithm.epochs", 1, 4, "4 (Ziegler et al., 2019) down to 1 (InstructGPT)"),
        Usual("algorithm.eps", 0.1, 0.3, "0.2 (Schulman et al., 2017)"),
        Usual("algorithm.value_eps", 0.1, 0.5, "0.2"),
        Usual("algorithm.gamma", 0.99, 1.0, "1: answers end"),
        Usual("algorithm.lam", 0.9, 1.0, "0.95"),
        Usual("algorithm.entropy_coef", 0.0, 0.01, "0; bonuses above 0.01 end in noise"),
        Usual("algorithm.vf_coef", 0.0, 1.0, "0.1"),
        Usual("sampling.temperature", 0.7, 1.0, "0.7 to 1"),
        Usual(
            "shaping.missing_eos", -EVER, 0.0, "−1 (Stiennon et al., 2020); above 0, rambling pays"
        ),
        Usual("shaping.length_penalty", 0.0, EVER, "0; below, length is paid for"),
        Usual("kl_stop", 1.0, 20.0, "beyond 20 nats replies are seldom English"),
    ),
}

DPO_BETA = Usual("objective.beta", 0.01, 0.5, "0.01 to 0.5, mostly 0.1 (Rafailov et al., 2023)")
NEAR_DPO = (
    "dpo",
    "robust_dpo",
    "f_dpo",
    "r_dpo",
    "tr_dpo",
    "plackett_luce_dpo",
    "davidson_dpo",
    "rao_kupper_dpo",
    "apo_zero",
    "apo_down",
    "apo_zero_unpaired",
    "exo",
    "kto",
    "bco",
)
"""Objectives whose β has the meaning that it has in DPO."""
BY_OBJECTIVE = {
    **dict.fromkeys(NEAR_DPO, DPO_BETA),
    "ipo": Usual("objective.beta", 0.01, 1.0, "0.01 to 1 (the search of Meng et al., 2024)"),
    "ipo_sum": Usual("objective.beta", 0.01, 1.0, "0.1 to 1 (Azar et al., 2023)"),
    "psi_po": Usual("objective.beta", 0.01, 1.0, "0.1 to 1 (Azar et al., 2023)"),
    "length_normalised_dpo": Usual("objective.beta", 2.0, 10.0, "5 (Lambert et al., 2024)"),
    "sppo": Usual("objective.beta", 1e-4, 1e-2, "0.001, an η of 1,000 (Wu et al., 2024)"),
    "nca": Usual("objective.beta", 1e-3, 0.1, "0.01 (Chen et al., 2024)"),
    "orpo": Usual("objective.beta", 0.05, 1.0, "0.1 to 1 (Hong et al., 2024)"),
    "simpo": Usual("objective.beta", 1.5, 10.0, "2.0 to 2.5, up to 10 (Meng et al., 2024)"),
    "cpo": Usual("objective.beta", 0.01, 0.5, "0.1 (Xu et al., 2024)"),
    "slic": Usual("objective.beta", 0.1, 2.0, "1; the paper has none (Zhao et al., 2023)"),
}
"""The scale of preferences, which means something else to each objective of the direct family."""


def advise(recipe: Recipe) -> list[str]:
    """One sentence for each setting outside what the literature uses; often none."""
    found = [said for stage, prefix in stages_of(recipe) for said in _advice(stage, prefix)]
    return found + (list(about_rounds(recipe)) if isinstance(recipe, IterativeRecipe) else [])


def _advice(stage: Stage, prefix: str) -> Iterator[str]:
    for usual in (*BY_STAGE[stage.stage], *_of_objective(stage), *ALWAYS):
        value = _at(stage, usual.path)
        applies = usual.adapted in (None, stage.lora is not None)
        if applies and value is not None and not usual.low <= value <= usual.high:
            yield f"{prefix}{usual.path} is {value:g}; the literature has {usual.source}."
    if isinstance(stage, PPORecipe):
        yield from _about_rounds(stage, prefix)
    if isinstance(stage, DirectRecipe):
        yield from _about_labels(stage, prefix)


def _of_objective(stage: Stage) -> tuple[Usual, ...]:
    """What is usual for the objective of the direct family, where the stage has one."""
    name = NAMES[type(stage.objective)] if isinstance(stage, DirectRecipe) else ""
    return (BY_OBJECTIVE[name],) if name in BY_OBJECTIVE else ()


def _about_labels(stage: DirectRecipe, prefix: str) -> Iterator[str]:
    if isinstance(stage.objective, KTO) and stage.batch_size < 8:
        yield (
            f"{prefix}batch_size is {stage.batch_size}: KTO's KL is estimated within a batch, and "
            "over fewer than 8 rows it is mostly noise (Ethayarajh et al., 2024)."
        )


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
