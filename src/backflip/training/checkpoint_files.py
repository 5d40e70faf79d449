"""Files of a checkpoint, written in one pass, with the size and SHA-256 of each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor

__all__ = [
    "MANIFEST",
    "STATE",
    "Files",
    "Weights",
    "digest",
    "facts_of",
    "size_of",
    "sync_folder",
    "write_all",
]

MANIFEST, STATE = "manifest.json", "state.pt"
NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Types by the names of the safetensors format."""

Files = dict[str, dict[str, Any]]
"""Size and SHA-256 of each file."""
Weights = Mapping[str, Mapping[str, Tensor]]
"""Tensors of each module, by name."""


def write_all(
    folder: Path,
    weights: Weights,
    state: Mapping[str, Any],
    about: Mapping[str, Any],
    files: Files,
) -> None:
    """Write the files of a checkpoint, the manifest last; ``files``: those that are there."""
    files = dict(files)
    for name, tensors in weights.items():
        with _HashedFile(folder / f"{name}.safetensors") as file:
            _write_tensors(tensors, file)
        files[file.path.name] = file.facts()
    with _HashedFile(folder / STATE) as file:
        torch.save(dict(state), cast("Any", file))
    files[STATE] = file.facts()
    with _HashedFile(folder / MANIFEST) as file:
        manifest = {"version": 1, "about": about, "files": files}
        file.write(json.dumps(manifest, indent=1, allow_nan=False).encode())
    sync_folder(folder)


class _HashedFile:
    """A file that knows its digest. An error of the disk is raised at the end of the block.

    Not where it happens: torch.save writes from C++, which turns the error into another one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sha, self._size = hashlib.sha256(), 0
        self._error: OSError | None = None

    def __enter__(self) -> _HashedFile:
        self._file = self.path.open("wb")
        return self

    def write(self, data: bytes | memoryview) -> int:
        size = memoryview(data).nbytes
        if self._error is None:
            try:
                self._file.write(data)
                self._sha.update(data)
                self._size += size
            except OSError as error:
                self._error = error
        return size

    def flush(self) -> None:
        """Part of what torch.save expects of a file; done at the end of the block."""

    def facts(self) -> dict[str, Any]:
        return {"bytes": self._size, "sha256": self._sha.hexdigest()}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._error is None and kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if self._error is not None:
            raise self._error


def _write_tensors(tensors: Mapping[str, Tensor], file: _HashedFile) -> None:
    """The safetensors format, in one pass: sizes first, so nothing is held twice in memory."""
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + size_of(tensor)
        shape = list(tensor.shape)
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        flat = tensor.detach().cpu().reshape(-1)
        file.write(memoryview(cast("Any", flat.view(torch.uint8).numpy())))


def size_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def facts_of(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file that is there."""
    return {"bytes": path.stat().st_size, "sha256": digest(path)}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Force the names in a folder onto the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
