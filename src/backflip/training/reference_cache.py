"""Log-probabilities of a reference, kept on disk for every run that asks the same model again.

One SQLite file a model, named by a digest of its weights; one row an answer, named by a digest of
the tokens of prompt and answer and of the mask. What tokenizer and template made of the text is in
the tokens already, so neither needs a name of its own. Whatever is wrong with the file costs a
warning and time, never the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from backflip.distributed.world import here
from backflip.models.causal import AdaptersOff, CausalPolicy, adapters_are_new
from backflip.models.smollm2 import cache_folder
from backflip.progress import each

__all__ = ["ReferenceCache", "ReferenceRows", "model_fingerprint", "row_key"]

Answer = TypeVar("Answer")
VERSION = b"backflip reference 2"
"""Part of every digest: to be raised when what is kept comes to mean something else.

Version 1 may hold numbers that were read with dropout, or beyond a window as if there were none.
"""
PATIENCE = 30.0
"""Seconds to wait for another run that is writing."""
AT_ONCE = 500
"""Rows in one question; SQLite takes at least 999."""
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
SILENT = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_internal",
        "_name_or_path",
        "architectures",
        "attn_implementation",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "id2label",
        "label2id",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Entries of a config that change no logit, or (the types) are seen on the weights themselves."""


class ReferenceCache:
    """A folder of such files. It names the file itself, so no model can get another's answers."""

    def __init__(self, name: str = "", *, folder: Path | None = None) -> None:
        """``name``: where the model came from, for people who look into the file.

        ``folder``: by default ``reference`` under BACKFLIP_CACHE or ``~/.cache/backflip``.
        """
        self.name = name
        self.folder = cache_folder() / "reference" if folder is None else folder

    def path(self, model: CausalPolicy | AdaptersOff) -> Path:
        """The file of this model, whether or not it is there yet."""
        return self.folder / f"{model_fingerprint(model)}.sqlite"

    def rows(self, model: CausalPolicy | AdaptersOff) -> ReferenceRows:
        """The log-probabilities of this model so far; close it, or use it in ``with``."""
        rows = ReferenceRows(self.path(model))
        if self.name and here().leads:
            rows.about(self.name)
        return rows


class ReferenceRows:
    """The log-probabilities that one model gave to answers, by ``row_key``.

    Every ``add`` is one transaction: a process that is killed loses what it was computing, and
    several may write at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        if here().leads:
            self._open()

    def __enter__(self) -> ReferenceRows:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Log-probabilities of these rows, in nats; unknown ones are missing."""
        return self._tried(lambda db: _selected(db, keys), {})

    def add(self, rows: Mapping[bytes, float]) -> dict[bytes, float]:
        """Keep these; returns what the file holds of them now.

        Where another run was faster its numbers stay and are returned: they may differ in the last
        bits, and all runs that share a file should go on from the same ones.
        """

        def add(db: sqlite3.Connection) -> dict[bytes, float]:
            db.executemany("INSERT OR IGNORE INTO said VALUES (?, ?)", rows.items())
            return _selected(db, list(rows))

        return {**rows, **self._tried(add, {})}

    def about(self, name: str) -> None:
        """Note for people where the model came from."""
        values = (name, time.strftime("%Y-%m-%d"))
        self._tried(
            lambda db: db.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", values), None
        )

    def names(self) -> list[str]:
        """Under which names the model has been used."""
        question = "SELECT name FROM about ORDER BY first_used, name"
        return self._tried(lambda db: [str(name) for (name,) in db.execute(question)], [])

    def __len__(self) -> int:
        return self._tried(lambda db: int(db.execute("SELECT count(*) FROM said").fetchone()[0]), 0)

    def _tried(self, work: Callable[[sqlite3.Connection], Answer], otherwise: Answer) -> Answer:
        """Do the work in one transaction; what goes wrong is said once and not raised."""
        if self._db is None:
            return otherwise
        try:
            with self._db:
                return work(self._db)
        except sqlite3.DatabaseError as error:
            self._gone_wrong(error)
            return otherwise

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _opened(self.path)
        except (OSError, sqlite3.DatabaseError) as error:
            self._gone_wrong(error)

    def _gone_wrong(self, error: Exception) -> None:
        """A damaged file is set aside, once; after anything else we go on without one."""
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        code = int(getattr(error, "sqlite_errorcode", 0)) & 0xFF  # the rest says where
        try:
            if code in DAMAGED:
                _set_aside(self.path, aside)
                self._db = _opened(self.path)
                warnings.warn(
                    f"{self.path} is damaged ({error}). It was set aside as {aside.name}; what it "
                    "held is computed again.",
                    stacklevel=4,
                )
                return
        except (OSError, sqlite3.DatabaseError) as second:
            error = second
        warnings.warn(
            f"the cache of the reference {self.path} cannot be used ({error}). The run goes on "
            "without it, and the next one computes the reference again. Free some space, make the "
            "folder writable, or set BACKFLIP_CACHE to another one.",
            stacklevel=4,
        )


