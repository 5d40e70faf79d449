"""Answers drawn ahead of the learner: how old they are, and that nothing but time hangs on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from backflip.algorithms.online.grpo import GRPO
from backflip.algorithms.online.reinforce import REINFORCE
from backflip.data.batches import PromptBatch, Rollouts
from backflip.data.curriculum import Curriculum, PromptPool
from backflip.data.plain import as_plain, as_record
from backflip.data.ragged import Ragged
from backflip.data.stream import Batches
from backflip.errors import UserError
from backflip.models.causal import CausalPolicy
from backflip.monitor.log import Entry
from backflip.monitor.rules.answers import FarSampler
from backflip.reward.protocol import Judgement
from backflip.training.ahead import ActingCopy, Ahead
from backflip.training.corrections import TIS, NoCorrection
from backflip.training.gather import Gathering
from backflip.training.online import OnlineLoop
from tests.algorithms.tabular import Table, share_wanted, table_loop
from tests.models.families import tiny

STEPS = 12


def pool(*, prompts: int = 30, **curriculum: Any) -> PromptPool:
    data = PromptBatch(Ragged.of([[row] for row in range(prompts)]), torch.arange(prompts))
    return PromptPool(Batches(data, size=3, epochs=None), Curriculum(**curriculum))


class Held:
    """A table as a policy of a model of its own."""

    def __init__(self, table: Table) -> None:
        self.model = table


class Taking:
    """A sampler that takes its table from the policy or from its copy, and some time."""

    exact = True

    def __init__(self, sampler: Any, seconds: float = 0.0) -> None:
        self.sampler, self.seconds = sampler, seconds

    def __call__(self, prompts: Any, *, seed: int, rows: Any = None) -> Rollouts:
        del rows
        time.sleep(self.seconds)
        return self.sampler([p.tolist() for p in prompts.rows()], seed=seed)

    def sync(self, policy: Any) -> None:
        self.sampler.table = getattr(policy, "model", policy)


def loop_of(lr: float = 0.1, slow: float = 0.0, cap: float = 2.0, **more: Any) -> OnlineLoop:
    loop = table_loop(more.pop("algorithm", None) or GRPO(kl_coef=0.0, epochs=1), lr=lr)
    loop.sampler, loop.correction = Taking(loop.sampler, slow), TIS(cap=cap)
    loop.seed = more.pop("seed", 0)
    return loop


@contextmanager
def ahead_of(loop: OnlineLoop, k: int, total: int = STEPS, **curriculum: Any) -> Iterator[Ahead]:
    loop.pool = pool(**curriculum)
    held: Any = Held(loop.learner.model)
    given: Any = {"sync": loop.sampler.sync, "gather": loop.ask}
    with Ahead(loop.pool, held, ahead=k, total=total, **given) as asked:
        yield asked


def learnt_with(k: int, *, slow: float = 0.0, learning: float = 0.0, **more: Any) -> Any:
    """(metrics of each step, the table, answers of each step) of a run with k steps ahead."""
    loop, seen, drawn = loop_of(slow=slow, **more), list[dict[str, float]](), list[Any]()
    with ahead_of(loop, k) as requests:
        for step, asked in enumerate(requests, start=1):
            seen.append(loop.step(step, asked))
            time.sleep(learning)
            assert loop.last is not None
            drawn.append(loop.last.experience.scored.rollouts.steps.answer.values)
    return seen, loop.learner.model.logits.detach(), drawn


def steps_of(loop: OnlineLoop, requests: Ahead) -> Iterator[int]:
    """The steps that a loop takes, as it takes them."""
    for step, asked in enumerate(requests, start=1):
        loop.step(step, asked)
        yield step


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_no_answer_is_older_than_asked_and_most_are_as_old(k: int):
    seen, _, _ = learnt_with(k)
    assert [step["lag_max"] for step in seen] == [min(step, k) for step in range(STEPS)]
    assert [step["lag"] for step in seen] == pytest.approx([min(s, k) for s in range(STEPS)])


def test_who_is_faster_changes_nothing():
    quick, slow, lazy = (
        learnt_with(2, **times) for times in ({}, {"slow": 0.01}, {"learning": 0.01})
    )
    for other in (slow, lazy):
        assert quick[0] == other[0]
        assert quick[1].equal(other[1])


def test_nothing_ahead_is_the_loop_that_draws_when_it_needs_to():
    """Up to one more reading of the answers, whose numbers are the sampler's own."""
    loop = loop_of()
    loop.pool, loop.correction = pool(), NoCorrection()
    for step, prompts in zip(range(1, STEPS + 1), iter(loop.pool), strict=False):
        loop.step(step, prompts)
    _, table, _ = learnt_with(0)
    torch.testing.assert_close(loop.learner.model.logits.detach(), table)


