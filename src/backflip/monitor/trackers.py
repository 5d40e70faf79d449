"""Other places that a run's metrics can go: ``trackers: [tensorboard, wandb]`` in the recipe."""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from backflip.data.errors import UserError


@runtime_checkable
class Tracker(Protocol):
    """Takes the metrics of each step somewhere."""

    def log(self, step: int, stage: str, metrics: Mapping[str, float]) -> None:
        """Send what is finite, under ``stage/name``."""
        ...

    def close(self) -> None:
        """Send what is still waiting."""
        ...


class TensorBoard:
    """Event files in the run folder: ``tensorboard --logdir runs``."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        module = _needed("torch.utils.tensorboard", extra="tensorboard")
        self._writer = module.SummaryWriter(str(folder / "tensorboard"))
        if config:
            self._writer.add_text("recipe", _as_table(config))

    def log(self, step: int, stage: str, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases; account, project and offline mode come from its own environment."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._wandb = _needed("wandb", extra="wandb")
        self._run = self._wandb.init(
            dir=str(folder), name=folder.name, config=dict(config), resume="allow"
        )
        self._stages: set[str] = set()

    def log(self, step: int, stage: str, metrics: Mapping[str, float]) -> None:
        # Every stage counts its steps from the start, and W&B's own counter may never go back:
        # so the step is a metric, and each stage's curves are drawn over it.
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        finite = {f"{stage}/{k}": v for k, v in metrics.items() if math.isfinite(v)}
        self._run.log({f"{stage}/step": step, **finite})

    def close(self) -> None:
        self._run.finish()


TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB}


def open_trackers(
    names: Sequence[str], folder: Path | str, config: Mapping[str, Any] | None = None
) -> tuple[Tracker, ...]:
    """Open the trackers that a recipe names.

    Raises UserError for a name that is not known, or a package that is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            close = difflib.get_close_matches(name, TRACKERS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(TRACKERS)}."
            raise UserError(f"trackers: {name!r} is not a tracker; {hint}")
    return tuple(TRACKERS[name](Path(folder), config or {}) for name in names)


def _needed(module: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f'trackers: {extra!r} is not installed. Run: pip install "backflip[{extra}]", '
            "or take it out of the recipe's trackers."
        ) from error


def _as_table(config: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    return f"| setting | value |\n|---|---|\n{rows}"
