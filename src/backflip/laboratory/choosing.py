"""Best of n against each proxy: one set of the start's answers serves all proxies and every n."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from backflip.functional.best_of_n import best_of_n_mean
from backflip.functional.overoptimization import fit_units
from backflip.functional.statistics import kl_best_of_n, mean_interval
from backflip.laboratory.courses import curve_json
from backflip.laboratory.labels import Answers, Start
from backflip.stages.rewards.models import reward_model

__all__ = ["best_of_n_courses"]


def best_of_n_courses(start: Start, proxies: Mapping[str, str]) -> dict[str, Any]:
    """Gold and proxy of the answer that each proxy likes best, for n = 1, 2, 4 …

    ``proxies``: folders of reward models by their names.
    """
    recipe = start.recipe
    count = min(recipe.best_of_prompts, len(start.held))
    rows = start.places[1][:count]
    found = start.answers(start.held[torch.arange(count)], rows, recipe.best_of, recipe.seed + 2)
    gold = torch.tensor(found.gold).reshape(count, recipe.best_of)
    known = gold.isfinite().all(1)
    courses = {"gold": _course(gold[known], gold[known])}
    for name, model in proxies.items():
        liked = _scores(start, model, found).reshape(count, recipe.best_of)
        courses[name] = _course(liked[known], gold[known])
    return courses


def _scores(start: Start, model: str, found: Answers) -> torch.Tensor:
    return reward_model(start.context, model)(found.rollouts).scores


def _course(liked: torch.Tensor, gold: torch.Tensor) -> dict[str, Any]:
    """Of prompts [P, N]; gains are over what one answer gets."""
    sizes = [2**i for i in range(liked.shape[1].bit_length()) if 2**i <= liked.shape[1]]
    d = [math.sqrt(kl_best_of_n(n)) for n in sizes]
    by_n = torch.stack([best_of_n_mean(liked, gold, n=n) for n in sizes], 1).numpy()
    own = torch.stack([best_of_n_mean(liked, n=n) for n in sizes], 1).numpy()
    gains: Any = by_n - by_n[:, :1]
    curve = fit_units(d[1:], np.asarray(gains[:, 1:], float), "best_of_n")
    return {
        "n": sizes,
        "d": d,
        "gold": _means(by_n),
        "proxy": _means(own),
        "curve": curve_json(curve),
    }


def _means(by_n: Any) -> Sequence[Mapping[str, float] | None]:
    return [mean_interval(by_n[:, column]).as_json() for column in range(by_n.shape[1])]
