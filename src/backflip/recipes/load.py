"""From a name and ``key=value`` to a recipe: strict keys, and errors that name the way out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from backflip.errors import UserError
from backflip.recipes.describe import paths, settings
from backflip.recipes.names import TAGGED, find_recipe, hint, nested, pairs, read_yaml
from backflip.recipes.registry import RECIPES, Recipe
from backflip.recipes.slips import meant, wanted
from backflip.stages.chain import STAGES, Chain
from backflip.stages.choices import NAMES
from backflip.stages.environments import environment_in
from backflip.stages.rewards.kinds import reward_in
from backflip.stages.settings import ANY_WORD, SHORT_FORMS, Columns, default_run, long_forms
from backflip.stages.sources import pin_all

WORDS = {"reward": reward_in, "environment": environment_in, "gold": reward_in}
"""Readers of the settings of ``ANY_WORD``."""


def load_recipe(
    name: str | Path, overrides: Sequence[str] | Mapping[str, Any] = (), **more: Any
) -> Recipe:
    """A recipe, complete: a shipped one by its name, or a YAML file by its path.

    Args:
        name: one of ``names.shipped()``, such as ``sft``, ``ppo``, ``dpo``, or a path.
        overrides: ``["optimizer.lr=1e-5", …]``, values written as in YAML; or a mapping of
            (dotted) names to values.
        more: the same by keyword; groups as mappings.

    Raises:
        UserError: no such recipe, not YAML, an unknown setting, a value that cannot be.

    """
    path = find_recipe(name)
    raw = _spread(nested(read_yaml(path)))
    stage = stage_in(raw, path)
    del raw["stage"]
    for key, value in _ordered(pairs({**pairs(overrides), **more})):
        if key not in paths(stage) and not is_alias(key, stage):
            raise UserError(f"unknown setting {key!r}. {meant(key, stage, settings(stage))}")
        _set(raw, key.split("."), nested(value), chain=_shares(RECIPES[stage]))
    raw.setdefault("run", default_run(path.stem))
    return parse(pin_all(raw), stage, f"recipe {name}")


def _shares(kind: type[Recipe]) -> bool:
    """Whether one source of data replaces those of all stages."""
    return issubclass(kind, Chain) and kind.ONE_SOURCE


def aliases(stage: str) -> dict[str, Any]:
    """Old names of settings of a recipe, or of a stage in a chain; see ``Stage.ALIASES``."""
    kind: Any = RECIPES[stage]
    links = getattr(kind, "LINKS", ())
    parts = [("", kind), *((f"{link}.", kind.model_fields[link].annotation) for link in links)]
    return {
        f"{prefix}{old}": schema
        for prefix, part in parts
        for old, schema in getattr(part, "ALIASES", {}).items()
    }


def is_alias(key: str, stage: str) -> bool:
    """Whether a setting, or the group around it, bears an old name."""
    return any(key == old or key.startswith(f"{old}.") for old in aliases(stage))


def parse(raw: Mapping[str, Any], stage: str, where: str) -> Recipe:
    """Settings as a recipe; ``where`` they came from is named in errors."""
    try:
        return RECIPES[stage].model_validate({**raw, "stage": stage})
    except ValidationError as error:
        raise UserError(_explained(error, stage, where)) from error


def to_yaml(recipe: Recipe) -> str:
    """The recipe, resolved and complete: reading it again gives the same recipe."""
    plain = recipe.model_dump(mode="json")
    first = {key: plain.pop(key) for key in ("stage", "model", "run")}
    return yaml.safe_dump(first | plain, sort_keys=False, allow_unicode=True)


def known_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """The same, where each is a name that a column may stand for. Raises UserError for others."""
    known = list(Columns.model_fields)
    for name in columns:
        if name not in known:
            raise UserError(f"unknown setting 'columns.{name}'. {hint(name, known)}")
    return dict(columns)


# ---- overrides


def _ordered(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Wide settings first: ``data=…`` before ``sft.data=…`` before ``sft.data.limit=…``."""
    return sorted(given.items(), key=lambda pair: pair[0].count("."))


def _spread(raw: dict[str, Any]) -> dict[str, Any]:
    """Groups given as one word written out, in the recipe and in its stages."""
    raw = _words_spread(raw)
    for name in STAGES:
        if isinstance(raw.get(name), Mapping):
            raw[name] = _words_spread(raw[name])
    return raw


