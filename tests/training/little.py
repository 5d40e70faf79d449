"""Runs small enough to be killed many times: SFT and PPO of a tiny policy."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.sft import SFT
from backflip.data.batches import DemonstrationBatch, TokenSteps
from backflip.data.ragged import Ragged
from backflip.data.stream import Batches
from backflip.errors import Interrupted
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.models.causal import CausalPolicy
from backflip.models.heads import ValueModel
from backflip.models.learnt import learnt
from backflip.monitor.log import MetricsLog
from backflip.reward.protocol import Judgement
from backflip.training.checkpoints import CheckpointStore
from backflip.training.driver import Best, Plan, drive
from backflip.training.learner import Learner, linear_to_zero, make_optimizer
from backflip.training.offline import OfflineLoop, assess
from backflip.training.online import OnlineLoop, PretrainingMix
from backflip.training.run_folder import RunFolder
from backflip.training.values import Critic
from tests.models.families import tiny

TOTAL, EVERY = 7, 3


def demonstrations(rows=10, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def words(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(3, 61, (length,), generator=generator).tolist()

    steps = TokenSteps.of([words(2, 6) for _ in range(rows)], [words(2, 9) for _ in range(rows)])
    return DemonstrationBatch(steps, steps.mask, torch.ones(rows))


def learner(model, *, updates=40, budget=64):
    optimizer = make_optimizer(model, lr=3e-3)
    return Learner(model, optimizer, schedule=linear_to_zero(updates), token_budget=budget)


class Watch:
    """Writes metrics down, and has a memory of its own."""

    def __init__(self, run):
        self.log, self.seen, self.stop_at = MetricsLog(run.path), 0, None

    def begin(self, step):
        self.log.truncate_after(step)

    def __call__(self, index, metrics, loop):
        self.seen += 1
        self.log.append(index, "little", metrics | {"seen": self.seen})
        return "enough of it" if index == self.stop_at else None

    def validated(self, index, metrics):
        self.log.append(index, "little", metrics)

    def sync(self):
        self.log.sync()

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class Dice:
    """A loop that learns nothing and draws from every generator that there is."""

    def __init__(self):
        self.sum = 0.0

    def step(self, index, batch):
        self.sum += float(torch.rand(())) + random.random() + np.random.normal()
        return {"sum": self.sum}

    def state_dict(self):
        return {"sum": self.sum}

    def load_state_dict(self, state):
        self.sum = state["sum"]


def sft_parts():
    policy = CausalPolicy(tiny("llama"))
    loop = OfflineLoop(learner(policy), SFT())
    data, held_out = demonstrations(), demonstrations(6, seed=1)
    batches = Batches(data, size=3, seed=4, epochs=3)
    return loop, batches, {"policy": policy}, lambda step: assess(SFT(), policy, held_out, 64)


class CountsSevens:
    """Judges an answer by its share of low tokens: something that a policy can learn."""

    def __call__(self, rollouts):
        low = [float((row < 20).float().mean()) for row in rollouts.steps.answer.rows()]
        return Judgement(torch.tensor(low), {})


def ppo_parts():
    policy = CausalPolicy(tiny("llama"))
    params = SamplingParams(max_tokens=6, stop_tokens=(2, 5, 17))
    critic = ValueModel(tiny("llama", seed=1))
    beside = Batches(demonstrations(), size=2, seed=1, epochs=None)
    loop = OnlineLoop(
        learner=learner(policy),
        reference=policy.reference(),
        sampler=Sampler(engine=TorchEngine(policy.model), params=params, group_size=2),
        reward=CountsSevens(),
        values=Critic(learner(critic)),
        algorithm=PPO(epochs=2, kl_target=0.5, kl_horizon=20),
        minibatches=2,
        beside=PretrainingMix(SFT(coef=0.1), beside),
    )
    prompts = Ragged.of([[1, 3 + i, 9, 40 - i] for i in range(8)])
    batches = Batches(prompts, size=3, seed=4, epochs=4)
    return loop, batches, {"policy": policy, "critic": critic}, None


def dice_parts():
    for seed in (torch.manual_seed, random.seed, np.random.seed):
        seed(5)
    numbers = Batches(Ragged.of([[i] for i in range(20)]), size=1, seed=0)
    return Dice(), numbers, {"nothing": torch.nn.Linear(2, 2)}, None


PARTS = {"sft": sft_parts, "ppo": ppo_parts, "dice": dice_parts}


def go(kind, path, plant=None, stop_at=None, **settings):
    """Run, or go on with, a little run. ``plant`` is put under its feet: see ``planted``."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run = RunFolder.open(path) if RunFolder.holds_run(path) else RunFolder.create(path, "stage: x")
    loop, batches, modules, validate = PARTS[kind]()
    watch = Watch(run)
    watch.stop_at = stop_at
    defaults = {"total": TOTAL, "checkpoint_every": EVERY, "eval_every": 2}
    defaults |= {"best": Best("val_loss", higher=False)}
    validate = settings.pop("assess", validate)
    plan = Plan(stage=kind, **defaults | settings)
    with planted(plant, loop):
        outcome = drive(loop, batches, plan, run=run, modules=modules, watch=watch, assess=validate)
    return outcome, modules


