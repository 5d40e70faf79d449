"""A model folder on the model hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backflip.data.hub import hub_answers, offline_variable
from backflip.errors import UserError

CARD = "README.md"
WEIGHTS = re.compile(r"(pytorch_)?model.*\.(safetensors|bin)(\.index\.json)?")
NAMED = re.compile(r"^name = .*$", re.MULTILINE)
"""The line of a card's code that says where the model lies."""


@dataclass(frozen=True)
class Pushed:
    """A commit on the hub."""

    url: str
    """Address of the repository."""
    private: bool
    """Whether only its owner sees it."""
    files: int
    size: int
    """Bytes."""
    removed: tuple[str, ...]
    """Weights of an earlier push that this one took away."""


def push(folder: Path, name: str, *, private: bool = True) -> Pushed:
    """Put the files of a model folder into the repository ``name``, in one commit.

    The repository is made where there is none; one that is there keeps its visibility. The card's
    lines load the model from the hub then. Weights of an earlier push that have no part in this
    model go; the history of the repository keeps them.

    Args:
        folder: with a config.json; files in it go, folders do not.
        name: owner/name.
        private: of a new repository, that only its owner sees it.

    Raises:
        UserError: no such name, no token, no network, or the hub refuses.

    """
    _check_ready(name)
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(library_name="backflip")
    try:
        return _commit(api, folder, name, private)
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        said = str(error).strip().splitlines()[0][:300] or type(error).__name__
        owner = name.partition("/")[0]
        login = f"Log in with a token that may write to {owner}: hf auth login, or HF_TOKEN."
        way = login if code in (401, 403) else "Nothing was committed; try again."
        raise UserError(f"{name} could not be pushed: {said} {way}") from error


def _check_ready(name: str) -> None:
    """Refuse what cannot work before anything is sent."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        valid = name.count("/") == 1
    except HFValidationError:
        valid = False
    if not valid:
        raise UserError(f"{name!r} is no name on the hub. Give owner/name, such as me/my-model.")
    if variable := offline_variable():
        raise UserError(f"{variable} is set, so nothing can be pushed. Unset it.")
    if get_token() is None:
        raise UserError(
            "the hub needs to know who you are: hf auth login, or set HF_TOKEN to a token that "
            "may write."
        )
    if not hub_answers():
        raise UserError("the hub does not answer. Check the network, and HF_ENDPOINT if it is set.")


def _commit(api: Any, folder: Path, name: str, private: bool) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_repo(name, private=private, exist_ok=True)
    there = api.model_info(name)
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    ours = {path.name for path in paths}
    old = [file.rfilename for file in there.siblings or ()]
    stale = tuple(sorted(f for f in old if WEIGHTS.fullmatch(f) and f not in ours))
    adds: list[Any] = [CommitOperationAdd(path.name, _content(path, name)) for path in paths]
    removals: list[Any] = [CommitOperationDelete(file) for file in stale]
    api.create_commit(name, [*adds, *removals], commit_message="Model trained with Backflip")
    size = sum(path.stat().st_size for path in paths)
    return Pushed(f"{api.endpoint}/{name}", bool(there.private), len(paths), size, stale)


def _content(path: Path, name: str) -> str | bytes:
    """A file by its path; of the card its text, which loads the model from the hub."""
    if path.name != CARD:
        return str(path)
    text = path.read_text(encoding="utf-8")
    line = f"name = {json.dumps(name)}"
    return NAMED.sub(lambda _: line, text, count=1).encode()
