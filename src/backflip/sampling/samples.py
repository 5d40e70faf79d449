"""Samples of a round of iterative learning: answers and their scores, in memory and on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.ragged import Ragged, TensorRecord, offsets_of
from backflip.data.records import Tally
from backflip.training.checkpoints import finite
from backflip.training.run_folder import write_atomically

__all__ = ["Sampled", "Scoring", "Show", "joined", "numbered", "pooled", "together"]

Show = Callable[[list[int]], str]
"""Tokens to text, for people."""
PART = "part."


@dataclass(frozen=True)
class Sampled(TensorRecord):
    """Answers of the policy, and what each was found to be worth."""

    rollouts: Rollouts
    scores: Float[Tensor, " B"]
    """NaN where the scorer failed: not an answer of no worth, but one that nobody judged."""


@dataclass(frozen=True)
class Scoring:
    """All that a scorer said of B answers."""

    sampled: Sampled
    parts: Mapping[str, Float[Tensor, " B"]] = field(default_factory=dict[str, Tensor])
    """Further parts of the judgement, such as ``heldout``; NaN where it failed."""
    failed: Mapping[int, str] = field(default_factory=dict[int, str])
    """Why, for each row that has no score."""

    def tally(self) -> Tally:
        """Failures by what the scorer said, with a few of their rows."""
        tally = Tally()
        for row, reason in sorted(self.failed.items()):
            tally.add(reason, f"answer {row}")
        return tally

    def metrics(self) -> dict[str, float]:
        """Metrics of the round; means are over the answers that have a score."""
        rollouts, scores = self.sampled.rollouts, self.sampled.scores
        _, place = numbered(rollouts.group)
        best = torch.full((int(place.max()) + 1,), -math.inf).to(scores)
        best = best.scatter_reduce(0, place, scores.nan_to_num(nan=-math.inf), "amax")
        metrics = {
            "reward": float(scores.nanmean()),
            "reward_best": float(best[best.isfinite()].mean()),
            "length": float(rollouts.mask.sum(-1).float().mean()),
            "finished": float(rollouts.finished.float().mean()),
            "failed": len(self.failed) / max(1, len(scores)),
        }
        return metrics | {f"reward_{n}": float(part.nanmean()) for n, part in self.parts.items()}


def pooled(samples: Sequence[Sampled]) -> Sampled:
    """Answers to the same prompts from several rounds, to choose among all of them (Llama 2)."""
    return Sampled(joined([s.rollouts for s in samples]), torch.cat([s.scores for s in samples]))


def joined(pieces: Sequence[Rollouts]) -> Rollouts:
    """One record of all, as wide as the widest."""
    width = max(piece.steps.width for piece in pieces)

    def wide(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, width - x.shape[1]))

    return Rollouts(
        steps=TokenSteps(
            _chained([p.steps.prompt for p in pieces]),
            _chained([p.steps.answer for p in pieces]),
            width,
        ),
        mask=torch.cat([wide(p.mask) for p in pieces]),
        logp=torch.cat([wide(p.logp) for p in pieces]),
        group=torch.cat([p.group for p in pieces]),
        finished=torch.cat([p.finished for p in pieces]),
        row=torch.cat([p.row for p in pieces]),
    )


def _chained(pieces: Sequence[Ragged[Tensor]]) -> Ragged[Tensor]:
    lengths = torch.cat([piece.lengths for piece in pieces])
    return Ragged(torch.cat([piece.values for piece in pieces]), offsets_of(lengths))


def together(done: Sequence[Scoring]) -> Scoring:
    """All chunks as one; rows are numbered through."""
    names = list(dict.fromkeys(name for scoring in done for name in scoring.parts))
    failed, start = dict[int, str](), 0
    for scoring in done:
        failed |= {start + row: reason for row, reason in scoring.failed.items()}
        start += len(scoring.sampled)
    missing = [torch.full_like(scoring.sampled.scores, math.nan) for scoring in done]
    parts = {
        name: torch.cat([s.parts.get(name, m) for s, m in zip(done, missing, strict=True)])
        for name in names
    }
    return Scoring(pooled([scoring.sampled for scoring in done]), parts, failed)


def plain(x: Any) -> list[Any]:
    """A tensor's numbers."""
    return x.tolist()


