"""Modules of the sandbox as one source, for an interpreter that has no folder to import from."""

from __future__ import annotations

import functools
from pathlib import Path

__all__ = ["answering", "checking"]

PACKAGE = "backflip.reward.sandbox"
PLANT = """
import sys, types
for name, text in {modules!r}:
    made = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), made.__dict__)
sys.modules[{main!r}].main()
"""


def _bundle(*names: str) -> str:
    parents = [(PACKAGE.rsplit(".", count)[0], "") for count in (2, 1)]
    folder = Path(__file__).parent
    texts = [(f"{PACKAGE}.{name}", (folder / f"{name}.py").read_text("utf-8")) for name in names]
    modules = [*parents, (PACKAGE, ""), *texts]
    return PLANT.format(modules=modules, main=modules[-1][0])


@functools.cache
def answering() -> str:
    """The source of the process that runs an answer."""
    return _bundle("remote", "answering")


@functools.cache
def checking() -> str:
    """The source of the process that runs the tests."""
    return _bundle("remote", "comparing", "checking")
