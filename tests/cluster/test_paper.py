"""A forecast on paper: by hand, against what torch counts, and against runs of this machine."""

from __future__ import annotations

import runpy
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from backflip import api
from backflip.cluster.devices import DEVICES, device_of
from backflip.cluster.forecast import on_paper
from backflip.cluster.memory import memory
from backflip.cluster.reckoning import Cluster, balanced, operations, reckon, share, slowest
from backflip.cluster.reckoning import seconds as seconds_of
from backflip.data.batches import TokenSteps
from backflip.errors import UserError
from backflip.models.causal import CausalPolicy
from backflip.models.trunk import before_answer
from backflip.monitor.log import MetricsLog
from backflip.recipes.load import load_recipe
from backflip.stages.plans import Lengths, Plan
from backflip.stages.workload import Held, Kind, Reading, Shape, Workload, Writing, shape_of

BILLION = Shape(
    parameters=1_000_000_000, body=900_000_000, layers=10, width=1000, inner=4000, heads=10,
    queries=1000, keys=500, vocabulary=100_000,
)  # fmt: skip
H100 = replace(DEVICES["h100"], products=1e15, network=50e9)


def learning(rows: float, lengths: Lengths, *more: Reading, **changes: Any) -> Workload:
    """All weights of ``BILLION`` learn from so many rows."""
    first = Reading("policy", BILLION, "learn", lengths, rows, **changes)
    return Workload((first, *more), (Held("policy", 1_000_000_000, 1_000_000_000),))


def seconds(work: Workload, cluster: Cluster) -> dict[str, tuple[float, str]]:
    learnt = {held.role: held.learning for held in work.held}
    return {part.name: (part.seconds, part.cause) for part in reckon(work, learnt, cluster)}


def test_rows_are_shared_out_whole_and_groups_by_answers():
    """By hand: 10 pairs on 4 devices are 3, 3, 2, 2; a group of 8 on 4 devices is cut in 4."""
    pair = Lengths(100, 60, 2)
    assert share(pair, 10, 1, 4) == 3 * 160
    assert share(pair, 2, 1, 64) == 160
    group = Lengths(100, 800, 8)
    assert share(group, 1, 8, 4) == 100 + 2 * 100
    assert share(group, 1, 8, 64) == 100 + 100
    assert share(group, 16, 8, 4) == 4 * 900


