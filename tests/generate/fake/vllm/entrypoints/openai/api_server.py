"""A program in vLLM's place: its command line, its routes, and answers of our own engine.

A line of the file that FAKE_VLLM names is taken off by each request for answers: ``die`` ends the
process, ``hang`` keeps the request, ``mute`` ends it at its next start.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.generate.vllm import Vllm, serving

FAULTS = Path(os.environ.get("FAKE_VLLM", "/nowhere"))


def fault() -> str:
    """The next of the faults."""
    lines = FAULTS.read_text().split() if FAULTS.is_file() else []
    if lines:
        FAULTS.write_text("\n".join(lines[1:]))
    return lines[0] if lines else ""


class Faulty(Vllm):
    """Dies or hangs when it is told to."""

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["max_tokens"] > 1:
            what = fault()
            if what == "die":
                os._exit(9)
            if what == "hang":
                time.sleep(60)
        return super().complete(body)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "host", "logprobs-mode", "weight-transfer-config", "dtype"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--enable-scale-out", action="store_true")
    parser.add_argument("--max-lora-rank", type=int)
    parser.add_argument("--refuse", action="store_true")
    given = parser.parse_args()
    if given.refuse:
        raise SystemExit("ValueError: there is no such device")
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    served = Faulty(model, name=given.model, tokenizer=AutoTokenizer.from_pretrained(given.model))
    served.processed = given.logprobs_mode == "processed_logprobs"
    served.loads, served.scales_out = given.enable_lora, given.enable_scale_out
    with serving(served, port=given.port):
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()
