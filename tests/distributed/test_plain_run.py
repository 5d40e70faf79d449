"""A run in one process pays nothing for what several would need."""

from __future__ import annotations

import subprocess
import sys

from tests.distributed.torchrun import environment

PROGRAM = """
import sys
import torch, peft, transformers
from transformers import AutoModelForCausalLM, LlamaForCausalLM
transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=8, hidden_size=8,
    intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
before = {name for name in sys.modules if name.startswith("torch.distributed")}
from backflip import api
api.train("dpo", model="scratch:24x1", data="demo:comparisons", steps=1, run=sys.argv[1] + "/dpo")
api.train("grpo", model="scratch:24x1", data="task:sorting", reward="exact", steps=1,
    sampling={"max_tokens": 4}, run=sys.argv[1] + "/grpo")
import torch.distributed as dist
ours = ("backflip.distributed.gang", "backflip.distributed.sharding", "ray", "vllm")
print("new:", sorted({n for n in sys.modules if n.startswith("torch.distributed")} - before))
print("ours:", [name for name in ours if name in sys.modules])
print("joined:", dist.is_initialized())
"""


def test_a_plain_run_imports_no_process_group(tmp_path):
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")],
        env=environment(),
        text=True,
        capture_output=True,
        timeout=300,
        check=True,
    ).stdout
    assert "new: []" in said
    assert "ours: []" in said
    assert "joined: False" in said
