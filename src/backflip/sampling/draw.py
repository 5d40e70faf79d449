"""One round of iterative learning: the policy answers, and what it said is scored.

``train.choosing`` makes comparisons or demonstrations of it; the ordinary stages learn from those.
Answers stay tokens from the sampler to the learner.

Both steps go prompt by prompt in chunks, each chunk written down when it is there::

    FOLDER/samples/about.json                 what was asked, of whom
    FOLDER/samples/draws_00002.safetensors    rollouts of the third chunk
    FOLDER/samples/scores_00002.safetensors   what was said of them

and, when all is scored, everything in ``FOLDER/samples.safetensors`` and for people in
``samples.jsonl``. A round that broke goes on at the chunk where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import Rollouts
from backflip.data.ragged import Ragged
from backflip.data.records import Tally
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.progress import each
from backflip.reward.protocol import Judgement, RewardSource
from backflip.sampling.samples import (
    Sampled,
    Scoring,
    Show,
    as_lines,
    joined,
    pack,
    pack_scores,
    plain,
    read,
    reasons,
    together,
    unpack,
    unpack_scores,
    write,
)
from backflip.training.online import Actor
from backflip.training.run_folder import write_atomically

__all__ = ["Round", "judge_all"]

Tell = Callable[[int, int], None]
"""Called with (prompts done, prompts in all) after each chunk."""
GIVE_UP = 8
"""Answers on which a scorer fails, with none that it scores, before it is taken to be down."""


@dataclass(frozen=True)
class RoundFolder:
    """Files of one round: chunks while it goes on, one file of all when it is finished."""

    folder: Path

    @property
    def whole(self) -> Path:
        """All samples and scores; there once the round is finished."""
        return self.folder / "samples.safetensors"

    @property
    def about(self) -> Path:
        """File with the facts about prompts and sampler of the round."""
        return self.folder / "samples" / "about.json"

    def chunk(self, what: str, number: int) -> Path:
        """Of ``draws`` or ``scores``."""
        return self.folder / "samples" / f"{what}_{number:05d}.safetensors"

    def drawn(self, number: int) -> Rollouts | None:
        """The answers of a chunk; None where it is not written yet."""
        found = here().once(lambda: read(self.chunk("draws", number)))
        return unpack(found[0]) if found else None

    def scored(self, number: int, rollouts: Rollouts) -> Scoring | None:
        """The scores of a chunk; None where they are not written yet."""
        found = here().once(lambda: read(self.chunk("scores", number)))
        return unpack_scores(*found, rollouts) if found else None

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write down what is asked, of whom; where that was done already, it must be the same.

        Raises UserError where it is not.
        """
        if self.about.is_file():
            self.agree(json.loads(self.about.read_text(encoding="utf-8")), facts)
            return
        self.about.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.about, json.dumps(facts, indent=2) + "\n")

    def agree(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Raises UserError where the round was begun with other facts."""
        for name in sorted(now.keys() | before.keys()):
            if before.get(name) != now.get(name):
                raise UserError(
                    f"{self.folder}: the round was begun with {name}={before.get(name)}, this is "
                    f"{now.get(name)}. Go on with what it was begun with, or remove the folder to "
                    "sample anew."
                )

    def finish(self, scoring: Scoring, show: Show | None) -> None:
        """One file of all in place of the chunks, and one for people where ``show`` is given."""
        if show is not None:
            write_atomically(self.folder / "samples.jsonl", as_lines(scoring, show))
        tensors = pack(scoring.sampled.rollouts) | pack_scores(scoring)
        about = self.about.read_text(encoding="utf-8")
        write(self.whole, tensors, reasons(scoring) | {"about": about})
        shutil.rmtree(self.folder / "samples", ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Round:
    """The samples of one round, in a folder of its own."""

    folder: Path
    prompts: Ragged[Any]
    """Tokens, ready for the assistant to speak."""
    seed: int = 0
    """Another round is another seed."""
    chunk: int = 32
    """Prompts that are answered, or scored, before something is written down."""
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Sampler and its settings. A folder that was begun with something else is refused."""
    most_failed: float = 0.5
    """Share of the answers that may stay without a score before the round stops."""

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise UserError(f"chunk is {self.chunk} prompts; it must be at least 1.")
        if not 0 <= self.most_failed < 1:
            raise UserError(f"most_failed is {self.most_failed}; it must lie in [0, 1).")
        if not len(self.prompts):
            raise UserError(f"{self.folder}: a round needs at least one prompt.")

    @property
    def _files(self) -> RoundFolder:
        return RoundFolder(self.folder)

    @property
    def finished(self) -> bool:
        """Whether all is sampled and scored."""
        return here().once(self._files.whole.is_file)

    def sample(self, sampler: Actor, source: RewardSource, *, show: Show | None = None) -> Scoring:
        """Draw, score and write down what is not there yet; all that is, in any case."""
        if self.finished:
            return self.load()
        self.draw(sampler)
        return self.score(source, show=show)

    def draw(self, sampler: Actor, *, tell: Tell | None = None) -> Rollouts:
        """Answers to all prompts; ``group`` is the number of the prompt.

        Raises UserError where the folder was begun with other prompts or settings.
        """
        files, group = self._files, getattr(sampler, "group_size", None)
        facts = self._facts() | {"answers_per_prompt": group}
        here().once(lambda: files.begin(facts))
        drawn: list[Rollouts] = []
        for number, start in enumerate(self._starts()):
            rollouts = files.drawn(number)
            if rollouts is None:
                rollouts = self._answered(sampler, number, start)
                here().once(partial(write, files.chunk("draws", number), pack(rollouts), {}))
            drawn.append(rollouts)
            if tell is not None:
                tell(min(start + self.chunk, len(self.prompts)), len(self.prompts))
        return joined(drawn)

    def score(
        self, source: RewardSource, *, show: Show | None = None, tell: Tell | None = None
    ) -> Scoring:
        """Scores by ``source`` of all that was drawn.

        An answer on which it raises, or whose score is not a number, stays without one and is
        named in ``failed``. Where the round was stopped, those alone are scored again.

        Raises:
            UserError: more than ``most_failed`` of the answers, or all of the first chunk, have no
                score; says what the scorer said. What was sampled and scored stays.

        """
        files = self._files
        drawn = [files.drawn(number) for number in range(len(self._starts()))]
        rollouts = [piece for piece in drawn if piece is not None]
        if len(rollouts) < len(drawn):
            raise UserError(f"{self.folder}: draw all answers before they are scored.")
        answers = sum(len(piece) for piece in rollouts)
        done: list[Scoring] = []
        for number, piece in enumerate(each(rollouts, "judging", len(rollouts), "parts")):
            before = files.scored(number, piece)
            now = judge_all(source, piece, before)
            if before is None or now.failed != before.failed:
                file = files.chunk("scores", number)
                here().once(partial(write, file, pack_scores(now), reasons(now)))
            done.append(now)
            self._check(done, answers)
            if tell is not None:
                tell(min((number + 1) * self.chunk, len(self.prompts)), len(self.prompts))
        scoring = together(done)
        here().once(lambda: files.finish(scoring, show))
        return scoring

    def load(self) -> Scoring:
        """The scores that a finished round wrote. Raises UserError where it was another round."""
        files = self._files
        found = here().once(lambda: read(files.whole))
        if found is None:
            raise UserError(f"{files.whole} cannot be read: remove it to sample the round again.")
        tensors, facts = found
        before = json.loads(facts["about"])
        before.pop("answers_per_prompt", None)
        files.agree(before, self._facts())
        return unpack_scores(tensors, facts, unpack(tensors))

    def _starts(self) -> range:
        return range(0, len(self.prompts), self.chunk)

    def _facts(self) -> dict[str, Any]:
        """Facts that must be the same for a folder to be gone on with."""
        return {
            "prompts": _digest(self.prompts),
            "seed": self.seed,
            "chunk": self.chunk,
            **{name: str(value) for name, value in self.about.items()},
        }

    def _answered(self, sampler: Actor, number: int, start: int) -> Rollouts:
        prompts = self.prompts[slice(start, start + self.chunk)]
        rollouts = sampler(prompts, seed=_mixed(self.seed, number))
        return replace(rollouts, group=rollouts.group + start)

    def _check(self, done: Sequence[Scoring], answers: int) -> None:
        """Stop where the scorer does not work."""
        seen = sum(len(scoring.sampled) for scoring in done)
        failed = sum(len(scoring.failed) for scoring in done)
        if failed < seen and failed <= self.most_failed * answers:
            return
        tally = Tally()
        for scoring in done:
            tally.update(scoring.tally())
        raise UserError(
            f"{self.folder}: the scorer failed on {failed} of the first {seen} answers "
            f"({answers} in all; up to {self.most_failed:.0%} may fail). It said: "
            f"{'; '.join(tally.lines()[:3])}. What was sampled and scored is kept: set the scorer "
            "right and resume the run, then only what failed is scored again."
        )


def judge_all(source: RewardSource, rollouts: Rollouts, before: Scoring | None = None) -> Scoring:
    """Scores of answers, one bad answer not spoiling the rest.

    Where it raises, the answers are cut in half until those that it raises on stand alone; where it
    has raised on ``GIVE_UP`` of them and scored none, it is down, and the rest is not asked. With
    ``before`` only the answers are judged that failed then. Raises UserError where there is not one
    score for each answer.
    """
    count = len(rollouts)
    scores = torch.full((count,), math.nan) if before is None else before.sampled.scores.clone()
    parts = {} if before is None else {name: part.clone() for name, part in before.parts.items()}
    failed = dict[int, str]()
    todo = list(range(count)) if before is None else sorted(before.failed)
    queue = [torch.tensor(todo, dtype=torch.long)] if todo else []
    while queue:
        rows = queue.pop()
        if len(failed) >= GIVE_UP and not scores[todo].isfinite().any():
            left = set(todo) - failed.keys()
            failed |= dict.fromkeys(left, f"not asked after {GIVE_UP} had failed")
            break
        try:
            returned = source(rollouts[rows])
        except Exception as error:  # whatever a scorer, which may be anybody's, can come up with
            if len(rows) == 1:
                failed[int(rows[0])] = _said(error)
            else:
                half = -(-len(rows) // 2)
                queue += [rows[half:], rows[:half]]
            continue
        judgement = _judgement(returned)
        said = _fitting(judgement.scores, len(rows), "scores")
        beside = {n: _fitting(part, len(rows), n) for n, part in judgement.parts.items()}
        scores[rows] = torch.where(said.isfinite(), said, math.nan)
        for name, part in beside.items():
            parts.setdefault(name, torch.full((count,), math.nan))[rows] = part
        bad = zip(plain(rows[~said.isfinite()]), plain(said[~said.isfinite()]), strict=True)
        failed |= {row: f"the score is {value}" for row, value in bad}
    return Scoring(Sampled(rollouts, scores), parts, failed)


def _judgement(said: Any) -> Judgement:
    """A scorer's result as a judgement; a list or a tensor of numbers will do."""
    if isinstance(said, Judgement):
        return said
    try:
        return Judgement(torch.as_tensor(said, dtype=torch.float32))
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"the scorer returned {type(said).__name__}. It must return one number for each "
            "answer: a list, a tensor, or Judgement(torch.tensor([…]))."
        ) from None


def _fitting(said: Tensor, rows: int, name: str) -> Float[Tensor, " B"]:
    if said.shape != (rows,):
        raise UserError(
            f"the scorer gave {name} of shape {list(said.shape)} for {rows} answers. It must give "
            "one number for each."
        )
    return said.detach().float().cpu()


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _digest(prompts: Ragged[Any]) -> str:
    parts = [prompts.lengths.cpu().numpy().tobytes(), prompts.values.cpu().numpy().tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _mixed(seed: int, number: int) -> int:
    """A seed for each chunk, so that no two share their random numbers."""
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
