"""JSON that an answer has to be, and a schema that it has to fit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from backflip.errors import UserError
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier

FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class JSONSchema(Verifier):
    """The answer is JSON that fits a schema; what is no JSON is unparsable.

    Read is the whole answer, or, where fences of Markdown stand in it, the last block in them. NaN
    and Infinity are no JSON. References to schemas on the network are not followed.
    """

    needs_reference: ClassVar[bool] = False
    packages: ClassVar[Mapping[str, str]] = {"jsonschema": "pip install 'backflip[schema]'"}

    schema: str = ""
    """A file with the schema, or the schema as JSON; empty takes the row's column schema, and
    without one any JSON will do."""

    def check(self, answer: str, reference: str, prompt: str, info: Mapping[str, Any]) -> Verdict:
        del reference, prompt
        blocks = FENCE.findall(answer)
        try:
            said = json.loads(blocks[-1] if blocks else answer, parse_constant=_refused)
        except (ValueError, RecursionError):
            return Verdict("unparsable")
        schema = schema_in(self.schema) if self.schema else _given(info.get("schema", True))
        from jsonschema.validators import validator_for
        from referencing import Registry

        made = validator_for(schema)(schema, registry=Registry())
        return Verdict("correct" if made.is_valid(said) else "incorrect")

    def faults(self, where: str) -> Iterator[str]:
        yield from super().faults(where)
        try:
            if self.schema:
                schema_in(self.schema)
        except UserError as error:
            yield f"{where}.schema: {error}"


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _given(schema: Any) -> Any:
    return json.loads(schema) if isinstance(schema, str) else schema


@lru_cache(maxsize=64)
def schema_in(said: str) -> Any:
    """The schema in a file or a text. Raises UserError where there is none, or none of sense."""
    path = Path(said).expanduser()
    inline = said.lstrip().startswith("{")
    try:
        schema = json.loads(said if inline else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{'it' if inline else path} is no JSON: {error}.") from error
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise UserError(f"it is no JSON Schema: {error.message[:200]}.") from error
    return schema