def test_the_next_answers_are_drawn_while_the_last_are_learnt_from():
    """After each step, before anything is asked for, the sampler begins the next; not with 0."""
    for k in (0, 2):
        loop, begun = loop_of(), threading.Semaphore(0)
        draw = loop.sampler

        def counting(*given: Any, draw: Any = draw, begun: Any = begun, **named: Any) -> Rollouts:
            begun.release()
            return draw(*given, **named)

        loop.sampler = counting
        counting.exact, counting.sync = True, draw.sync  # type: ignore[attr-defined]
        with ahead_of(loop, k) as requests:
            loop.step(1, next(iter(requests)))
            found = [begun.acquire(timeout=20 if n <= k else 0.2) for n in range(4)]
        assert found == [n <= k for n in range(4)]


@pytest.mark.parametrize("seed", range(5))
def test_two_steps_ahead_learn_as_much_as_none(seed: int):
    """The best score is 1: every one of five tokens is the wanted one."""
    ends = {}
    for k in (0, 2):
        loop = loop_of(seed=seed)
        with ahead_of(loop, k, total=120) as requests:
            metrics = [loop.step(n, asked) for n, asked in enumerate(requests, start=1)]
        ends[k] = sum(m["reward"] for m in metrics[-10:]) / 10
        assert min(m["effective_share"] for m in metrics) > 0.8
        assert max(m["lag_max"] for m in metrics) == k
    assert ends[0] > 0.95
    assert abs(ends[2] - ends[0]) < 0.02 * ends[0]


def test_a_run_that_broke_off_goes_on_with_the_same_answers():
    """Those that were waiting are kept, so that the end is the same to the last bit."""
    whole, table, drawn = learnt_with(3)
    loop, later = loop_of(), loop_of()
    with ahead_of(loop, 3) as requests:
        for step, asked in zip(range(1, 6), requests, strict=False):
            loop.step(step, asked)
        state = {"loop": loop.state_dict(), "ahead": requests.state_dict()}
        logits = loop.learner.model.logits.detach().clone()
    with torch.no_grad():
        later.learner.model.logits.copy_(logits)
    seen, answers = [], []
    with ahead_of(later, 3) as requests:
        later.load_state_dict(state["loop"])
        requests.load_state_dict(state["ahead"])
        for step, asked in enumerate(requests, start=6):
            seen.append(later.step(step, asked))
            assert later.last is not None
            answers.append(later.last.experience.scored.rollouts.steps.answer.values)
    assert seen == whole[5:]
    assert later.learner.model.logits.equal(table)
    assert all(one.equal(other) for one, other in zip(answers, drawn[5:], strict=True))


def test_a_state_holds_nothing_but_tensors_and_numbers(tmp_path: Any):
    loop = loop_of()
    with ahead_of(loop, 2, rounds=2) as requests:
        loop.step(1, next(iter(requests)))
        state = requests.state_dict()
    torch.save(state, tmp_path / "state.pt")
    again = torch.load(tmp_path / "state.pt", weights_only=True)
    (first, second) = again["asked"]
    assert (first["step"], second["step"]) == (2, 3)
    made = as_record(
        {k: v for k, v in first.items() if k not in ("step", "version")}, Gathering, Judgement
    )
    assert isinstance(made, Gathering)
    assert isinstance(made.kept[0][0], Rollouts)
    assert as_plain(made).keys() == first.keys() - {"step", "version"}


def test_an_evaluation_finds_the_sampler_at_rest_with_the_policys_own_weights():
    loop = loop_of(slow=0.02)
    with ahead_of(loop, 2) as requests:
        for step, asked in enumerate(requests, start=1):
            loop.step(step, asked)
            if step == 4:
                found = requests.resting(
                    lambda _: {"own": float(loop.sampler.sampler.table is loop.learner.model)}
                )
                assert found(step) == {"own": 1.0}
                assert all(asked.answers.done() for asked in requests._open)
    plain, _, _ = learnt_with(2)
    assert loop.last is not None
    assert loop.last.metrics == plain[-1]


