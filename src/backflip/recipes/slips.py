"""Slips of the keyboard, found and explained before anything heavy is imported.

What is found here would be found later too, by the classes themselves (``load.py``), in the same
words; it only takes their import to get there. So this may let pass whatever it does not know.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Union, cast, runtime_checkable

from backflip.data.sources import check_there
from backflip.data.templates import template_text
from backflip.errors import UserError
from backflip.recipes import known
from backflip.recipes.names import any_of, find_recipe, hint, pairs, read_yaml

__all__ = [
    "check",
    "check_beta",
    "check_choice",
    "check_data",
    "check_judge",
    "check_models",
    "check_reading",
    "meant",
    "wanted",
    "without_reference",
]

WANTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "path": "the name of a folder",
}
"""Demands on a setting, by how pydantic's name of a mistake begins."""
NEEDED, UNSAID = "needed", ("needed", "null", "as below", "[]", "")
"""Defaults that are no example."""
AUTO = "auto"
"""A rate that goes by the other settings."""
SOURCES = {"data": "data.source", "pretraining": "pretraining.source"}
SOURCES |= {name: name for name in ("source", "validation", "golden")}
"""Settings that name data, by the last part of their names, and what they are called in full."""
MODELS = ("model", "policy", "reference", "reward_model")
"""Settings that name a model, by the last part of their names."""
FEEDBACK = "feedback:"
PARALLEL = ("context", "sequence", "tensor", "pipeline", "expert")
ELSEWHERE = {
    "load_in_4bit": "Here it is quantization=nf4.",
    "load_in_8bit": "Here it is quantization=int8.",
    "gradient_checkpointing": "Here it is activation_checkpointing.",
    "fp8": "FP8 is not supported: precision is float32 or bfloat16.",
} | {
    f"{kind}_parallel": f"Parallelism of the {kind} is not supported: torchrun shares out rows and "
    "layers (FSDP2), and activation_checkpointing=true and lora take less memory."
    for kind in PARALLEL
}
"""Settings of other programs, by their last names without ``_size``."""


@runtime_checkable
class Named(Protocol):
    """A setting, as it is listed."""

    @property
    def path(self) -> str: ...
    @property
    def default(self) -> str: ...
    @property
    def choice(self) -> str: ...


# ---- in words


def meant(key: str, stage: str, settings: Sequence[Named]) -> str:
    """The nearest setting: one spelt alike, or one of the same name in another group."""
    if said := ELSEWHERE.get(_last(key).removesuffix("_size")):
        return said
    names = sorted(known.groups(setting.path for setting in settings))
    only = {s.choice for s in settings if s.path == key and s.choice}
    if only:
        return f"It belongs to {any_of(sorted(only))}, which the recipe does not use."
    group, _, last = key.rpartition(".")
    siblings = [name for name in names if name.rpartition(".")[0] == group]
    near_by = [name for name in names if "columns" in key or ".columns." not in name]
    leaves = {name: _last(name) for name in near_by}
    same = [name for name, leaf in leaves.items() if leaf == last]
    close = difflib.get_close_matches(last, [_last(n) for n in siblings], n=1, cutoff=0.7)
    if close:
        return f"Did you mean {'.'.join(filter(None, (group, close[0])))}?"
    if same:
        return f"Did you mean {any_of(same)}?"
    near = difflib.get_close_matches(last, set(leaves.values()), n=1, cutoff=0.75)
    if near:
        return f"Did you mean {any_of([n for n, leaf in leaves.items() if leaf == near[0]])}?"
    there = f"Group {group} has" if siblings and group else f"Recipe {stage} has"
    return f"{there} {', '.join(siblings or [n for n in names if '.' not in n])}."


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def wanted(kind: str, message: str, path: str, settings: Sequence[Named]) -> str:
    """The demand on a value, with the default as an example; ``kind`` is pydantic's name for it."""
    found = [setting for setting in settings if setting.path == path]
    example = found[0].default if found else NEEDED
    such = f", such as {example}" if example not in UNSAID else ""
    for beginning, what in WANTED.items():
        if kind.startswith(beginning):
            return f"it must be {what}{such}"
    names = sorted(known.groups(setting.path for setting in settings))
    inside = [n.rpartition(".")[2] for n in names if n.rpartition(".")[0] == path]
    if inside and kind.startswith(("dict", "model", "dataclass")):
        return f"it is a group: write {path}.{inside[0]}=… (it has {', '.join(inside)})"
    return message[:1].lower() + message[1:].replace("nput should be", "t must be")


