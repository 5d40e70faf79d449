"""The 25 instructions of IFEval, and whether an answer follows them, strictly or loosely."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from backflip.reward.instructions.layout import LAYOUT
from backflip.reward.instructions.wording import WORDING

__all__ = ["INSTRUCTIONS", "Instruction", "instructions_of"]

INSTRUCTIONS: Mapping[str, Callable[..., bool]] = {**WORDING, **LAYOUT}
"""The check of each instruction by its upstream name."""


@dataclass(frozen=True)
class Instruction:
    """One instruction with its settings, under the names of IFEval's files."""

    name: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown name, and settings that are missing or unknown."""
        if self.name not in INSTRUCTIONS:
            raise ValueError(f"instruction {self.name!r} is none of IFEval's {len(INSTRUCTIONS)}")
        try:
            inspect.signature(INSTRUCTIONS[self.name]).bind("", **self.settings)
        except TypeError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def followed(self, answer: str, *, loose: bool = False) -> bool:
        """Whether an answer follows it; an empty one follows none. Loose: one of its variants."""
        check = INSTRUCTIONS[self.name]
        read = variants(answer) if loose else (answer,)
        return any(text.strip() and check(text, **self.settings) for text in read)


def variants(answer: str) -> Iterator[str]:
    """Eight readings (Zhou et al., 2023, §2.3): without asterisks, first line, last line."""
    lines = answer.split("\n")
    for kept in (lines, lines[1:], lines[:-1], lines[1:-1]):
        text = answer if kept is lines else "\n".join(kept).strip()
        yield text
        yield text.replace("*", "")


def instructions_of(row: Mapping[str, Any]) -> tuple[list[Instruction], list[str]]:
    """Instructions in a row of IFEval's form, and sentences on those that cannot be checked.

    The row has ``instruction_id_list`` and, one for each, ``kwargs``, which may be left out;
    settings that are null are none. An instruction that is unknown, or lacks a setting, is left out
    under a sentence.
    """
    names, settings = row.get("instruction_id_list"), row.get("kwargs")
    if settings is None and _listed(names):
        settings = [{}] * len(names)
    if not (names and _listed(names) and _listed(settings) and len(names) == len(settings)):
        return [], ["no instruction_id_list and kwargs, two lists of one length"]
    known, refused = list[Instruction](), list[str]()
    for name, given in zip(names, settings, strict=True):
        try:
            held = {key: _whole(v) for key, v in (given or {}).items() if v is not None}
            known.append(Instruction(str(name), held))
        except (ValueError, AttributeError, TypeError) as error:
            refused.append(str(error))
    return known, refused


def _whole(value: Any) -> Any:
    """A number that a table with gaps has made 2.0, as 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)
