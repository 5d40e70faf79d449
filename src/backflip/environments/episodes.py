"""Episodes: a policy and its environments take turns, token in and token out.

The policy's tokens are never decoded and read again: a turn goes on behind the very tokens that
were drawn, and what the template writes between two turns is rendered by itself
(``data.following``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from backflip.data.batches import Played, Rollouts, TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.following import Following
from backflip.data.ragged import Ragged
from backflip.data.records import BadRecordError, Message, Prompt, Tally
from backflip.environments.protocol import BrokenError, Environment, Limits, Said, Step
from backflip.environments.watchdog import TooLongError
from backflip.errors import UserError
from backflip.generate.engine import Completion, Engine, SamplingParams

__all__ = ["Episode", "EpisodeSampler"]

COUNTED = ("turns", "calls", "malformed", "failed")
CUT_OFF = "episodes that were cut off before the policy's next turn: no token was left"
CONTROLS = "texts of the environment with control tokens of the chat template, taken out"


@dataclass
class Episode:
    """One episode as it is played."""

    environment: Environment
    record: Prompt
    prompt: list[int]
    answer: list[int] = field(default_factory=list[int])
    mask: list[bool] = field(default_factory=list[bool])
    logp: list[float] = field(default_factory=list[float])
    rewards: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """(place in ``answer``, reward)."""
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    state: Literal["playing", "finished", "cut off", "broken"] = "playing"

    @property
    def context(self) -> list[int]:
        """All that the policy reads before its next turn."""
        return self.prompt + self.answer

    def room(self, limits: Limits, positions: int | None) -> int:
        """Tokens that may still be written, by anybody."""
        left = limits.tokens - len(self.answer)
        return left if positions is None else min(left, positions - len(self.context))

    def guarded(self, failures: Tally, what: Callable[..., None], *args: Any) -> None:
        """Do something with the environment; whatever it raises breaks this episode alone."""
        if self.state == "broken":
            return
        try:
            what(self, *args)
        except (BrokenError, TooLongError, BadRecordError) as error:
            self._break(failures, f"the environment: {error}")
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            self._break(failures, f"the environment: {type(error).__name__}: {error}"[:200])

    def _break(self, failures: Tally, reason: str) -> None:
        self.state = "broken"
        failures.add(reason, self.record.where)

    def write(self, tokens: Sequence[int], logp: Sequence[float] | None) -> None:
        """Tokens of the policy, with their log-probabilities, or of the environment."""
        self.answer += tokens
        self.mask += [logp is not None] * len(tokens)
        self.logp += [0.0] * len(tokens) if logp is None else logp

    def earn(self, reward: float) -> None:
        """A reward for the turn that was written last."""
        last = max((place for place, own in enumerate(self.mask) if own), default=None)
        if reward and last is not None:
            self.rewards.append((last, reward))


@dataclass(frozen=True, kw_only=True)
class EpisodeSampler:
    """Plays ``group_size`` episodes for each prompt, all of them side by side: an ``Actor``.

    Each is a row of ``Rollouts``, whose ``mask`` is False on all that the environment wrote. An
    episode ends when the environment says so; it is cut off where a turn, the episode's tokens or
    its turns run out. An engine with ``conversation`` reads only what is new in each turn.
    """

    engine: Engine
    params: SamplingParams
    """Of one turn: ``max_tokens`` is the longest."""
    template: ChatTemplate
    make: Callable[[], Environment]
    """A fresh environment; they are kept and reset again and again."""
    records: Sequence[Prompt]
    """By ``Rollouts.row``."""
    limits: Limits
    positions: int | None = None
    """Tokens that the model can read at most; None for a model without such a bound."""
    group_size: int = 1
    allow_filters: bool = False
    """As of a ``Sampler``: log-probabilities are then those of what tokens were drawn from."""
    troubles: Tally = field(default_factory=Tally)
    """Whatever went wrong in episodes and was told to the policy, by reason."""
    pool: list[Environment] = field(default_factory=list[Environment], repr=False)

    def __call__(self, prompts: Any, *, seed: int, rows: Tensor | None = None) -> Rollouts:
        """Episodes of the prompts' records, those of the first prompt first.

        ``prompts``: tokens, of which a row is kept where its environment does not begin.
        """
        tokens = [list(p) if not isinstance(p, Tensor) else p.tolist() for p in _each(prompts)]
        numbers = list(range(len(tokens))) if rows is None else rows.tolist()
        episodes, failures = [], Tally()
        for place, number in enumerate(numbers):
            for _ in range(self.group_size):
                if len(episodes) == len(self.pool):
                    self.pool.append(self.make())
                record, environment = self.records[number], self.pool[len(episodes)]
                episode = Episode(environment, record, tokens[place])
                episode.guarded(failures, self._begin, seed + 7919 * place)
                episodes.append(episode)
        with getattr(self.engine, "conversation", nullcontext)():
            for turn in range(self.limits.turns):
                live = [one for one in episodes if one.state == "playing"]
                self._take_turns(live, failures, turn, seed)
        for episode in episodes:
            if episode.state == "playing":
                episode.state = "cut off"
            episode.guarded(failures, self._end)
        for place, episode in enumerate(episodes):
            if episode.state == "broken":  # its environment is not used again
                closed([self.pool[place]], self.troubles)
                self.pool[place] = self.make()
        return as_rollouts(episodes, numbers, self.group_size, failures)

    @property
    def exact(self) -> bool:
        """Whether ``Rollouts.logp`` is the learner's own log-probability, up to 1e-4 nats."""
        return self.engine.exact and not self.allow_filters

    def sync(self, policy: Any) -> None:
        """From now on, play with the weights that ``policy.model`` has now."""
        self.engine.sync(policy.model)

    # ---- an episode

    def _begin(self, episode: Episode, seed: int) -> None:
        said = episode.environment.reset(episode.record, seed)
        if not said:
            raise BrokenError("reset gave nothing to read")
        messages = _messages(said)
        episode.prompt = self.template.prompt(messages) if messages else list(said)  # pyright: ignore
        need = len(episode.prompt) + 1
        if self.positions is not None and need > self.positions:
            raise BrokenError(f"a prompt of {need - 1} tokens fills the model's {self.positions}")

    def _end(self, episode: Episode) -> None:
        episode.earn(episode.environment.end())

    def _act(self, episode: Episode, completion: Completion, limit: int, turns: int) -> None:
        """Write a turn that was drawn, and what the environment answers unless it was the last."""
        tokens = completion.tokens[:limit]
        cut = completion.finish_reason == "length" or len(tokens) < len(completion.tokens)
        logp = completion.behaviour_logp if self.allow_filters else completion.logp
        episode.write(tokens, logp[:limit])
        episode.counts["turns"] += 1
        if cut:
            episode.state = "cut off"
            return
        stops = self.params.stop_tokens
        ended = tokens[-1] in stops
        written = tokens[:-1] if ended else tokens
        text = self.template.tokenizer.decode(written, skip_special_tokens=False)
        step = episode.environment.step(text)
        for name in COUNTED[1:]:
            episode.counts[name] += getattr(step, name)
        episode.earn(step.reward)
        if step.done or not step.said:
            episode.state = "finished"
        elif turns < self.limits.turns:
            self._answer(episode, step, ended=ended)

    def _answer(self, episode: Episode, step: Step, *, ended: bool) -> None:
        """What the environment says, as tokens; the episode is cut off where it leaves no room."""
        tokens, end = self._tokens(step.said, str(episode.record.where)), self.template.turn_end
        tokens = tokens if ended or end is None else [end, *tokens]
        if len(tokens) >= episode.room(self.limits, self.positions):
            episode.state = "cut off"
            self.troubles.add(CUT_OFF, episode.record.where)
        else:
            episode.write(tokens, None)

    def _tokens(self, said: Said, where: str) -> list[int]:
        messages = _messages(said)
        if not messages:
            return list(said)  # pyright: ignore[reportReturnType, reportArgumentType]
        clean = self._following.without_marks(messages)
        if clean != messages:
            self.troubles.add(CONTROLS, where)
        return self._following(clean)

    @cached_property
    def _following(self) -> Following:
        return Following(self.template)

    # ---- turns

    def _take_turns(self, live: Sequence[Episode], failures: Tally, turn: int, seed: int) -> None:
        """A turn of every episode."""
        most = self.params.max_tokens
        limits = [min(most, one.room(self.limits, self.positions)) for one in live]
        for number, (episodes, limit) in enumerate(in_calls(live, limits, self.positions)):
            asked = [one.context for one in episodes]
            group = self.group_size if _alike(asked, self.group_size) else 1
            least = min(self.params.min_tokens, limit)
            params = replace(self.params, max_tokens=limit, min_tokens=least)
            now = seed + 104_729 * turn + 1_299_709 * number
            drawn = self.engine.generate(asked[::group], params, group=group, seed=now)
            for episode, completion in zip(episodes, drawn, strict=True):
                room = episode.room(self.limits, self.positions)
                episode.guarded(failures, self._act, completion, room, turn + 1)

    def close(self) -> None:
        """End all environments by their ``close``; whatever that raises is counted."""
        closed(self.pool, self.troubles)
        self.pool.clear()


