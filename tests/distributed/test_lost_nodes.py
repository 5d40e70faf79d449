"""A node of a Ray cluster that is lost during a run, which ends as one without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="backflip[ray] is an extra")

from backflip.distributed import ray_crew
from tests.distributed.test_ray import before_steps, train
from tests.distributed.torchrun import assert_same_run


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster whose first node has room for nobody; a test adds others."""
    import ray
    from ray.cluster_utils import Cluster

    assert ray_crew  # which sets Ray's variables before it is started
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_sampler_whose_node_is_lost_lives_on_another_and_no_number_changes(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train("grpo", tmp_path / "one")
    second = nodes.add_node(num_cpus=1)

    def lost() -> None:
        nodes.add_node(num_cpus=1)
        nodes.remove_node(second, allow_graceful=False)

    before_steps(monkeypatch, {3: lost})
    cluster = {"samplers": 1, "address": nodes.address, "patience": 60}
    with pytest.warns(UserWarning, match="sampler 0 is started again: sampler 0 died"):
        train("grpo", tmp_path / "run", cluster=cluster)
    assert_same_run(tmp_path / "one", tmp_path / "run")
