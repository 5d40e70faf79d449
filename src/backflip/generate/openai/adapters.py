"""LoRA adapters of the learner, handed to a server by name (vLLM's ``load_lora_adapter``)."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

from backflip.errors import UserError
from backflip.generate.openai.client import Client, RefusedError
from backflip.models.causal import is_adapted
from backflip.models.whole_folder import written_whole


class Adapters:
    """A folder that both sides see under the same name, and the adapters that were handed over.

    Each is loaded under a name of its own, so that the server keeps nothing it cached for the one
    before; the one before is let go and its files are deleted.
    """

    def __init__(self, folder: Path, client: Client) -> None:
        self.folder, self.client = folder.expanduser().resolve(), client
        self.loaded: str | None = None
        """The server's name for those it writes with; None before the first."""
        self._run, self._count = uuid.uuid4().hex[:8], 0

    def suits(self, model: Any) -> bool:
        """Whether the model has what is handed over."""
        return is_adapted(model)

    def forgotten(self) -> None:
        """The server has begun anew, without any."""
        self.loaded = None

    def push(self, model: Any) -> None:
        """Save the model's adapters and have them loaded.

        Raises UserError where the server does not take them.
        """
        self._count += 1
        name = f"backflip-{self._run}-{self._count}"
        written_whole(self.folder / name, model.save_pretrained)
        url, path = self.client.url, str(self.folder / name)
        try:
            self.client.ask(
                f"{url}/load_lora_adapter", {"lora_name": name, "lora_path": path}, plain=True
            )
        except RefusedError as error:
            raise UserError(
                f"{error} The server must see {path} under that name and take adapters: `vllm "
                "serve --enable-lora --max-lora-rank RANK` with "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
            ) from error
        before, self.loaded = self.loaded, name
        if before is not None:
            self.client.ask(f"{url}/unload_lora_adapter", {"lora_name": before}, plain=True)
            shutil.rmtree(self.folder / before, ignore_errors=True)
