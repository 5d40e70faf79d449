"""State of a run, read from its folder alone, without heavy imports."""

from __future__ import annotations

from pathlib import Path

from backflip.errors import UserError

__all__ = ["RECIPE", "check_run"]

RECIPE = "recipe.yaml"
"""The file by which a folder is a run."""


def check_run(path: Path) -> None:
    """Raises UserError where there is no run."""
    if not path.is_dir():
        what = "a file" if path.exists() else "not there"
        raise UserError(f"no run at {path}: it is {what}. Give the folder of a run.")
    if not (path / RECIPE).is_file():
        seen = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise UserError(
            f"{path} is not a run: it has no {RECIPE}. Seen in it: {seen}. Give a folder "
            "that `backflip train` wrote, such as runs/NAME."
        )
