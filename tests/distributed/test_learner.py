"""A step is the same however many ranks share it."""

from __future__ import annotations

import json

import pytest

from tests.distributed.learner_job import CASES
from tests.distributed.torchrun import torchrun


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    said = torchrun(["tests.distributed.learner_job"])
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", [name for name in CASES if name != "averaged"])
def test_a_step_of_two_ranks_is_that_of_one(case: str, found: dict[str, dict[str, float]]):
    differences = found[case]
    assert differences["moved"] > 1e-3
    assert max(differences[name] for name in ("parameters", "norm", "loss")) <= 1e-5


def test_gradients_are_added_up_once_a_step_or_after_each_micro_batch(
    found: dict[str, dict[str, float]],
):
    """As there is room for whole ones; either way the step is the same, as seen above."""
    assert found["three micro-batches"]["held"] > 0
    assert found["added up after each of them"]["held"] == 0


def test_gradients_that_are_averaged_would_be_noticed(found: dict[str, dict[str, float]]):
    """The control: FSDP's own default halves them on two ranks, which Adam hides but for ε."""
    assert found["averaged"]["norm"] == pytest.approx(0.5, abs=1e-3)
    assert found["averaged"]["parameters"] > 1e-5
