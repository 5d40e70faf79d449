"""Hostile programs get nothing, take nothing, leave nothing and end, for root and for others."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from backflip.reward.sandbox import bubblewrap
from backflip.reward.sandbox.box import opened
from backflip.reward.sandbox.layers import LAYERS, OPEN
from tests.reward.hostile import PROGRAMS
from tests.reward.witness import as_user, attack, readable_by_all, sandbox_here, witness

FOUND = sandbox_here()
ROOT = os.geteuid() == 0
SOMEBODY = 65533
ROWS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in LAYERS},
    "landlock, seccomp, privileges": ("landlock", "seccomp", "privileges"),
    "namespaces, sweep": ("namespaces", "sweep"),
    "all but limits and rights": tuple(set(LAYERS) - {"limits", "rights"}),
}
"""Layers that are off, by how the table calls them."""
KILLS, WAITS = "29", ("32", "33", "34", "35")
"""A program that would kill every process of its user, and those that only the clock ends."""
CORE = ("01", "04", "08", "11", "17", "22", "23", "25", "29", "31", "38", "40")
pytestmark = pytest.mark.skipif(not FOUND.strong, reason=FOUND.line())


def attacked(
    name: str, user: str, without: tuple[str, ...] = (), *, wrapper: str = ""
) -> list[str]:
    """What a program achieves when a user of this machine runs it, with layers off."""

    def run() -> list[str]:
        box = opened("weak", without=without)
        box = replace(box, walls=replace(box.walls, bubblewrap=wrapper))
        with witness() as outside:
            return attack(box, name, outside)

    if user == "ordinary" and ROOT:
        if not readable_by_all():
            pytest.skip("no other user of this machine can read an interpreter and the package")
        return as_user(SOMEBODY, run)
    if user == "root" and not ROOT:
        pytest.skip("this is not root")
    return run()


def opened_by(user: str, without: tuple[str, ...]) -> dict[str, list[str]]:
    """What programs achieve with some layers off, by their numbers."""
    weak = "namespaces" in without and "landlock" in without
    left = (KILLS, *WAITS) if weak else WAITS
    found = {name: attacked(name, user, without) for name in PROGRAMS if name[:2] not in left}
    return {name[:2]: said for name, said in found.items() if said}


@pytest.mark.parametrize("name", [one for one in PROGRAMS if one[:2] in CORE])
def test_a_hostile_program_achieves_nothing(name: str):
    assert attacked(name, "root" if ROOT else "ordinary") == []


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "ordinary"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_achieves_nothing_whoever_runs_it(name: str, user: str):
    assert attacked(name, user) == []


@pytest.mark.skipif(not bubblewrap.found(), reason="bubblewrap is not installed")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one, marks=() if one[:2] in ("08", "23") else pytest.mark.slow)
        for one in PROGRAMS
        if one[:2] in CORE
    ],
)
def test_nothing_is_achieved_in_the_namespaces_of_bubblewrap(name: str):
    if "namespaces" in FOUND.missing:
        pytest.skip(FOUND.line())
    assert attacked(name, "ordinary", wrapper=bubblewrap.found()) == []


PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def written(row: str) -> list[set[str]]:
    """Numbers in a row of the page's table: as root, and as an ordinary user."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {row} | "))
    return [set(re.findall(r"\d\d", cell)) for cell in line.split("|")[2:4]]


def test_every_layer_stands_on_the_page_with_what_is_open_without_it():
    assert all(f"| `{name}` | " in PAGE for name in LAYERS)
    for gap, closers in OPEN.items():
        assert f"| {gap} | {', '.join(f'`{one}`' for one in closers)} |" in PAGE
    assert all(written(row) for row in ROWS)


@pytest.mark.slow
@pytest.mark.skipif(bool(FOUND.missing), reason=FOUND.line())
@pytest.mark.parametrize("user", ["root", "ordinary"])
@pytest.mark.parametrize("row", ROWS)
def test_the_page_says_what_is_open_with_a_layer_off(row: str, user: str):
    assert set(opened_by(user, ROWS[row])) == written(row)[user == "ordinary"]
