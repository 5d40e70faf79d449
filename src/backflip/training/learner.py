"""The only place that divides a loss, clips a gradient, or steps an optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor, nn

from backflip.algorithms.base import Objective
from backflip.data.ragged import TensorRecord
from backflip.distributed.layout import laid_out, reduces, whole
from backflip.distributed.world import here
from backflip.errors import NonFiniteError
from backflip.functional.reductions import Loss
from backflip.models.packing import token_budget_here
from backflip.progress import each
from backflip.training.adamw_8bit import adamw_8bit

MOST_SKIPS_IN_A_ROW = 3


class Learnable(Protocol):
    """A module that a learner can teach: it says how its batches are best cut."""

    def plan(self, batch: TensorRecord, token_budget: int) -> list[Int[Tensor, " n"]]: ...
    def parameters(self) -> Any: ...


@dataclass(frozen=True)
class Work:
    """An objective, and the batch that it is to be met on."""

    objective: Objective
    batch: TensorRecord


@dataclass
class Learner:
    """A model (policy, critic or reward model) and its optimiser."""

    model: Any
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float] = lambda step: 1.0
    """Factor on the learning rate at each step, counted from 0."""
    max_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    token_budget: int = field(default_factory=token_budget_here)
    """Forest tokens in one micro-batch: more is faster and takes more memory."""
    on_skip: Callable[[int, tuple[Work, ...]], None] = lambda step, work: None
    """Called with the step and the work whose gradient was not finite."""
    steps: int = 0
    skipped_in_a_row: int = 0
    base_lrs: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        if not self.base_lrs:
            self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]

    def step(self, *work: Work) -> dict[str, float]:
        """One optimiser step on all of ``work`` together, exact however it is cut.

        Each term is divided by its denominator over the whole batch. Returns the mean of every
        loss and metric, the gradient's norm before clipping, and the learning rate.

        Raises NonFiniteError at the third step in a row whose gradient is not finite; the two
        before are skipped, and ``on_skip`` is told.
        """
        sums: dict[str, Loss] = {}
        for piece in work:
            _merge(sums, self._backward(piece))
        norm = self._norm()
        lr_factor = self.schedule(self.steps)
        if math.isfinite(norm):
            self._update(norm, lr_factor)
            self.skipped_in_a_row = 0
        else:
            self._skip(work)
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        metrics = {name: value.mean() for name, value in sums.items()}
        return metrics | {
            "grad_norm": norm,
            "lr": self.base_lrs[0] * lr_factor,
            "skipped": float(self.skipped_in_a_row > 0),
        }

    def state_dict(self) -> dict[str, Any]:
        """Optimiser and counters; the model's weights are saved apart."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "base_lrs": list(self.base_lrs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(self._laid_out(state["optimizer"]))
        self.steps, self.skipped_in_a_row = state["steps"], state["skipped_in_a_row"]
        self.base_lrs = list(state.get("base_lrs", self.base_lrs))

    def _laid_out(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state of the optimiser with its tensors where their parameters lie."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments = {
            number: {
                name: laid_out(v, parameters[number]) if hasattr(v, "shape") else v
                for name, v in of_one.items()
            }
            for number, of_one in state["state"].items()
        }
        return {**state, "state": moments}

    def _backward(self, work: Work) -> dict[str, Loss]:
        """Add the gradient of Σ total/count over the terms; return sums of losses and metrics.

        Several processes share the micro-batches out and add their sums and gradients up; what one
        without work computes is weighed with 0.
        """
        objective = work.objective
        with torch.no_grad():
            batch = objective.prepare(self.model, work.batch, self.token_budget)
        counts = objective.counts(batch)
        sums: dict[str, Loss] = {}
        plan = here().deal(self.model.plan(batch, self.token_budget))
        for number, (rows, counted) in enumerate(
            each(plan, "learning", len(plan), "micro-batches")
        ):
            reduces(self.model, last=number == len(plan) - 1)
            piece = batch[rows].to(self.model.device)
            outcome = objective.loss(self.model, piece)
            terms = [
                loss.total / counts[name].to(loss.total.device)
                for name, loss in outcome.losses.items()
                if float(counts[name]) != 0  # NaN goes on, to be noticed in the gradient.
            ]
            if terms:
                total = torch.stack(terms).sum()
                torch.autograd.backward(total if counted else total * 0)
            if not counted:
                continue
            detached = {name: loss.detached() for name, loss in outcome.losses.items()}
            _merge(sums, detached | dict(outcome.metrics))
        return _added_up(sums)

    def _norm(self) -> float:
        gradients = self._gradients()
        return float(whole(nn.utils.get_total_norm(gradients))) if gradients else 0.0

    def _update(self, norm: float, lr_factor: float) -> None:
        if norm > self.max_norm:
            torch._foreach_mul_(self._gradients(), self.max_norm / norm)  # pyright: ignore
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * lr_factor
        self.optimizer.step()

    def _skip(self, work: tuple[Work, ...]) -> None:
        self.skipped_in_a_row += 1
        self.on_skip(self.steps, work)
        if self.skipped_in_a_row >= MOST_SKIPS_IN_A_ROW:
            raise NonFiniteError(
                f"the gradient was not finite in {self.skipped_in_a_row} steps in a row, up to "
                f"step {self.steps}. The batches are kept in the run's folder. Lower the learning "
                "rate, or look for extreme scores or empty answers in the data."
            )

    def _gradients(self) -> list[Tensor]:
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        return [p.grad for p in parameters if p.grad is not None]


def _merge(sums: dict[str, Loss], new: dict[str, Loss]) -> None:
    for name, loss in new.items():
        sums[name] = sums[name] + loss if name in sums else loss


def _added_up(sums: dict[str, Loss]) -> dict[str, Loss]:
    """The sums of all processes: the same numbers on each."""
    if here().size == 1:
        return sums
    added: dict[str, Loss] = {}
    for theirs in here().everyone({k: Loss(v.total.cpu(), v.count.cpu()) for k, v in sums.items()}):
        _merge(added, theirs)
    return added


def make_optimizer(
    model: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-5,
    weight_decay: float = 0.0,
    state_bits: int = 32,
) -> torch.optim.Optimizer:
    """AdamW over what needs a gradient; vectors (norms, biases) are not decayed.

    ``state_bits``: 8 holds the moments of tensors of 4,096 numbers or more in 8 bits.

    eps 1e-5 is that of the OpenAI line of RLHF code; PyTorch's own default is 1e-8.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learning if p.dim() >= 2]
    vectors = [p for p in learning if p.dim() < 2]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((matrices, weight_decay), (vectors, 0.0))
        if params
    ]
    if state_bits == 8:
        return adamw_8bit(groups, lr=lr, betas=betas, eps=eps)
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def linear_to_zero(total: int, *, warmup: int = 0) -> Callable[[int], float]:
    """Up over ``warmup`` steps, then in a straight line to 0 at ``total``."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return max(0.0, (total - step) / max(1, total - warmup))

    return factor


def cosine(total: int, *, warmup: int = 0, floor: float = 0.1) -> Callable[[int], float]:
    """Up over ``warmup`` steps, then half a cosine to ``floor`` (InstructGPT: 0.1)."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

    return factor


def constant(total: int, *, warmup: int = 0) -> Callable[[int], float]:
    """Up over ``warmup`` steps, then unchanged."""
    del total
    return lambda step: min(1.0, (step + 1) / warmup) if warmup else 1.0


SCHEDULES = {"linear": linear_to_zero, "cosine": cosine, "constant": constant}
