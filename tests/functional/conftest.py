"""What TRL 1.16 computes from stored inputs, where the file lies beside the repository."""

import json
import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def oracle():
    """``oracle(case)`` is TRL's number; ``oracle(family, name)`` is one of a family's inputs."""
    beside = Path(__file__).parents[2].parent / "shared"
    path = Path(os.environ.get("BACKFLIP_SHARED", beside)) / "oracles" / "trl_1.16_losses.json"
    if not path.exists():
        pytest.skip(f"no reference values at {path}; set BACKFLIP_SHARED to the folder of them")
    stored = json.loads(path.read_text())

    def look_up(case, name=None):
        if name is None:
            return torch.tensor(stored[case]["trl"])
        value = torch.tensor(stored[f"{case}/_inputs"][name])
        return value.bool() if name == "mask" else value

    return look_up
