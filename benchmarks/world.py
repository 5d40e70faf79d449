"""What a world of one process costs: a step of the learner against the same in a plain loop.

    python benchmarks/world.py

The plain learner deals nothing out and adds nothing up. Steps on the same batches alternate, each
timed in seconds of the processor, on one thread. Writes world.json, from which RESULTS.md is made.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("BACKFLIP_BENCH_CLOCK", "cpu")

import numpy as np
import torch
from report import machine, renewed
from timing import now
from transformers import LlamaConfig, LlamaForCausalLM

from backflip.algorithms.sft import SFT
from backflip.data.batches import DemonstrationBatch, TokenSteps
from backflip.models.causal import CausalPolicy
from backflip.training.learner import Learner, Work, make_optimizer

HERE = Path(__file__).resolve().parent
SIZES = {"0.2M": (64, 2, 1000, 400), "20M": (320, 8, 20_000, 48)}
"""Width, layers, vocabulary; pairs of steps."""


class Plain(Learner):
    """A learner that knows of no other process, nor shows how far it is."""

    def _backward(self, work: Work) -> dict[str, Any]:
        with torch.no_grad():
            batch = work.objective.prepare(self.model, work.batch, self.token_budget)
        counts, sums = work.objective.counts(batch), dict[str, Any]()
        for rows in self.model.plan(batch, self.token_budget):
            outcome = work.objective.loss(self.model, batch[rows].to(self.model.device))
            terms = [loss.total / counts[name] for name, loss in outcome.losses.items()]
            torch.autograd.backward(torch.stack(terms).sum())
            found = {name: loss.detached() for name, loss in outcome.losses.items()}
            for name, loss in (found | dict(outcome.metrics)).items():
                sums[name] = sums[name] + loss if name in sums else loss
        return sums


def measured(width: int, layers: int, vocabulary: int, pairs: int) -> dict[str, float]:
    """Ratio of the medians, with the interval of a bootstrap over pairs of steps."""
    learners = [new(kind, width, layers, vocabulary) for kind in (Learner, Plain)]
    seconds, losses = np.zeros((pairs + 1, 2)), np.zeros((pairs + 1, 2))
    for pair in range(pairs + 1):
        work = Work(SFT(), demonstrations(vocabulary, pair))
        for side in (0, 1) if pair % 2 else (1, 0):
            began = now()
            losses[pair, side] = learners[side].step(work)["loss"]
            seconds[pair, side] = now() - began
    assert (losses[:, 0] == losses[:, 1]).all(), "the two have not done the same"
    timed = seconds[1:]
    drawn = timed[np.random.default_rng(0).integers(pairs, size=(10_000, pairs))]
    ratios = np.divide(*np.median(drawn, axis=1).T)
    ours, plain = np.median(timed, axis=0)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {"pairs": pairs, "ours_s": ours, "plain_s": plain} | {
        "ratio": ours / plain, "ratio_low": low, "ratio_high": high
    }  # fmt: skip


def new(kind: type[Learner], width: int, layers: int, vocabulary: int) -> Learner:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": 4 * width}
    sizes |= {"vocab_size": vocabulary, "num_attention_heads": 4, "num_hidden_layers": layers}
    sizes |= {"tie_word_embeddings": True}
    model = CausalPolicy(LlamaForCausalLM(LlamaConfig(**sizes)))
    return kind(model, make_optimizer(model, lr=1e-4), token_budget=256)


def demonstrations(vocabulary: int, seed: int) -> DemonstrationBatch:
    """8 demonstrations of 32 + 32 tokens, in two micro-batches."""
    tokens = torch.randint(3, vocabulary, (8, 64), generator=torch.Generator().manual_seed(seed))
    steps = TokenSteps.of(tokens[:, :32].tolist(), tokens[:, 32:].tolist())
    return DemonstrationBatch(steps, steps.mask, torch.ones(8))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder of world.json")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    rows = {name: measured(*sizes) for name, sizes in SIZES.items()}
    for name, row in rows.items():
        print(f"{name}: {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})")
    table = {"machine": machine(), "sizes": rows}
    (out / "world.json").write_text(json.dumps(table, indent=2) + "\n")
    renewed(out)


if __name__ == "__main__":
    main()
