"""Engines in other processes, as one: prompts are dealt out, and whoever fails is replaced.

A request is prompts, their numbers and a seed, and its answers are the same whoever gives them. So
what a member was asked that died or hangs is asked of another, and no answer is missing or doubled.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

import torch

from backflip.distributed.crew import Crew, Lost, Member, Patience
from backflip.generate.engine import Completion, Progress, SamplingParams
from backflip.generate.openai.meeting import check_weights
from backflip.models.learnt import copied
from backflip.progress import Task, task

__all__ = ["Fleet"]

COMPARED, EVERY = 4, 100
"""Answers that are compared, after the first two handovers and every so many."""
NEAR, FOREIGN = {False: 1e-3, True: 0.05}, {False: 5e-3, True: 0.05}
"""Nats a token between members and learner at most, on a CPU and on CUDA; engines of others."""
GRACE = 40.0
"""Seconds that members have to end their engines."""


@dataclass
class Ship:
    """A member with an engine, and what it is known to know."""

    member: Member
    version: int = -1
    """Weights that it was told; -1: those that it was built with."""
    built: bool = False
    """Whether it has answered since it was started."""


@dataclass
class Sailing:
    """A request on its way."""

    ship: Ship
    numbers: list[int]
    until: float
    """When it counts as stuck, by ``time.monotonic``."""


class Fleet:
    """Engines of one model in several processes; they are told its weights before they answer."""

    def __init__(
        self, crew: Crew, members: Sequence[Member], model: Any, patience: Patience, *, exact: bool
    ) -> None:
        """``members``: answer ``generate(weights, …)``, with None for the weights that they were
        told before; ``exact``: whether they state the learner's own numbers.
        """
        self.model, self.exact = model, exact
        self._crew, self._patience = crew, patience
        self._ships = [Ship(member) for member in members]
        self._version, self._weights = 0, None
        self._stale, self._compared = True, False

    def sync(self, model: Any | None = None) -> None:
        """Have the next answers written with the weights that ``model`` has by then."""
        self.model = self.model if model is None else model
        self._stale = True

    def release(self) -> None:
        """Nothing to free: weights are the members'."""

    def close(self) -> None:
        """End what the members' engines have started."""
        wait([ship.member.ask("close") for ship in self._ships], GRACE)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        group: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Completion]:
        """``group`` answers for each prompt, those of the first prompt first.

        Raises UserError where members fail again and again.
        """
        if self._stale:
            self._share()
        asked = dict(zip(range(len(prompts)) if numbers is None else numbers, prompts, strict=True))
        todo, free = deque(_dealt(asked, len(self._ships))), deque(self._ships)
        sailing: dict[Future[list[Completion]], Sailing] = {}
        done: list[Completion] = []
        count = len(asked) * group
        with task(f"writing {count} answers", count, "answers") as writing:
            while todo or sailing:
                while todo and free:
                    ship, part = free.popleft(), todo.popleft()
                    given = ({n: asked[n] for n in part}, params, group, seed)
                    sailing[self._asked(ship, given)] = Sailing(ship, part, self._until(ship))
                for home, found in self._arrived(sailing):
                    free.append(home.ship)
                    if found is None:
                        todo.append(home.numbers)
                    else:
                        done += found
                        _tell(found, writing, progress)
        done.sort(key=lambda c: (c.prompt_index, c.answer_index))
        self._compare(asked, done, params)
        return done

    def _share(self) -> None:
        """Put the model's weights where all members can read them."""
        self._version, self._stale = self._version + 1, False
        self._compared = self._compared and not _due(self._version)
        self._weights = self._crew.share(copied(self.model))

    def _compare(
        self, asked: dict[int, Sequence[int]], done: list[Completion], params: SamplingParams
    ) -> None:
        """Have the learner read some answers of every member, now and then.

        Raises UserError where they are not of its weights.
        """
        if not self._compared:
            step = max(len(done) // COMPARED, 1)
            read = [(asked[one.prompt_index], one) for one in done[::step][:COMPARED]]
            near = (NEAR if self.exact else FOREIGN)[torch.cuda.is_available()]
            check_weights(self.model, read, params, strict=True, near=near)
            self._compared = True

    def _asked(self, ship: Ship, given: tuple[Any, ...]) -> Future[list[Completion]]:
        """A request to a member, with the newest weights where it has older ones."""
        news = None if ship.version == self._version else self._weights
        ship.version = self._version
        return ship.member.ask("generate", news, *given)

    def _until(self, ship: Ship) -> float:
        built = 0.0 if ship.built else self._patience.start
        return time.monotonic() + self._patience.answer + built

    def _arrived(
        self, sailing: dict[Future[list[Completion]], Sailing]
    ) -> list[tuple[Sailing, list[Completion] | None]]:
        """Requests that have ended, each with its answers, or None where it is to be sent anew."""
        soonest = min(sent.until for sent in sailing.values())
        wait(sailing, max(soonest - time.monotonic(), 0), FIRST_COMPLETED)
        over = [future for future in sailing if future.done() or _late(sailing[future])]
        return [(sent := sailing.pop(future), self._answers(future, sent)) for future in over]

    def _answers(self, future: Future[list[Completion]], sent: Sailing) -> list[Completion] | None:
        """The answers to a request; None where its member had to be started again."""
        try:
            if not future.done():
                limits = f"cluster.patience={self._patience.answer:g}"
                if not sent.ship.built:
                    limits += f" and cluster.start_seconds={self._patience.start:g}"
                raise Lost(f"no answer within {limits}")
            found = future.result()
        except Lost as why:
            self._patience.begin_again(sent.ship.member, str(why))
            sent.ship.version, sent.ship.built = -1, False
            return None
        sent.ship.built = True
        self._patience.answered(sent.ship.member)
        return found


def _due(version: int) -> bool:
    return version <= 2 or version % EVERY == 0


def _dealt(asked: dict[int, Sequence[int]], among: int) -> list[list[int]]:
    """Numbers of prompts in a part for each member, of about as many tokens; no part is empty."""
    longest = sorted(asked, key=lambda n: -len(asked[n]))
    places = [min(k % (2 * among), 2 * among - 1 - k % (2 * among)) for k in range(len(longest))]
    parts = [[n for n, at in zip(longest, places, strict=True) if at == m] for m in range(among)]
    return [sorted(part) for part in parts if part]


def _late(sent: Sailing) -> bool:
    return time.monotonic() >= sent.until


def _tell(answers: Sequence[Completion], writing: Task, progress: Progress | None) -> None:
    writing.advance(len(answers))
    for answer in answers:
        for token in answer.tokens if progress is not None else ():
            progress(answer.prompt_index, answer.answer_index, token)  # pyright: ignore