def closed(environments: Sequence[Environment], troubles: Tally) -> None:
    """Call ``close`` of those that have one; whatever it raises is counted among ``troubles``."""
    for environment in environments:
        try:
            if callable(close := getattr(environment, "close", None)):
                close()
        except (Exception, SystemExit) as error:
            why = f"close of the environment: {type(error).__name__}: {error}"
            troubles.add(why[:200], "the end of an environment")


def in_calls(
    live: Sequence[Episode], limits: Sequence[int], positions: int | None
) -> Iterator[tuple[list[Episode], int]]:
    """Episodes whose turns may be drawn in one call of the engine, and the longest turn in it.

    They are all of them, but near the end of the model's positions: there, those with as much room
    as one another.
    """
    longest = max((len(one.context) for one in live), default=0)
    if live and (positions is None or longest + max(limits) <= positions):
        yield list(live), max(limits)
        return
    pairs = sorted(zip(limits, range(len(live)), strict=True))
    for limit, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        yield [live[place] for _, place in group], limit


def _alike(asked: Sequence[Sequence[int]], size: int) -> bool:
    """Whether the siblings of each group have read the same, which is then read once for all."""
    whole = len(asked) % size == 0
    return whole and all(asked[i] == asked[i - i % size] for i in range(len(asked)))


