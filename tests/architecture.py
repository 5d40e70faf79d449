"""Guards of the house. Each takes the root of a tree like this repository and returns what breaks
a rule, as ``path: name``: nothing, where the rule holds.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

LINES_OF_A_FILE, LINES_OF_A_FUNCTION, LINES_OF_A_CLASS = 400, 40, 150
PARAMETERS, FOLDERS = 9, 2
APART = ("migrations", "static", "templates")
"""Folders that may lie a level deeper."""
STAGE_ROOMS = ("stages", "rounds")
"""Rooms that may ask what type a stage is."""
TAUGHT = ("functional", "algorithms")
"""Rooms whose every public name is documented: readers learn the field's formulas there."""
RAY = "src/backflip/distributed/ray_crew.py"
"""The only file that may wait for Ray, and it says how long."""

Guard = Callable[[Path], set[str]]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules(root: Path, *tops: str) -> Iterator[tuple[str, str]]:
    """Path and text of every Python file below the folders ``tops``."""
    for top in tops:
        for path in sorted((root / top).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def definitions(node: ast.AST, within: str = "") -> Iterator[tuple[str, Definition]]:
    """Functions and classes below a node, with the names of what they stand in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield f"{within}{child.name}", child
            yield from definitions(child, f"{within}{child.name}.")
        else:
            yield from definitions(child, within)


def long_files(root: Path) -> set[str]:
    texts = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for ending in ("py", "js", "css", "html")
        for top in ("src", "tests", "benchmarks")
        for path in (root / top).rglob(f"*.{ending}")
    }
    return {path for path, text in texts.items() if text.count("\n") > LINES_OF_A_FILE}


def _longer(root: Path, kinds: tuple[type[ast.AST], ...], limit: int) -> set[str]:
    return {
        f"{path}: {name}"
        for path, text in modules(root, "src", "tests", "benchmarks")
        for name, found in definitions(ast.parse(text))
        if isinstance(found, kinds) and (found.end_lineno or 0) - found.lineno + 1 > limit
    }


def long_functions(root: Path) -> set[str]:
    return _longer(root, (ast.FunctionDef, ast.AsyncFunctionDef), LINES_OF_A_FUNCTION)


def long_classes(root: Path) -> set[str]:
    return _longer(root, (ast.ClassDef,), LINES_OF_A_CLASS)


def many_parameters(root: Path) -> set[str]:
    """Functions of more parameters than a caller can keep apart.

    Public functions of ``api.py`` are let be: what a user sets there by keyword, a settings object
    would only hide from ``help``.
    """
    found: set[str] = set()
    for path, text in modules(root, "src"):
        for name, made in definitions(ast.parse(text)):
            if isinstance(made, ast.ClassDef):
                continue
            given = made.args
            public = path.endswith("backflip/api.py") and not name.startswith("_")
            counted = [*given.posonlyargs, *given.args, *([] if public else given.kwonlyargs)]
            if len(counted) > PARAMETERS:
                found.add(f"{path}: {name}")
    return found


def deep_folders(root: Path) -> set[str]:
    """Folders below a room's sub-rooms."""
    package = root / "src" / "backflip"
    inside = [path.relative_to(package) for path in package.rglob("*") if path.is_dir()]
    return {
        folder.as_posix()
        for folder in inside
        if len(folder.parts) > FOLDERS and not {*APART, "__pycache__"} & {*folder.parts}
    }


def against_layers(root: Path) -> set[str]:
    """Imports against the contracts of ``pyproject.toml``: ``importer -> imported``."""
    run = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(
        [*run, "--no-cache"], check=False, cwd=root, capture_output=True, text=True
    )
    if done.returncode == 0:
        return set()
    arrows = {line.strip("- ") for line in done.stdout.splitlines() if " -> " in line}
    return arrows or {done.stdout + done.stderr}


def _tests_a_type(node: ast.AST) -> bool:
    """Whether code asks if something is a ``…Recipe``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        asked = node.args[1:] if node.func.id in ("isinstance", "issubclass") else []
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
        asked = [node.left, *node.comparators]
    elif isinstance(node, ast.MatchClass):
        asked = [node.cls]
    else:
        return False
    inside = [part for one in asked for part in ast.walk(one) if isinstance(part, ast.Name)]
    return any(part.id.endswith("Recipe") for part in inside)


def _compares_a_name(node: ast.AST, names: set[str]) -> bool:
    """Whether code compares ``recipe.stage`` with the name of a stage."""
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    words = {
        part.value for one in sides for part in ast.walk(one) if isinstance(part, ast.Constant)
    }
    of_stage = any(isinstance(one, ast.Attribute) and one.attr == "stage" for one in sides)
    return of_stage and bool(words & names)


def stage_names(root: Path) -> set[str]:
    """Values of ``stage: Literal[…]`` in the rooms of stages."""
    found: set[str] = set()
    for room in STAGE_ROOMS:
        for _, text in modules(root, f"src/backflip/{room}"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "stage":
                    inside = ast.walk(node.annotation)
                    found |= {str(one.value) for one in inside if isinstance(one, ast.Constant)}
    return found


def tests_of_stages(root: Path) -> set[str]:
    """Functions outside the rooms of stages that ask what type of stage a recipe is."""
    found: set[str] = set()
    names = stage_names(root)
    for path, text in modules(root, "src/backflip"):
        if path.split("/")[2] in STAGE_ROOMS:
            continue
        for name, made in definitions(ast.parse(text)):
            if isinstance(made, ast.ClassDef):
                continue
            if any(_tests_a_type(node) or _compares_a_name(node, names) for node in ast.walk(made)):
                found.add(f"{path}: {name}")
    return found


def undocumented(root: Path) -> set[str]:
    """Public functions and classes without a docstring, in the rooms that teach."""
    found: set[str] = set()
    for room in TAUGHT:
        for path, text in modules(root, f"src/backflip/{room}"):
            for name, made in definitions(ast.parse(text)):
                public = "." not in name and not name.startswith("_")
                if public and ast.get_docstring(made) is None:
                    found.add(f"{path}: {name}")
    return found


def endless_waits(root: Path) -> set[str]:
    """Waits for Ray outside ``RAY``, and those there without a limit."""
    found: set[str] = set()
    for path, text in modules(root, "src"):
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called = ast.unparse(node.func)
            limited = any(given.arg == "timeout" for given in node.keywords)
            if called in ("ray.get", "ray.wait") and not (path == RAY and limited):
                found.add(f"{path}: {called}")
    return found
