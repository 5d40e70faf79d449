"""Engines in other processes, played by objects here: parts, replays, and who never answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.distributed.crew import Lost, Patience
from backflip.errors import UserError
from backflip.generate.engine import Completion, SamplingParams
from backflip.generate.fleet import Fleet, _dealt
from backflip.generate.torch.engine import TorchEngine
from tests.generate.reference import PROMPTS
from tests.models.families import tiny


class Member:
    """Answers at once, or fails as it is told to."""

    def __init__(self, name: str, faults: Sequence[str] = ()) -> None:
        self.name, self.faults, self.starts = name, list(faults), 1
        self.engine = TorchEngine(tiny("llama"))
        self.asked: list[tuple[bool, list[int]]] = []

    def ask(self, method: str, *said: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        fault = self.faults.pop(0) if self.faults and method == "generate" else ""
        if fault == "dies":
            answer.set_exception(Lost("it died"))
        elif method == "generate" and fault != "hangs":
            news, prompts, params, group, seed = said
            self.asked.append((news is not None, list(prompts)))
            how: Any = {"group": group, "seed": seed, "numbers": list(prompts)}
            answer.set_result(self.engine.generate(list(prompts.values()), params, **how))
        elif method == "close":
            answer.set_result(None)
        return answer

    def begin_again(self) -> None:
        self.starts += 1


class Crew:
    def share(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return value

    def start(self, name: str, maker: str, *given: Any) -> Any:
        raise AssertionError("nobody is started")

    def close(self) -> None:
        pass


PARAMS = SamplingParams(max_tokens=6)


def fleet(*members: Member, answer: float = 0.2, restarts: int = 5) -> Fleet:
    patience = Patience(answer=answer, start=0.2, restarts=restarts)
    return Fleet(Crew(), members, tiny("llama"), patience, exact=True)


def drawn() -> list[Completion]:
    return TorchEngine(tiny("llama")).generate(PROMPTS, PARAMS, group=2, seed=3)


def tokens(answers: Sequence[Completion]) -> list[Any]:
    return [(a.prompt_index, a.answer_index, a.tokens) for a in answers]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 6))
def test_every_prompt_is_in_one_part_and_parts_are_about_alike(lengths: list[int], among: int):
    parts = _dealt({7 * n: [0] * length for n, length in enumerate(lengths)}, among)
    assert sorted(n for part in parts for n in part) == [7 * n for n in range(len(lengths))]
    assert len(parts) == min(among, len(lengths))
    sums = [sum(lengths[n // 7] for n in part) for part in parts]
    assert max(sums) - min(sums) <= 2 * max(lengths)


def test_answers_are_those_of_one_engine_and_weights_travel_once():
    one, two = Member("sampler 0"), Member("sampler 1")
    engine = fleet(one, two)
    assert tokens(engine.generate(PROMPTS, PARAMS, group=2, seed=3)) == tokens(drawn())
    engine.generate(PROMPTS, PARAMS, group=2, seed=4)
    engine.sync()
    engine.generate(PROMPTS, PARAMS, group=2, seed=5)
    for member in (one, two):
        assert [news for news, _ in member.asked] == [True, False, True]


@pytest.mark.parametrize("fault", ["dies", "hangs"])
def test_what_a_member_loses_is_asked_again_with_the_weights(fault: str):
    one, two = Member("sampler 0", [fault]), Member("sampler 1")
    with pytest.warns(UserWarning, match="sampler 0 is started again"):
        assert tokens(fleet(one, two).generate(PROMPTS, PARAMS, group=2, seed=3)) == tokens(drawn())
    assert (one.starts, two.starts) == (2, 1)
    asked = [n for member in (one, two) for _, part in member.asked for n in part]
    assert sorted(asked) == list(range(len(PROMPTS)))


@pytest.mark.filterwarnings("ignore:sampler 0 is started again")
def test_a_member_that_never_answers_ends_the_run_soon():
    lost = Member("sampler 0", ["hangs"] * 10)
    with pytest.raises(UserError, match=r"again 2 times and never"):
        fleet(lost).generate(PROMPTS, PARAMS)
    assert lost.starts == 3


@pytest.mark.filterwarnings("ignore:sampler 0 is started again")
def test_one_that_answers_in_between_is_started_again_up_to_the_limit_of_an_hour():
    member = Member("sampler 0", ["dies", "", "dies", "", "dies", "", "dies"])
    engine = fleet(member, restarts=3)
    for _ in range(3):
        engine.generate(PROMPTS, PARAMS)
    with pytest.raises(UserError, match="3 times within an hour"):
        engine.generate(PROMPTS, PARAMS)