def as_rollouts(
    episodes: Sequence[Episode], rows: Sequence[int], size: int, failures: Tally
) -> Rollouts:
    """Episodes as rows, ``size`` of them for each of the records ``rows``."""
    steps = TokenSteps.of([one.prompt for one in episodes], [one.answer for one in episodes])
    mask = torch.zeros(len(episodes), steps.width, dtype=torch.bool)
    logp, rewards = torch.zeros(mask.shape), torch.zeros(mask.shape)
    for row, one in enumerate(episodes):
        mask[row, : len(one.mask)] = torch.tensor(one.mask, dtype=torch.bool)
        logp[row, : len(one.logp)] = torch.tensor(one.logp)
        for place, reward in one.rewards:
            rewards[row, place] += reward
    counts = {name: torch.tensor([one.counts[name] for one in episodes]) for name in COUNTED}
    places = torch.arange(len(rows)).repeat_interleave(size)
    states = [one.state for one in episodes]
    broken = torch.tensor([state == "broken" for state in states], dtype=torch.bool)
    return Rollouts(
        steps=steps,
        mask=mask,
        logp=logp,
        group=places,
        finished=torch.tensor([state == "finished" for state in states], dtype=torch.bool),
        row=torch.tensor(rows, dtype=torch.long)[places],
        played=Played(rewards, **counts, broken=broken, failures=failures),
    )


def _each(prompts: Any) -> Any:
    return prompts.rows() if isinstance(prompts, Ragged) else prompts


def _messages(said: Said) -> tuple[Message, ...]:
    """What was said, where it is messages; empty for token ids."""
    return tuple(one for one in said if isinstance(one, Message))
