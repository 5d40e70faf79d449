"""What a streamed source cannot be, said before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from backflip.data.records import Labelled
from backflip.errors import UserError
from backflip.stages.choices import NAMES
from backflip.stages.settings import (
    SHUFFLE_BUFFER,
    DataSettings,
    DirectRecipe,
    RewardModelRecipe,
    SFTRecipe,
    Stage,
)
from backflip.stages.sources import Address

__all__ = ["check_rounds_not_streamed", "stream_problems"]


def check_rounds_not_streamed(named: Iterable[DataSettings]) -> None:
    """Raises UserError where rounds, which draw from all prompts, are to read a stream of them."""
    if any(data.streaming for data in named):
        raise UserError(
            "data.streaming is true, but rounds draw from all of their prompts. Set "
            "data.streaming=false, with data.limit where they do not fit in memory."
        )


def stream_problems(stage: Stage, prefix: str) -> Iterator[str]:
    """Sentences about settings of a stage that do not go together with how its data is read."""
    data = stage.data
    if not data.streaming:
        if data.shuffle_buffer != SHUFFLE_BUFFER:
            yield (
                f"{prefix}data.shuffle_buffer is {data.shuffle_buffer}, but {prefix}data.streaming "
                f"is false, where all rows are shuffled. Leave it out, or set "
                f"{prefix}data.streaming=true."
            )
        return
    set_false = f"Set {prefix}data.streaming=false"
    if not isinstance(stage, SFTRecipe | RewardModelRecipe | DirectRecipe):
        yield (
            f"{prefix}data.streaming is true, but this stage draws from all of its prompts: sft, "
            f"reward_model and the direct family read rows as they come. {set_false}, with "
            f"{prefix}data.limit where they do not fit in memory."
        )
        return
    if isinstance(stage, DirectRecipe) and stage.objective.learns_from is Labelled:
        yield (
            f"{prefix}data.streaming is true, but {NAMES[type(stage.objective)]} pairs each answer "
            f"with the prompt of another row, for which all rows must be known. {set_false}, or "
            "learn from comparisons, such as objective=dpo."
        )
    if Address.of(data.source) is not None:
        yield (
            f"{prefix}data.source {data.source} is a project, which is read from its database "
            f"whole. {set_false}."
        )
    if stage.steps is None and stage.optimizer.schedule != "constant":
        yield (
            f"{prefix}steps is null: how many rows a streamed source has is not known, and "
            f"{prefix}optimizer.schedule={stage.optimizer.schedule} must know the last step. Set "
            f"{prefix}steps=NUMBER, or {prefix}optimizer.schedule=constant to go on to the end of "
            "the data."
        )
