"""Fields of a worked example: example → texts of a form, and back.

A part whose field was not touched stays as it was kept, so that an example with more in it than
the form shows (sources, candidates of a talk) loses nothing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from backflip.errors import UserError
from backflip.feedback.kinds.fields import Rubric

Data: TypeAlias = dict[str, Any]
Texts: TypeAlias = dict[str, str]
Change: TypeAlias = Callable[[str, Texts, Data, Data], None]
"""(field, all texts of the form, payload, value): brings a touched field into the example."""
ROLE = re.compile(r"(?:\A|\n\n)(system|user|assistant|tool):[ \t]*")
SEVERAL = "Several turns: begin each paragraph with user:, assistant: or system:."


@dataclass(frozen=True)
class Control:
    """One field: its name, its label, and how it is filled in."""

    name: str
    label: str
    shape: str = "area"
    """area, line, number or select."""
    hint: str = ""
    options: tuple[tuple[str, str], ...] = ()


class Form(ABC):
    """The form of an example of one kind."""

    changes: ClassVar[Mapping[str, Change]] = {}
    """Changes by a touched field, by its name without a number at its end."""

    @abstractmethod
    def controls(self, settings: Rubric, answers: int) -> list[Control]:
        """The fields in their order; ``answers``: how many a ranking has."""

    @abstractmethod
    def texts(self, payload: Data, value: Data) -> Texts:
        """Texts that the fields show of an example; what it lacks is empty."""

    def finish(self, touched: set[str], given: Texts, payload: Data, value: Data) -> None:
        """Bring in the parts that several fields say together."""
        del touched, given, payload, value


def select(name: str, label: str, options: Sequence[tuple[str, str]]) -> Control:
    """A choice that is open at first."""
    return Control(name, label, "select", options=(("", "Choose"), *options))


PROMPT = Control("prompt", "Prompt", hint=SEVERAL)
ANSWER = Control("answer", "Answer")

# ---- texts of parts; old databases hold examples that are malformed


def as_list(given: Any) -> list[Any]:
    """A list; of anything else an empty one."""
    return list(given) if isinstance(given, list | tuple) else []


def as_map(given: Any) -> Data:
    """An object; a text is one that has it."""
    return given if isinstance(given, dict) else {"text": given} if isinstance(given, str) else {}


def as_maps(given: Any) -> list[Data]:
    """The entries of a list, each as an object."""
    return [as_map(entry) for entry in as_list(given)]


def text_of(given: Any) -> str:
    """The text of an answer or a draft."""
    return str(as_map(given).get("text") or "")


def transcript(turns: Any) -> str:
    """A lone question as it is; several turns with their roles."""
    if isinstance(turns, str):
        return turns
    found = as_maps(turns)
    if len(found) == 1 and found[0].get("role") == "user":
        return str(found[0].get("content") or "")
    return "\n\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in found)


def prompt_and_answer(payload: Data) -> Texts:
    """Texts of the kinds that show a prompt and one answer."""
    return {"prompt": transcript(payload.get("prompt")), "answer": text_of(payload.get("answer"))}


def prompt_and_answers(payload: Data) -> Texts:
    """Texts of the kinds that show a prompt and several answers."""
    texts = {f"answer_{n}": text_of(a) for n, a in enumerate(as_list(payload.get("answers")))}
    return {"prompt": transcript(payload.get("prompt")), **texts}


# ---- and back


def whole(text: str, what: str) -> int:
    """A whole number. Raises UserError that names the field for anything else."""
    if not re.fullmatch(r"\s*-?[0-9]{1,6}\s*", text):
        raise UserError(f"{what}: {text[:20]!r} is not a whole number.")
    return int(text)


def between(text: str, pattern: str) -> list[str]:
    """The parts of a text between marks, without empty ones."""
    return [part.strip() for part in re.split(pattern, text) if part.strip()]


def turns_of(text: str) -> list[Data]:
    """A transcript as turns."""
    parts = ROLE.split(text.strip())
    if len(parts) == 1 or parts[0].strip():
        return [{"role": "user", "content": text}] if text.strip() else []
    said = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": role, "content": content.strip()} for role, content in said]


def in_payload(make: Callable[[str], Any]) -> Change:
    """A field that is a part of the payload."""

    def change(name: str, given: Texts, payload: Data, _value: Data) -> None:
        payload[name] = make(given[name])

    return change


def in_value(make: Callable[[str], Any]) -> Change:
    """A field that is a part of the answer."""

    def change(name: str, given: Texts, _payload: Data, value: Data) -> None:
        value[name] = make(given[name])

    return change


def change_answer(name: str, given: Texts, payload: Data, _value: Data) -> None:
    """The only answer, with its source as it was."""
    payload[name] = {**as_map(payload.get(name)), "text": given[name]}


def change_answers(name: str, given: Texts, payload: Data, _value: Data) -> None:
    """One of several answers, with its source as it was."""
    answers, place = as_maps(payload.get("answers")), int(name.rpartition("_")[2])
    answers += [{"text": ""}] * (place + 1 - len(answers))
    answers[place] = {**answers[place], "text": given[name]}
    payload["answers"] = answers


PROMPTED: Mapping[str, Change] = {"prompt": in_payload(turns_of)}
ANSWERED: Mapping[str, Change] = {**PROMPTED, "answer": change_answer}
SIDED: Mapping[str, Change] = {**PROMPTED, "answer": change_answers}
