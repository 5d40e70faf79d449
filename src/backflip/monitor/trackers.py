"""Other places that a run's metrics can go: ``trackers: [tensorboard, mlflow]`` in the recipe.

Each tracker goes by its own environment variables for account, server and folder. A run that is
resumed goes on as the same run there: its name at each tracker is kept in ``trackers.json``.
"""

from __future__ import annotations

import difflib
import importlib
import json
import math
import re
import secrets
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from backflip.errors import UserError


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
        wandb = _needed("wandb", extra="wandb")
        known = _known(folder, "wandb")
        self._run = wandb.init(
            dir=str(folder),
            id=known or _remember(folder, "wandb", secrets.token_hex(8)),
            name=_title(folder),
            config=dict(config),
            resume="allow",
        )
        self._stages: set[str] = set()

    def log(self, step: int, stage: str, metrics: Mapping[str, float]) -> None:
        # Every stage counts its steps from the start, and W&B's own counter may never go back:
        # so the step is a metric, and each stage's curves are drawn over it.
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        self._run.log({f"{stage}/step": step, **_finite(stage, metrics)})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """MLflow, by MLFLOW_TRACKING_URI; without it ``mlflow.db`` in the folder one is in.

    The experiment is that of MLFLOW_EXPERIMENT_NAME, else ``backflip``.
    """

    PARAMS = 100
    """MLflow takes at most so many parameters in one request."""
    LONGEST = 500
    """Letters of a parameter's value that every version of MLflow takes."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        mlflow = _needed("mlflow", extra="mlflow")
        self._metric = importlib.import_module("mlflow.entities").Metric
        self._client = mlflow.tracking.MlflowClient()
        known = _known(folder, "mlflow")
        if known:
            self._run = known
            self._client.update_run(known, status="RUNNING")
            return
        self._run = _remember(folder, "mlflow", self._started(folder))
        kind = importlib.import_module("mlflow.entities").Param
        params = [kind(name, value[: self.LONGEST]) for name, value in _flat(config)]
        for first in range(0, len(params), self.PARAMS):
            self._client.log_batch(self._run, params=params[first : first + self.PARAMS])

    def _started(self, folder: Path) -> str:
        """The id of a new run."""
        wanted = importlib.import_module("mlflow.environment_variables").MLFLOW_EXPERIMENT_NAME
        name = wanted.get() or PROJECT
        found = self._client.get_experiment_by_name(name)
        where = found.experiment_id if found else self._client.create_experiment(name)
        return self._client.create_run(where, run_name=_title(folder)).info.run_id

    def log(self, step: int, stage: str, metrics: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        self._client.log_batch(
            self._run,
            metrics=[
                self._metric(re.sub(r"[^\w/. :-]", "_", name), value, now, step)
                for name, value in _finite(stage, metrics).items()
            ],
        )

    def close(self) -> None:
        broken = sys.exception() is not None  # closed on the way out of a run that did not end
        self._client.set_terminated(self._run, status="KILLED" if broken else "FINISHED")


class Trackio:
    """Trackio, in its folder on this machine (TRACKIO_DIR) or where TRACKIO_SPACE_ID says."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        trackio = _needed("trackio", extra="trackio")
        known = _known(folder, "trackio")  # a name is all that Trackio goes by: no two are the same
        name = known or _remember(folder, "trackio", f"{_title(folder)}-{secrets.token_hex(3)}")
        self._run = trackio.init(
            project=PROJECT,
            name=name,
            config=dict(_flat(config)),
            resume="must" if known else "never",
            embed=False,
        )

    def log(self, step: int, stage: str, metrics: Mapping[str, float]) -> None:
        self._run.log(_finite(stage, metrics), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "trackio": Trackio}
PROJECT = "backflip"
"""The experiment (MLflow) or project (Trackio) that runs go to."""
NAMES_THERE = "trackers.json"
"""By tracker, the name of a run there."""


def open_trackers(
    names: Sequence[str], folder: Path | str, config: Mapping[str, Any] | None = None
) -> tuple[Tracker, ...]:
    """Open the trackers that a recipe names; a run that was there before goes on there.

    Raises UserError for a name that is not known, a package that is not installed, or a tracker
    that does not take the run.
    """
    for name in names:
        if name not in TRACKERS:
            close = difflib.get_close_matches(name, TRACKERS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(TRACKERS)}."
            raise UserError(f"trackers: {name!r} is not a tracker; {hint}")
    return tuple(_opened(name, Path(folder), config or {}) for name in names)


def _opened(name: str, folder: Path, config: Mapping[str, Any]) -> Tracker:
    try:
        return _Spared(name, TRACKERS[name](folder, config))
    except UserError:
        raise
    except ImportError as error:
        raise UserError(_missing(name, error)) from error
    except Exception as error:  # whatever their servers, accounts and files come to
        raise UserError(
            f"trackers: {name} does not take the run: {_first_line(error)}. Correct its settings, "
            "or take it out of the recipe's trackers."
        ) from error


class _Spared:
    """A tracker whose failure ends its own record and not the run."""

    def __init__(self, name: str, inner: Tracker) -> None:
        self._name, self._inner, self._lost = name, inner, False

    def log(self, step: int, stage: str, metrics: Mapping[str, float]) -> None:
        if self._lost:
            return
        try:
            self._inner.log(step, stage, metrics)
        except Exception as error:
            self._lost = True
            warnings.warn(
                f"{self._name} takes no more metrics from step {step} on "
                f"({_first_line(error)}); the run goes on, and metrics.jsonl has them all",
                stacklevel=2,
            )

    def close(self) -> None:
        try:
            self._inner.close()
        except Exception as error:
            warnings.warn(f"{self._name} was not closed ({_first_line(error)})", stacklevel=2)


# ---- a run's name elsewhere


def _known(folder: Path, tracker: str) -> str | None:
    """The name that the run has at a tracker; None where it has never been there."""
    path = folder / NAMES_THERE
    return json.loads(path.read_text(encoding="utf-8")).get(tracker) if path.is_file() else None


def _remember(folder: Path, tracker: str, name: str) -> str:
    path = folder / NAMES_THERE
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known | {tracker: name}), encoding="utf-8")
    return name


def _title(folder: Path) -> str:
    """The name of a run's folder; of a stage of a chain, the chain's before it."""
    inner = (folder.resolve().parent / "recipe.yaml").is_file()
    return f"{folder.resolve().parent.name}-{folder.name}" if inner else folder.resolve().name


# ---- what is sent


def _finite(stage: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{stage}/{name}": value for name, value in metrics.items() if math.isfinite(value)}


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _needed(module: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(_missing(extra, error)) from error


def _missing(extra: str, error: ImportError) -> str:
    absent = f" (it lacks {error.name})" if error.name and error.name.split(".")[0] != extra else ""
    return (
        f'trackers: {extra!r} is not installed{absent}. Run: pip install "backflip[{extra}]", '
        "or take it out of the recipe's trackers."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _as_table(config: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    return f"| setting | value |\n|---|---|\n{rows}"
