"""``backflip evaluate`` on comparisons: judges loaded, rows read, the report and its page."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from backflip.data.batches import ComparisonBatch
from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, tokenize_comparisons
from backflip.data.formats import Loaded
from backflip.data.records import Comparison
from backflip.data.sources import Source, name_of
from backflip.data.subjects import used_columns
from backflip.errors import UserError
from backflip.evaluation.implicit import policy_scores
from backflip.evaluation.trust.golden import Golden, measured_golden
from backflip.evaluation.trust.page import trust_page
from backflip.evaluation.trust.pairs import judged_pairs
from backflip.evaluation.trust.probes import probe_results, probed
from backflip.evaluation.trust.report import TrustReport, trust_report
from backflip.evaluation.trust.words import remarks_of
from backflip.models.load import load_tokenizer, parameter_count, parameters_of
from backflip.models.save import load_reward_model
from backflip.monitor.report import as_page, write_page
from backflip.recipes.learnt import learnt_from
from backflip.reward.model import score_all
from backflip.stages.sources import account, load
from backflip.training.reference import check_same_vocabulary

__all__ = ["Asked", "page_of", "trusted"]


@dataclass(frozen=True)
class Asked:
    """What is asked of a judge beside comparisons."""

    name: str
    """The judge, as it was named."""
    policy: str | None = None
    """The model to be trained against it."""
    golden: Source | None = None
    """Rows that must be ordered right."""
    probes: int = 100
    """Answers that are changed and scored again; 0 probes nothing."""
    members: tuple[str, ...] = ()
    """Further reward models, of an ensemble."""
    subjects: Mapping[str, str] = field(default_factory=dict[str, str])
    """Columns with raters, groups and so on, where they have other names than the usual ones."""
    page: Path | None = None
    """File of the page; None writes none."""


def page_of(judge: Path, out: str | Path | None) -> Path | None:
    """The file of the page: what was named, or of a run trust.html in its folder, or none."""
    if out is not None:
        return as_page(Path(out))
    folder = judge.expanduser()
    return folder / "trust.html" if (folder / "recipe.yaml").is_file() else None


def trusted(
    judge: Any, data: Source, chat: ChatTemplate, fit: Fit, asked: Asked, **reading: Any
) -> TrustReport:
    """A judge measured on comparisons, on probes and on golden rows, with sentences and page.

    Its sentences begin with what was left out of the data, or not used. ``judge``: a
    ``judges.Judge``; ``reading``: format, limit and columns of the data.
    """
    loaded = load(data, Comparison, **reading)
    made = tokenize_comparisons(loaded.records, chat, fit=fit)
    records = [loaded.records[row] for row in made.kept]
    columns = _columns(records, asked)
    probes = probed(records, chat, fit, most=asked.probes) if asked.probes else None
    golden = _golden_rows(asked.golden, chat, fit)
    rows = [made.data, *([probes.batch] if probes else []), *([golden[0]] if golden else [])]
    batches = [judge.masked(one, chat.stop_tokens) for one in rows]
    scores, size = _scored(judge, asked.members, batches, chat)
    said = trust_report(
        asked.name, scores[0], made.data, records, columns,
        sizes=_sizes(judge, size, asked.policy),
        probes=probe_results(probes, scores[1], scores[0]) if probes else (),
        golden=_golden(asked, golden, scores[-1], scores[0]),
    )  # fmt: skip
    left = [f"left out: {line}" for line in made.dropped.lines()]
    left += learnt_from(judge.model, records)
    if probes and probes.unread:
        left.append(f"{probes.unread} of the answers to probe are too long with their changes.")
    sentences = (*account(_used(loaded, columns), chat), *left, *remarks_of(said))
    said = dataclasses.replace(said, sentences=sentences)
    if asked.page is None:
        return said
    said = dataclasses.replace(said, page=str(asked.page))
    write_page(asked.page, trust_page(said))
    return said


def _columns(records: Sequence[Comparison], asked: Asked) -> dict[str, str]:
    found = used_columns(records, asked.subjects)
    for subject, column in asked.subjects.items():
        if found.get(subject) != column:
            held = sorted({name for record in records for name in record.info})
            raise UserError(
                f"columns.{subject}={column}, but no row has a column {column!r} beside prompt and "
                f"answers; there are: {', '.join(held) or 'none'}."
            )
    return found


def _used(loaded: Loaded[Any], columns: Mapping[str, str]) -> Loaded[Any]:
    """The account of rows without the columns that the report reads."""
    unread = {name: n for name, n in loaded.unread.items() if name not in columns.values()}
    return dataclasses.replace(loaded, unread=unread)


def _golden_rows(
    source: Source | None, chat: ChatTemplate, fit: Fit
) -> tuple[ComparisonBatch, list[Comparison]] | None:
    """Golden rows as tokens. Raises UserError where one of them cannot be read, or is a tie."""
    if source is None:
        return None
    loaded = load(source, Comparison)
    made = tokenize_comparisons(loaded.records, chat, fit=fit)
    tied = [str(record.where) for record in loaded.records if record.tied]
    lost = [*loaded.dropped.lines(), *made.dropped.lines()]
    lost += [f"{len(tied)} × a tie (e.g. {', '.join(tied[:3])})"] if tied else []
    if lost:
        raise UserError(
            f"{name_of(source)}: golden rows must all be read and decided, and some are not: "
            f"{'; '.join(lost)}. Mend or remove them."
        )
    return made.data, [loaded.records[row] for row in made.kept]


def _golden(
    asked: Asked,
    rows: tuple[ComparisonBatch, list[Comparison]] | None,
    scores: Float[Tensor, "N M"],
    ordinary: Float[Tensor, "A M"],
) -> Golden | None:
    if rows is None or asked.golden is None:
        return None
    return measured_golden(name_of(asked.golden), judged_pairs(scores, *rows, ordinary=ordinary))


def _scored(
    judge: Any, members: Sequence[str], batches: Sequence[ComparisonBatch], chat: ChatTemplate
) -> tuple[list[Float[Tensor, "N M"]], int]:
    """Raw scores of all answers of each batch by each judge; parameters of the first."""
    if judge.objective is not None:
        if members:
            raise UserError("members are further reward models, and this is a policy. Drop them.")
        found = policy_scores(judge.model, batches, judge.objective, reference=judge.reference)
        return [scores[:, None] for scores in found], parameters_of(judge.model)
    size, columns = 0, list[list[Tensor]]()
    for name in (judge.model, *members):
        if name != judge.model:
            check_same_vocabulary(load_tokenizer(judge.model), load_tokenizer(name), name)
        model = load_reward_model(name, template=chat.source)
        size = size or parameter_count(model)[0]
        columns.append(list(_by_one(model, batches)))
        del model
        gc.collect()
    return [torch.cat(parts, 1) for parts in zip(*columns, strict=True)], size


def _by_one(model: Any, batches: Sequence[ComparisonBatch]) -> Iterator[Float[Tensor, "N M"]]:
    """Scores by the heads that judge; one that is held out has no say."""
    for batch in batches:
        yield score_all(model, batch.answers.values, raw=True)[:, : model.members]


def _sizes(judge: Any, parameters: int, policy: str | None) -> dict[str, Any]:
    beta = None if judge.objective is None else float(judge.objective.beta)
    size = parameters_of(policy) if policy else None
    return {"parameters": parameters, "policy_parameters": size, "beta": beta}
