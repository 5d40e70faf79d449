"""Folders of a run of rounds, and which model each training starts from."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backflip.errors import UserError
from backflip.monitor.log import ALARMS, Alarm, read_lines
from backflip.rounds.settings import IterativeRecipe
from backflip.stages.base import Stage
from backflip.stages.direct import DirectRecipe

__all__ = ["RoundFolders", "alarms_of", "link", "mixed"]

LEARNERS = ("sft", "direct")
"""Stages that may train the policy in a round, in this order."""


@dataclass(frozen=True)
class RoundFolders:
    """The folders of a run's rounds; round 0 is the start."""

    recipe: IterativeRecipe
    path: Path

    def folder(self, number: int) -> Path:
        """Of one round."""
        return self.path / f"round_{number}"

    def rows_so_far(self) -> list[dict[str, Any]]:
        """The rows of the rounds that are whole, in order.

        Raises UserError where one is damaged, or the policy to go on from is gone.
        """
        rows: list[dict[str, Any]] = []
        for number in range(self.recipe.rounds + 1):
            path = self.folder(number) / "summary.json"
            if not path.is_file():
                break
            try:
                rows.append(json.loads(path.read_text(encoding="utf-8")))
            except ValueError as error:
                raise UserError(
                    f"{path} is damaged ({error}). Restore it, or remove it to measure the round "
                    "again."
                ) from error
        last = len(rows) - 1
        if last > 0 and not (Path(self.policy(last)) / "config.json").is_file():
            raise UserError(
                f"{self.folder(last)} has no model any more, though the round is finished. "
                f"Restore {self.policy(last)}, or remove the folder to do the round again."
            )
        return rows

    def trained(self, number: int) -> str:
        """The policy that the last training of a round has made."""
        learners = [name for name in LEARNERS if getattr(self.recipe, name)]
        return str(self.folder(number) / learners[-1] / "model")

    def averaged(self, number: int) -> list[str]:
        """The models that are averaged after a round; none where its own goes on."""
        first = max(1, number - self.recipe.average + 1)
        return [self.trained(n) for n in range(first, number + 1)] if first < number else []

    def policy(self, number: int) -> str:
        """The model after a round."""
        if number == 0:
            return self.recipe.model
        return str(self.folder(number) / "model") if self.averaged(number) else self.trained(number)

    def stages(self, number: int) -> list[tuple[str, Stage]]:
        """Stages that learn from a round's answers, each from where the one before has ended."""
        recipe, found = self.recipe, list[tuple[str, Stage]]()
        start = self.policy(0 if recipe.start_from == "first" else number - 1)
        for name in LEARNERS:
            stage: Stage | None = getattr(recipe, name)
            if stage is None:
                continue
            changes: dict[str, Any] = self._changes(number, name, stage) | {"model": start}
            if isinstance(stage, DirectRecipe) and recipe.reference == "first" and _held(stage):
                changes["reference"] = None if start == recipe.model else recipe.model
            found.append((name, stage.model_copy(update=changes)))
            start = str(changes["run"] / "model")
        return found

    def _changes(self, number: int, name: str, stage: Stage) -> dict[str, Any]:
        folder = self.folder(number)
        data = stage.data.model_copy(update={"source": str(folder / "sampled")})
        changes: dict[str, Any] = {"run": folder / name, "seed": stage.seed + number, "data": data}
        return changes | ({"sampled_prompts": 0} if name == "direct" else {})

    def reward_model(self, number: int) -> Stage | None:
        """The training of a round's own reward model, where rounds have one."""
        stage, sources = self.recipe.reward_model, self.recipe.preferences
        if stage is None:
            return None
        changes: dict[str, Any] = {"run": self.folder(number) / "reward_model"}
        if sources:
            source = sources[min(number, len(sources)) - 1]
            changes["data"] = stage.data.model_copy(update={"source": source})
        return stage.model_copy(update=changes)

    def prompts_of(self, number: int, total: int) -> list[int]:
        """Which of all prompts a round answers: a shuffled order, walked through round by round."""
        size = self.recipe.prompts_per_round
        if size is None or size >= total:
            return list(range(total))
        order = list(range(total))
        random.Random(self.recipe.seed).shuffle(order)
        start = (number - 1) * size
        return [order[i % total] for i in range(start, start + size)]

    def prune(self, number: int) -> None:
        """After a round, remove the models of rounds that are too old to be kept."""
        if self.recipe.keep_rounds is None:
            return
        kept = max(self.recipe.keep_rounds, self.recipe.average)
        for old in range(1, number - kept + 1):
            for part in (self.folder(old), *self.folder(old).glob("*/")):
                for name in ("model", "adapter", "checkpoints"):
                    shutil.rmtree(part / name, ignore_errors=True)


def alarms_of(run: Path, number: int, name: str) -> Iterator[Alarm]:
    """Alarms of a round's training, as alarms of the round."""
    for line in read_lines(run / ALARMS):
        yield Alarm(
            step=number,
            name=str(line.get("name", "")),
            severity="warn",
            sentence=f"{name}, step {line.get('step')}: {line.get('sentence', '')}",
            stage="iterative",
        )


def mixed(seed: int, number: int) -> int:
    """Random numbers of a round that no other round has."""
    return random.Random(f"{seed}/{number}").getrandbits(48)


def link(source: Path, target: Path) -> None:
    """The model of the last round under the run's own name, without taking its room twice."""
    shutil.rmtree(target, ignore_errors=True)
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for path in source.iterdir():
        try:
            os.link(path, beside / path.name)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, beside / path.name)
    beside.rename(target)


def _held(stage: DirectRecipe) -> bool:
    """Whether the objective has a reference that stays where it is."""
    return stage.objective.needs_reference and not stage.objective.reference_moves
