"""An environment that rank 0 alone plays: a tool may answer something else each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backflip.data.records import Prompt
from backflip.distributed.world import here
from backflip.environments.protocol import Environment, Said, Step

__all__ = ["Led", "led"]


class Led:
    """Rank 0's environment, of which the other ranks hear."""

    def __init__(self, make: Callable[[], Environment]) -> None:
        made: Any = make() if here().leads else None
        self.environment: Environment = made

    def reset(self, prompt: Prompt, seed: int) -> Said:
        return here().once(lambda: self.environment.reset(prompt, seed))

    def step(self, text: str) -> Step:
        return here().once(lambda: self.environment.step(text))

    def end(self) -> float:
        return here().once(lambda: self.environment.end())  # noqa: PLW0108 (others have none)

    def close(self) -> None:
        """Close rank 0's, where it can be closed; whatever it raises is counted there."""
        if callable(close := getattr(self.environment, "close", None)):
            close()


def led(make: Callable[[], Environment]) -> Callable[[], Environment]:
    """Of several processes, one makes environments and plays them; alone, as it is."""
    return make if here().size == 1 else lambda: Led(make)
