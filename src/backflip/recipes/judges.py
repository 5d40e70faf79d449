"""Judges to evaluate: a reward model, a run of the direct family, or a policy and another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backflip.algorithms.preference.dpo import DPO
from backflip.data.batches import ComparisonBatch
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit
from backflip.data.records import Solution
from backflip.data.solution_batches import tokenize_solutions
from backflip.data.sources import Source
from backflip.errors import UserError
from backflip.evaluation.process import ProcessReport, evaluate_process_model
from backflip.evaluation.suites.scorer import ImpliedScorer, judge_named
from backflip.evaluation.suites.subject import Asking, Subject
from backflip.evaluation.trust.report import TrustReport
from backflip.models.load import (
    CLASSIFIER,
    architecture,
    load_config,
    load_tokenizer,
    model_folder,
)
from backflip.models.process import is_process_model, load_process_model
from backflip.recipes import slips
from backflip.recipes.learnt import learnt_from
from backflip.recipes.load import parse
from backflip.recipes.names import read_yaml
from backflip.recipes.trust import Asked, trusted
from backflip.stages.choices import NAMES
from backflip.stages.direct import DirectRecipe
from backflip.stages.preferences import without_formatting
from backflip.stages.sources import account, load

__all__ = ["Judge", "judge_of", "measured", "scorer_of"]


@dataclass(frozen=True)
class Judge:
    """A model, and how its scores are to be had."""

    model: str
    """Folder or hub name."""
    objective: Any = None
    """Says what the implicit reward of an answer is; None for a reward model."""
    reference: str | None = None
    """Another language model; None for a reward model, and where the objective needs none."""
    mask_formatting: bool = False
    """Whether the run left the tokens that end a turn out of all losses."""
    steps: bool = False
    """Whether it judges steps: a process reward model."""

    def masked(self, batch: ComparisonBatch, ends: Sequence[int]) -> ComparisonBatch:
        """The comparisons with the masks that the run learnt from."""
        if not self.mask_formatting:
            return batch
        data = without_formatting(batch, ends)
        assert isinstance(data, ComparisonBatch)
        return data


def judge_of(run: Path, model: str, *, reference: str | None, beta: float | None) -> Judge:
    """Who is meant, with what the user says beside it.

    Args:
        run: what was named; the folder of a run, or not.
        model: the folder or hub name of the model itself.
        reference: the same of another language model.
        beta: scale of the implicit reward, where it is not the run's own.

    Raises:
        UserError: a language model without a reference, a reward model with one, a beta that is
            not above 0.

    """
    slips.check_beta(beta)
    recipe = _direct_recipe(run.expanduser())
    if recipe is not None:
        return _run(recipe, model, reference, beta)
    kind = architecture(load_config(model))
    if kind.endswith(CLASSIFIER):
        if reference is not None or beta is not None:
            raise UserError(
                f"{model} is a reward model, which scores by itself: reference and beta are for "
                "language models. Leave them out."
            )
        return Judge(model, steps=is_process_model(model))
    if reference is None:
        raise slips.without_reference(model, kind)
    return Judge(model, DPO() if beta is None else DPO(beta=float(beta)), reference)


def scorer_of(name: str, asking: Asking) -> Subject:
    """Whoever scores answers for a suite, by name: a reward model or its run, a run of the direct
    family by what it implies, or else a language model, which judges in words.
    """
    run = Path(name).expanduser()
    model = str(model_folder(run, of=("direct", "reward_model")) or name)
    if _direct_recipe(run) is None:
        return judge_named(model, asking)
    judge = judge_of(run, model, reference=None, beta=None)
    return ImpliedScorer(judge.model, judge.objective, judge.reference, judge.masked, asking)


def measured(
    judge: Judge,
    data: Source,
    asked: Asked,
    *,
    max_length: int | None,
    template: str | None,
    threshold: float | None,
    **reading: Any,
) -> TrustReport | ProcessReport:
    """A judge measured on comparisons, one of steps on solutions; for ``backflip evaluate``.

    Its sentences begin with what was left out of the data, or not used. ``reading``: format, limit
    and columns of the data.
    """
    chat = ChatTemplate(load_tokenizer(judge.model), template)
    if judge.steps:
        if asked.golden is not None or asked.members:
            raise UserError("golden and members are for reward models of whole answers.")
        return _steps_measured(judge, data, chat, Fit(max_length), threshold, **reading)
    if threshold is not None:
        raise UserError("threshold is for process reward models, which judge steps. Leave it out.")
    return trusted(judge, data, chat, Fit(max_length), asked, **reading)


def _steps_measured(
    judge: Judge,
    data: Source,
    chat: ChatTemplate,
    fit: Fit,
    threshold: float | None,
    **reading: Any,
) -> ProcessReport:
    """A process reward model measured on solutions with labelled steps."""
    loaded = load(data, Solution, **reading)
    model = load_process_model(judge.model, template=chat.source)
    made = tokenize_solutions(loaded.records, chat, fit=fit, separator=model.separator)
    found = evaluate_process_model(
        model, made.data, threshold=0.5 if threshold is None else threshold
    )
    left = [f"left out: {line}" for line in made.dropped.lines()]
    left += learnt_from(judge.model, [loaded.records[row] for row in made.kept])
    return dataclasses.replace(found, sentences=(*account(loaded, chat), *left, *found.sentences))


def _direct_recipe(folder: Path) -> DirectRecipe | None:
    """The recipe of a run of the direct family, or of that stage in a chain; None elsewhere."""
    for place in (folder / "direct", folder):
        path = place / "recipe.yaml"
        if not path.is_file():
            continue
        raw = read_yaml(path)
        stage = raw.pop("stage", None)
        if stage == DirectRecipe.model_fields["stage"].default:
            return cast("DirectRecipe", parse({**raw, "run": str(place)}, stage, str(path)))
    return None


def _run(recipe: DirectRecipe, model: str, other: str | None, beta: float | None) -> Judge:
    objective: Any = recipe.objective
    if beta is not None:
        objective = dataclasses.replace(objective, beta=float(beta))
    if other is not None and not objective.needs_reference:
        raise UserError(
            f"{recipe.run} was trained by {NAMES[type(objective)]}, which needs no reference. "
            f"Leave reference={other} out, or give {model} to be compared with it."
        )
    reference = other or recipe.reference or recipe.model
    reference = reference if objective.needs_reference else None
    return Judge(model, objective, reference, recipe.mask_formatting)
