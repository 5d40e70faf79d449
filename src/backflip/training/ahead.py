"""Answers that are drawn ahead: while one batch is learnt from, the next ones are answered.

A request is a step's number; it is drawn with the weights that the policy had ``ahead`` steps of
learning before that step's own, never with older ones. Requests are served one after the other, in
their order, by a thread with a copy of what learns. Who is faster changes the time of a run and
nothing else.
"""

from __future__ import annotations

import copy
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from backflip.data.batches import Rollouts
from backflip.data.curriculum import PromptPool
from backflip.data.plain import as_plain, as_record
from backflip.distributed.layout import plain
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models.learnt import learnt, taken_over
from backflip.reward.protocol import Judgement
from backflip.training.gather import Gathering

__all__ = ["ActingCopy", "Ahead", "Asked", "staleness"]

Weights = Mapping[str, Tensor]


class ActingCopy:
    """A copy of what a policy learns, to act with while the policy goes on learning.

    Weights that do not learn are shared, so that with LoRA it costs the adapters alone. Of a policy
    that lies on several ranks rank 0 has the copy, and every rank must ask for its weights.
    """

    def __init__(self, policy: Any) -> None:
        self._policy: nn.Module = policy.model
        whole = plain(self._policy, only_leader=True)
        shared = {id(p): p for p in whole.parameters() if not p.requires_grad}
        self.model: nn.Module = copy.deepcopy(whole, shared) if here().leads else whole

    def now(self) -> Weights:
        """A copy of the policy's present weights."""
        whole = learnt(plain(self._policy, only_leader=True))
        kept = whole if here().leads else {}
        return {name: tensor.detach().clone() for name, tensor in kept.items()}

    def show(self, weights: Weights) -> None:
        """Have these weights from now on."""
        taken_over(self.model, weights)


@dataclass
class Asked:
    """The request of a step, and its judged answers once they are there."""

    step: int
    version: int
    """Steps of learning behind the weights that it is drawn with."""
    weights: Weights | None = field(default=None, repr=False, compare=False)
    """These weights, until they are taken over."""
    answers: Future[Gathering] = field(default_factory=Future[Gathering], repr=False, compare=False)
    """Those of rank 0."""
    before: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)
    """Where the prompts stood when its turn came."""

    def gathered(self) -> Gathering:
        """The answers, on every rank; waits for them."""
        return here().once(self.answers.result)

    def state_dict(self) -> dict[str, Any]:
        """All of it; waits for the answers."""
        return {"step": self.step, "version": self.version, **as_plain(self.answers.result())}

    @staticmethod
    def of(state: Mapping[str, Any]) -> Asked:
        """The request that said ``state_dict``."""
        state = dict(state)
        asked = Asked(state.pop("step"), state.pop("version"))
        asked.answers.set_result(as_record(state, Gathering, Judgement))
        return asked


@dataclass
class Drawing:
    """Draws the answers of requests, one after the other, in a thread."""

    pool: PromptPool
    acting: ActingCopy
    total: int
    """The last step."""
    sync: Callable[[Any], None]
    """Makes whoever draws use the weights of a policy from now on."""
    gather: Callable[[int, Any, int], Gathering]
    """Judged answers of a step, its prompts, and the version of the weights."""
    renewed: bool = False
    """Whether whoever draws is handed weights by others, in the middle of answers."""
    _todo: queue.SimpleQueue[Asked | None] = field(default_factory=queue.SimpleQueue[Any])
    _over: threading.Event = field(default_factory=threading.Event)
    _fault: BaseException | None = None
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._prompts = iter(self.pool)

    def begin(self) -> None:
        """From now on requests are served."""
        threads = torch.get_num_threads()
        self._thread = threading.Thread(
            target=self._serve, args=(threads,), name="ahead", daemon=True
        )
        self._thread.start()

    def ask(self, asked: Asked) -> None:
        """Serve this one after those before it."""
        self._todo.put(asked)

    def end(self, *, wait: bool) -> None:
        """Drop what was not begun; ``wait`` until what was begun is over."""
        self._over.set()
        self._todo.put(None)
        if self._thread is not None and wait:
            self._thread.join()

    def _serve(self, threads: int) -> None:
        """Answer the requests, one after the other, until one fails: those behind it fail too."""
        torch.set_num_threads(threads)
        while (asked := self._todo.get()) is not None:
            if self._over.is_set():
                asked.answers.cancel()
                continue
            try:
                if self._fault is not None:
                    raise self._fault
                asked.before = self.pool.state_dict()
                asked.answers.set_result(self._drawn(asked))
            except BaseException as error:  # raised by whoever waits for the answers
                self._fault = error
                asked.answers.set_exception(error)

    def _drawn(self, asked: Asked) -> Gathering:
        if asked.weights is not None:
            self.acting.show(asked.weights)
            asked.weights = None
        if not self.renewed:
            self.sync(self.acting)
        prompts = next(self._prompts, None)
        if prompts is None:
            raise UserError(
                f"the prompts ended before step {asked.step} of {self.total}. Ask for fewer steps "
                "or more epochs."
            )
        return self.gather(asked.step, prompts, asked.version)


