"""The rows of the direct family: records → tokens, and what an objective cannot use of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from backflip.algorithms.discover import DIRECT
from backflip.algorithms.reward.base import prompts_with_a_winner
from backflip.data.batches import ComparisonBatch, LabelledBatch, TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, Tokenized, tokenize_comparisons, tokenize_labelled
from backflip.data.ragged import Ragged
from backflip.data.records import Comparison, Labelled, Prompt, Record, prompt_of
from backflip.data.referenced import ReferencedComparisons, ReferencedLabels
from backflip.data.splits import split_by_prompt
from backflip.data.streaming import StreamedBatches
from backflip.errors import UserError
from backflip.stages.choices import NAMES
from backflip.stages.context import StageContext
from backflip.stages.sources import load
from backflip.stages.streams import StageRows
from backflip.text import counted

__all__ = ["PreferenceRows", "tokenized", "without_formatting"]

Preferences = ComparisonBatch | LabelledBatch
Referenced = ReferencedComparisons | ReferencedLabels
WITH_TIES = [f"objective={name}" for name, kind in DIRECT.items() if kind.learns_ties is True]
"""Settings that learn from ties."""


@dataclass(frozen=True)
class PreferenceRows:
    """The rows of a stage, read before anything is trained unless they are streamed."""

    train: Preferences | Referenced | StreamedBatches[Any]
    held_out: Preferences | Referenced | None
    pairs: ComparisonBatch | ReferencedComparisons | None
    """Held-out comparisons by which implicit rewards are judged: those of ``held_out``, or, of
    labels that were made out of comparisons, the comparisons; None where there are none."""
    golden: ComparisonBatch | ReferencedComparisons | None
    prompts: tuple[Prompt, ...]
    """Of the held-out rows, each once."""

    @staticmethod
    def of(
        context: StageContext, recipe: Any, ready: ComparisonBatch | None = None
    ) -> PreferenceRows:
        """Rows of the recipe's data; or those that are ``ready``, all of them to learn from.

        Raises UserError where there is nothing to learn from, or nothing to be measured by.
        """
        if ready is not None:
            return PreferenceRows._ready(context, recipe, ready)
        rows: StageRows[Any, Any] = StageRows.of(context, recipe.record)
        held = rows.held
        _check(context, recipe, rows.sample)
        held_out = _told(context, held) if held else None
        pairs = held_out if isinstance(held_out, ComparisonBatch) else _comparisons(context)
        golden = None
        if recipe.golden:
            golden = _told(context, context.read(recipe.golden, Comparison))
            if not _decided(golden):
                raise UserError(
                    f"golden: {recipe.golden} holds {counted(len(golden), 'comparison')}, "
                    "nothing but ties: accuracy has no meaning. Give some in which one answer "
                    "is better."
                )
        return PreferenceRows(
            train=rows.train,
            held_out=held_out,
            pairs=pairs if pairs is not None and _decided(pairs) else None,
            golden=golden,
            prompts=_prompts(held),
        )

    @staticmethod
    def _ready(context: StageContext, recipe: Any, data: ComparisonBatch) -> PreferenceRows:
        """Comparisons that are tokens already, all of them to learn from."""
        if recipe.mask_formatting:
            data = replace(data, mask=_unformatted(data, context.template.stop_tokens))
        _check(context, recipe, data)
        return PreferenceRows(train=data, held_out=None, pairs=None, golden=None, prompts=())


def tokenized(
    records: Sequence[Any], template: ChatTemplate, *, fit: Fit, seed: int, mask_formatting: bool
) -> Tokenized[Any]:
    """Comparisons or labelled answers as tokens; see ``without_formatting``."""
    if records and isinstance(records[0], Labelled):
        made: Any = tokenize_labelled(records, template, fit=fit, seed=seed)
    else:
        made = tokenize_comparisons(records, template, fit=fit)
    if mask_formatting:
        return replace(made, data=without_formatting(made.data, template.stop_tokens))
    return made


def without_formatting(data: Preferences, ends: Sequence[int]) -> Preferences:
    """The same rows, in which no preference looks at the tokens ``ends``.

    Llama 3.1 (Dubey et al., 2024, §4.1.4): as parts of chosen and of rejected answers alike, they
    made the model repeat itself or stop at once. The likelihood of the chosen answer beside it
    still learns them, which keeps the form of an answer.
    """
    if isinstance(data, ComparisonBatch):
        return replace(data, mask=_unformatted(data, ends))
    return replace(
        data,
        mask=_without(data.mask, data.steps, ends),
        mismatched_mask=_without(data.mismatched_mask, data.mismatched, ends),
    )


def _unformatted(data: ComparisonBatch, ends: Sequence[int]) -> Ragged[Tensor]:
    mask = _without(data.mask.values, data.answers.values, ends)
    return Ragged(mask, data.mask.offsets)


def _without(mask: Tensor, steps: TokenSteps, ends: Sequence[int]) -> Tensor:
    tokens = torch.full(mask.shape, -1)
    tokens[steps.mask] = steps.answer.values
    return mask & ~torch.isin(tokens, torch.tensor(ends, dtype=torch.long))


def _told(context: StageContext, records: Sequence[Any]) -> Any:
    return context.told(context.recipe.tokenize(records, context.template))


def _prompts(records: Sequence[Record]) -> tuple[Prompt, ...]:
    """The prompts of the records, each once."""
    return tuple(dict.fromkeys(Prompt(prompt_of(record)) for record in records))


def _comparisons(context: StageContext) -> ComparisonBatch | None:
    """The held-out comparisons that labels were made of; None where the data holds labels."""
    data = context.recipe.data
    try:
        source, limit = data.validation or data.source, None if data.validation else data.limit
        form = None if data.validation else data.format
        records = load(
            source, Comparison, format=form, limit=limit, columns=data.columns.given
        ).records
    except UserError:  # the source has been read as labels, so only its kind can be the reason
        return None
    if data.validation is None:
        _, records = split_by_prompt(records, held_out=data.held_out, seed=context.recipe.seed)
    return context.recipe.tokenize(records, context.template).data if records else None


# ---- what an objective cannot use


def _decided(data: ComparisonBatch) -> int:
    """Prompts with an answer that is better than another."""
    return int(prompts_with_a_winner(data).sum())


def _check(context: StageContext, recipe: Any, data: Preferences) -> None:
    """Refuse what says nothing to the objective; say what it leaves unused."""
    if isinstance(data, LabelledBatch):
        _check_labels(context, recipe, data)
        return
    _check_ties(context, recipe, data)
    objective: Any = recipe.objective
    name = NAMES[type(objective)]
    for field, plain, what in (("margin", 0.0, "margins"), ("soft", 1.0, "soft labels")):
        rows = int((getattr(data, field) != plain).sum())
        if rows and field not in objective.uses_labels:
            context.say(
                f"  {what}, which {name} does not heed: {rows} of {counted(len(data), 'row')}"
            )
    many = int((data.answers.lengths > 2).sum())
    if many:
        of = counted(len(data), "row")
        context.say(f"  more than two answers, all of which are learnt from: {many} of {of}")


def _check_labels(context: StageContext, recipe: Any, data: LabelledBatch) -> None:
    good = int(data.label.sum())
    if 0 < good < len(data):
        weights = [float(data.weight[kind].sum()) for kind in (data.label, ~data.label)]
        if warning := recipe.objective.imbalance(*weights):
            context.say(f"  {warning}")
        return
    kind, other = ("good", "bad") if good else ("bad", "good")
    raise UserError(
        f"{recipe.data.source}: nothing but answers labelled {kind} ({len(data)}), so "
        f"there is nothing to tell apart. Add answers labelled {other}"
        + (", or learn from these by `backflip train sft`." if good else ".")
    )


def _check_ties(context: StageContext, recipe: Any, data: ComparisonBatch) -> None:
    """Say what an objective that cannot learn from ties leaves unused."""
    if recipe.objective.learns_ties:
        return
    ties = len(data) - _decided(data)
    if ties == len(data):
        raise UserError(
            f"{recipe.data.source}: nothing but ties ({ties}) to learn from, which say "
            f"nothing to this objective. Set {' or '.join(WITH_TIES)}, or give "
            "comparisons in which one answer is better."
        )
    if ties:
        context.say(
            f"  ties, which say nothing to this objective: {ties} of "
            f"{counted(len(data), 'row')}; "
            f"{' and '.join(WITH_TIES)} learn from them"
        )
