"""Questions of reasoning-gym as a source of rows, and what is said where there can be none."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from backflip.data import formats, gym
from backflip.data.records import Prompt
from backflip.data.sources import check_there
from backflip.errors import UserError
from tests.parts import need

MIXTURE = "gym:ransom_note+gcd:size=6,seed=3,system=default"


@pytest.fixture(scope="module")
def _gym() -> None:
    need("" if find_spec("reasoning_gym") else f"reasoning-gym is missing: {gym.INSTALL}")


@pytest.mark.usefixtures("_gym")
def test_a_mixture_is_the_same_in_every_process(monkeypatch: pytest.MonkeyPatch):
    """The letters of ransom_note follow the order of Python's sets, which differs by process."""
    made = list[list[str]]()
    for hashes in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", hashes)
        held = formats.load(MIXTURE, "prompts").records
        assert all(isinstance(record, Prompt) and record.reference for record in held)
        assert str(held[0].where) == f"{MIXTURE}:1"
        assert {record.info["gym_entry"]["metadata"]["source_dataset"] for record in held} == {
            "ransom_note",
            "gcd",
        }
        assert all("<answer>" in record.messages[0].content for record in held)  # the system's
        made.append([record.messages[1].content for record in held])
    assert made[0] == made[1]
    assert len(set(made[0])) == 6


@pytest.mark.usefixtures("_gym")
def test_settings_of_the_task_are_heeded():
    source = "gym:basic_arithmetic:size=3,seed=5,operators=[+, -],min_terms=4,max_terms=4"
    for entry in gym.GymTask.of(source).dataset():
        signs = [c for c in entry["question"] if c in "+-*/"]
        assert len(signs) >= 3
        assert not {"*", "/"} & set(signs)


@pytest.mark.usefixtures("_gym")
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gym:chain_sums", "no task 'chain_sums'; did you mean chain_sum or"),
        ("gym:", "no task ''; it has 105: ab, acre"),
        ("gym:chain_sum:sise=3", "chain_sum has no setting 'sise'; it has allow_negation, max_"),
        (
            "gym:chain_sum+gcd:min_terms=3",
            "a mixture has no setting 'min_terms'; it has seed, size, sy",
        ),
        ("gym:chain_sum:size", "'size' is no setting. Write gym:NAME:size=100,seed=1"),
        ("gym:chain_sum:system=no", "system is one of DeepSeekZero, default, "),
        ("gym:chain_sum:size=[1", "the value of size cannot be read"),
    ],
)
def test_a_source_that_cannot_be_is_refused_before_anything_is_made(source: str, said: str):
    with pytest.raises(UserError) as refused:
        check_there(source)
    assert said in str(refused.value)


@pytest.mark.usefixtures("_gym")
def test_a_value_that_the_task_refuses_is_said_in_a_line():
    with pytest.raises(UserError, match=r"^gym:chain_sum refuses .*size must be positive$"):
        gym.GymTask.of("gym:chain_sum:size=0").dataset()


def test_without_reasoning_gym_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gym, "find_spec", lambda name: None)
    gym.GymTask.of.cache_clear()
    with pytest.raises(UserError, match=r"not installed: pip install 'backflip\[gym\]'"):
        check_there("gym:chain_sum")
