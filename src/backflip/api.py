"""The interface of ``import backflip as bf``: the commands of the command line, from Python."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backflip.distributed.joining import joined
from backflip.errors import UserError
from backflip.monitor.progress import shown, starting

if TYPE_CHECKING:
    from backflip.data.audit import Audit
    from backflip.data.sources import Source
    from backflip.evaluation.process import ProcessReport
    from backflip.evaluation.trust.report import TrustReport
    from backflip.models.hub import Pushed
    from backflip.recipes.best_of import BestOfN
    from backflip.recipes.registry import Recipe
    from backflip.reward.protocol import RewardSource


@dataclass(frozen=True)
class Run:
    """A run, read from its folder whenever it is asked for."""

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


FUNCTIONS: dict[str, Any] = {
    "judge": "python",
    "reward": "python",
    "environment": {"name": "custom", "path": "python"},
}
"""Settings that may be functions or classes of Python, with what a recipe says in their place."""


def train(recipe: str | Path | Recipe, **overrides: Any) -> Run:
    """Run a recipe: ``bf.train("ppo", reward_model="runs/rm", algorithm={"kl_coef": 0.1})``.

    Args:
        recipe: ``sft``, ``reward_model``, ``ppo``, ``rlhf``, the path of a YAML file, or a recipe.
        overrides: settings by keyword; groups as mappings, of which the rest stays as it was.
            Where a model is asked for, the run that made it will do. ``judge`` of a recipe of
            rounds may be a function: a ``RewardSource``, rollouts in, a ``Judgement`` out.
            ``data`` and other sources may be rows in memory: a list of mappings, a dataset, a
            table. They are written to the run's folder, from where ``resume`` reads them.

    Raises:
        UserError: an unknown setting, data or a model that is not there, a folder that holds a run.

    """
    with starting():
        from backflip.recipes import run as stages
        from backflip.recipes.check import check_recipe
        from backflip.recipes.in_memory import written
    functions = {name: overrides.pop(name) for name in FUNCTIONS if callable(overrides.get(name))}
    if isinstance(recipe, str | Path):
        overrides |= {name: FUNCTIONS[name] for name in functions}
        several: dict[str, Any] = {}
        overrides |= {n: _addressed(overrides[n], several) for n in ("reward",) if n in overrides}
        functions |= {"reward": several} if several else {}
    if not isinstance(recipe, str | Path):
        if overrides:
            raise TypeError("a recipe that is complete takes no settings: name it, or copy it")
        recipes: Any = nullcontext(recipe)
    else:
        named = {key: _named(key, value) for key, value in overrides.items()}
        recipes = written(recipe, named)
    with joined(), recipes as ready:
        with shown():
            check_recipe(ready)
        return Run(stages.train(ready, functions=functions))


def _addressed(reward: Any, functions: dict[str, Any]) -> Any:
    """A reward with addresses in the place of its functions, which are put down under those."""
    if isinstance(reward, Mapping):
        return {key: _addressed(entry, functions) for key, entry in reward.items()}
    if isinstance(reward, list | tuple):
        return [_addressed(entry, functions) for entry in reward]
    if not callable(reward):
        return reward
    name = f"python:{getattr(reward, '__name__', type(reward).__name__)}"
    addresses = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(one for one in addresses if functions.setdefault(one, reward) is reward)


def _named(setting: str, value: Any) -> Any:
    """A value as the setting of a recipe: of a run, its model; inside of a reward too."""
    judges = setting in ("reward_model", "reward", "judge")
    if isinstance(value, Run):
        return str(model_of(value, of=("reward_model",) if judges else None))
    if judges and isinstance(value, Mapping):
        return {key: _named(setting, entry) for key, entry in value.items()}
    if judges and isinstance(value, list | tuple):
        return [_named(setting, entry) for entry in value]
    return value


def sweep(
    recipe: str | Path,
    over: Sequence[str] | Mapping[str, Sequence[Any]],
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Path:
    """Run a recipe for every value: ``sweep("dpo", {"objective.beta": [0.05, 0.1, 0.3]})``.

    ``overrides`` are settings that all runs share. Returns the folder of the runs, whose
    ``sweep.json`` has their summaries.
    """
    with starting():
        from backflip.recipes.sweep import train_sweep
    return train_sweep(recipe, overrides, over, before=_announce)


def resume_sweep(folder: str | Path) -> Path:
    """Go on with the runs of a sweep that are not finished."""
    with starting():
        from backflip.recipes import sweep
    return sweep.resume_sweep(Path(folder), before=_announce)


def _announce(point: Any) -> None:
    from rich.console import Console

    Console().rule(point.name, align="left")


def verifier(check: Callable[[str, str], float], model: str | Path | Run) -> RewardSource:
    """A judge for rounds: ``bf.train("iterative_dpo", model=m, judge=bf.verifier(check, m))``.

    ``check(prompt, answer)`` says what an answer is worth, as a number or as True and False;
    ``model``, whose tokens are read, is the one that answers.
    """
    from backflip.data.chat import ChatTemplate
    from backflip.models.load import load_tokenizer
    from backflip.reward.function import TextJudge

    return TextJudge(check=check, template=ChatTemplate(load_tokenizer(str(model_of(model)))))


def resume(
    run: str | Path | Run,
    *,
    judge: RewardSource | None = None,
    reward: Any = None,
    environment: Callable[..., Any] | None = None,
) -> Run:
    """Go on with a run that was interrupted, from its last whole checkpoint.

    ``judge``, ``reward``, ``environment``: the function that judged rounds or rewarded answers
    (several as they were handed over), the class that answered the policy, where one did.
    """
    from backflip.training.place import check_run

    several: dict[str, Any] = {}
    if reward is not None and not callable(reward):
        _addressed(reward, several)
    given = {"judge": judge, "reward": several or reward, "environment": environment}
    folder = run.folder if isinstance(run, Run) else Path(run)
    check_run(folder)
    with starting():
        from backflip.recipes import run as stages
    functions = {name: function for name, function in given.items() if function is not None}
    return Run(stages.resume(folder, functions=functions))


def evaluate(
    model: str | Path | Run,
    data: Source,
    *,
    format: str | None = None,
    limit: int | None = None,
    max_length: int | None = None,
    policy: str | None = None,
    reference: str | None = None,
    beta: float | None = None,
    template: str | None = None,
    columns: Mapping[str, str] | None = None,
    threshold: float | None = None,
    golden: Source | None = None,
    probes: int = 100,
    members: Sequence[str | Path | Run] = (),
    out: str | Path | None = None,
) -> TrustReport | ProcessReport:
    """How far a reward model, or a policy as one, can be trusted; of a process model, its accuracy.

    Args:
        model: a folder, a run or a hub name. A run of the direct family is measured by its own
            objective and reference, another language model by β·log π/π_ref.
        data: a file, folder, hub name or demo:NAME with comparisons; or rows in memory.
        format, limit, max_length, template, columns: how the data is read, as of ``check``; of
            ``columns`` also strength, confidence, rater, group and domain.
        policy: the model to be trained against it, whose size is compared.
        reference, beta: of a language model, what it was trained from, and its scale (0.1).
        threshold: of a process reward model, P(good) below which a step is wrong; 0.5.
        golden: comparisons that must be ordered right, each failure listed.
        probes: answers that are changed in ways whose worth is known; 0 leaves this out.
        members: further reward models, measured with ``model`` as an ensemble.
        out: a page with pictures; of a run, trust.html in its folder unless another is named.

    Raises UserError for a language model without a reference, or a reward model with one.

    """
    return _evaluated(**locals())


def _evaluated(model: Any, data: Source, **given: Any) -> TrustReport | ProcessReport:
    """The measurement that ``evaluate`` was asked for."""
    with starting(aside=True):
        from backflip.data.subjects import parted
        from backflip.recipes.judges import judge_of, measured
        from backflip.recipes.trust import Asked, page_of
    run = model.folder if isinstance(model, Run) else Path(model)
    name = str(model_of(model, of=("direct", "reward_model", "process_reward_model")))
    other, size = (
        None if given[m] is None else str(model_of(given[m])) for m in ("reference", "policy")
    )
    judge = judge_of(run, name, reference=other, beta=given["beta"])
    subjects, columns = parted(given["columns"] or {})
    read = {name: given[name] for name in ("format", "limit", "max_length", "template")}
    beside = tuple(str(model_of(one, of=("reward_model",))) for one in given["members"])
    page = page_of(run, given["out"])
    asked = Asked(str(run), size, given["golden"], given["probes"], beside, subjects, page)
    rows = _reading(**read, columns=columns)
    with shown(aside=True):
        return measured(judge, data, asked, **rows, threshold=given["threshold"])


def best_of_n(
    model: str | Path | Run,
    data: Source,
    reward_model: str | Path | Run | RewardSource,
    *,
    n: int = 16,
    out: str | Path = "best_of_n.jsonl",
    max_tokens: int = 256,
    temperature: float = 1.0,
    format: str | None = None,
    limit: int | None = None,
    max_length: int | None = None,
    template: str | None = None,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
) -> BestOfN:
    """Answer every prompt n times and keep what a reward model likes most.

    Args:
        model: who answers: a folder, a run or a hub name.
        data: a file, folder, hub name or demo:NAME with prompts; or rows in memory.
        reward_model: who chooses; or a function, rollouts in, a ``Judgement`` out.
        n, max_tokens, temperature, seed: answers to each prompt, their longest, how they are drawn.
        out: where the best answers go, as JSON lines.
        format, limit, max_length, template, columns: how the data is read, as of ``check``.

    Raises UserError: fewer than two answers, a judge with other tokens, no such model or data.

    """
    with starting(aside=True):
        from backflip.recipes.best_of import Prompts, answer_best_of_n
    given = isinstance(reward_model, str | Path | Run)
    judge = str(model_of(reward_model, of=("reward_model",))) if given else reward_model
    sampling = {"max_tokens": max_tokens, "temperature": temperature}
    prompts = Prompts(data, **_reading(format, limit, max_length, template, columns))
    with shown(aside=True):
        name, to = str(model_of(model)), Path(out)
        return answer_best_of_n(name, prompts, judge, n=n, out=to, sampling=sampling, seed=seed)


def _reading(
    format: str | None,
    limit: int | None,
    max_length: int | None,
    template: str | None,
    columns: Mapping[str, str] | None,
) -> dict[str, Any]:
    """How data is read, by the names that functions take; columns are checked."""
    from backflip.recipes.load import known_columns

    found = {"format": format, "limit": limit, "max_length": max_length, "template": template}
    return {**found, "columns": known_columns(columns or {})}


def check(
    data: Source,
    *,
    kind: str | None = None,
    format: str | None = None,
    limit: int | None = None,
    model: str | None = None,
    template: str | None = None,
    max_length: int | None = None,
    against: str | None = None,
    columns: Mapping[str, str] | None = None,
    streaming: bool = False,
) -> Audit:
    """Count what is wrong with a dataset: ``print(bf.check("comparisons.jsonl").rows())``.

    Args:
        data: a file, folder, hub name, demo:NAME or feedback:PROJECT; or rows in memory.
        kind: demonstrations, comparisons, labelled or prompts; told by the columns when not given.
        format: of the data; found by the columns when not given.
        limit: rows to read at most.
        model: whose tokenizer counts lengths; without it they are words.
        template: chatml, hh, plain or a file of Jinja, for a model without a chat template.
        max_length: longest prompt and answer together; with a model 512, as in the recipes.
        against: test data, whose prompts should not be in this one.
        columns: which column stands for what: ``{"prompt": "ask"}``, as ``data.columns`` of a
            recipe.
        streaming: look at the first rows only, ``limit`` or 10,000; of the hub, fetch no more.

    """
    with starting(aside=True):
        from backflip.recipes.audits import audited
    with shown(aside=True):
        reading = _reading(format, limit, max_length, template, columns)
        name = str(model_of(model)) if model else None
        return audited(
            data, kind, model=name, against=against, streaming=streaming, reading=reading
        )


def push(run: str | Path | Run, name: str, *, private: bool = True) -> Pushed:
    """Put a run's model on the Hugging Face hub: ``bf.push("runs/dpo", "me/my-model")``.

    Args:
        run: a run or the folder of a model; of a chain the policy goes.
        name: of the repository, owner/name; it is made where there is none.
        private: of a new repository, that only its owner sees it.

    Raises:
        UserError: no model in the run, no token, no network, or the hub refuses.

    """
    from backflip.models import hub

    folder = Path(model_of(run))
    if not (folder / "config.json").is_file():
        raise UserError(f"{run} holds no model. Give the folder of a run or of a model.")
    return hub.push(folder, name, private=private)


def load_model(name: str | Path | Run) -> Any:
    """The language model of a run, a folder, a hub name, or ``smollm2``: a transformers model."""
    with starting(aside=True):
        from backflip.models.load import load_causal
    with shown(aside=True):
        return load_causal(str(model_of(name)))


def model_of(name: Any, *, of: tuple[str, ...] | None = None) -> Any:
    """The model's own folder where a run was named; any other name as it is.

    ``of``: the stages of a chain whose model is wanted; else those that end in a policy. Raises
    UserError where a run has no model yet.
    """
    from backflip.models.load import POLICIES, model_folder
    from backflip.models.smollm2 import NAME

    if name == NAME:
        return name
    folder = name.folder if isinstance(name, Run) else Path(name).expanduser()
    return model_folder(folder, of=of or POLICIES) or name
