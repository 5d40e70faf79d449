"""More tokens for one answer: beams of steps that a process model chooses, and longer thinking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backflip.data.batches import TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.errors import UserError
from backflip.functional.process import aggregated
from backflip.generate.engine import Engine, SamplingParams
from backflip.models.process import ProcessModel

__all__ = ["Beam", "StepBeam", "continued", "think_longer"]


@dataclass(frozen=True)
class Beam:
    """An answer, or the beginning of one."""

    tokens: tuple[int, ...]
    done: bool = False
    """Whether it has ended, or may not grow longer."""
    good: tuple[float, ...] = ()
    """P(good) of its steps."""


@dataclass(frozen=True, kw_only=True)
class StepBeam:
    """Beam search over steps by a process model (Snell et al., 2024, §5.1).

    ``width`` first steps are drawn; the best width/expand of them are each gone on with in
    ``expand`` ways, and so on until all have ended. A beam is as good as its last step; of those
    that have ended the one with the best weakest step is the answer.
    """

    engine: Engine
    params: SamplingParams
    template: ChatTemplate
    model: ProcessModel
    width: int = 4
    expand: int = 2

    def __post_init__(self) -> None:
        if self.width < 1 or self.expand < 1 or self.width % self.expand:
            raise UserError(
                f"beams: width {self.width} must be a multiple of expand {self.expand}."
            )

    def __call__(
        self, prompts: Sequence[Sequence[int]], *, seed: int
    ) -> tuple[list[Beam], list[int]]:
        """(the answer to each prompt, tokens that were written for it)."""
        spent, group = [0] * len(prompts), self.width
        beams = [[Beam(())] for _ in prompts]
        for turn in range(self.params.max_tokens):
            open_ = [(q, b) for q, some in enumerate(beams) for b in some if not b.done]
            if not open_:
                break
            grown = self._grown(prompts, open_, group, seed + 7919 * turn, spent)
            ended = [[b for b in some if b.done] for some in beams]
            for q, more in self._judged(prompts, grown).items():
                kept = sorted([*ended[q], *more], key=lambda b: -b.good[-1])
                beams[q] = kept[: self.width // self.expand]
            group = self.expand
        return [max(some, key=lambda b: aggregated(b.good, "min")) for some in beams], spent

    def _grown(
        self,
        prompts: Sequence[Sequence[int]],
        open_: Sequence[tuple[int, Beam]],
        group: int,
        seed: int,
        spent: list[int],
    ) -> list[tuple[int, Beam]]:
        """Each open beam with a further step, in ``group`` ways; equal ones once."""
        room = self.params.max_tokens - max(len(beam.tokens) for _, beam in open_)
        params = replace(self.params, max_tokens=max(room, 1), stop_strings=(self.model.separator,))
        asked = [[*prompts[q], *beam.tokens] for q, beam in open_]
        found: dict[tuple[int, tuple[int, ...]], Beam] = {}
        for one in self.engine.generate(asked, params, group=group, seed=seed):
            q, beam = open_[one.prompt_index]
            spent[q] += len(one.tokens)
            tokens = (*beam.tokens, *one.tokens)
            full = len(tokens) >= self.params.max_tokens
            done = one.finish_reason != "stop_string" or full
            found[q, tokens] = Beam(tokens, done)
        return [(q, beam) for (q, _), beam in found.items()]

    def _judged(
        self, prompts: Sequence[Sequence[int]], grown: Sequence[tuple[int, Beam]]
    ) -> dict[int, list[Beam]]:
        """Beams with P(good) of their steps, by prompt; the end of each is the end of a step."""
        finder = self.model.finder(self.template)
        steps = TokenSteps.of([prompts[q] for q, _ in grown], [b.tokens for _, b in grown])
        ends = [finder.ends(list(beam.tokens)) for _, beam in grown]
        said = self.model.estimates(steps, ends)
        found: dict[int, list[Beam]] = {}
        for (q, beam), good in zip(grown, said, strict=True):
            found.setdefault(q, []).append(replace(beam, good=tuple(good)))
        return found


def think_longer(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    params: SamplingParams,
    *,
    word: Sequence[int],
    seed: int,
) -> tuple[list[list[int]], list[int]]:
    """(answers that go on behind ``word`` in place of their end, tokens written anew).

    Budget forcing (Muennighoff et al., 2025): where the model would have ended it reads "Wait" and
    writes on, up to ``max_tokens`` more.
    """
    ends = set(params.stop_tokens)
    begun: list[list[int]] = []
    for answer in answers:
        kept = list(answer)
        while kept and kept[-1] in ends:
            kept.pop()
        begun.append([*kept, *word])
    asked = [[*prompt, *start] for prompt, start in zip(prompts, begun, strict=True)]
    more = engine.generate(asked, params, seed=seed)
    grown = [[*begun[one.prompt_index], *one.tokens] for one in more]
    return grown, [len(one.tokens) + len(word) for one in more]


def continued(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    begun: Sequence[Sequence[int]],
    params: SamplingParams,
    many: int,
    seed: int,
) -> tuple[list[list[int]], list[int]]:
    """(whole answers that go on behind what was begun, ``many`` of each; the number of each's).

    None grows beyond ``max_tokens`` in all; what already fills them is not gone on with.
    """
    by_room: dict[int, list[int]] = {}
    for number, start in enumerate(begun):
        if (room := params.max_tokens - len(start)) > 0:
            by_room.setdefault(room, []).append(number)
    whole, owners = list[list[int]](), list[int]()
    for room, numbers in by_room.items():
        asked = [[*prompts[n], *begun[n]] for n in numbers]
        cut = replace(params, max_tokens=room, min_tokens=0)
        for one in engine.generate(asked, cut, group=many, seed=seed + room):
            number = numbers[one.prompt_index]
            whole.append([*begun[number], *one.tokens])
            owners.append(number)
    return whole, owners
