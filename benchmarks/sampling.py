"""Sampling 2 prompts × 8 answers: ours against ``transformers.generate``.

    python benchmarks/sampling.py MODEL_FOLDER HH_FILE [--pairs 6] [--fixed]

The same pairs of prompts in the same order, each side in a process of its own, after a warm-up.
``--fixed`` writes 64 tokens in every row instead of stopping at the stop token.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROWS, ANSWERS, TOKENS = 2, 8, 64
TURN = re.compile(r"\n\n(Human|Assistant): ?")
ROLES = {"Human": "user", "Assistant": "assistant"}


def prompt_batches(tokenizer: Any, hh_file: Path, pairs: int) -> list[list[list[int]]]:
    """The first prompts of HH as chats, two to a batch; one batch more, for the warm-up."""
    prompts: list[list[int]] = []
    with gzip.open(hh_file, "rt") as lines:
        for line in lines:
            if len(prompts) == ROWS * (pairs + 1):
                break
            _, *parts = TURN.split(json.loads(line)["chosen"])
            turns = [
                {"role": ROLES[who], "content": text.strip()}
                for who, text in zip(parts[0::2], parts[1::2], strict=True)
            ]
            chat = tokenizer.apply_chat_template(
                turns[:-1], add_generation_prompt=True, return_dict=True
            )
            prompts.append(chat["input_ids"])
    return [prompts[i : i + ROWS] for i in range(0, len(prompts), ROWS)]


def ours(model: Any, tokenizer: Any, *, fixed: bool) -> Any:
    """A function from prompts and seed to the lengths of the answers."""
    from backflip.generate.engine import SamplingParams
    from backflip.generate.torch_engine import TorchEngine

    engine = TorchEngine(model)
    stop = () if fixed else (tokenizer.eos_token_id,)
    params = SamplingParams(max_tokens=TOKENS, stop_tokens=stop)

    def run(prompts: list[list[int]], seed: int) -> list[int]:
        answers = engine.generate(prompts, params, group=ANSWERS, seed=seed)
        return [len(a.tokens) for a in answers]

    return run


def theirs(model: Any, tokenizer: Any, *, fixed: bool) -> Any:
    """The same through ``transformers.generate``: left padding, the whole vocabulary."""
    import torch

    stop = tokenizer.eos_token_id
    limits = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS if fixed else None}

    def run(prompts: list[list[int]], seed: int) -> list[int]:
        torch.manual_seed(seed)
        width = max(len(p) for p in prompts)
        rows = torch.tensor([[stop] * (width - len(p)) + p for p in prompts])
        seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        out = model.generate(
            rows, attention_mask=seen, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            num_return_sequences=ANSWERS, eos_token_id=stop, pad_token_id=stop, **limits,
        )  # fmt: skip
        answers = out[:, width:].tolist()
        return [a.index(stop) + 1 if stop in a else len(a) for a in answers]

    return run


def measure(side: str, model_folder: str, hh_file: str, pairs: int, fixed: bool) -> dict[str, Any]:
    """Answer tokens and seconds of one side, in this process."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype="float32").eval()
    warm_up, *batches = prompt_batches(tokenizer, Path(hh_file), pairs)
    run = {"ours": ours, "theirs": theirs}[side](model, tokenizer, fixed=fixed)
    run(warm_up, 0)
    tokens = steps = 0
    start = time.perf_counter()
    for seed, batch in enumerate(batches, 1):
        lengths = run(batch, seed)
        tokens, steps = tokens + sum(lengths), steps + max(lengths)
    seconds = time.perf_counter() - start
    return {
        "side": side,
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "ms_per_step": 1000 * seconds / steps,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "prompt_tokens": [len(p) for batch in batches for p in batch],
    }


def compare(
    model_folder: str, hh_file: str, *, pairs: int = 6, fixed: bool = False
) -> dict[str, Any]:
    """Both sides, one process after the other, and the ratio of answer tokens a second."""
    sides = {}
    for side in ("ours", "theirs"):
        command = [sys.executable, __file__, model_folder, hh_file, "--side", side]
        command += ["--pairs", str(pairs), *(["--fixed"] if fixed else [])]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        sides[side] = json.loads(done.stdout.splitlines()[-1])
    ratio = sides["ours"]["tokens_per_s"] / sides["theirs"]["tokens_per_s"]
    return {**sides, "ratio": ratio, "fixed": fixed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("hh")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--side", choices=["ours", "theirs"])
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side, given.model, given.hh, given.pairs, given.fixed)))
    else:
        found = compare(given.model, given.hh, pairs=given.pairs, fixed=given.fixed)
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
