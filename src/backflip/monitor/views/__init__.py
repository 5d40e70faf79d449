"""Views: one file per kind of stage, found by the names of the stages that it shows."""

from __future__ import annotations

import pkgutil
from collections.abc import Collection
from importlib import import_module

from backflip.monitor.views.base import View

__all__ = ["VIEWS", "discover", "kind_of", "place_of", "title", "view_of"]


def discover() -> dict[str, View]:
    """The views of this folder's files, by the names of their stages."""
    files = pkgutil.iter_modules(__path__, f"{__name__}.")
    modules = (import_module(file.name) for file in files)
    views = (module.VIEW for module in modules if hasattr(module, "VIEW"))
    return {name: view for view in views for name in view.stages}


VIEWS = discover()


def view_of(stage: str, metrics: Collection[str] = ()) -> View:
    """The view of a stage by its name; where that is not known, by what the stage measures."""
    return VIEWS.get(stage) or VIEWS["online" if "reward" in metrics else "sft"]


def kind_of(stage: str) -> str:
    """One name for all names of a kind of stage: ``online`` for ``ppo``."""
    return VIEWS[stage].stages[0] if stage in VIEWS else stage


def place_of(stage: str) -> tuple[int, str]:
    """Sort key of the stages of a chain; unknown ones come last."""
    return VIEWS[stage].place if stage in VIEWS else len(VIEWS), stage


def title(stage: str, algorithm: str = "") -> str:
    """A stage as people call it: by its algorithm, where that is what sets it apart."""
    if (view := VIEWS.get(stage)) is None:
        return stage.replace("_", " ").capitalize()
    if not (view.titled_by_algorithm and algorithm):
        return view.title
    from backflip.algorithms.discover import title_of  # imports torch, which a slip does not need

    return title_of(algorithm)
