"""What is asked first comes at once, and every public name is there and documented."""

from __future__ import annotations

import subprocess
import sys

import pytest

import backflip as bf

HEAVY = {"torch", "transformers", "datasets", "pandas", "numpy", "scipy", "pydantic", "peft"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys; print('LOADED', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return HEAVY & set(done.stdout.rpartition("LOADED")[2].split())


def test_import_loads_nothing_heavy():
    assert loaded_by("import backflip") == set()


@pytest.mark.parametrize(
    ("words", "by_typer"),
    [
        (["--help"], set[str]()),
        (["feedback", "--help"], {"pydantic"}),
        (["feedback", "import", "--help"], {"pydantic"}),
        (["collect", "--help"], {"pydantic"}),
    ],
)
def test_help_loads_nothing_heavy(words: list[str], by_typer: set[str]):
    """Typer by itself may load pydantic when it reads arguments."""
    code = f"from backflip.cli.main import main\ntry: main({words})\nexcept SystemExit: pass"
    assert loaded_by(code) <= by_typer


@pytest.mark.parametrize(
    "words",
    [
        ["train", "pp"],
        ["check", "rows.jsonl", "limt=3"],
        ["train", "simpo", "objective.beta=x"],
        ["train", "ppo", "algorithm.kl_coef=x"],
        ["train", "ppo", "algorithm=one_step_ppo", "algorithm.eps=x"],
    ],
)
def test_a_slip_is_answered_before_anything_heavy_is_loaded(words: list[str]):
    code = f"from backflip.cli.main import main\ntry: main({words})\nexcept SystemExit: pass"
    assert loaded_by(code) <= {"pydantic"}


def test_a_public_name_loads_what_it_needs_and_no_more():
    assert "transformers" not in loaded_by("import backflip; backflip.UserError")
    assert "torch" in loaded_by("import backflip; backflip.PPO")


# ---- the public names


@pytest.mark.parametrize("name", bf.__all__)
def test_every_public_name_is_documented(name: str):
    found = getattr(bf, name)
    assert found.__doc__
    assert not found.__doc__.startswith(f"{name}("), "only what dataclass writes by itself"
    assert name in dir(bf)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="backflip attribute trian"):
        bf.trian  # noqa: B018
