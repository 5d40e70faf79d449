"""The program of an answer, run by a checker in another process, which holds all that is expected.

Nothing in this process is kept from the answer, and nothing in it is worth having: it sees what its
functions are called with, and has no way to a verdict.
"""

from __future__ import annotations

import importlib
import os
import select
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from backflip.reward.sandbox.remote import Link, Message, Reference

__all__ = ["main"]

NAME = "program"
OWN = (int, float, complex, str, bytes, tuple, frozenset)
"""Types whose values never change, so that a copy of one may stand for it."""


class Callback(Reference):
    """A function of the tests that was handed to the answer."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        link = self._link
        named = {name: link.pack(one) for name, one in kwargs.items()}
        said = link.ask("call", of=self._number, args=[*map(link.pack, args)], named=named)
        if "raised" in said:
            raise RuntimeError(": ".join(said["raised"]))
        return link.unpack(said["value"])


class Program(Link):
    """The answer's end of the pipes."""

    def pack(self, value: Any) -> Any:
        form = super().pack(value)
        if isinstance(value, OWN) and type(value).__module__ == NAME:  # with methods of its own
            self.held[id(value)] = value
            return {"also": id(value), "copy": form}
        return form

    def unpack_any(self, form: Any) -> Any:
        if isinstance(form, dict) and "shared" in form:  # a function of Python's own library
            module, name = form["shared"]
            return getattr(importlib.import_module(module), name)
        return super().unpack_any(form)


class Answer:
    """The module of the answer, with what its checker may ask of it."""

    def __init__(self) -> None:
        self.link = Program((4, 5), self.serve, Callback)
        self.module = types.ModuleType(NAME)

    def serve(self, asked: Message) -> Message:
        """The answer to one question; whatever is raised is one too."""
        try:
            return getattr(self, f"on_{asked.pop('ask')}")(**asked)
        except BaseException as error:
            return {"raised": [type(error).__name__, str(error)[:500]]}

    def on_load(self, source: str) -> Message:
        sys.modules[NAME] = self.module
        exec(compile(source, f"{NAME}.py", "exec"), self.module.__dict__)
        return {"value": None}

    def on_names(self, names: list[str]) -> Message:
        space = self.module.__dict__
        return {"value": {name: self.link.pack(space[name]) for name in names if name in space}}

    def on_call(self, of: int, args: list[Any], named: Message, mutable: bool) -> Message:
        given = [self.link.unpack(one) for one in args]
        further = {name: self.link.unpack(one) for name, one in named.items()}
        value = self.link.pack(self.link.held[of](*given, **further))
        changed: dict[int, Any] = {}
        if mutable:
            now = [self.link.pack(one) for one in given]
            changed = {place: one for place, one in enumerate(now) if one != args[place]}
        return {"value": value, "changed": changed}

    def on_do(self, of: int, what: str, args: list[Any]) -> Message:
        given = [self.link.unpack(one) for one in args]
        return {"value": self.link.pack(DEEDS[what](self.link.held[of], *given))}

    def on_program(self, source: str, given: str) -> Message:
        return run_whole(source, given.encode("utf-8", "surrogateescape"), (4, 5))


def _put(thing: Any, key: Any, value: Any) -> None:
    thing[key] = value


DEEDS: dict[str, Callable[..., Any]] = {
    "get": getattr, "set": setattr, "item": lambda thing, key: thing[key], "put": _put,
    "len": len, "iter": iter, "next": next, "bool": bool, "str": str, "repr": repr,
    "same": lambda a, b: bool(a == b), "is_a": lambda kind, thing: isinstance(thing, kind),
}  # fmt: skip


def run_whole(source: str, given: bytes, hidden: tuple[int, ...]) -> Message:
    """The output of a whole program that reads ``given``, run in a process of its own."""
    (read, out), (into, write) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(into, 0)
        os.dup2(out, 1)
        for file in (read, out, into, write, *hidden):
            os.close(file)
        _as_main(source)
    os.close(out)
    os.close(into)
    text = _talk(read, write, given)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"value": text.decode("utf-8", "replace"), "code": code}


def _talk(read: int, write: int, given: bytes) -> bytes:
    """Writes to a process while it reads, and all that it says."""
    said, left = bytearray(), memoryview(given)
    os.set_blocking(write, False)
    writing = [write]
    while True:
        readable, writable, _ = select.select([read], writing, [])
        if writable:
            try:
                left = left[os.write(write, left[:65536]) :] if left else left
            except BrokenPipeError:
                left = left[:0]
            if not left:
                os.close(write)
                writing = []
        if readable:
            part = os.read(read, 65536)
            said += part
            if not part or len(said) > 4 << 20:
                break
    os.close(read)
    if writing:
        os.close(write)
    return bytes(said)


def _as_main(source: str) -> None:
    """Runs a program as ``python program.py`` would; never returns."""
    code = 1
    try:
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(compile(source, f"{NAME}.py", "exec"), module.__dict__)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(code & 255)


def main() -> None:
    """Answers questions until none comes."""
    answer = Answer()
    while True:
        answer.link.reply(answer.link.receive())
