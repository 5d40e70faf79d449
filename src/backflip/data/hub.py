"""The hub of models and datasets: whether it may be asked, and why it gave nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["model", "dataset"]
OFFLINE: dict[Kind, tuple[str, ...]] = {
    "model": ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    "dataset": ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"),
}
"""Variables of the environment by which a user says not to ask the hub, for what they hold."""
HUB_SECONDS = 4.5
"""How long an unreachable hub may keep anybody waiting."""


def offline_variable(kind: Kind = "model") -> str:
    """The variable that forbids to ask the hub for such a thing; empty where none does."""
    said = ("1", "TRUE", "YES", "ON")
    found = [name for name in OFFLINE[kind] if os.environ.get(name, "").upper() in said]
    return found[0] if found else ""


def hub_answers(seconds: float = HUB_SECONDS) -> bool:
    """Whether the model and data hub can be reached; never takes longer than ``seconds``."""
    import urllib.error
    import urllib.request

    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(address, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                answered.set()
        except urllib.error.HTTPError as error:  # 403 and 5xx are a proxy's way to say no
            if error.code < 500 and error.code != 403:
                answered.set()
        except (OSError, ValueError):
            finished.set()
        finished.set()

    finished = threading.Event()
    threading.Thread(target=ask, daemon=True).start()
    finished.wait(seconds)
    return answered.is_set()


def hub_refusal(kind: Kind, name: str, error: BaseException | None = None) -> str:
    """Why there is no such thing, in a line: offline, no network, not found, gated, or else.

    ``error``: what their library raised; None where the hub was not asked or did not answer.
    """
    start = f"there is no file or folder {name}, and " if error is None else f"{kind} {name}: "
    if variable := offline_variable(kind):
        return (
            f"{start}it is not in the local cache, and {variable} is set, so the hub is not asked. "
            f"Unset {variable}, or give a folder or a file."
        )
    if error is None:
        return (
            f"{start}the hub cannot be reached to look for a {kind} of that name: there is no "
            "network, or HF_ENDPOINT is wrong. Give a path, or set HF_HUB_OFFLINE=1 to use what "
            "is cached."
        )
    kinds = [type(one).__name__ for one in _chain(error)]
    text = " ".join(str(one) for one in _chain(error))
    where = "datasets/" if kind == "dataset" else ""
    page = f"https://huggingface.co/{where}{name.partition(':')[0]}"
    if "GatedRepoError" in kinds or "is a gated dataset" in text:
        return (
            f"{start}it is gated. Accept its terms on {page}, then sign in: hf auth login, or "
            "HF_TOKEN."
        )
    if {"RepositoryNotFoundError", "DatasetNotFoundError"} & set(kinds):
        return (
            f"{start}the hub has none of that name, or it is private. See how it is written; if it "
            "is private, sign in: hf auth login, or HF_TOKEN."
        )
    if {"ConnectionError", "ConnectError", "Timeout", "ReadTimeout", "ConnectTimeout"} & set(kinds):
        return f"{start}the network failed on the way. Try again, or give a folder or a file."
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return f"{start}it cannot be loaded ({type(error).__name__}): {first}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
