"""Answers made on the spot: prompts become items with replies of two models, or of one at two
temperatures.

A model is a folder, a run, a hub name, smollm2, or the address of a server that speaks OpenAI's
protocol. Who wrote what is stored beside each reply and never shown to raters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from backflip.data.records import Messages, Prompt, Tally
from backflip.errors import UserError
from backflip.feedback.kinds.rank import KIND as RANK
from backflip.feedback.kinds.registry import every_kind, kind_of, named
from backflip.feedback.labellers.people import Group, payloads_of
from backflip.feedback.projects.project import Project
from backflip.server.base.talking import asked
from backflip.stages.sources import load
from backflip.text import counted

CHUNK = 16
"""Prompts that are answered before something is stored."""
OnProgress = Callable[[int, int], None]
"""Prompts answered, and how many there are."""


@dataclass(frozen=True)
class Author:
    """Somebody who answers prompts: a model at a temperature."""

    model: str
    temperature: float
    max_tokens: int = 256

    @property
    def name(self) -> str:
        """Name beside a reply."""
        return f"{self.model} at {self.temperature:g}"


class _Writers:
    """Models by name, each loaded once, whatever the temperatures."""

    def __init__(self) -> None:
        self._local: dict[str, _Local] = {}

    def replies(
        self, author: Author, prompts: Sequence[Messages], *, seed: int
    ) -> list[str | None]:
        """One reply to each prompt; none where it does not fit."""
        if author.model.startswith(("http://", "https://")):
            heat, most = author.temperature, author.max_tokens
            return [asked(author.model, "model", prompt, heat, most) for prompt in prompts]
        if author.model not in self._local:
            self._local[author.model] = _Local(author.model)
        return self._local[author.model].replies(author, prompts, seed)


class _Local:
    """A model on this machine."""

    def __init__(self, name: str) -> None:
        from backflip.api import model_of
        from backflip.data.chat import ChatTemplate
        from backflip.generate.torch.engine import TorchEngine
        from backflip.models.load import load_causal, load_tokenizer

        place = str(model_of(name))
        self.model = load_causal(place)
        self.tokenizer = load_tokenizer(place)
        self.template = ChatTemplate(self.tokenizer, None)
        self.engine = TorchEngine(self.model, decode=self.tokenizer.decode)

    def replies(self, author: Author, prompts: Sequence[Messages], seed: int) -> list[str | None]:
        from backflip.data.collate import Fit, tokenize_prompts
        from backflip.generate.engine import SamplingParams
        from backflip.generate.sampler import suited

        found: list[str | None] = [None] * len(prompts)
        fit = Fit(self._room(author.max_tokens))
        try:
            made = tokenize_prompts([Prompt(p) for p in prompts], self.template, fit=fit)
        except UserError:  # not one of them fits
            return found
        params = SamplingParams(max_tokens=author.max_tokens, temperature=author.temperature)
        params = suited(params, self.template, self.model)
        rows: Any = made.data.rows()
        said = self.engine.generate([row.tolist() for row in rows], params, seed=seed)
        ends = set(self.template.stop_tokens)
        for one in said:
            tokens = [token for token in one.tokens if token not in ends]
            found[made.kept[one.prompt_index]] = self.tokenizer.decode(tokens).strip()
        return found

    def _room(self, max_tokens: int) -> int | None:
        positions = getattr(self.model.config, "max_position_embeddings", None)
        return positions - max_tokens if positions and positions > max_tokens + 1 else None


def authors(
    models: Sequence[str], temperatures: Sequence[float], *, max_tokens: int = 256
) -> list[Author]:
    """Every model at every temperature; one model at one temperature speaks twice.

    Raises UserError for a temperature at which all of its replies are the same.
    """
    pairs = list(itertools.product(models, temperatures or (1.0,)))
    if len(pairs) == 1:
        if pairs[0][1] == 0:
            raise UserError(
                "one model at temperature 0 says the same twice. Give another --temperature, or "
                "another --answers."
            )
        pairs *= 2
    return [Author(model, heat, max_tokens) for model, heat in pairs]


@dataclass
class Drafted:
    """Outcome of the prompts."""

    prompts: int = 0
    added: int = 0
    left_out: Tally = field(default_factory=Tally)

    def lines(self) -> list[str]:
        """All of it, a sentence each."""
        found = [f"{counted(self.prompts, 'prompt')} answered, {counted(self.added, 'item')} added"]
        return found + [f"left out: {line}" for line in self.left_out.lines()]


def draft(
    project: Project,
    source: str,
    who: Sequence[Author],
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: OnProgress | None = None,
) -> Drafted:
    """Answer the prompts of a data source and ask the project's raters about the replies.

    Raises UserError where the kind shows no replies, or compares another number of them.
    """
    kind = project.settings.kind
    _check(kind, len(who))
    loaded = load(source, Prompt, limit=limit)
    done, writers = Drafted(), _Writers()
    done.left_out.update(loaded.dropped)
    prompts = [record.messages for record in loaded.records]
    for start in range(0, len(prompts), CHUNK):
        chunk = prompts[start : start + CHUNK]
        replies = [writers.replies(a, chunk, seed=seed + place) for place, a in enumerate(who)]
        payloads = list(_payloads(kind, chunk, who, replies, done))
        added = project.add_items(payloads, origin="drafted", batch=source[-100:])
        done.added += added.count
        for _ in range(added.duplicates):
            done.left_out.add("the project has the item already", source)
        done.prompts += len(chunk)
        if progress is not None:
            progress(done.prompts, len(prompts))
    return done


def _check(kind: str, who: int) -> None:
    shown = kind_of(kind)
    if not shown.fewest:
        known = named(one for one in every_kind() if one.fewest)
        raise UserError(f"projects of kind {kind!r} show no replies; use {known}.")
    if shown.exactly and who != shown.exactly:
        raise UserError(
            f"{who} replies to each prompt, and {kind} shows two. Give two models, or one with "
            f"two temperatures; or make a project of kind={RANK.name}."
        )


def _payloads(
    kind: str,
    prompts: Sequence[Messages],
    who: Sequence[Author],
    replies: Sequence[Sequence[str | None]],
    done: Drafted,
) -> Iterator[Any]:
    for number, prompt in enumerate(prompts):
        said = [(row[number], author.name) for row, author in zip(replies, who, strict=True)]
        texts: dict[str, str] = {}
        for text, name in said:
            if text:
                texts.setdefault(text, name)
        where = f"prompt {done.prompts + number + 1}"
        if any(text is None for text, _ in said):
            done.left_out.add("the prompt is too long for a model", where)
        elif len(texts) < kind_of(kind).fewest:
            done.left_out.add("the replies are the same or empty", where)
        else:
            yield from payloads_of(kind, Group(prompt, tuple(texts), tuple(texts.values())))
