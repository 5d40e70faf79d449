"""Several processes that are to run one recipe: whether it is the same one."""

from __future__ import annotations

from typing import Any, TypeVar

from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.monitor.folder import flat_recipe
from backflip.recipes.load import to_yaml
from backflip.recipes.registry import Recipe
from backflip.training.environment import environment

__all__ = ["alike"]

R = TypeVar("R", bound=Recipe)
SAME = ("backflip", "torch", "transformers", "python")
"""Versions in which processes may not differ."""


def alike(recipe: R) -> R:
    """The recipe, where all processes have the same one and the same versions.

    Raises:
        UserError: on every rank, with the number of the first that differs from rank 0.

    """
    if here().size == 1:
        return recipe
    versions = {name: str(value) for name, value in environment().items() if name in SAME}
    first, *others = here().everyone((versions, flat_recipe(to_yaml(recipe))))
    for rank, (its, settings) in enumerate(others, start=1):
        _check(rank, "version of ", first[0], its)
        _check(rank, "setting ", first[1], settings)
    return recipe


def _check(rank: int, kind: str, first: dict[str, Any], other: dict[str, Any]) -> None:
    unlike = sorted(
        name for name in first.keys() | other.keys() if first.get(name) != other.get(name)
    )
    if unlike:
        name = unlike[0]
        more = f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
        raise UserError(
            f"rank {rank} has another {kind}{name}{more}: {other.get(name)}, where rank 0 has "
            f"{first.get(name)}. Start every process with the same command and packages."
        )
