"""Rules of the house hold for this repository, and every guard finds a fault that is planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import architecture as guards
from tests.architecture import Guard

ROOT = Path(__file__).parents[1]
EXCEPTIONS: dict[Guard, set[str]] = {
    guards.long_files: set(),
    guards.long_functions: set(),
    guards.long_classes: set(),
    guards.many_parameters: set(),
    guards.deep_folders: set(),
    guards.against_layers: set(),
    guards.tests_of_stages: set(),
    guards.undocumented: set(),
    guards.endless_waits: set(),
}
"""What breaks a rule today. The lists may only shrink: what is mended is struck out."""

PYPROJECT = """
[tool.importlinter]
root_package = "toy"
[[tool.importlinter.contracts]]
name = "one way"
type = "layers"
layers = ["toy.high", "toy.low"]
"""
LINE = "    1\n"
RECIPE = "class R:\n    stage: Literal['sft'] = 'sft'\n"
PLANTED: list[tuple[Guard, dict[str, str], set[str]]] = [
    (
        guards.long_files,
        {"src/a.py": "x\n" * 401, "tests/b.py": "x\n" * 400, "src/c/d.js": ";\n" * 500},
        {"src/a.py", "src/c/d.js"},
    ),
    (
        guards.long_functions,
        {"src/a.py": f"class A:\n  async def f():\n{LINE * 40}  def g():\n{LINE * 39}"},
        {"src/a.py: A.f"},
    ),
    (
        guards.long_classes,
        {"tests/a.py": f"class A:\n{LINE * 150}class B:\n{LINE * 149}"},
        {"tests/a.py: A"},
    ),
    (
        guards.many_parameters,
        {
            "src/a.py": "def f(a, b, c, d, e, f, g, h, *, i, j): ...\ndef g(a, *, b): ...\n",
            "src/backflip/api.py": "def f(a, *, b, c, d, e, f, g, h, i, j, k): ...\n",
        },
        {"src/a.py: f"},
    ),
    (
        guards.deep_folders,
        {f"src/backflip/{place}/x.py": "" for place in ("a/b", "a/b/c", "a/b/migrations")},
        {"a/b/c"},
    ),
    (
        guards.against_layers,
        {
            "pyproject.toml": PYPROJECT,
            "toy/__init__.py": "",
            "toy/high.py": "from toy import low\n",
            "toy/low.py": "from toy import high\n",
        },
        {"toy.low -> toy.high (l.1)"},
    ),
    (
        guards.tests_of_stages,
        {
            "src/backflip/stages/a.py": f"{RECIPE}def ours(x): return isinstance(x, SFTRecipe)\n",
            "src/backflip/recipes/b.py": "def f(x): return isinstance(x, int | SFTRecipe)\n"
            "def g(x): return x.stage == 'sft'\ndef h(x): return x.stage == 'screening'\n"
            "def i(x):\n  match x:\n    case SFTRecipe(): pass\n"
            "def j(x): return type(x) is SFTRecipe\ndef k(x): return isinstance(x, str)\n",
        },
        {f"src/backflip/recipes/b.py: {name}" for name in "fgij"},
    ),
    (
        guards.undocumented,
        {
            "src/backflip/functional/a.py": 'def f(): ...\ndef g():\n  "Said."\ndef _h(): ...\n',
            "src/backflip/algorithms/x/b.py": "class A: ...\n",
            "src/backflip/data/c.py": "def f(): ...\n",
        },
        {"src/backflip/functional/a.py: f", "src/backflip/algorithms/x/b.py: A"},
    ),
    (
        guards.endless_waits,
        {
            guards.RAY: "ray.get(a, timeout=3)\nx.get(a)\nray.wait([a])\n",
            "src/backflip/a.py": "def f(): return ray.get(a, timeout=3)\n",
            "tests/b.py": "ray.get(a)\n",
        },
        {f"{guards.RAY}: ray.wait", "src/backflip/a.py: ray.get"},
    ),
]


@pytest.mark.parametrize("guard", EXCEPTIONS, ids=lambda guard: guard.__name__)
def test_the_rule_holds_but_for_what_is_listed(guard: Guard):
    found = guard(ROOT)
    assert found - EXCEPTIONS[guard] == set(), "new: mend it; the list only shrinks"
    assert EXCEPTIONS[guard] - found == set(), "mended: strike it out of the list"


@pytest.mark.parametrize(
    ("guard", "files", "said"), PLANTED, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_planted_fault_is_found(
    guard: Guard, files: dict[str, str], said: set[str], tmp_path: Path
):
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert guard(tmp_path) == said


def test_every_guard_is_proven():
    assert {guard for guard, *_ in PLANTED} == set(EXCEPTIONS)
