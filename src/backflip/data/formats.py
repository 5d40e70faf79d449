"""Rows of public formats → records. One small adapter per format, found by the columns of a row.

Nothing is left out silently: each row that cannot be used is counted under a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from backflip.data import rows as parts
from backflip.data.errors import UserError
from backflip.data.records import (
    BadRecordError,
    Comparison,
    Demonstration,
    Message,
    Prompt,
    Provenance,
    Record,
    Tally,
)
from backflip.data.sources import Row, read