class Ahead:
    """The stream of a run's requests, up to ``ahead`` of them beyond the one that is learnt from.

    Used as a context: on leaving, requests that nobody learns from any more are dropped. Of several
    ranks rank 0 has them answered, and tells the others.
    """

    def __init__(
        self,
        pool: PromptPool,
        policy: Any,
        *,
        ahead: int,
        total: int,
        sync: Callable[[Any], None],
        gather: Callable[[int, Any, int], Gathering],
        renew: Callable[[Any, Weights, int], None] | None = None,
        waited: Callable[[float], None] = lambda _: None,
    ) -> None:
        """``sync``, ``gather``, ``total``: as of ``Drawing``; ``renew``: hands weights of a policy
        over in the middle of answers, with the steps behind them; ``waited``: told the minutes of
        waiting for answers between steps.
        """
        self.pool, self.policy, self._waited = pool, policy, waited
        self.ahead, self.total, self._sync = ahead, total, sync
        self._copy = ActingCopy(policy)
        self._drawing = Drawing(pool, self._copy, total, sync, gather, renew is not None)
        self._renew = renew
        self._open = deque[Asked]()
        """Requests that nobody learns from yet, in their order."""
        self._learnt = 0

    def __iter__(self) -> Iterator[Asked]:
        while True:
            self._ask()
            if not self._open:
                return
            asked = self._open.popleft()
            self._learnt = asked.step  # by when this goes on
            yield asked

    def _ask(self) -> None:
        """Send the requests that may be sent now, all with the present weights."""
        last = self._open[-1].step if self._open else self._learnt
        steps = range(last + 1, min(self._learnt + 1 + self.ahead, self.total) + 1)
        weights = self._copy.now() if steps or (self._renew and self._open) else None
        if self._renew is not None and weights is not None:
            self._renew(self._copy, weights, self._learnt)
            weights = None
        for step in steps:
            asked = Asked(step, self._learnt, weights)
            self._open.append(asked)
            if here().leads:
                self._drawing.ask(asked)

    def __enter__(self) -> Ahead:
        if here().leads:
            self._drawing.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._drawing.end(wait=kind is not KeyboardInterrupt)

    def rest(self) -> None:
        """Wait until all that was asked is answered; then draw with the policy's own weights.

        Until the next request nobody but the caller uses sampler, judge and prompts.
        """
        self._answered()
        self._sync(self.policy)

    def _answered(self) -> list[Asked]:
        """The open requests, once all are answered, up to the first that failed."""
        began = time.monotonic()

        def good() -> int:
            failed = [asked.answers.exception() is not None for asked in self._open]
            return failed.index(True) if True in failed else len(failed)

        count = here().once(good)
        self._waited((time.monotonic() - began) / 60)
        return list(self._open)[:count]

    def resting(self, work: Callable[[int], Mapping[str, float]]) -> Callable[[int], Any]:
        """The same validation, done while nothing is drawn."""

        def rested(step: int) -> Mapping[str, float]:
            self.rest()
            return work(step)

        return rested

    @property
    def unused(self) -> int:
        """Answers that were drawn and judged, and not learnt from."""
        done = [a.answers for a in self._open if a.answers.done() and not a.answers.cancelled()]
        return sum(answers.result().drawn for answers in done if not answers.exception())

    def state_dict(self) -> dict[str, Any]:
        """Where the prompts stand after a step, with the answers that wait to be learnt from; of
        several ranks rank 0 says it.

        Of requests that failed nothing is kept: their prompts are asked again.
        """
        good = self._answered()
        if not here().leads:
            return {}
        failed = list(self._open)[len(good) :]
        pool = failed[0].before if failed else self.pool.state_dict()
        return {**pool, "asked": [asked.state_dict() for asked in good], "learnt": self._learnt}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken. Raises UserError where nothing was asked ahead then."""
        if "learnt" not in state:
            raise UserError(
                "the run was begun with ahead=0. Resume it with that, or start a new run."
            )
        self.pool.load_state_dict({n: part for n, part in state.items() if n != "asked"})
        self._open = deque(Asked.of(one) for one in state["asked"])
        self._learnt = state["learnt"]


def staleness(rollouts: Rollouts, step: int) -> dict[str, float]:
    """``lag``: steps of learning between the weights that drew a choice and those that learn from
    it, the mean over choices, and ``lag_max``.
    """
    lag = (step - 1 - rollouts.version)[rollouts.mask].float()
    return {"lag": float(lag.mean()), "lag_max": float(lag.max())} if len(lag) else {}
