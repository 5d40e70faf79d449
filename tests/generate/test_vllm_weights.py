"""Weights on their way to a vLLM: by a file, and through a group of processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from backflip.errors import UserError
from backflip.generate.vllm.ways import MOST, Broadcast, FileWay, Receiver, Way
from backflip.generate.vllm.weights import WholeWeights
from backflip.recipes.load import load_recipe
from backflip.stages.engines import Vllm as Settings
from tests.generate.reference import PROMPTS, answer_logp
from tests.generate.test_openai_engine import PARAMS, Letters, engine_at
from tests.generate.test_vllm_engine import learnt
from tests.generate.vllm import Vllm, serving
from tests.models.families import tiny


@pytest.fixture
def served() -> Iterator[Vllm]:
    with serving(Vllm(tiny("llama"), tokenizer=Letters())) as server:
        yield server


def handed(served: Vllm, model: Any, way: Path | Way) -> Any:
    engine = engine_at(served, model)
    given: Any = FileWay(way) if isinstance(way, Path) else way
    engine.handover = WholeWeights(given, engine.client)
    return engine


def by_broadcast() -> Broadcast:
    return Broadcast(seconds=20)


@pytest.mark.parametrize(("adapted", "way"), [(False, "file"), (True, "file"), (True, "broadcast")])
def test_a_servers_weights_are_the_learners_after_every_sync(
    served: Vllm, adapted: bool, way: str, tmp_path: Path
):
    model = tiny("llama")
    if adapted:
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear")).eval()
    engine = handed(served, model, tmp_path if way == "file" else by_broadcast())
    for update in range(1, 4):
        learnt(model)
        engine.sync(model)
        for answer in engine.generate(PROMPTS, PARAMS, seed=update):
            expected = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens)
            torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)
        engine.generate(PROMPTS, PARAMS)
        assert served.transfer.updates == update, "handed over once for each sync"
    assert list(tmp_path.iterdir()) == []


def test_weights_of_any_size_and_type_arrive_in_parts(monkeypatch: pytest.MonkeyPatch):
    """Through a real group of three: the learner and two workers, each with all of them."""
    assert MOST > 1 << 20
    monkeypatch.setattr("backflip.generate.vllm.ways.MOST", 50)
    sent = {
        "odd": torch.arange(3, dtype=torch.uint8),
        "wide": torch.randn(5, 7),
        "across": torch.randn(4, 3).T,
        "narrow": torch.randn(9).bfloat16(),
        "one": torch.tensor(2.5),
        "none": torch.empty(0, 4),
    }
    way, workers = by_broadcast(), [Receiver(n, torch.device("cpu")) for n in range(2)]
    how = way.meeting(2, torch.device("cpu"))

    def taken(worker: Receiver, announced: dict[str, Any]) -> dict[str, torch.Tensor]:
        return dict(worker.weights(announced))

    with ThreadPoolExecutor(2) as pool:
        met = [pool.submit(worker.meet, **how) for worker in workers]
        way.meet(lambda: False)
        for one in met:
            one.result()
        for _ in range(2):
            announced = json.loads(json.dumps(way.update(sent, "a")))
            ends = [pool.submit(taken, worker, announced) for worker in workers]
            way.send(lambda: False)
            for one in ends:
                found = one.result()
                assert found.keys() == sent.keys()
                assert all(found[name].equal(sent[name]) for name in sent)
                assert all(found[name].dtype == sent[name].dtype for name in sent)
            sent["wide"] = sent["wide"] + 1


@pytest.mark.parametrize("verb", ["/init_weight_transfer_engine", "/update_weights"])
def test_a_server_that_refuses_weights_on_their_way_is_waited_for_no_longer(
    served: Vllm, verb: str, monkeypatch: pytest.MonkeyPatch
):
    do = served.transfer.do
    monkeypatch.setattr(
        served.transfer,
        "do",
        lambda path, body: (400, {"error": "no"}) if path == verb else do(path, body),
    )
    engine = handed(served, tiny("llama"), Broadcast(seconds=600))
    engine.sync()
    with pytest.raises(UserError, match=r"engine\.python"):
        engine.generate(PROMPTS, PARAMS)


def test_weights_that_a_server_only_says_it_has_are_found_out(served: Vllm, tmp_path: Path):
    """Twice: on the first handover and on the second, whose weights are the first that changed."""
    model = tiny("llama")
    engine = handed(served, model, tmp_path)
    engine.sync(model)
    engine.generate(PROMPTS, PARAMS)
    served.transfer.takes = False
    learnt(model, 0.02)
    engine.sync(model)
    with pytest.raises(UserError, match="over 4 answers after weights were handed over"):
        engine.generate(PROMPTS, PARAMS)


def test_a_version_that_is_another_stops_before_an_answer(served: Vllm, tmp_path: Path):
    served.transfer.counts = False
    engine = handed(served, tiny("llama"), tmp_path)
    engine.sync()
    with pytest.raises(UserError, match=r"was handed weights backflip-.* and has default"):
        engine.generate(PROMPTS, PARAMS)
    assert served.transfer.done == [], "and it answers again"


def test_a_server_without_the_back_end_is_told_how_to_be_started(served: Vllm, tmp_path: Path):
    served.transfer.on = False
    engine = handed(served, tiny("llama"), tmp_path)
    engine.sync()
    with pytest.raises(UserError, match=r"VLLM_SERVER_DEV_MODE=1 .* engine\.python"):
        engine.generate(PROMPTS, PARAMS)


def test_a_way_of_weights_that_cannot_be_gone_is_refused(monkeypatch: pytest.MonkeyPatch):
    words = ["reward=some/model", "run=r", "engine=vllm", f"engine.python={sys.executable}"]
    faults = load_recipe("grpo", [*words, "engine.handover=broadcast"]).faults()
    assert any("LoRA adapters go by a file" in fault for fault in faults)
    faults = load_recipe("grpo", [*words, "lora=null", "engine.handover=ipc"]).faults()
    assert any("memory of a CUDA device, and there is none" in fault for fault in faults)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    shared = Settings(python=sys.executable, handover="broadcast", sleeps=True)
    (fault,) = shared.faults("engine", adapted=False)
    assert "Set engine.handover=ipc" in fault
