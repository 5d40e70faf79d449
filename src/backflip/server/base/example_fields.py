"""The fields of a worked example, for each kind of task: example → texts of a form, and back.

A part whose field was not touched stays as it was kept, so that an example with more in it than
the form shows (sources, candidates of a talk) loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from backflip.errors import UserError
from backflip.feedback.kinds.settings import ProjectSettings
from backflip.server.text.item_html import LETTERS, STRENGTHS

Data: TypeAlias = dict[str, Any]
Texts: TypeAlias = dict[str, str]
ROLE = re.compile(r"(?:\A|\n\n)(system|user|assistant|tool):[ \t]*")
FEWEST_RANKED = 4
"""Answers that the form of a ranking has room for."""
SIGNS = {"+": 1, "0": 0, "-": -1, "−": -1, "·": None}
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif")
SEVERAL = "Several turns: begin each paragraph with user:, assistant: or system:."
CLIP = "A file of the project, or an address."
LABELS = "One sign a step: + good, 0 neutral, - bad, · not labelled."


@dataclass(frozen=True)
class Control:
    """One field: its name, what it is called, and how it is filled in."""

    name: str
    label: str
    shape: str = "area"
    """area, line, number or select."""
    hint: str = ""
    options: tuple[tuple[str, str], ...] = ()


ANSWER = Control("answer", "Answer")


def controls(settings: ProjectSettings, answers: int = 0) -> list[Control]:
    """The fields of a kind; ``answers``: how many a ranking has."""
    kind, prompt = settings.kind, Control("prompt", "Prompt", hint=SEVERAL)
    fields: dict[str, Callable[[], list[Control]]] = {
        "compare": lambda: [prompt, *_two("answer", "Answer", "area"), _better(settings)],
        "clips": lambda: [*_two("clip", "Clip", "line", CLIP), _better(settings)],
        "rank": lambda: [prompt, *_of_rankings(max(answers, FEWEST_RANKED))],
        "rate": lambda: [prompt, ANSWER, *_of_ratings(settings)],
        "thumbs": lambda: [
            prompt, ANSWER, _select("up", "Good or bad", (("yes", "good"), ("no", "bad")))
        ],
        "write": lambda: [
            prompt,
            Control("draft", "Draft", hint="Empty: there is none."),
            Control("text", "The reply that you want to see"),
        ],
        "steps": lambda: [
            prompt,
            Control("steps", "Steps", hint="An empty line between two steps."),
            Control("labels", "Labels", "line", LABELS),
        ],
        "spans": lambda: [prompt, ANSWER, _of_spans(settings)],
        "principles": lambda: [
            Control("principle", "Principle"),
            _select("vote", "Vote", tuple((word, word) for word in ("agree", "disagree", "pass"))),
        ],
        "talk": _of_talks,
    }  # fmt: skip
    return fields[kind]()


def _two(name: str, label: str, shape: str, hint: str = "") -> list[Control]:
    return [Control(f"{name}_{n}", f"{label} {LETTERS[n]}", shape, hint) for n in (0, 1)]


def _better(settings: ProjectSettings) -> Control:
    return _select("choice", "Which is better", _choices(settings))


def _of_rankings(answers: int) -> list[Control]:
    found = list[Control]()
    for n in range(answers):
        letter = LETTERS[n % 26]
        found.append(Control(f"answer_{n}", f"Answer {letter}"))
        hint = "1 is best; the same twice is a tie; empty: not ranked."
        found.append(Control(f"place_{n}", f"Place of {letter}", "number", hint))
    return found


def _of_ratings(settings: ProjectSettings) -> list[Control]:
    return [
        Control(f"mark_{a.name}", f"{a.name}, {a.low} to {a.high}", "number")
        for a in settings.attributes
    ]


def _of_spans(settings: ProjectSettings) -> Control:
    known = ", ".join(settings.span_labels)
    hint = f"One a line: the label, a colon, and the passage as it stands. Labels: {known}."
    return Control("marks", "Marked passages", hint=hint)


def _of_talks() -> list[Control]:
    verdicts = "One a line, in the order of the rules: kept, broken or unsure."
    return [
        Control("opening", "Opening", hint=f"What was said before; may be empty. {SEVERAL}"),
        Control("policies", "Policies", "line", "Names, with commas between."),
        Control("rules", "Rules", hint="One a line; may be empty."),
        Control("turns", "Conversation", hint=SEVERAL),
        Control("verdicts", "Verdicts on the rules", hint=verdicts),
    ]


def _select(name: str, label: str, options: Sequence[tuple[str, str]]) -> Control:
    return Control(name, label, "select", options=(("", "Choose"), *options))


def _choices(settings: ProjectSettings) -> list[tuple[str, str]]:
    """Every answer of the scale, by side and strength."""
    words = STRENGTHS[settings.levels]
    found = [(f"a {n}", f"A {words[n - 1]}") for n in range(len(words), 0, -1)]
    found += [("tie", "about the same")] if settings.tie_possible else []
    found += [(f"b {n}", f"B {words[n - 1]}") for n in range(1, len(words) + 1)]
    found += [("both_bad", "both bad")] if settings.allow_both_bad else []
    return [*found, ("cannot_tell", "cannot tell (the reason is the why)")]


# ---- an example as texts


def texts_of(kind: str, payload: Data, value: Data) -> Texts:
    """What the fields show of an example; what it lacks is empty."""
    found = {"prompt": _transcript(payload.get("prompt")), "why": ""}
    for n, one in enumerate(_dicts(payload.get("answers"))):
        found[f"answer_{n}"] = str(one.get("text") or "")
    for n, clip in enumerate(_dicts(payload.get("clips"))):
        found[f"clip_{n}"] = str(clip.get("file") or clip.get("url") or "")
    for name in ("answer", "draft"):
        found[name] = str(_map(payload.get(name)).get("text") or "")
    found["principle"] = str(payload.get("principle") or "")
    found["steps"] = "\n\n".join(map(str, _list(payload.get("steps"))))
    found["opening"] = _transcript(payload.get("opening"))
    found["policies"] = ", ".join(map(str, _list(payload.get("policies"))))
    found["rules"] = "\n".join(map(str, _list(payload.get("rules"))))
    return {
        n: text.replace("\r\n", "\n") for n, text in (found | _said(kind, payload, value)).items()
    }


def _said(kind: str, payload: Data, value: Data) -> Texts:
    """The same of its answer."""
    said: dict[str, Callable[[], Texts]] = {
        "compare": lambda: _said_choice(value),
        "clips": lambda: _said_choice(value),
        "rank": lambda: {
            f"place_{n}": str(rank + 1) if isinstance(rank, int) else ""
            for n, rank in enumerate(_list(value.get("ranks")))
        },
        "rate": lambda: {
            f"mark_{name}": str(mark) for name, mark in _map(value.get("ratings")).items()
        },
        "thumbs": lambda: (
            {"up": {True: "yes", False: "no"}.get(bool(value["up"]), "")} if "up" in value else {}
        ),
        "write": lambda: {"text": str(value.get("text") or "")},
        "steps": lambda: {
            "labels": " ".join(
                {"1": "+", "0": "0", "-1": "-"}.get(x, "·")
                for x in map(str, _list(value.get("labels")))
            )
        },
        "spans": lambda: _said_spans(payload, value),
        "principles": lambda: {"vote": str(value.get("vote") or "")},
        "talk": lambda: _said_talk(payload, value),
    }
    return said[kind]()


def _said_choice(value: Data) -> Texts:
    choice = str(value.get("choice") or "")
    sided = choice in ("a", "b")
    return {"choice": f"{choice} {value.get('strength') or 1}" if sided else choice}


def _said_spans(payload: Data, value: Data) -> Texts:
    text = str(_map(payload.get("answer")).get("text") or "")
    lines = (
        f"{span.get('label')}: {text[span.get('start') : span.get('end')]}"
        for span in _dicts(value.get("spans"))
    )
    return {"marks": "\n".join(lines)}


def _said_talk(payload: Data, value: Data) -> Texts:
    said, rules = _map(value.get("verdicts")), _list(payload.get("rules"))
    verdicts = "\n".join(str(said.get(rule, "")) for rule in rules)
    return {"turns": _transcript(value.get("turns")), "verdicts": verdicts}


def _list(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else []


def _map(given: Any) -> Data:
    """An object; a text is one that has it. Old databases hold examples that are malformed."""
    return given if isinstance(given, dict) else {"text": given} if isinstance(given, str) else {}


def _dicts(given: Any) -> list[Data]:
    return [_map(one) for one in _list(given)]


def _transcript(turns: Any) -> str:
    """A lone question as it is; several turns with their roles."""
    if isinstance(turns, str):
        return turns
    found = _dicts(turns)
    if len(found) == 1 and found[0].get("role") == "user":
        return str(found[0].get("content") or "")
    return "\n\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in found)


# ---- and back


def example_from(settings: ProjectSettings, given: Mapping[str, str], kept: Data | None) -> Data:
    """An example as it is stored. Raises UserError for a field that cannot be read."""
    before = texts_of(settings.kind, kept["payload"], kept["value"]) if kept else {}
    old = kept or {"payload": {}, "value": {}}
    # A browser drops a line end with which a text begins.
    touched = {n for n, text in given.items() if _begun(text) != _begun(before.get(n, ""))}
    if settings.kind == "rank" and touched & {n for n in given if n[:6] in ("answer", "place_")}:
        touched |= {"ranked"}
    if settings.kind == "spans" and "answer" in touched:
        touched |= {"marks"}  # their places may be others now
    payload, value = dict(old["payload"]), dict(old["value"])
    for name in sorted(touched):
        if change := CHANGES.get(name.partition("_")[0] if name[-1].isdigit() else name):
            change(name, given, payload, value)
        elif name.startswith("mark_"):
            ratings = _map(value.get("ratings"))
            ratings[name[5:]] = _whole(given[name], name[5:])
            value["ratings"] = ratings
    if settings.kind == "rate" and "ratings" in value:
        shown = {f"mark_{name}" for name in value["ratings"]} & set(given)
        value["ratings"] = {n: m for n, m in value["ratings"].items() if f"mark_{n}" in shown}
    if settings.kind == "talk" and touched & {"verdicts", "rules"}:
        value["verdicts"] = _verdicts(payload, given)
    if value.get("choice") == "cannot_tell" and not value.get("reason"):
        value["reason"] = given.get("why", "")
    return {"payload": payload, "value": value, "why": given.get("why", "")}


def _begun(text: str) -> str:
    return text.removeprefix("\n")


def _whole(text: str, what: str) -> int:
    if not re.fullmatch(r"\s*-?[0-9]{1,6}\s*", text):
        raise UserError(f"{what}: {text[:20]!r} is not a whole number.")
    return int(text)


def _turns(text: str) -> list[Data]:
    parts = ROLE.split(text.strip())
    if len(parts) == 1 or parts[0].strip():
        return [{"role": "user", "content": text}] if text.strip() else []
    said = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": role, "content": content.strip()} for role, content in said]


Change: TypeAlias = Callable[[str, Mapping[str, str], Data, Data], None]


def _talked(name: str) -> Change:
    def change(_: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
        (value if name == "turns" else payload)[name] = _turns(given[name])

    return change


def _answer(name: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
    """One of several answers, or the only one, with its source as it was."""
    del value
    if name == "answer":
        payload["answer"] = {**_map(payload.get("answer")), "text": given[name]}
        return
    answers, place = _dicts(payload.get("answers")), int(name.rpartition("_")[2])
    answers += [{"text": ""}] * (place + 1 - len(answers))
    answers[place] = {**answers[place], "text": given[name]}
    payload["answers"] = answers


def _draft(name: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
    text = given[name]
    payload[name] = {**_map(payload.get(name)), "text": text} if text.strip() else None
    value["from_draft"] = bool(text.strip())


def _clip(name: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
    del value
    clips, place, text = _dicts(payload.get("clips")), int(name[-1]), given[name].strip()
    clips += [{}] * (place + 1 - len(clips))
    kind = "image" if text.lower().endswith(PICTURES) else "video"
    there = "url" if text.startswith(("http://", "https://", "/")) else "file"
    clips[place] = {there: text, "media": kind, "source": clips[place].get("source", "")}
    payload["clips"] = clips


def _choice(name: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
    del payload
    choice, _, level = given[name].partition(" ")
    value.pop("strength", None)
    value |= {name: choice, **({"strength": _whole(level, "strength")} if level else {})}


def _ranked(_: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
    """Answers that were left empty fall away, with their places."""
    answers = _dicts(payload.get("answers"))
    kept = [n for n, one in enumerate(answers) if str(one.get("text") or "").strip()]
    texts = [given.get(f"place_{n}", "").strip() for n in kept]
    places = [_whole(text, "place") if text else None for text in texts]
    steps = sorted({place for place in places if place is not None})
    payload["answers"] = [answers[n] for n in kept]
    value["ranks"] = [None if place is None else steps.index(place) for place in places]


def _labels(name: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
    del payload
    signs = list(re.sub(r"[\s,]", "", given[name]))
    if strange := [sign for sign in signs if sign not in SIGNS]:
        raise UserError(f"labels: {strange[0]!r} is no sign; use + 0 - ·.")
    value[name] = [SIGNS[sign] for sign in signs]


def _marks(name: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
    text, found = str(_map(payload.get("answer")).get("text") or ""), list[Data]()
    for line in filter(str.strip, given[name].split("\n")):
        label, colon, passage = line.partition(":")
        many = text.count(passage.strip()) if colon and passage.strip() else 0
        if many != 1:
            why = "stands nowhere in the answer" if not many else f"stands {many} times in it"
            raise UserError(
                f"marked passages: {passage.strip()[:60]!r} {why}; write “label: passage”, as it "
                "stands, and enough of it to be one place."
            )
        start = text.index(passage.strip())
        end = start + len(passage.strip())
        found.append({"start": start, "end": end, "label": label.strip()})
    value["spans"] = found


def _verdicts(payload: Data, given: Mapping[str, str]) -> Data:
    rules = payload.get("rules") or []
    said = [line.strip() for line in given.get("verdicts", "").split("\n")]
    return {rule: verdict for rule, verdict in zip(rules, said, strict=False) if verdict}


def _plain(part: str, make: Callable[[str], Any]) -> Change:
    def change(name: str, given: Mapping[str, str], payload: Data, value: Data) -> None:
        (payload if part == "payload" else value)[name] = make(given[name])

    return change


def _between(text: str, pattern: str) -> list[str]:
    return [part.strip() for part in re.split(pattern, text) if part.strip()]


CHANGES: dict[str, Change] = {
    "prompt": _talked("prompt"),
    "opening": _talked("opening"),
    "turns": _talked("turns"),
    "answer": _answer,
    "draft": _draft,
    "clip": _clip,
    "choice": _choice,
    "ranked": _ranked,
    "labels": _labels,
    "marks": _marks,
    "up": _plain("value", {"yes": True, "no": False}.get),
    "vote": _plain("value", str),
    "text": _plain("value", str),
    "principle": _plain("payload", str),
    "steps": _plain("payload", lambda text: _between(text, r"\n\s*\n")),
    "policies": _plain("payload", lambda text: _between(text, ",")),
    "rules": _plain("payload", lambda text: _between(text, r"\n")),
}
"""What a touched field changes, by its name without a number at its end."""
