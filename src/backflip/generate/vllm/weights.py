"""All weights of the learner, handed to a running vLLM.

By vLLM's own four verbs: init, start, update, finish. Its side is the back end in ``plugin``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from backflip.errors import UserError
from backflip.generate.openai.client import Client, RefusedError, SilentError
from backflip.generate.vllm.ways import Way
from backflip.models.lora import merged
from backflip.progress import task

__all__ = ["WholeWeights"]

BEGUN_WITH = "default"
"""vLLM's name for the weights that it was started with."""


class WholeWeights:
    """A way of weights to a server, and those that were handed over."""

    loaded: str | None = None
    """The model keeps its name on the server."""

    def __init__(self, way: Way, client: Client) -> None:
        self.way, self.client = way, client
        self._run, self._count, self._met = uuid.uuid4().hex[:8], 0, False
        self.step, self.steps = 0, {BEGUN_WITH: 0}
        """Of learning: behind the weights that are handed over next, and by name behind others."""

    def suits(self, model: Any) -> bool:
        """All weights can be handed over, whichever of them learn."""
        del model
        return True

    def push(self, model: Any) -> None:
        """Have the weights taken over, between two answers.

        Raises UserError where the server does not take them, or has others afterwards.
        """
        self._count += 1
        version = f"backflip-{self._run}-{self._count}"
        self.steps[version] = self.step
        whole = merged(model)
        try:
            with task("handing weights over"):
                self._taken(dict(whole.named_parameters()), version)
        finally:
            self.way.done()

    def forgotten(self) -> None:
        """The server has begun anew: it has to be met again."""
        self._met = False

    def _taken(self, weights: dict[str, Any], version: str) -> None:
        """``weights``: by the names of transformers, tied ones once."""
        try:
            if not self._met:
                self._meet(next(iter(weights.values())).device)
            announced = self._announced(weights, version)
            self._do("pause?mode=keep")
            try:
                self._do("start_weight_update")
                self._both("update_weights", self.way.send, update_info={"of": announced})
                self._do("finish_weight_update", weight_version=version)
                self._do("reset_prefix_cache")
            except SilentError:
                raise  # nobody is there who could go on
            except BaseException:
                self._do("resume")
                raise
            self._do("resume")
            info = self.client.ask(f"{self.client.root}/weight_info")
        except RefusedError as error:
            raise UserError(
                f"{error} The server must be started with VLLM_SERVER_DEV_MODE=1 and Backflip's "
                "back end for weights, as engine.python=… starts it, and must see the same files "
                "or devices (docs/online.md)."
            ) from error
        has = info.get("weight_version") if isinstance(info, dict) else None
        if has != version:
            raise UserError(
                f"engine: {self.client.root} was handed weights {version} and has {has}: its "
                "answers would be those of another policy."
            )

    def _meet(self, device: torch.device) -> None:
        workers = self.client.ask(f"{self.client.root}/get_world_size")["world_size"]
        how = self.way.meeting(workers, device)
        self._both("init_weight_transfer_engine", self.way.meet, init_info={"how": how})
        self._met = True

    def _announced(self, weights: dict[str, Any], version: str) -> dict[str, Any]:
        try:
            return self.way.update(weights, version)
        except OSError as error:
            raise UserError(f"engine: {error}. Free some space there.") from error
        except RuntimeError as error:
            raise UserError(
                f"engine: weights could not be announced: {error}. Set engine.handover=file."
            ) from error

    def _both(self, verb: str, ours: Callable[[Callable[[], bool]], None], **body: Any) -> None:
        """Do our part while the server does its own, once. Its error counts, if it has one."""
        once = replace(self.client, retries=0)
        with ThreadPoolExecutor(1) as pool:
            theirs = pool.submit(once.ask, f"{once.root}/{verb}", body, plain=True)
            try:
                ours(lambda: theirs.done() and theirs.exception() is not None)
            except RuntimeError as error:  # of a group whose other side is gone
                theirs.result()
                raise SilentError(f"engine: {verb} of {once.root}: {error}") from error
            theirs.result()

    def _do(self, verb: str, **body: Any) -> Any:
        return self.client.ask(f"{self.client.root}/{verb}", body, plain=True)
