"""The average of several models of one architecture: "model soups".

Llama 3.1 averages the models of different data and settings after each stage (Llama team, 2024,
§4.1.5; Wortsman et al., 2022).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backflip.errors import UserError
from backflip.models.load import resolve
from backflip.models.whole_folder import written_whole
from backflip.text import counted

__all__ = ["average"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAY_DIFFER = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype"})
"""Entries in which two configs of one architecture may differ; the first one's goes on."""


def average(
    models: Sequence[str | Path], folder: Path, *, weights: Sequence[float] | None = None
) -> Path:
    """Write Σ wᵢ·θᵢ, the weights scaled to add up to 1, as a plain Hugging Face folder.

    Config, tokenizer, number types and shards are the first model's. Sums are taken in float32,
    one tensor at a time: memory holds one shard of the result.

    Args:
        models: folders of runs or of models, two or more.
        folder: where the average goes, as ``folder``/model.
        weights: how much each counts, above 0; all the same without.

    Raises:
        UserError: the models differ in config, tokenizer, or in the names or shapes of tensors.

    """
    shares = _shares(len(models), weights)
    paths = [_local(str(model)) for model in models]
    for path in paths[1:]:
        _check_alike(paths[0], path)
    with ExitStack() as stack:
        sources = [_Weights(path, stack) for path in paths]
        for source in sources[1:]:
            source.check_names(sources[0])
        written_whole(folder / "model", lambda new: _write(sources, shares, new))
    return folder / "model"


class _Weights:
    """The tensors of a model on disk, read one by one."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        opener: Any = safe_open
        self.path = path
        self.files = _files(path)
        self.opened = {f: stack.enter_context(opener(path / f, "pt")) for f in self.files}
        self.file_of = {name: f for f, handle in self.opened.items() for name in handle.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        return self.opened[self.file_of[name]].get_tensor(name)

    def check_names(self, first: _Weights) -> None:
        strangers = sorted(self.file_of.keys() ^ first.file_of.keys())
        if strangers:
            raise UserError(
                f"{first.path} and {self.path} cannot be averaged: {len(strangers)} tensors are in "
                f"one of them only, such as {strangers[0]}. Average models of one architecture."
            )

    def shards(self) -> Iterator[tuple[str, list[str]]]:
        for file in self.files:
            yield file, [name for name, owner in self.file_of.items() if owner == file]


def _write(sources: Sequence[_Weights], shares: Sequence[float], new: Path) -> None:
    from safetensors.torch import save_file

    first = sources[0]
    for path in first.path.iterdir():
        # A card tells of one training, and not of an average.
        if path.is_file() and path.suffix not in (".safetensors", ".bin", ".pt", ".md"):
            shutil.copyfile(path, new / path.name)
    for file, names in first.shards():
        tensors = {name: _mean(name, sources, shares) for name in names}
        save_file(tensors, new / file, metadata={"format": "pt"})


def _mean(name: str, sources: Sequence[_Weights], shares: Sequence[float]) -> Tensor:
    """Σ share · tensor in float32, as the first model's type."""
    first = sources[0][name]
    total = torch.zeros_like(first, dtype=torch.float32)
    for source, share in zip(sources, shares, strict=True):
        tensor = source[name]
        if tensor.shape != first.shape:
            raise UserError(
                f"{sources[0].path} and {source.path} cannot be averaged: {name} is "
                f"{list(first.shape)} in one and {list(tensor.shape)} in the other."
            )
        if not first.is_floating_point():
            if not torch.equal(tensor, first):
                raise UserError(f"{name} of {source.path} counts something else: not averaged.")
            continue
        total.add_(tensor.float(), alpha=share)
    return total.to(first.dtype) if first.is_floating_point() else first


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    if count < 2:
        raise UserError(f"an average needs at least two models, {count} given.")
    given = [1.0] * count if weights is None else list(weights)
    if len(given) != count:
        raise UserError(
            f"{counted(len(given), 'weight')} for {counted(count, 'model')}: give one for each, "
            "or none."
        )
    if not all(0 < weight < float("inf") for weight in given):
        raise UserError(f"every weight must be above 0, got {given}: leave a model out instead.")
    return [weight / sum(given) for weight in given]


def _local(name: str) -> Path:
    path = Path(resolve(name))
    if not path.is_dir():
        raise UserError(f"{name} is no folder: download the model, or give the folder of a run.")
    return path


def _files(path: Path) -> list[str]:
    if (path / SINGLE).is_file():
        return [SINGLE]
    if (path / INDEX).is_file():
        return sorted(set(_read(path / INDEX)["weight_map"].values()))
    raise UserError(f"{path} has no {SINGLE} (nor shards with {INDEX}): save it as safetensors.")


def _check_alike(first: Path, other: Path) -> None:
    """The same config, and the same words."""
    one, two = (_facts(path / "config.json") for path in (first, other))
    unlike = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    if unlike:
        name = unlike[0]
        raise UserError(
            f"{first} and {other} cannot be averaged: their configs differ in {', '.join(unlike)} "
            f"({name} is {one.get(name)} and {two.get(name)}). Average models of one base."
        )
    words = [_vocabulary(path / "tokenizer.json") for path in (first, other)]
    if words[0] != words[1]:
        raise UserError(
            f"{first} and {other} cannot be averaged: their tokenizers differ, so that a row of "
            "the embedding is another token in each."
        )


def _facts(path: Path) -> Mapping[str, Any]:
    return {name: value for name, value in _read(path).items() if name not in MAY_DIFFER}


def _vocabulary(path: Path) -> tuple[Any, Any] | None:
    if not path.is_file():
        return None
    read = _read(path)
    added = [(token["id"], token["content"]) for token in read.get("added_tokens", [])]
    return read.get("model", {}).get("vocab"), added


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
