"""All weights of the learner, handed to a running vLLM in a file.

By vLLM's own four verbs: init, start, update, finish. Its side is the back end in ``plugin/``.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from torch import nn

from backflip.errors import UserError
from backflip.generate.openai.client import Client, RefusedError, SilentError
from backflip.models.lora import merged
from backflip.progress import task

__all__ = ["WholeWeights"]

BEGUN_WITH = "default"
"""vLLM's name for the weights that it was started with."""


class WholeWeights:
    """A folder that both sides see under the same name, and the weights that were handed over."""

    loaded: str | None = None
    """The model keeps its name on the server."""

    def __init__(self, folder: Path, client: Client) -> None:
        self.folder, self.client = folder.expanduser().resolve(), client
        self._run, self._count, self._met = uuid.uuid4().hex[:8], 0, False
        self.step, self.steps = 0, {BEGUN_WITH: 0}
        """Of learning: behind the weights that are handed over next, and by name behind others."""

    def suits(self, model: Any) -> bool:
        """All weights can be handed over, whichever of them learn."""
        del model
        return True

    def push(self, model: Any) -> None:
        """Write the weights and have them taken over, between two answers.

        Raises UserError where the server does not take them, or has others afterwards.
        """
        self._count += 1
        version = f"backflip-{self._run}-{self._count}"
        self.steps[version] = self.step
        path = self.folder / f"{version}.safetensors"
        try:
            _written(merged(model), path)
            with task("handing weights over"):
                self._taken(path, version)
        finally:
            path.unlink(missing_ok=True)

    def forgotten(self) -> None:
        """The server has begun anew: it has to be met again."""
        self._met = False

    def _taken(self, path: Path, version: str) -> None:
        try:
            if not self._met:
                self._do("init_weight_transfer_engine", init_info={})
                self._met = True
            self._do("pause?mode=keep")
            try:
                self._do("start_weight_update")
                self._do("update_weights", update_info={"path": str(path)})
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
                f"{error} The server must see {path} under that name, and be started with "
                "VLLM_SERVER_DEV_MODE=1 and Backflip's back end for weights, as engine.python=… "
                "starts it (docs/online.md)."
            ) from error
        has = info.get("weight_version") if isinstance(info, dict) else None
        if has != version:
            raise UserError(
                f"engine: {self.client.root} was handed weights {version} and has {has}: its "
                "answers would be those of another policy."
            )

    def _do(self, verb: str, **body: Any) -> Any:
        return self.client.ask(f"{self.client.root}/{verb}", body, plain=True)


def _written(model: nn.Module, path: Path) -> None:
    """Weights by the names of transformers, tied ones once."""
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    try:
        save_file(weights, path)
    except Exception as error:  # safetensors has an error of its own for a full disk
        raise UserError(f"{path} could not be written: {error}. Free some space there.") from error