# ---- what can be seen at once


def check(name: str, overrides: Sequence[str] = ()) -> None:
    """Look for slips in a recipe and in what is set over it.

    Raises UserError for a recipe that is not there, for a setting that is not known, for a value
    that cannot be, and for a file of data that is missing.
    """
    path = find_recipe(name)
    given = pairs(overrides)
    raw = read_yaml(path)
    settings = known.leaves(str(raw.get("stage")))
    if settings and known.believed():
        stage = str(raw["stage"])
        names = known.groups(setting.path for setting in settings)
        for key in given:
            if key not in names:
                raise UserError(f"unknown setting {key!r}. {meant(key, stage, settings)}")
        mine = [s for s in settings if not s.choice or s.choice == _chosen(s, raw, given)]
        for key, value in {**dict(_flat(raw, names)), **given}.items():
            _check_value(key, value, mine, f"recipe {name}")
    for key, value in given.items():
        _check_source(key, value)
        _check_model(key, value)
        _check_template(key, value, f"recipe {name}")
    _check_formats(given)


def _chosen(leaf: known.Leaf, raw: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """The algorithm that a recipe uses in the group of a setting that only some algorithms have."""
    group, there = leaf.path.rpartition(".")[0], cast("Any", raw)
    for part in group.split("."):
        there = there.get(part) if isinstance(there, Mapping) else None
    said = given.get(f"{group}.name", given.get(group, there))
    return cast("Any", said).get("name") if isinstance(said, Mapping) else said


def _flat(raw: Mapping[str, Any], names: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a file by their dotted names; what is not known is left to the classes."""
    for key, value in raw.items():
        if (path := f"{prefix}{key}") not in names:
            continue
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), names, f"{path}.")
        else:
            yield path, value


def _check_value(key: str, value: Any, settings: Sequence[known.Leaf], where: str) -> None:
    found = [leaf for leaf in settings if leaf.path == key]
    if len(found) != 1 or not found[0].schema or value is None:
        return
    if "names" in found[0].schema:
        _check_name(key, value, found[0].schema["names"], where)
        return
    if isinstance(value, list | dict) or (key.endswith("lr") and value == AUTO):
        return
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(_type(found[0].schema)).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        said = wanted(first["type"], first["msg"], key, settings)
        raise UserError(f"{key} in {where} is {value!r}; {said}.") from error


def _check_name(key: str, value: Any, names: Sequence[str], where: str) -> None:
    """The name of an algorithm, alone or with its settings."""
    given = cast("Mapping[str, Any]", value).get("name") if isinstance(value, Mapping) else value
    if isinstance(given, str) and given not in names:
        raise UserError(f"{key} in {where} is {given!r}, which is not known. {hint(given, names)}")


def _type(schema: Mapping[str, Any]) -> Any:
    """The type that a JSON schema of a number, a word, or one of several describes."""
    from pydantic import Field

    if "anyOf" in schema:
        options = tuple(_type(part) for part in schema["anyOf"])
        return Union[options]  # noqa: UP007 (made of a tuple)
    if "enum" in schema or "const" in schema:
        return Literal[tuple(schema.get("enum", [schema.get("const")]))]
    plain: dict[str, Any] = {"integer": int, "boolean": bool, "null": type(None), "string": str}
    if schema["type"] in ("number", "integer"):
        signs = {"minimum": "ge", "exclusiveMinimum": "gt"}
        signs |= {"maximum": "le", "exclusiveMaximum": "lt"}
        bounds: dict[str, Any] = {signs[k]: v for k, v in schema.items() if k in signs}
        return Annotated[plain.get(schema["type"], float), Field(**bounds, allow_inf_nan=False)]
    return plain[schema["type"]]


def _check_source(key: str, value: Any) -> None:
    """A file that is named and not there."""
    group, _, last = key.rpartition(".")
    if last not in SOURCES or not isinstance(value, str):
        return
    try:
        check_data(value)
    except UserError as error:
        prefix = f"{group}." if group else ""
        raise UserError(f"{prefix}{SOURCES[last]}: {error}") from error


def _check_model(key: str, value: Any) -> None:
    group, _, last = key.rpartition(".")
    if last in MODELS and not group.endswith("columns") and isinstance(value, str):
        try:
            check_models(value)
        except UserError as error:
            raise UserError(f"{key}: {error}") from error


def _check_template(key: str, value: Any, where: str) -> None:
    if key.rpartition(".")[2] != "template" or not isinstance(value, str):
        return
    try:
        template_text(value)
    except UserError as error:
        raise UserError(f"{key} in {where}: {error}") from error


def _check_formats(given: Mapping[str, Any]) -> None:
    """The formats of data that is named beside them, or is the recipe's own; not of a project."""
    for key, value in given.items():
        group, _, last = key.rpartition(".")
        if last == "format" and group.rpartition(".")[2] in SOURCES:
            source = given.get(f"{group}.source", given.get(group, ""))
            check_reading(source, {"format": value})


def check_reading(source: Any, given: Mapping[str, Any]) -> None:
    """How data is read: raises UserError for a format, kind, template or column nobody knows."""
    from backflip.data.conversions import KINDS
    from backflip.data.formats import named

    kind, format, template = (given.get(name) for name in ("kind", "format", "template"))
    if format is not None and not str(source).startswith(FEEDBACK):
        named(str(format))
    if kind is not None and kind not in KINDS:
        raise UserError(f"kind {kind!r} is not known; use {', '.join(KINDS)}")
    if template is not None:
        template_text(str(template))
    begin = "data.columns."
    leaves = [leaf.path for leaf in known.leaves("direct") if leaf.path.startswith(begin)]
    columns = [path.removeprefix(begin) for path in leaves]
    for name in given.get("columns", ()) if known.believed() else ():
        if name not in columns:
            raise UserError(f"unknown setting 'columns.{name}'. {hint(name, columns)}")


def check_judge(model: str, given: Mapping[str, Any]) -> None:
    """Raises UserError for a language model that is to judge alone, seen by its config."""
    from backflip.models.smollm2 import NAME

    check_beta(given.get("beta"))
    folder = Path(model).expanduser()
    if given.get("reference") is not None or (folder / "recipe.yaml").exists():
        return
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = str(config["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        kind = "LlamaForCausalLM" if model == NAME else ""
    if kind.endswith(("ForCausalLM", "LMHeadModel")):
        raise without_reference(model, kind)


def check_beta(beta: float | None) -> None:
    """Raises UserError for a scale of implicit rewards that is not above 0."""
    if beta is not None and not 0 < beta < math.inf:
        raise UserError(f"beta is {beta:g}; it must be a number above 0, such as 0.1.")


def check_choice(n: int, temperature: float) -> None:
    """Raises UserError where there would be nothing to choose among n answers."""
    if n < 2:
        raise UserError(f"n is {n}; best of n needs 2 answers or more.")
    if temperature == 0:
        raise UserError("temperature is 0: all answers would be the same. Set it to 1.")


def without_reference(model: str, kind: str) -> UserError:
    """The refusal of a language model of class ``kind`` as a judge on its own."""
    return UserError(
        f"{model} is a {kind}, not a reward model. A language model judges by what it finds "
        "likelier than another one does: give reference=MODEL, what it was trained from (or "
        "the run folder of a direct method, which knows its own). Otherwise give a reward "
        "model, as `backflip train reward_model` makes it."
    )


def check_data(source: str) -> None:
    """Raises UserError for data that is a file, and not there."""
    if not source.startswith(FEEDBACK):
        check_there(source)


def check_models(*names: Any) -> None:
    """Raises UserError for a model that is no folder, and cannot be a hub name either."""
    from backflip.models import scratch
    from backflip.models.smollm2 import NAME

    for name in map(str, filter(None, names)):
        path = Path(name).expanduser()
        if name == NAME or path.exists() or (scratch.is_one(name) and scratch.sizes(name)):
            continue
        if not name.startswith((".", "/", "~")) and name.count("/") == 1:
            continue
        raise UserError(
            f"there is no model {name!r}: no such folder, and a hub name looks like owner/name. "
            f"Give one of these, {NAME}, or {scratch.NAME}."
        )
