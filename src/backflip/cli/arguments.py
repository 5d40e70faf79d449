"""Arguments and options that several commands share. Light, as all that ``--help`` needs."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, get_type_hints

import typer

from backflip.cli import complete as completing

RECIPE = (
    "sft, reward_model, process_reward_model; ppo, grpo, rloo, …; dpo, kto, simpo, …; "
    "iterative_dpo, raft, …; rlhf, sorting, calculator; or a YAML file."
)
Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Settings of the recipe, such as data=rows.jsonl or algorithm.kl_coef=0.1.",
        show_default=False,
        autocompletion=completing.settings,
    ),
]
RecipeName = Annotated[str, typer.Argument(help=RECIPE, autocompletion=completing.recipes)]
Format = Annotated[str | None, typer.Option(help="Format of the data; else by its columns.")]
Limit = Annotated[int | None, typer.Option(help="Rows to read at most.")]
MaxLength = Annotated[int | None, typer.Option(help="Longest prompt and answer, in tokens.")]
Template = Annotated[
    str | None, typer.Option(help="For a model without: chatml, hh, plain, FILE.jinja.")
]


def ungrouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer reads it: a parameter for each field of its groups.

    A group is a dataclass whose fields are annotated as parameters are; groups may hold groups.
    """
    parameters = list(inspect.signature(command, eval_str=True).parameters.values())

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(**{one.name: _value(one.name, one.annotation, given) for one in parameters})

    flat = [part for one in parameters for part in _parts(one)]
    run.__signature__ = inspect.Signature(flat)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {part.name: part.annotation for part in flat}
    return run


def _parts(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """The parameter itself, or those of the group that it stands for."""
    if not dataclasses.is_dataclass(parameter.annotation):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(parameter.annotation, include_extras=True)
    for field in dataclasses.fields(parameter.annotation):
        none = field.default is dataclasses.MISSING
        default = inspect.Parameter.empty if none else field.default
        yield from _parts(
            parameter.replace(name=field.name, annotation=hints[field.name], default=default)
        )


def _value(name: str, annotation: Any, given: Mapping[str, Any]) -> Any:
    """The value given for a parameter; a group is put together."""
    if not dataclasses.is_dataclass(annotation):
        return given[name]
    hints = get_type_hints(annotation, include_extras=True)
    fields = dataclasses.fields(annotation)
    made: Any = annotation
    return made(**{one.name: _value(one.name, hints[one.name], given) for one in fields})
