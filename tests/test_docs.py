"""What README and docs say of the house is so: rooms, files, words."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from backflip.algorithms.discover import DIRECT, ONLINE, REWARD
from backflip.recipes.listing import algorithms_page
from backflip.recipes.load import load_recipe
from backflip.recipes.names import shipped

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "backflip"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS = re.findall(r"^\| \*\*(.+?)\*\* \|.*\| `(.+?)` \|$", GLOSSARY, re.MULTILINE)
UNNAMED = {"__init__", "__main__"}
BESIDE = {"errors.py", "text.py"}
"""Files that need no more than their line in the tree."""


def rooms() -> set[str]:
    """Folders of the package that hold code, and files beside them."""
    folders = {path.parent.name + "/" for path in PACKAGE.glob("*/__init__.py")}
    return folders | {path.name for path in PACKAGE.glob("*.py") if path.stem not in UNNAMED}


def layers() -> dict[str, int]:
    """The floor of every room, the lowest being the highest number; of a room of rooms its top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    found: dict[str, int] = {}
    for floor, line in enumerate(contracts["contracts"][0]["layers"]):
        for room in line.split(" | "):
            found.setdefault(room.split(".")[1], floor)
    return found


def test_the_tree_of_the_readme_has_every_room_in_the_order_of_the_layers():
    block = README.partition("## Where it stands")[2].split("```")[1]
    named = [line.split()[0] for line in block.splitlines()[1:]]
    assert set(named) == rooms()
    floors = layers()
    rest = [name for name in named if name != "feedback/"]  # its sub-rooms stand on many floors
    order = [floors[name.removesuffix(".py").rstrip("/")] for name in rest]
    assert order == sorted(order, reverse=True)


def test_architecture_names_every_room_and_no_file_that_is_not_there():
    assert {room for room in rooms() if f"`{room}" not in ARCHITECTURE} <= BESIDE
    for name in re.findall(r"`([\w/]+\.py)`", ARCHITECTURE):
        assert (ROOT / name).is_file() or list(PACKAGE.rglob(name)), name


def test_every_sub_room_stands_in_architecture():
    below = {f"{path.parent.name}/" for path in PACKAGE.glob("*/*/__init__.py")}
    assert {room for room in below if room not in ARCHITECTURE} == set()


@pytest.mark.parametrize(("word", "bearer"), WORDS)
def test_every_word_is_borne_by_something(word: str, bearer: str):
    module, _, name = f"backflip.{bearer}".rpartition(".")
    found = import_module(module)
    assert hasattr(found, name) or import_module(f"{module}.{name}")


def test_the_glossary_is_read():
    assert len(WORDS) >= 30
    assert GLOSSARY.count("| **") == len(WORDS)


# ---- algorithms


ALGORITHMS = REWARD | DIRECT | ONLINE


def test_every_algorithm_has_its_recipe_its_title_and_its_row():
    page = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    assert page == algorithms_page(), "run python -m backflip.recipes.listing"
    assert set(ALGORITHMS) <= set(shipped())
    assert len({kind.title for kind in ALGORITHMS.values()}) >= len(ALGORITHMS) - 2


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_recipe_of_an_algorithms_name_trains_by_it(name: str):
    (_, algorithm), *_ = load_recipe(name).parts()[0][0].algorithms()
    assert type(algorithm) is ALGORITHMS[name]
