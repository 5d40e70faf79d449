"""What ``import backflip as bf`` offers: the commands of the command line, from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backflip.data.audit import Audit
    from backflip.evaluate.reward_model import RewardReport
    from backflip.recipes.schema import Recipe

STAGES = ("ppo", "reward_model", "sft")
"""Where the result of a chain lies: in the last of its stages."""


@dataclass(frozen=True)
class Run:
    """What a run left behind, read from its folder whenever it is asked for."""

    folder: Path
    """The run's folder."""

    @property
    def model(self) -> Path:
        """The trained model, a plain Hugging Face folder; of a chain, the policy."""
        return model_of(self.folder)

    @property
    def report(self) -> Path:
        """A page for the browser: curves, samples, results."""
        return self.folder / "report.html"

    @property
    def summary(self) -> dict[str, Any]:
        """The results; of a chain, those of each stage under its name."""
        from backflip.monitor.folder import read_run

        run = read_run(self.folder)
        if len(run.stages) == 1:
            return dict(run.stages[0].summary or run.summary)
        return {stage.name: dict(stage.summary) for stage in run.stages}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per step: stage, step, seconds so far, and what was measured."""
        from backflip.monitor.folder import read_run

        return [
            {"stage": stage.name, "step": entry.step, "seconds": entry.time, **entry.metrics}
            for stage in read_run(self.folder).stages
            for entry in stage.entries
        ]


def train(recipe: str | Path | Recipe, **overrides: Any) -> Run:
    """Run a recipe: ``bf.train("ppo", reward_model="runs/rm", algorithm={"kl_coef": 0.1})``.

    Args:
        recipe: ``sft``, ``reward_model``, ``ppo``, ``rlhf``, the path of a YAML file, or a recipe.
        overrides: settings by keyword; groups as mappings, of which the rest stays as it was.
            Where a model is asked for, the run that made it will do.

    Raises:
        UserError: an unknown setting, data or a model that is not there, a folder that holds a run.

    """
    from backflip.recipes import stages
    from backflip.recipes.load import load_recipe
    from backflip.recipes.rules import check_recipe

    if not isinstance(recipe, str | Path):
        if overrides:
            raise TypeError("a recipe that is complete takes no settings: name it, or copy it")
        ready: Recipe = recipe
    else:
        named = {k: str(model_of(v)) if isinstance(v, Run) else v for k, v in overrides.items()}
        ready = load_recipe(recipe, named)
    check_recipe(ready)
    return Run(stages.train(ready))


def resume(run: str | Path | Run) -> Run:
    """Go on with a run that was interrupted, from its last whole checkpoint."""
    from backflip.recipes import stages

    folder = run.folder if isinstance(run, Run) else Path(run)
    return Run(stages.resume(folder))


def evaluate(
    model: str | Path | Run,
    data: str,
    *,
    format: str | None = None,
    limit: int | None = None,
    max_length: int | None = None,
    policy: str | None = None,
) -> RewardReport:
    """Accuracy and calibration of a reward model on comparisons.

    Args:
        model: a folder, a run or a hub name.
        data: a file, folder, hub name or demo:NAME with comparisons.
        format: of the data; found by the columns when not given.
        limit: rows to read at most.
        max_length: tokens beyond which a row is dropped and counted.
        policy: the model to be trained against it, whose size is compared.

    """
    from backflip.data.chat import ChatTemplate
    from backflip.data.collate import Fit, tokenize_comparisons
    from backflip.data.formats import load
    from backflip.data.records import Comparison
    from backflip.evaluate.reward_model import evaluate_reward_model
    from backflip.models.load import load_tokenizer, parameters_of
    from backflip.models.save import load_reward_model

    name = str(model_of(model, of=("reward_model",)))
    loaded = load(data, Comparison, format=format, limit=limit)
    template = ChatTemplate(load_tokenizer(name))
    tokenized = tokenize_comparisons(loaded.records, template, fit=Fit(max_length))
    size = parameters_of(str(model_of(policy))) if policy else None
    return evaluate_reward_model(load_reward_model(name), tokenized.data, policy_parameters=size)


def check(
    data: str,
    *,
    kind: str | None = None,
    format: str | None = None,
    limit: int | None = None,
    model: str | None = None,
    template: str | None = None,
    max_length: int | None = None,
    against: str | None = None,
) -> Audit:
    """Count what is wrong with a dataset: ``print(bf.check("comparisons.jsonl").rows())``.

    Args:
        data: a file, folder, hub name or demo:NAME.
        kind: demonstrations, comparisons or prompts; told by the columns when not given.
        format: of the data; found by the columns when not given.
        limit: rows to read at most.
        model: whose tokenizer counts lengths; without it they are words.
        template: chatml, hh or plain, for a model without a chat template.
        max_length: longest prompt and answer together.
        against: test data, whose prompts should not be in this one.

    """
    from backflip.data.audit import audit
    from backflip.data.chat import ChatTemplate
    from backflip.data.formats import load
    from backflip.models.load import load_tokenizer

    found = kind or kind_of(data, format)
    other = load(against, kind_of(against, None)).records if against else None
    chat = ChatTemplate(load_tokenizer(str(model_of(model))), template) if model else None
    loaded = load(data, found, format=format, limit=limit)
    return audit(loaded, template=chat, max_length=max_length, against=other)


def load_model(name: str | Path | Run) -> Any:
    """The language model of a run, a folder, a hub name, or ``smollm2``: a transformers model."""
    from backflip.models.load import load_causal

    return load_causal(str(model_of(name)))


def model_of(name: Any, *, of: tuple[str, ...] = STAGES) -> Any:
    """The model's own folder where a run was named; any other name as it is.

    Raises UserError where a run has no model yet.
    """
    from backflip.data.errors import UserError

    if isinstance(name, Run):
        name = name.folder
    folder = Path(name).expanduser()
    for stage in (*of, "."):
        if (folder / stage / "model" / "config.json").is_file():
            return folder / stage / "model"
    if (folder / "recipe.yaml").is_file() and not (folder / "config.json").is_file():
        raise UserError(f"the run {name} has no model yet. Finish it: backflip resume {name}")
    return name


def kind_of(data: str, format: str | None) -> str:
    """Which kind of record a source holds, told by the columns of its first row."""
    from backflip.data.formats import detect
    from backflip.data.sources import read

    name = format or next((detect(row.fields, data).name for row in read(data, limit=1)), "")
    kinds = {"prompt": "prompts", "messages": "demonstrations", "text": "demonstrations"}
    return {**kinds, "prompt_completion": "demonstrations"}.get(name, "comparisons")