def test_a_fault_of_the_judge_is_raised_by_the_step_that_needs_the_answers():
    loop, calls = loop_of(), [0]

    def judge(rollouts: Rollouts) -> Judgement:
        calls[0] += 1
        if calls[0] == 3:
            raise UserError("the judge is down")
        return share_wanted(rollouts)

    loop.reward, done = judge, list[int]()
    with ahead_of(loop, 2) as requests, pytest.raises(UserError, match="judge is down"):
        done.extend(steps_of(loop, requests))
    assert done == [1, 2]


def test_a_fault_of_the_future_does_not_cost_what_was_learnt():
    """The answers before it are kept; the prompts of the request that failed are asked again."""
    whole, table, _ = learnt_with(3)
    loop, calls, down = loop_of(), [0], [True]

    def judge(rollouts: Rollouts) -> Judgement:
        calls[0] += 1
        if down[0] and calls[0] == 5:
            raise UserError("the judge is down")
        return share_wanted(rollouts)

    loop.reward = judge
    with ahead_of(loop, 3) as requests:
        stream = iter(requests)
        for step in (1, 2, 3):
            loop.step(step, next(stream))
        state = {"loop": loop.state_dict(), "ahead": requests.state_dict()}
        logits = loop.learner.model.logits.detach().clone()
        loop.step(4, next(stream))
        with pytest.raises(UserError, match="judge is down"):
            loop.step(5, next(stream))
        assert calls[0] == 5, "nothing is asked behind a request that failed"
    assert [one["step"] for one in state["ahead"]["asked"]] == [4]
    down[0], later = False, loop_of()
    with torch.no_grad():
        later.learner.model.logits.copy_(logits)
    with ahead_of(later, 3) as requests:
        later.load_state_dict(state["loop"])
        requests.load_state_dict(state["ahead"])
        seen = [later.step(step, asked) for step, asked in enumerate(requests, start=4)]
    assert seen[0] == whole[3]
    assert len(seen) == STEPS - 3
    assert [step["lag"] for step in seen[:4]] == [3, 1, 2, 3], "what is asked again is asked anew"
    rows = [step["answers"] for step in seen]
    assert rows == [step["answers"] for step in whole[3:]]
    assert not later.learner.model.logits.equal(table)


def test_another_number_of_steps_ahead_loses_nothing_in_silence():
    loop = loop_of()
    with ahead_of(loop, 2) as requests:
        loop.step(1, next(iter(requests)))
        state, plain = requests.state_dict(), pool().state_dict()
        with pytest.raises(UserError, match="answers of 2 steps wait in the checkpoint"):
            pool().load_state_dict(state)
        with pytest.raises(UserError, match="begun with ahead=0"):
            requests.load_state_dict(plain)


def test_what_was_drawn_for_nothing_is_counted():
    loop = loop_of()
    with ahead_of(loop, 2) as requests:
        loop.step(1, next(iter(requests)))
        requests.rest()
    assert requests.unused == 2 * 3 * 8


def test_prompts_that_end_before_the_steps_are_named():
    loop = loop_of()
    with ahead_of(loop, 1) as requests:
        requests.pool.batches.epochs = 1
        with pytest.raises(UserError, match="ended before step 11 of 12"):
            list(steps_of(loop, requests))


def test_a_copy_shares_what_does_not_learn():
    model = tiny("llama")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    policy = CausalPolicy(model)
    acting, own = ActingCopy(policy), model.model.layers[0].mlp.up_proj.weight
    theirs: Any = acting.model
    assert theirs.model.layers[1].mlp.up_proj.weight is model.model.layers[1].mlp.up_proj.weight
    copied = theirs.model.layers[0].mlp.up_proj.weight
    assert copied is not own
    now, before = acting.now(), own.detach().clone()
    with torch.no_grad():
        own.add_(1)
    acting.show(now)
    assert copied.equal(before)
    acting.show(acting.now())
    assert copied.equal(own)


def test_uncorrected_weights_of_old_answers_are_worth_little():
    """With no cap and eight steps of lag the share of effective choices falls, as it must."""
    loop = loop_of(lr=1.0, cap=float("inf"), algorithm=REINFORCE())
    with ahead_of(loop, 8, total=40) as requests:
        steps = [loop.step(n, asked) for n, asked in enumerate(requests, start=1)]
    seen = [Entry(n, "online", 0.0, step) for n, step in enumerate(steps, start=1)]
    alarms = [FarSampler().check(seen[:end]) for end in range(1, len(seen) + 1)]
    assert any(alarm is not None and "effective sample size" in alarm.sentence for alarm in alarms)
