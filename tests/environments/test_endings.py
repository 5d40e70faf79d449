"""How episodes of tools are paid at their end, and how environments are ended."""

from __future__ import annotations

from functools import partial

import pytest

from backflip.data.records import Prompt, messages
from backflip.environments.made import rewards
from tests.environments.scripted import play, stage
from tests.environments.test_tools import Increment, call, once


class Paid(Increment):
    """As TRL's users write it: the attribute is set where an episode begins, or an object."""

    get_reward = None  # type: ignore[assignment]
    where = "init"

    def __init__(self):
        super().__init__()
        self.closed = 0
        if self.where == "init":
            self.reward = 0.0

    def reset(self, **columns) -> str:
        if self.where == "reset":
            self.reward = 0.0
        return super().reset(answer="42", prompt=[{"content": ""}])

    def increment(self, a: int) -> int:
        """
        Increments.

        Args:
            a: The value.
        """
        self.reward = 0.5
        return super().increment(a)

    def close(self) -> None:
        self.closed += 1
        if self.where == "never":
            raise ValueError("it is stuck")


del Paid.get_reward


@pytest.mark.parametrize(("where", "paid"), [("init", True), ("reset", True), ("never", False)])
def test_an_attribute_reward_counts_from_the_object_that_has_begun(monkeypatch, where, paid):
    monkeypatch.delattr(Increment, "get_reward")
    monkeypatch.setattr(Paid, "where", where)
    record = Prompt(messages(("user", "Count.")), reference="42")
    assert rewards(Paid, [record]) == paid
    assert rewards(partial(Paid), [record]) == paid, "a factory is asked for an object as well"


def test_environments_are_closed_when_they_are_renewed_and_at_the_end(monkeypatch):
    made: list[Paid] = []

    def make() -> Paid:
        made.append(Paid())
        return made[-1]

    monkeypatch.setattr(Paid, "reset", lambda self: [].pop() if len(made) == 1 else None)
    sampler = stage(make, once(call("increment", a=1)))
    play(sampler)
    assert [one.closed for one in made] == [1, 0], "the one that broke, and was replaced"
    monkeypatch.setattr(Paid, "where", "never")
    sampler.close()
    assert [one.closed for one in made] == [1, 1]
    assert any("it is stuck" in why for why in sampler.troubles.counts), "counted, not raised"
    sampler.close()
    assert [one.closed for one in made] == [1, 1]