def _opened(path: Path) -> sqlite3.Connection:
    """A connection to a file that is whole, made where there is none."""
    end = time.monotonic() + PATIENCE
    while True:
        db = sqlite3.connect(path, timeout=PATIENCE)
        try:
            _prepare(db)
        except BaseException as error:
            db.close()
            # Turning a new file into WAL does not wait for others as everything else does.
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    _check(db)
    with db:
        db.execute(
            "CREATE TABLE IF NOT EXISTS said (row BLOB PRIMARY KEY, logp REAL NOT NULL) "
            "WITHOUT ROWID"
        )
        db.execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, first_used TEXT)")


def _check(db: sqlite3.Connection) -> None:
    """Raise what SQLite raises where it stumbles over damage, before it does."""
    (health,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if health != "ok":
        error = sqlite3.DatabaseError(str(health).splitlines()[0])
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _set_aside(path: Path, aside: Path) -> None:
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{path}{suffix}")


def _selected(db: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, float]:
    found: dict[bytes, float] = {}
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        marks = ", ".join("?" * len(some))
        found.update(db.execute(f"SELECT row, logp FROM said WHERE row IN ({marks})", some))
    return found


# ---- names of rows and models


def row_key(prompt: bytes, answer: bytes, mask: bytes) -> bytes:
    """The digest of an answer: the bytes of its tokens, of its prompt's, and of its mask."""
    digest = hashlib.blake2b(VERSION, digest_size=16)
    for part in (prompt, answer, mask):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def model_fingerprint(model: CausalPolicy | AdaptersOff) -> str:
    """A digest of all that decides a policy's log-probabilities: 32 hexadecimal digits.

    The bytes, types, shapes and names of weights and saved buffers, the config, the type to
    multiply in and the temperature. Adapters that are switched off or still new change nothing and
    do not count: the digest is that of the base model. Nothing is copied but, from a GPU, one
    tensor at a time a thread.
    """
    policy = model.policy if isinstance(model, AdaptersOff) else model
    plain = isinstance(model, AdaptersOff) or adapters_are_new(policy.model)
    whole = policy.trunk.whole
    facts = {
        "config": _said_of(whole.config.to_dict()),
        "compute": str(policy.trunk.compute),
        "temperature": policy.temperature,
        "adapters": {} if plain else _scalings(whole),
    }
    tensors = dict(sorted(_weights(whole, adapters=not plain)))
    digest = hashlib.blake2b(VERSION, digest_size=16)
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        named = zip(tensors, threads.map(_digest, tensors.values()), strict=True)
        for name, content in each(named, "knowing the reference again", len(tensors), "tensors"):
            tensor = tensors[name]
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode() + content)
    return digest.hexdigest()


def _weights(whole: nn.Module, *, adapters: bool) -> Iterator[tuple[str, Tensor]]:
    """Parameters (tied ones once) and saved buffers, under the names they have without peft."""
    state = cast("Mapping[str, Any]", whole.state_dict(keep_vars=True))
    buffers = [(n, t) for n, t in state.items() if not isinstance(t, nn.Parameter)]
    for name, tensor in (*whole.named_parameters(), *buffers):
        if isinstance(tensor, Tensor) and (adapters or "lora_" not in name):
            yield name.replace(".base_layer.", "."), tensor


def _scalings(whole: Any) -> dict[str, Any]:
    """The factor by which peft multiplies the adapters' updates."""
    return {
        str(name): scaling
        for name, module in whole.named_modules()
        if isinstance(scaling := getattr(module, "scaling", None), dict)
    }


def _said_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what changes no logit."""
    return {
        key: _said_of(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in SILENT
    }


def _digest(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(memoryview(cast("Any", flat.numpy())), digest_size=16).digest()
