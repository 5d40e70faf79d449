"""The base of suites: a frozen dataclass whose fields are its settings, and what it measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from backflip.evaluation.suites.statistic import Measure, Rows, Statistic
from backflip.evaluation.suites.subject import Subject

__all__ = ["Suite", "Table"]


@dataclass(frozen=True)
class Table:
    """A table beside the numbers: models of a ladder, subsets of a benchmark."""

    name: str
    title: str
    heads: Sequence[str]
    """Names of columns; those of numbers begin with ``#``."""
    lines: Sequence[Sequence[str]]
    """Cells, as people read them."""
    records: Sequence[Mapping[str, Any]]
    """The same lines as plain numbers, for programs."""
    drawn: Sequence[Measure] = ()
    """Numbers of one kind to be drawn with their intervals, above the table on the page."""


@dataclass(frozen=True, kw_only=True)
class Suite(ABC):
    """Questions of one kind, what is read off a model's answers, and the numbers that follow.

    A subclass is final, alone in its file, and known by the file's name. Its fields are settings,
    with a docstring each. All numbers follow from the rows, which are kept: two models are
    compared, question by question, by their rows alone.
    """

    title: ClassVar[str]
    """A line for the list of suites."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Columns of the data without which a row is left out, and counted."""
    asks: ClassVar[bool] = True
    """Whether a model is asked; else the data hold what is measured."""
    scores: ClassVar[bool] = False
    """Whether the subject may be a reward model, or a trained policy as one."""
    asking: ClassVar[Mapping[str, Any]] = {}
    """Defaults of how a model is asked, where they are other than usual."""

    @abstractmethod
    def examine(self, subject: Subject, data: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A row for each question: ``id``, unique; ``group`` where several hang together; findings.

        Args:
            subject: who is asked.
            data: rows of the user's file that have all columns of ``needs``.

        """

    @abstractmethod
    def statistics(self, rows: Rows) -> list[Statistic]:
        """The numbers to be reported, the most important first."""

    def tables(self, rows: Rows) -> list[Table]:
        """Tables beside the numbers."""
        del rows
        return []

    def sentences(self, rows: Rows, measures: Sequence[Measure]) -> list[str]:
        """The findings in words; none beyond what the numbers hold."""
        del rows, measures
        return []