def result(path, outcome, modules):
    """All that must be the same: weights to the bit, metrics without their time, the outcome."""
    weights = {f"{m}.{n}": t.clone() for m in modules for n, t in learnt(modules[m]).items()}
    return weights, logged(path), outcome


def logged(path):
    """Steps and metrics, without the time."""
    lines = (Path(path) / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["metrics"]) for line in map(json.loads, lines)]


def assert_same(one, other):
    for name, tensor in one[0].items():
        assert torch.equal(tensor, other[0][name]), f"{name} differs"
    assert one[1] == other[1]
    assert one[2] == other[2]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def planted(plant, loop):
    """("step", n): killed inside step n, after its backward pass. ("signal", n, NAME): a signal in
    step n. ("save", n, k): killed at the k-th call to the disk while step n is being saved.
    """
    with contextlib.ExitStack() as stack:
        if plant is not None and plant[0] == "save":
            _mine_save(stack, *plant[1:])
        elif plant is not None:
            _mine_step(stack, loop, *plant)
        yield


def _mine_step(stack, loop, kind, number, name="SIGKILL"):
    inside = loop.learner if kind == "step" else loop
    original, current = inside.step, [0]
    update = loop.learner._update if kind == "step" else None

    def step(*args):
        current[0] += 1
        if kind == "signal" and current[0] == number:
            for one in name.split("+"):
                os.kill(os.getpid(), getattr(signal, one))
        return original(*args)

    def dying_update(*args):
        die() if current[0] == number else update(*args)

    inside.step = step
    if kind == "step":
        loop.learner._update = dying_update
    stack.callback(lambda: None)


def _mine_save(stack, number, call):
    original, left = CheckpointStore.save, [call]

    def mine(owner, name):
        function = getattr(owner, name)

        def dying(*args, **kwargs):
            if left[0] == 0:
                die()
            left[0] -= 1
            return function(*args, **kwargs)

        setattr(owner, name, dying)
        stack.callback(setattr, owner, name, function)

    def save(self, step, *args):
        if step == number:
            for owner, name in (
                (os, "fsync"),
                (Path, "rename"),
                (Path, "mkdir"),
                (shutil, "rmtree"),
            ):
                mine(owner, name)
        return original(self, step, *args)

    CheckpointStore.save = save
    stack.callback(setattr, CheckpointStore, "save", original)


def child(kind, path, plant, **settings):
    """``go`` for another process: exits with 0, with 130, or as the plant will have it."""
    try:
        go(kind, path, plant, **settings)
    except Interrupted:
        sys.exit(130)


def hold(path, ready, leave):
    """Hold the lock of a run until told to leave."""
    with RunFolder.open(path).locked():
        ready.set()
        leave.wait(60)