def numbered(group: Tensor) -> tuple[Tensor, Tensor]:
    """(names of the groups, for each row the place of its own among them)."""
    return cast("tuple[Tensor, Tensor]", torch.unique(group, return_inverse=True))  # pyright: ignore


# ---- on disk


def pack(rollouts: Rollouts) -> dict[str, Tensor]:
    """Rollouts as plain tensors, each prompt once."""
    names, place = numbered(rollouts.group)
    rows = torch.arange(len(place))
    first = torch.full((len(names),), len(place)).scatter_reduce(0, place, rows, "amin")
    prompt, answer = rollouts.steps.prompt[first], rollouts.steps.answer
    return {
        "prompt": prompt.values.int(),
        "prompt_lengths": prompt.lengths,
        "answer": answer.values.int(),
        "answer_lengths": answer.lengths,
        "mask": rollouts.mask.contiguous(),
        "logp": rollouts.logp.float().contiguous(),
        "group": rollouts.group,
        "finished": rollouts.finished,
    }


def unpack(tensors: Mapping[str, Tensor]) -> Rollouts:
    prompt, answer = (
        Ragged(tensors[name].long(), offsets_of(tensors[f"{name}_lengths"]))
        for name in ("prompt", "answer")
    )
    _, place = numbered(tensors["group"])
    return Rollouts(
        steps=TokenSteps(prompt[place], answer, tensors["mask"].shape[1]),
        mask=tensors["mask"],
        logp=tensors["logp"],
        group=tensors["group"],
        finished=tensors["finished"],
    )


def pack_scores(scoring: Scoring) -> dict[str, Tensor]:
    parts = {f"{PART}{name}": part for name, part in scoring.parts.items()}
    return {"scores": scoring.sampled.scores, **parts}


def reasons(scoring: Scoring) -> dict[str, str]:
    return {"failed": json.dumps(dict(scoring.failed))}


def unpack_scores(
    tensors: Mapping[str, Tensor], facts: Mapping[str, str], rollouts: Rollouts
) -> Scoring:
    parts = {n.removeprefix(PART): t for n, t in tensors.items() if n.startswith(PART)}
    failed = {int(row): str(said) for row, said in json.loads(facts["failed"]).items()}
    return Scoring(Sampled(rollouts, tensors["scores"]), parts, failed)


def write(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str]) -> None:
    from safetensors.torch import save  # pyright: ignore[reportUnknownVariableType]

    write_atomically(path, save(dict(tensors), facts))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Tensors and facts of a file; None where there is none, or no whole one."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        opener: Any = safe_open
        with opener(path, "pt") as opened:
            return {n: opened.get_tensor(n) for n in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except SafetensorError:
        return None


def as_lines(scoring: Scoring, show: Show) -> str:
    """samples.jsonl: one answer a line."""
    rollouts, scores = scoring.sampled.rollouts, plain(scoring.sampled.scores)
    lines: list[str] = []
    for row, group in enumerate(plain(rollouts.group)):
        steps: Any = rollouts.steps
        sample: dict[str, Any] = {
            "number": group,
            "prompt": show(plain(steps.prompt.row(row))),
            "answer": show(plain(steps.answer.row(row))),
            "score": finite(scores[row]),
            "finished": bool(rollouts.finished[row]),
        }
        sample |= {name: finite(float(part[row])) for name, part in scoring.parts.items()}
        sample |= {"failed": scoring.failed[row]} if row in scoring.failed else {}
        lines.append(json.dumps(sample, ensure_ascii=False) + "\n")
    return "".join(lines)
