"""Policies to talk with: models on this machine, or servers that speak OpenAI's protocol.

Only names that the server's operator gave are known, so no item can make the server call elsewhere.
Replies come back in an order shuffled for each turn and rater, and carry a stamp over the whole
conversation before them, so that what is stored as a model's reply is one, to what is stored before
it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backflip.data.records import Message
from backflip.errors import UserError
from backflip.feedback.store.refusals import RefusedError
from backflip.feedback.tasks.display import seed_of

KEY = "BACKFLIP_ENDPOINT_KEY"
"""Environment variable with the key that servers ask for; empty: none."""
MOST_TOKENS = 400
TEMPERATURE = 0.8
Said: TypeAlias = tuple[str, str]
"""Who spoke, and what."""
SECONDS = 60.0
"""Longest wait for a server."""
MOST_TURNS = 60
MOST_LETTERS = 20_000


@dataclass(frozen=True)
class Offer:
    """Replies to choose from, as displayed, and what proves that they are the models'."""

    candidates: list[str]
    stamp: str


class Talkers:
    """Answers for policies by name. A model of this machine is loaded when it is first asked."""

    def __init__(self, places: Mapping[str, str], secret: str) -> None:
        self.places, self.secret = dict(places), secret.encode()
        self._models: dict[str, Any] = {}
        self._lock = threading.Lock()

    def offer(
        self, policies: Sequence[str], turns: Sequence[Message], key: tuple[object, ...]
    ) -> Offer:
        """A reply of each policy. ``key`` (salt, rater, item) and the turn decide their order."""
        replies = [self.reply(name, turns) for name in policies]
        order = order_of(len(replies), (*key, len(turns)))
        shown = [replies[place] for place in order]
        return Offer(shown, self._stamp(shown, [(m.role, m.content) for m in turns], key))

    def reply(self, name: str, turns: Sequence[Message]) -> str:
        """The reply of one policy. Raises UserError for a name that the operator did not give."""
        place = self.places.get(name)
        if place is None:
            known = ", ".join(self.places) or "none"
            raise UserError(
                f"this server knows no policy {name[:60]!r} to talk with; it knows {known}."
            )
        if place.startswith(("http://", "https://")):
            return asked(place, name, turns)
        return self._spoken(place, turns)

    def _spoken(self, place: str, turns: Sequence[Message]) -> str:
        from backflip.evaluation.conversation import Conversation

        with self._lock:  # one reply at a time: a machine of two cores has no more in it
            if place not in self._models:
                self._models[place] = Conversation(
                    place, max_tokens=MOST_TOKENS, temperature=TEMPERATURE
                )
            chat: Conversation = self._models[place]
            chat.messages = list(turns[:-1])
            return chat.say(turns[-1].content) or "…"

    def _stamp(self, shown: Sequence[str], before: Sequence[Said], key: tuple[object, ...]) -> str:
        said = json.dumps([list(map(str, key)), list(before), list(shown)]).encode()
        return hmac.new(self.secret, said, hashlib.sha256).hexdigest()

    def checked(
        self,
        value: Mapping[str, Any],
        opening: Sequence[Mapping[str, Any]],
        key: tuple[object, ...],
    ) -> dict[str, Any]:
        """An answer as it is stored: replies proven, and back in the order of the policies.

        ``opening``: turns that stood before the first of the answer. Raises UserError for a reply
        that no policy gave to what stands before it.
        """
        turns = value.get("turns")
        if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
            raise UserError("answer: turns are missing.")
        before = [_said(turn) for turn in opening]
        kept = list[dict[str, Any]]()
        for turn in turns:
            kept.append(self._proven(turn, before, key))
            before.append(_said(turn))
        return {**value, "turns": kept}

    def _proven(
        self, turn: Mapping[str, Any], before: Sequence[Said], key: tuple[object, ...]
    ) -> dict[str, Any]:
        plain = {name: part for name, part in turn.items() if name != "stamp"}
        shown: Any = turn.get("candidates")
        if not shown and turn.get("role") == "user":
            return plain
        offered = turn.get("role") == "assistant" and _texts(shown)
        if not offered or not self._ours(shown, before, key, str(turn.get("stamp", ""))):
            raise UserError(
                "answer: a reply in it is none that the model gave; begin the talk anew."
            )
        if turn.get("edited") is not True and turn.get("content") != _picked(turn, shown):
            raise UserError("answer: a reply in it is not the one that was picked; say edited.")
        order = order_of(len(shown), (*key, len(before)))
        back = [order.index(place) for place in range(len(shown))]
        made = {
            "candidates": [shown[place] for place in back],
            "picked": _placed(turn.get("picked"), order),
        }
        ranks = turn.get("ranks")
        if isinstance(ranks, list) and len(ranks) == len(shown):
            made["ranks"] = [ranks[place] for place in back]
        return plain | made

    def _ours(
        self, shown: Sequence[str], before: Sequence[Said], key: tuple[object, ...], stamp: str
    ) -> bool:
        wanted = self._stamp(shown, before, key)
        return hmac.compare_digest(wanted.encode(), stamp.encode())


def _said(turn: Mapping[str, Any]) -> Said:
    return str(turn.get("role")), str(turn.get("content"))


def _texts(shown: Any) -> bool:
    """Whether it is what an offer holds: replies to choose from."""
    return bool(shown) and isinstance(shown, list) and all(isinstance(t, str) for t in shown)


def _picked(turn: Mapping[str, Any], shown: Sequence[str]) -> str | None:
    """The reply that was picked; none where the number is no place."""
    picked = turn.get("picked")
    return shown[picked] if isinstance(picked, int) and 0 <= picked < len(shown) else None


def _placed(picked: Any, order: Sequence[int]) -> Any:
    """The policy whose reply was picked; what is no place is left for the store to refuse."""
    known = isinstance(picked, int) and 0 <= picked < len(order)
    return order[picked] if known else picked


def order_of(count: int, key: tuple[object, ...]) -> list[int]:
    """Which policy's reply is displayed at each place."""
    places = list(range(count))
    random.Random(seed_of(*key)).shuffle(places)
    return places


def messages_of(turns: Sequence[Mapping[str, str]]) -> list[Message]:
    """Turns as records. Raises UserError where there are too many, or nobody waits for a reply."""
    if len(turns) > MOST_TURNS:
        raise UserError(f"a talk has at most {MOST_TURNS} turns; finish this one.")
    made = [Message(turn["role"], turn["content"]) for turn in turns]
    if not made or made[-1].role != "user":
        raise UserError("the model answers a user; the last turn must be one.")
    return made


def asked(
    place: str,
    name: str,
    turns: Sequence[Message],
    temperature: float = TEMPERATURE,
    max_tokens: int = MOST_TOKENS,
) -> str:
    """A chat completion. ``place`` is the address, with ``#NAME`` where the model has another."""
    address, _, model = place.partition("#")
    address = address.rstrip("/")
    address = address if address.endswith("/v1") else f"{address}/v1"
    body = {
        "model": model or name,
        "messages": [{"role": m.role, "content": m.content} for m in turns],
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    headers = {"Content-Type": "application/json"}
    if os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {os.environ[KEY]}"
    request = urllib.request.Request(
        f"{address}/chat/completions", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            said = json.load(answer)["choices"][0]["message"]["content"]
    except (urllib.error.URLError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        text = "the model does not answer just now; try again in a moment."
        raise RefusedError("busy", text) from error
    return str(said)[:MOST_LETTERS] or "…"