def _words_spread(group: Mapping[str, Any]) -> dict[str, Any]:
    out = long_forms(group)
    words = {n: WORDS[n](out[n]) for n in ANY_WORD if isinstance(out.get(n), str)}
    return out | words


def _set(raw: dict[str, Any], key: Sequence[str], value: Any, *, chain: bool) -> None:
    """Put one value into nested settings."""
    group = raw
    for part in key[:-1]:
        inner = group.get(part)
        group[part] = dict(inner) if isinstance(inner, Mapping) else {}
        group = group[part]
    last = key[-1]
    inner = SHORT_FORMS.get(last)
    if isinstance(value, str) and inner is not None:
        value = {inner: value}
    elif isinstance(value, str | Path) and last in ANY_WORD:
        value = WORDS[last](value)
    if isinstance(value, Mapping):
        group[last] = _merged(group.get(last), value, last)
    else:
        group[last] = value
    if chain and (key[0] == "data") and isinstance(raw.get("data"), Mapping):
        _one_source(raw)


def _merged(old: Any, new: Mapping[str, Any], group: str) -> dict[str, Any]:
    """A group of settings with some of it given anew."""
    kept = dict(old) if isinstance(old, Mapping) else {}
    if group in ("data", "pretraining") and "source" in new:
        kept = {
            k: v for k, v in kept.items() if k not in ("source", "format", "columns", "validation")
        }
    if new.get("name", kept.get("name")) != kept.get("name"):
        if group in ANY_WORD or group == "algorithm":  # another one comes with its own settings
            return dict(new)
        allowed = _fields_of(str(new["name"]))
        kept = {k: v for k, v in kept.items() if k in allowed}
    inner = {k: _merged(kept[k], v, k) for k, v in new.items() if _both(kept.get(k), v)}
    return kept | dict(new) | inner


def _both(old: Any, new: Any) -> bool:
    return isinstance(old, Mapping) and isinstance(new, Mapping)


def _fields_of(algorithm: str) -> set[str]:
    found = [kind for kind, name in NAMES.items() if name == algorithm]
    return {field.name for kind in found for field in dataclasses.fields(kind)}


def _one_source(raw: dict[str, Any]) -> None:
    """A source for the whole chain replaces those that the stages have of their own."""
    if "source" not in raw["data"]:
        return
    for name in STAGES:
        data = raw.get(name, {}).get("data")
        if isinstance(data, Mapping):
            gone = ("source", "format", "columns", "validation")
            raw[name] = raw[name] | {"data": {k: v for k, v in data.items() if k not in gone}}


# ---- errors


def stage_in(raw: Mapping[str, Any], path: Path) -> str:
    """Which recipe a file holds. Raises UserError where it does not say so."""
    stage = raw.get("stage")
    if stage in RECIPES:
        return str(stage)
    seen = "has no `stage:`" if stage is None else f"has stage: {stage}, which is not known"
    raise UserError(f"{path} {seen}. {hint(str(stage or ''), RECIPES)}")


def _explained(error: ValidationError, stage: str, where: str) -> str:
    """One line about the first of the errors, with how many there are beside it."""
    first = error.errors()[0]
    path = _path(first["loc"], stage)
    kind, value = first["type"], first.get("input")
    others = f" ({error.error_count() - 1} more to correct.)" if error.error_count() > 1 else ""
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        said = f"unknown setting {path!r} in {where}. {meant(path, stage, settings(stage))}"
    elif kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        said = f"{path} is missing in {where}. Give it there, or as {path}=… on the command line."
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        options = first.get("ctx", {}).get("expected_tags", "").replace("'", "").split(", ")
        seen = value.get("name") if isinstance(value, Mapping) else value
        said = f"{path} in {where} is {seen!r}, which is not known. {hint(str(seen), options)}"
    elif kind == "value_error":
        reason = first.get("ctx", {}).get("error", first["msg"])
        said = f"{path} in {where}: {reason}" if path else f"{where}: {reason}"
    else:
        needed = wanted(kind, first["msg"], path, settings(stage))
        said = f"{path} in {where} is {value!r}; {needed}."
    return said + others


def _path(loc: Sequence[Any], stage: str) -> str:
    """The dotted name of a place in pydantic's words, which also name the kinds it has tried."""
    known, path = paths(stage), ""
    leaves = {name for name in known if not any(n.startswith(f"{name}.") for n in known)}
    for index, part in enumerate(map(str, loc)):
        tag = part in NAMES.values() and index and loc[index - 1] in TAGGED
        if tag:
            continue
        if path in leaves:
            break
        path = f"{path}.{part}" if path else part
    return path
