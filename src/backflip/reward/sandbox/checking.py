"""The tests of a problem, run in a process that no answer reaches; it alone writes the verdict.

Names of the answer stand for calls to its process. Values come back as copies of plain data, so
that ``==`` is decided here; an object of the answer's own equals no plain value, whatever it says.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
from typing import Any

from backflip.reward.sandbox.comparing import equal, keyed, lines, same
from backflip.reward.sandbox.remote import (
    ATTEMPTS,
    GoneError,
    Link,
    Message,
    ProtocolError,
    Reference,
    UntellableError,
)

__all__ = ["main"]

PLAIN_TYPES = (int, float, complex, str, bytes, tuple, frozenset)
SOLUTION = "Solution"
"""A class that may hold the function that tests call."""
VERDICT = 6
"""The file of verdicts, which this process alone has."""


class RaisedError(Exception):
    """An exception of the answer's that is not one of Python's own."""


class Thing(Reference):
    """An object of the answer."""

    def _do(self, what: str, *args: Any) -> Any:
        link = self._link
        said = link.ask("do", of=self._number, what=what, args=[link.pack(one) for one in args])
        return _value(link, said)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        link = self._link
        named = {name: link.pack(one) for name, one in kwargs.items()}
        packed, mutable = [*map(link.pack, args)], link.mutable
        said = link.ask("call", of=self._number, args=packed, named=named, mutable=mutable)
        value = _value(link, said)
        for place, form in said.get("changed", {}).items() if mutable else ():
            _replace(args[int(place)], link.unpack(form))
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._do("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._do("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._do("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._do("put", key, value)

    def __len__(self) -> int:
        return self._do("len")

    def __bool__(self) -> bool:
        return self._do("bool") is True

    def __iter__(self) -> Any:
        return self._do("iter")

    def __next__(self) -> Any:
        return self._do("next")

    def __str__(self) -> str:
        return str(self._do("str"))

    def __repr__(self) -> str:
        return str(self._do("repr"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self._do("same", other) is True

    def __hash__(self) -> int:
        return self._number

    def __instancecheck__(self, thing: Any) -> bool:
        return isinstance(thing, Thing) and self._do("is_a", thing) is True


class Copied:
    """A value of the answer's with the content that it had, and its further attributes there."""

    _link: Link
    _number: int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        link = self._link
        return _value(link, link.ask("do", of=self._number, what="get", args=[link.pack(name)]))


def _copied(value: Any, link: Link, number: int) -> Any:
    """A plain value as one that asks for attributes which the plain type does not have."""
    plain: Any = next(kind for kind in (*PLAIN_TYPES, type(value)) if isinstance(value, kind))
    made = plain.__new__(type(type(value).__name__, (Copied, type(value)), {}), value)
    made._link, made._number = link, number
    return made


class Checker(Link):
    """The checker's end of the pipes."""

    mutable = False
    """Whether tests look at what a function has done to its arguments."""

    def __init__(self) -> None:
        super().__init__((4, 5), self.answer, Thing)

    def pack(self, value: Any) -> Any:
        return {"yours": value._number} if isinstance(value, Copied) else super().pack(value)

    def unpack_any(self, form: Any) -> Any:
        if isinstance(form, dict) and "also" in form:
            return _copied(super().unpack_any(form["copy"]), self, int(form["also"]))
        return super().unpack_any(form)

    def pack_other(self, value: Any) -> Any:
        form = super().pack_other(value)
        if "mine" not in form:
            return form
        if callable(value):
            module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
            known = module in sys.stdlib_module_names or module == "builtins"
            shared = known and getattr(sys.modules[module], name, None) is value
            return {"shared": [module, name]} if shared else form
        del self.held[form["mine"]]
        if form["iterator"]:
            return self.pack([one for one, _ in zip(value, range(ATTEMPTS), strict=False)])
        raise UntellableError(f"the tests hand over a {type(value).__name__}")

    def answer(self, asked: Message) -> Message:
        """The result of a function of the tests, which the answer may call."""
        try:
            args = [self.unpack(one) for one in asked["args"]]
            named = {str(name): self.unpack(one) for name, one in asked["named"].items()}
            return {"value": self.pack(self.held[asked["of"]](*args, **named))}
        except (Exception, UntellableError) as error:
            return {"raised": [type(error).__name__, _said(error)]}


def _value(link: Link, said: Message) -> Any:
    if "raised" not in said:
        return link.unpack(said.get("value"))
    name, text = [str(one)[:500] for one in (*said["raised"], "", "")[:2]]
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        raise kind(text) if "Unicode" not in name else ValueError(text)
    raise RaisedError(f"{name}: {text}")


def _replace(thing: Any, now: Any) -> None:
    """Gives a container of the tests the content that it has in the answer's process."""
    if isinstance(thing, list) and isinstance(now, list):
        thing[:] = now
    elif isinstance(thing, dict | set) and isinstance(now, dict | set):
        thing.clear()
        thing.update(now)


def _nodes(*sources: str) -> list[ast.AST]:
    return [node for source in sources for node in ast.walk(ast.parse(source))]


def _made(nodes: list[ast.AST]) -> set[str]:
    """Names that code makes or imports, wherever."""
    made = set[str]()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            made.add(node.id)
    return made


