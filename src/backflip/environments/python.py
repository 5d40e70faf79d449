"""Python as a tool: each call is a program of its own in the sandbox."""

from __future__ import annotations

from backflip.reward.sandbox.box import Mode, opened
from backflip.reward.sandbox.runner import Limits

__all__ = ["Python"]


class Python:
    """A tool that runs programs nobody trusts; nothing is remembered from one to the next."""

    def __init__(self, sandbox: Mode = "strict", wall: float = 8.0) -> None:
        """``wall``: seconds for a program. Raises UserError where the sandbox is too weak."""
        self._sandbox = opened(sandbox)
        self._limits = Limits(seconds=wall, wall=wall)

    def reset(self) -> None:
        """Nothing is remembered."""

    def python(self, code: str) -> str:
        """Runs a Python program and shows what it prints.

        Args:
            code: A whole program; it prints what is to be seen.

        Returns:
            What it printed, and the error that ended it if one did.

        """
        ran = self._sandbox.run(code, limits=self._limits)
        if ran.outcome != "finished":
            last = ran.stderr.strip().splitlines()[-1:] or [ran.reason or ran.outcome]
            raise RuntimeError("\n".join(filter(None, (ran.stdout.strip(), *last))))
        return ran.stdout.strip()
