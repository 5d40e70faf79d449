"""Backflip: the whole loop of reinforcement learning from human feedback.

>>> import backflip as bf
>>> run = bf.train("rlhf", model="smollm2", data="comparisons.jsonl")
>>> run.summary, run.model, run.report

Names are imported when they are used, so that ``import backflip`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = ("train", "evaluate")
"""Names that are a room and a function in one."""

_PLACES = {
    "resume": "api",
    "check": "api",
    "push": "api",
    "best_of_n": "api",
    "verifier": "api",
    "Run": "api",
    "load_recipe": "recipes.load",
    "load_model": "api",
    "load_reward_model": "models.save",
    "load_tokenizer": "models.load",
    "Conversation": "evaluate.conversation",
    "RewardReport": "evaluate.reward_model",
    "UserError": "data.errors",
    "SFT": "algorithms.sft",
    "BradleyTerry": "algorithms.bradley_terry",
    "RaoKupper": "algorithms.rao_kupper",
    "Davidson": "algorithms.davidson",
    "PlackettLuce": "algorithms.plackett_luce",
    "PPO": "algorithms.ppo",
    "OneStepPPO": "algorithms.one_step_ppo",
    "DPO": "algorithms.dpo",
    "IPO": "algorithms.ipo",
    "KTO": "algorithms.kto",
    "ORPO": "algorithms.orpo",
    "SimPO": "algorithms.simpo",
    "SPPO": "algorithms.sppo",
}

__all__ = [  # noqa: RUF022 (in the order in which they are met)
    "train",
    "resume",
    "evaluate",
    "best_of_n",
    "verifier",
    "check",
    "push",
    "Run",
    "load_recipe",
    "load_model",
    "load_reward_model",
    "load_tokenizer",
    "Conversation",
    "RewardReport",
    "UserError",
    "SFT",
    "BradleyTerry",
    "RaoKupper",
    "Davidson",
    "PlackettLuce",
    "PPO",
    "OneStepPPO",
    "DPO",
    "IPO",
    "KTO",
    "ORPO",
    "SimPO",
    "SPPO",
]

if TYPE_CHECKING:
    from backflip.algorithms.bradley_terry import BradleyTerry
    from backflip.algorithms.davidson import Davidson
    from backflip.algorithms.dpo import DPO
    from backflip.algorithms.ipo import IPO
    from backflip.algorithms.kto import KTO
    from backflip.algorithms.one_step_ppo import OneStepPPO
    from backflip.algorithms.orpo import ORPO
    from backflip.algorithms.plackett_luce import PlackettLuce
    from backflip.algorithms.ppo import PPO
    from backflip.algorithms.rao_kupper import RaoKupper
    from backflip.algorithms.sft import SFT
    from backflip.algorithms.simpo import SimPO
    from backflip.algorithms.sppo import SPPO
    from backflip.api import (
        Run,
        best_of_n,
        check,
        evaluate,
        load_model,
        push,
        resume,
        train,
        verifier,
    )
    from backflip.data.errors import UserError
    from backflip.evaluate.conversation import Conversation
    from backflip.evaluate.reward_model import RewardReport
    from backflip.models.load import load_tokenizer
    from backflip.models.save import load_reward_model
    from backflip.recipes.load import load_recipe


class _Room(ModuleType):
    """A room that bears the name of what one does in it: ``bf.train(…)``, ``bf.train.driver``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        verb = self.__name__.rpartition(".")[2]
        return getattr(import_module("backflip.api"), verb)(*args, **kwargs)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Python puts a sub-package into its parent when it is first imported, by whomever.
        if name in _ROOMS and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"backflip.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'backflip' has no attribute {name!r}")
    return getattr(import_module(f"backflip.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