def test_operations_are_those_that_torch_counts():
    """Products of two layers over one row of 48 tokens. Attention and the head by hand: the
    counter does not see the fused kernel, nor products that are written in place.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=160, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    from transformers import AutoModelForCausalLM

    model = CausalPolicy(AutoModelForCausalLM.from_config(config))
    steps = TokenSteps.of([list(range(24))], [list(range(24, 48))])
    body = sum(p.numel() for n, p in model.named_parameters() if p.dim() == 2 and "layers" in n)
    shape = Shape(0, body, 2, 64, 160, 4, 64, 32, 512)
    lengths = Lengths(24, 24)
    for kind in cast("tuple[Kind, Kind]", ("read", "learn")):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(kind == "learn"):
            hidden = model.trunk([steps.sequence(0)], *before_answer(steps))
            if kind == "learn":
                hidden.sum().backward()
        body, whole = (
            operations(Reading("policy", shape, kind, lengths, 1, heads=heads), lengths, 48,
                       recompute=False) for heads in (False, True)
        )  # fmt: skip
        attention = 4 * 64 * 2 * 24 * 48 * (3 if kind == "learn" else 1)
        assert body - attention == pytest.approx(counter.get_total_flops(), rel=0.03)
        assert whole - body == 24 * (6 if kind == "learn" else 2) * 512 * 64


def test_a_step_on_eight_nodes_by_hand():
    """64 devices, a row of 1,000 tokens each: 6 · 9e8 · 1000 operations for the body."""
    cluster = Cluster(H100, nodes=8, devices=8, budget=8000)
    found = seconds(learning(64, Lengths(500, 500)), cluster)
    attention = 12 * 1000 * 10 * (500 * 250 + 500 * 750) / 1000 * 1000
    done = 1000 * 6 * 9e8 + attention + 500 * 6 * 1e8
    launched = 6e-3 * 12
    assert done / 1e15 < launched
    assert found["policy learns"] == (pytest.approx(launched), "launching operations")
    reduced = 1e9 * 4 * 7 / 8 / 450e9
    between = 2 * 7 / 8 * 1e9 / 8 * 4 / 50e9
    assert found["policy: adding gradients up"][0] == pytest.approx(reduced + between)
    assert found["policy: the optimiser's step"][0] == pytest.approx(1e9 / 8 * 28 / 3.35e12)
    roomy = replace(cluster, budget=64_000)
    long = seconds(learning(64 * 64, Lengths(500, 500)), roomy)
    assert long["policy learns"] == (pytest.approx(64 * done / 1e15), "products")


def test_memory_of_a_device_by_hand():
    """16 bytes a weight alone; over 8 devices an eighth, and gradients whole where they are small.

    Gathered: two of ten layers and the two tables, in float32.
    """
    work = learning(8, Lengths(500, 500))
    alone = memory(work, Cluster(H100, 1, 1, 8000))
    assert sum(alone[n] for n in ("weights", "gradients", "optimiser")) == 16e9
    assert "gathered layers" not in alone
    cut = memory(work, Cluster(H100, 1, 8, 8000))
    assert (cut["weights"], cut["gradients"], cut["optimiser"]) == (0.5e9, 4e9, 1e9)
    assert cut["gathered layers"] == 4 * (2 * 9e7 + 1e8)
    assert memory(work, Cluster(H100, 8, 8, 8000)) == cut | {}
    recomputed = memory(work, Cluster(H100, 1, 8, 8000, recompute=True))
    assert recomputed["activations"] < 0.25 * cut["activations"]


def test_writing_waits_for_what_takes_longest_and_goes_in_waves():
    """Of 8 prompts with 8 answers each of 8 devices has one: 8 rows of 100 tokens, in two waves."""
    cluster = Cluster(H100, nodes=1, devices=8, budget=8000)
    lengths = Lengths(100, 800, 8)
    work = replace(
        learning(8, lengths, parts=8), writing=Writing(BILLION, lengths, 8, side_by_side=4)
    )
    launched = 200 * 0.29e-3 * 11
    assert seconds(work, cluster)["answers are written"] == (
        pytest.approx(launched),
        "launching operations",
    )
    slow = replace(cluster, device=replace(H100, bandwidth=1e10))
    written, cause = seconds(work, slow)["answers are written"]
    assert cause == "reading memory"
    assert written == pytest.approx(200 * 1e9 * 2 / 1e10, rel=0.05)


def test_devices_that_write_while_others_learn_by_hand():
    """8 devices learn from 64 groups of 8 answers, 4 write them: 16 prompts each, in two waves."""
    cluster = Cluster(H100, nodes=1, devices=8, budget=80_000)
    lengths = Lengths(100, 800, 8)
    writing = Writing(BILLION, lengths, 64, side_by_side=64, samplers=4, ahead=True)
    work = replace(learning(64, lengths, parts=8), writing=writing)
    parts = reckon(work, {"policy": 1_000_000_000}, cluster)
    found = {part.name: part for part in parts}
    call, row = H100.launching.write
    launched = 2 * 100 * (call + 64 * row) * 11
    assert found["answers are written"].seconds == pytest.approx(launched)
    assert found["answers are written"].beside
    assert found["sending weights to samplers"].seconds == pytest.approx(4e9 / 50e9)
    assert found["gathering weights for samplers"].seconds == pytest.approx(4e9 * 7 / 8 / 450e9)
    learnt = sum(part.seconds for part in parts if not part.beside)
    assert seconds_of(slowest(parts)) == max(launched, learnt)
    asked = 12 * 4 * launched / (4 * launched + 8 * learnt)
    assert balanced(parts, 8, 4) == round(asked)
    assert memory(work, cluster)["sampling"] == 4e9
    after = replace(work, writing=replace(writing, ahead=False))
    both = reckon(after, {"policy": 1_000_000_000}, cluster)
    assert seconds_of(slowest(both)) == pytest.approx(launched + learnt)


def test_64_nodes_that_learn_and_write_are_forecast_with_their_balance(model: str):
    """Money is of all devices; the advice is the balance of both sides, and then is silent."""
    more = ("reward=length", "reward.most=9", "data.max_length=2048", "steps=2", "ahead=1")
    asked = ["prompts_per_step=512", "answers_per_prompt=8", "cluster.samplers=195"]
    found = paper("grpo", model, *more, *asked, nodes=39, devices=8, price=2.0)
    assert found.devices == 39 * 8 + 195
    assert found.money == pytest.approx(2 * found.devices * found.seconds / 3600)
    said = [line for line in found.warnings if "would balance" in line]
    balance = found.stages[0].balance
    assert bool(said) == (abs(balance - 195) > 19.5)
    assert all(f"cluster.samplers={balance}" in line for line in said)
    parts = found.stages[0].parts
    write, learn = (sum(p.seconds for p in parts if p.beside is b) for b in (True, False))
    assert balance == max(round(507 * 195 * write / (195 * write + 312 * learn)), 1)


LLAMA = Shape(
    parameters=8_030_261_248, body=6_979_588_096, layers=32, width=4096, inner=14_336, heads=32,
    queries=4096, keys=1024, vocabulary=128_256,
)  # fmt: skip
"""Llama 3.1 8B."""
NODES = Cluster(H100, nodes=64, devices=8, budget=9000, recompute=True)


def grpo(samplers: int) -> Workload:
    """All weights: 512 prompts of 1,000 tokens, 8 answers of 1,000 tokens to each.

    So each of 512 devices has a prompt with its answers, 9,000 forest tokens, in one micro-batch.
    """
    lengths = Lengths(1000, 8000, 8)
    held = (Held("policy", LLAMA.parameters, LLAMA.parameters), Held("reference", LLAMA.parameters))
    learns = Reading("policy", LLAMA, "learn", lengths, 512, parts=8)
    reads = replace(learns, role="reference", kind="read")
    writing = Writing(LLAMA, lengths, 512, side_by_side=64, samplers=samplers, ahead=samplers > 0)
    return Workload((learns, reads), held, writing)


def test_memory_of_llama_8b_on_64_nodes_against_a_table_by_hand():
    """Bytes of a device, with P = 8,030,261,248 weights over the 8 devices of its node:

    ==================  =============================================  ==============
    weights             policy and reference, 2 · 4 · P / 8             8,030,261,248
    gradients           whole they took 32 GB of 80: 4 · P / 8          4,015,130,624
    optimiser           two moments, 8 · P / 8                          8,030,261,248
    copies in bfloat16  2 · P                                          16,060,522,496
    gathered layers     4 · (2 of 32 layers + both tables)              5,947,589,632
    sampling            a packed copy and a plain one, 6 · P, and      49,361,215,488
                        9,000 tokens · 2 · 1,024 · 32 · 2 of keys
    ==================  =============================================  ==============
    """
    table = {
        "weights": 8_030_261_248,
        "gradients": 4_015_130_624,
        "optimiser": 8_030_261_248,
        "copies in bfloat16": 16_060_522_496,
        "gathered layers": 5_947_589_632,
        "sampling": 49_361_215_488,
        "process": 1_500_000_000,
    }
    found = memory(grpo(samplers=0), NODES)
    assert {name: found[name] for name in table} == table
    layer = 2 * (2 * 4096 + 3 * 4096 + 2 * 1024 + 4 * 14_336) + 16 * 4096
    assert found["activations"] == 9000 * (layer + 32 * 2 * 4096)
    assert sum(table.values()) > 0.9 * H100.memory, "beside the learner's own it does not fit"
    table["sampling"] = 4 * 8_030_261_248
    found = memory(grpo(samplers=128), NODES)
    assert {name: found[name] for name in table} == table


def test_a_step_of_llama_8b_on_64_nodes_and_samplers_by_hand():
    """128 devices write ahead: four prompts each, 32 answers side by side."""
    work = grpo(samplers=128)
    parts = {part.name: part for part in reckon(work, {"policy": LLAMA.parameters}, NODES)}
    network, link = 50e9, 450e9
    between = 2 * 63 / 64 * LLAMA.parameters / 8 * 4
    within = 4 * LLAMA.parameters * 7 / 8
    assert parts["policy: adding gradients up"].seconds == between / network + within / link
    assert parts["sending weights to samplers"].seconds == 4 * LLAMA.parameters / network
    head = 128_256 * 4096
    seen = 4 * 4096 * 32 * (1000 * 500 + 8000 * 1500)
    done = 9000 * 8 * LLAMA.body + 4 * seen + 8000 * 6 * head
    assert parts["policy learns"].seconds == pytest.approx(done / 1e15)
    read = 9000 * 2 * LLAMA.body + seen + 8000 * 2 * head
    assert parts["reference reads"].seconds == pytest.approx(read / 1e15)
    weights = 1000 * (LLAMA.body + head) * 2 + 1000 * 32 * (125 + 500) * 2 * 1024 * 32 * 2
    call, row = H100.launching.write
    written = max(1000 * (call + 32 * row) * 33, weights / 3.35e12)
    assert parts["answers are written"].seconds == pytest.approx(written)
    learnt = sum(part.seconds for part in parts.values() if not part.beside)
    asked = 640 * 128 * written / (128 * written + 512 * learnt)
    assert balanced([*parts.values()], 512, 128) == round(asked)


def paper(name: str, model: str, *settings: str, **where: Any) -> Any:
    recipe = load_recipe(name, [f"model={model}", *settings])
    given = {"nodes": 1, "devices": 8} | where
    return on_paper(recipe, recipe.plans(), DEVICES["h100"], **given)


def test_money_is_that_of_all_devices_and_the_idle_ones_are_said(model: str):
    found = paper("dpo", model, "steps=100", "data.max_length=2048", nodes=8, price=3.0)
    assert found.device_hours == pytest.approx(64 * found.seconds / 3600)
    assert found.money == pytest.approx(3 * found.device_hours)
    assert any("56 of 64 devices have no row" in said for said in found.warnings)
    assert "waits for launching operations" in found.stages[0].bottleneck
    assert any("not measured" in said for said in found.assumptions)
    assert sum(part.seconds for part in found.stages[0].parts) == found.stages[0].step


def test_a_model_that_does_not_fit_is_said_with_what_takes_most(model: str):
    recipe = load_recipe("sft", [f"model={model}", "data=demo:demonstrations", "lora=null"])
    small = replace(DEVICES["h100"], memory=1e9)
    plans = [replace(p, lengths=Lengths(100, 100), steps=1, tokens=1) for p in [Plan(
        "sft", 0, 0, 8, 1, 0, 1, 1)]]  # fmt: skip
    (said,) = on_paper(recipe, plans, small, nodes=1, devices=1).warnings
    assert "does not fit" in said
    assert "most of it is process" in said


def test_what_a_reward_takes_is_left_out_aloud_and_rounds_are_refused(model: str):
    found = paper(
        "grpo", model, "reward=length", "reward.most=9", "data.max_length=2048", "steps=2"
    )
    assert any("reward (length) takes is not reckoned" in said for said in found.assumptions)
    assert {part.name for part in found.stages[0].parts} >= {"answers are written"}
    rounds = load_recipe("iterative_dpo", [f"model={model}"])
    with pytest.raises(UserError, match="rounds are not forecast"):
        on_paper(rounds, rounds.plans(), DEVICES["h100"], nodes=1, devices=8)
    with pytest.raises(UserError, match=r"--device h10 is not known.*Did you mean h100"):
        device_of("h10")


def test_sizes_are_read_off_the_config(model: str):
    shape = shape_of(model)
    assert (shape.layers, shape.width, shape.heads, shape.keys) == (2, 32, 4, 16)
    tables = 2 * shape.vocabulary * 32
    assert shape.body == shape.parameters - tables


def test_the_manual_has_the_table_that_the_forecast_prints():
    root = Path(__file__).parents[2]
    made = runpy.run_path(str(root / "docs" / "scale_table.py"))["table"]()
    page = (root / "docs" / "scale.md").read_text(encoding="utf-8")
    assert "\n".join(made) in page


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    ("name", "start"), [(n, m) for m in ("tiny", "smollm2") for n in ("sft", "dpo", "grpo")]
)
def test_runs_of_this_machine_take_what_was_forecast(
    name: str, start: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The fastest of its steps in the processor's time, within a factor of 1.5 either way: rates
    are measured as the fastest too. The machine's rates are taken before the run and after it, and
    the run is tried three times at most: what changes the machine's own speed is no fault here.
    """
    reward = ["reward=length", "reward.most=20", "validation_prompts=1", "algorithm.epochs=1"]
    few = reward if name == "grpo" else ["sampled_prompts=0"]
    start = model if start == "tiny" else start
    settings = [
        *(f"model={start}", "threads=1", "lora=null"),
        "steps=16" if start == model else "steps=4",
        *("data.max_length=2048", "data.held_out=0.05", *few),
    ]
    stamps: list[float] = []
    append = MetricsLog.append

    def noted(self: MetricsLog, step: int, *rest: Any, **more: Any) -> Any:
        if step > 0:
            stamps.append(time.process_time())
        return append(self, step, *rest, **more)

    def told(recipe: Any) -> float:
        (stage,) = on_paper(recipe, recipe.plans(), device_of("cpu"), nodes=1, devices=1).stages
        return stage.step

    monkeypatch.setattr(MetricsLog, "append", noted)
    tries: list[tuple[float, float, float]] = []
    for number in range(3):
        stamps.clear()
        recipe = load_recipe(name, [*settings, f"run={tmp_path}/run{number}"])
        before = told(recipe)
        api.train(recipe)
        low, high = sorted((before, told(recipe)))
        tries.append((low, min(b - a for a, b in pairwise(stamps)), high))
        if low / 1.5 <= tries[-1][1] <= 1.5 * high:
            return
    pytest.fail(f"forecast from and to, and between them the step that was measured: {tries}")
