"""Kinds of reward by their names, and the forms in which a recipe may say them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from backflip.reward.verifiers.discover import VERIFIERS
from backflip.stages.choices import made_of, one_of, register
from backflip.stages.rewards.context import RewardSettings, is_python
from backflip.stages.rewards.environment import Environment
from backflip.stages.rewards.functions import Function
from backflip.stages.rewards.judge import Judge
from backflip.stages.rewards.mix import SEVERAL
from backflip.stages.rewards.models import EnsembleOfModels, Model
from backflip.stages.rewards.process import Process
from backflip.stages.rewards.teacher import TeacherModel

__all__ = ["REWARDS", "TERMS", "Rewards", "reward_in"]

TERMS: dict[str, type[Any]] = {
    "model": Model,
    "ensemble": EnsembleOfModels,
    "function": Function,
    "judge": Judge,
    "process": Process,
    "teacher": TeacherModel,
    "environment": Environment,
    **VERIFIERS,
}
"""Sources of reward that may be terms of a mix, by the name that a recipe gives."""
REWARDS: dict[str, type[Any]] = TERMS | SEVERAL
"""All sources of reward."""
CHECK, CHECKED = "verifier", {"correct": 1.0, "incorrect": 0.0, "unparsable": 0.0}
"""The older name of a function, and the settings that it then had."""
register(REWARDS)

if TYPE_CHECKING:
    Rewards: TypeAlias = RewardSettings
else:
    Rewards = one_of(REWARDS, {kind: made_of(kind, TERMS) for kind in SEVERAL.values()})


def reward_in(raw: Any) -> Any:
    """A reward as a recipe may say it → a mapping: a word is a function's address or a model."""
    if raw is None or isinstance(raw, Mapping):
        return _written_out(raw or {})
    if isinstance(raw, list | tuple):
        return _written_out({"name": "mix", "terms": raw, "weights": [1.0] * len(raw)})
    if callable(raw):
        raise ValueError("a function from Python is handed to bf.train: bf.train(…, reward=f)")
    if not isinstance(raw, str | Path):
        return raw
    word = str(raw)
    if is_python(word) or ".py:" in word:
        return {"name": "function", "path": _absolute(word)}
    known = word in REWARDS or word == CHECK
    return _written_out({"name": word} if known else {"model": word})


def _written_out(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with its kind, addresses that mean the same everywhere, and today's names."""
    given = {"name": "model"} | dict(raw)
    if isinstance(path := given.get("path"), str):
        given["path"] = _absolute(path)
    if isinstance(terms := given.get("terms"), list | tuple):
        given["terms"] = [reward_in(term) for term in terms]
    return CHECKED | given | {"name": "function"} if given["name"] == CHECK else given


def _absolute(address: str) -> str:
    """A function's address that means the same from any folder."""
    file, colon, name = address.rpartition(":")
    known = not colon or not file or is_python(address)
    return address if known else f"{Path(file).expanduser().resolve()}:{name}"