def _wanted(job: Message) -> tuple[set[str], set[str]]:
    """Names that tests take from the answer, and modules that they use without importing them.

    Tests say themselves which function they are about, or the reference solution does by what it
    defines. Else it is every name that tests use and nobody makes; a function of Python is among
    them only where there is no other, so that no answer replaces ``abs`` or ``math`` in a test.
    """
    nodes = _nodes(job["setup"], *job["tests"])
    used = {node.id for node in nodes if isinstance(node, ast.Name)} - _made(nodes)
    called = {
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    modules = (used - called) & sys.stdlib_module_names
    if job["entry"]:
        return {job["entry"]}, modules
    body = ast.parse(job["trusted"]).body
    defined = {one.name for one in body if isinstance(one, ast.FunctionDef | ast.ClassDef)} & used
    free = used - modules - set(dir(builtins))
    return defined or free or called & used, modules


def _discards(source: str, names: set[str]) -> bool:
    """Whether a test calls a function for what it does to its arguments."""
    return any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id in names
        for node in ast.walk(ast.parse(source))
    )


class Suite:
    """The tests of one problem and the answer's names. Raises SyntaxError for bad tests."""

    def __init__(self, job: Message, link: Checker) -> None:
        self.job = job
        self.link = link
        self.space: dict[str, Any] = {"__name__": "tests"}
        self.wanted, modules = _wanted(job)
        self.space |= {name: __import__(name) for name in modules}

    def load(self) -> None:
        """Starts the answer's program, and puts its names where tests look for them."""
        job, wanted = self.job, self.wanted
        _value(self.link, self.link.ask("load", source=job["source"]))
        self.link.mutable = any(_discards(one, wanted) for one in (job["setup"], *job["tests"]))
        asked: list[str] = sorted({*wanted, *([SOLUTION] if job["calls"] else [])})
        forms = self.link.ask("names", names=asked).get("value")
        found = forms if isinstance(forms, dict) else {}
        given = {name: self.link.unpack(found[name]) for name in asked if name in found}
        try:
            exec(compile(job["trusted"], "reference", "exec"), self.space)
        except Exception as error:
            raise UntellableError(f"the reference fails: {error}") from None
        self._take(given)
        exec(compile(job["setup"], "setup", "exec"), self.space)
        self._take(given)

    def _take(self, given: dict[str, Any]) -> None:
        for name in self.wanted:
            self.space.pop(name, None)
        self.space |= given

    def whole(self, case: Message) -> str:
        """The reason why a program that reads and writes fails; empty where it passes."""
        said = self.link.ask("program", source=self.job["source"], given=case["input"])
        if said.get("code") != 0:
            return f"it ended with {said.get('code', said.get('raised'))}"
        told, wanted = (lines(str(text)) for text in (said.get("value"), case["output"]))
        alike = len(told) == len(wanted) and all(map(same, told, wanted))
        return "" if alike else f"it wrote {told!r:.60} in place of {wanted!r:.60}"

    def called(self, case: Message) -> str:
        """The reason why a function's result is another than the expected one.

        In APPS's form an output may be the only item of a list, and mappings whose keys are all
        whole numbers had numbers as keys, of which JSON made texts: both as its own testing has it.
        """
        entry = self.job["entry"]
        function = self.space.get(entry)
        if function is None and SOLUTION in self.space:
            function = getattr(self.space[SOLUTION](), entry)
        if function is None:
            raise NameError(f"name {entry!r} is not defined")
        args, wanted = case["args"], case["output"]
        apps = case.get("apps", False)
        result = function(*map(keyed, args) if apps else args)
        wrapped = apps and isinstance(wanted, list) and len(wanted) == 1
        if equal(result, wanted) or (wrapped and equal(result, wanted[0])):
            return ""
        return f"{result!r:.60} in place of {wanted!r:.60}"

    def stated(self, source: str) -> str:
        """The reason why a test's code fails."""
        exec(compile(source, "test", "exec"), self.space)
        return ""

    def run(self) -> Message:
        """How many tests pass, and why the first one that fails does."""
        kind = {"programs": self.whole, "calls": self.called, "tests": self.stated}
        cases = [(kind[name], case) for name in kind for case in self.job[name]]
        passed, first = 0, ""
        try:
            if not self.job["programs"]:
                self.load()
        except Exception as error:
            return _verdict(0, len(cases), f"it does not start: {_said(error)}")
        for test, case in cases:
            try:
                reason = test(case)
            except GoneError as error:
                return _verdict(passed, len(cases), first or str(error)) | {"gone": True}
            except Exception as error:
                reason = _said(error)
            passed += not reason
            first = first or (f"{_said(case)}: {reason}" if reason else "")
        return _verdict(passed, len(cases), first)


def _said(thing: Any) -> str:
    """A short text of an exception or a test, which may hold things of the answer."""
    try:
        named = f"{type(thing).__name__}: " if isinstance(thing, Exception) else ""
        return f"{named}{str(thing)[:120]}".removesuffix(": ")
    except Exception:
        return type(thing).__name__


def _verdict(passed: int, total: int, reason: str) -> Message:
    return {"passed": passed, "total": total, "reason": reason[:300]}


def main() -> None:
    """Reads the tests, runs them, and writes the verdict with the nonce that it was given."""
    job = json.load(sys.stdin)
    try:
        verdict = Suite(job, Checker()).run()
    except GoneError as error:
        verdict = _verdict(0, 1, str(error)) | {"gone": True}
    except (UntellableError, ProtocolError, SyntaxError) as error:
        verdict = _verdict(0, 0, f"{type(error).__name__}: {error}")
    os.write(VERDICT, json.dumps(verdict | {"nonce": job["nonce"]}).encode())
