"""Sources of reward as settings: models, functions, verifiers, judges, mixes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from backflip.algorithms.ranges import Usual
from backflip.data.chat import ChatTemplate
from backflip.data.records import Prompt
from backflip.errors import UserError
from backflip.generate.engine import Engine, SamplingParams
from backflip.generate.torch.engine import TorchEngine
from backflip.models.load import load_causal, load_tokenizer
from backflip.models.save import load_reward_model
from backflip.reward.ensemble import Ensemble
from backflip.reward.function import FunctionReward, check_function, load_function
from backflip.reward.judge import PolicyJudge
from backflip.reward.model import RewardModelSource
from backflip.reward.protocol import Mix, RewardSource
from backflip.reward.verifier import Verifier
from backflip.stages.choices import one_of, register, sum_of
from backflip.stages.context import StageContext
from backflip.training.reference import check_same_vocabulary

__all__ = ["PYTHON", "REWARDS", "RewardContext", "Rewards", "reward_in"]

PYTHON = "python"
"""The address of a function that is handed over in Python."""
SELF = "self"


@dataclass(frozen=True)
class RewardContext:
    """Parts that sources of reward are built from."""

    context: StageContext
    engine: Engine | None
    """The policy's own, where the source says that it uses the policy."""
    records: Sequence[Prompt]
    """Prompts by ``Rollouts.row``."""
    function: Callable[..., Any] | None
    """From Python, where the recipe says so."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A reward model, which reads whole answers."""

    model: str | None = None
    """Folder of a reward model, or of the run that trained it. Needed, outside of a chain."""

    uses_policy: ClassVar[bool] = False
    """Whether it asks the policy itself."""

    def scorers(self) -> list[str]:
        """Reward models that it loads."""
        return [self.model] if self.model else []

    def faults(self, where: str) -> Iterator[str]:
        """Sentences on settings that cannot be; ``where`` is the setting's name."""
        del where
        return iter(())

    def build(self, given: RewardContext) -> RewardSource:
        assert self.model is not None, "the recipe is checked before anything loads"
        return _scorer(self.model, given.context)


@dataclass(frozen=True, kw_only=True)
class EnsembleOfModels:
    """Several reward models (Coste et al., 2023)."""

    models: tuple[str, ...] = ()
    """Folders of reward models, four or five of them."""
    combine: Literal["mean", "worst", "uncertainty"] = "mean"
    """The members' mean, the worst of them, or the mean less uncertainty_coef·variance."""
    uses_policy: ClassVar[bool] = False
    uncertainty_coef: Annotated[float, Usual(0.01, 1.0, "0.1 (Coste et al., 2023)")] = 0.1
    """λ of ``combine: uncertainty``."""

    def scorers(self) -> list[str]:
        return list(self.models)

    def faults(self, where: str) -> Iterator[str]:
        if len(self.models) < 2:
            yield (
                f"{where}.models has {len(self.models)} entries; an ensemble needs two "
                "reward models or more."
            )

    def build(self, given: RewardContext) -> RewardSource:
        members = [_scorer(model, given.context) for model in self.models]
        return Ensemble(members, self.combine, self.uncertainty_coef)


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of Python: it is handed what its parameters ask for."""

    path: str = PYTHON
    """FILE.py:NAME; python for one that is handed over in Python."""
    uses_policy: ClassVar[bool] = False

    def scorers(self) -> list[str]:
        return []

    def faults(self, where: str) -> Iterator[str]:
        if self.path != PYTHON:
            try:
                load_function(self.path)
            except UserError as error:
                yield f"{where}: {error}"

    def build(self, given: RewardContext) -> FunctionReward:
        function = given.function if self.path == PYTHON else load_function(self.path)
        if function is None:
            run = given.context.recipe.run
            raise UserError(
                f"{run} is rewarded by a function, which no file can hold. Hand it over in Python: "
                f'bf.train(…, reward=FUNCTION), or bf.resume("{run}", reward=FUNCTION).'
            )
        if isinstance(function, Verifier):
            function = function.check
        if remark := check_function(function, given.records):
            given.context.say(remark)
        template = given.context.template
        return FunctionReward(function=function, template=template, records=given.records)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A verifier: a function that says whether an answer is right, and what each verdict scores."""

    path: str = PYTHON
    """FILE.py:NAME; python for one that is handed over in Python."""
    correct: float = 1.0
    """Score of an answer that is right."""
    incorrect: float = 0.0
    """Score of an answer that is wrong."""
    unparsable: float = 0.0
    """Score of an answer that holds nothing to check."""
    uses_policy: ClassVar[bool] = False

    def scorers(self) -> list[str]:
        return []

    def faults(self, where: str) -> Iterator[str]:
        yield from Function(path=self.path).faults(where)
        if self.incorrect > self.correct:
            yield (
                f"{where}.incorrect is {self.incorrect:g} and {where}.correct {self.correct:g}: "
                "wrong answers would be paid for. Exchange them."
            )

    def build(self, given: RewardContext) -> RewardSource:
        scores = {
            "correct": self.correct,
            "incorrect": self.incorrect,
            "unparsable": self.unparsable,
        }
        return replace(Function(path=self.path).build(given), scores=scores)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A language model that grades answers in words, from 0 to 5."""

    model: str = SELF
    """Folder or hub name; self: the policy grades its own answers."""
    samples: int = 3
    """Gradings of each answer, which are averaged (Yuan et al., 2024: 3)."""
    sampling: SamplingParams = field(
        default_factory=lambda: SamplingParams(max_tokens=256, temperature=0.7, top_p=0.9)
    )
    """How gradings are drawn."""

    @property
    def uses_policy(self) -> bool:
        return self.model == SELF

    def scorers(self) -> list[str]:
        return []

    def faults(self, where: str) -> Iterator[str]:
        if self.samples < 1:
            yield f"{where}.samples is {self.samples}; it must be 1 or more."

    def build(self, given: RewardContext) -> RewardSource:
        context, seed = given.context, given.context.recipe.seed
        how = {"samples": self.samples, "seed": seed, "reads": context.template}
        if self.model == SELF:
            engine: Any = given.engine
            params = context.sampling(self.sampling, engine.model)
            return PolicyJudge(engine=engine, template=context.template, params=params, **how)
        model = load_causal(self.model, precision=context.recipe.precision)
        tokenizer = load_tokenizer(self.model)
        template = ChatTemplate(tokenizer)
        engine = TorchEngine(model.requires_grad_(requires_grad=False), decode=tokenizer.decode)
        return PolicyJudge(engine=engine, template=template, params=self.sampling, **how)


@dataclass(frozen=True, kw_only=True)
class MixOfRewards:
    """Σ weight · reward over several sources, each watched under its name."""

    terms: tuple[Any, ...]
    """Sources of reward, each with settings of its own."""
    weights: tuple[float, ...]
    """One for each term."""

    @property
    def uses_policy(self) -> bool:
        return any(term.uses_policy for term in self.terms)

    def scorers(self) -> list[str]:
        return [model for term in self.terms for model in term.scorers()]

    def faults(self, where: str) -> Iterator[str]:
        for number, weight in enumerate(self.weights, start=1):
            if not math.isfinite(weight):
                yield f"{where}.weights[{number}] is {weight:g}; it must be a finite number."
        for number, term in enumerate(self.terms, start=1):
            yield from term.faults(f"{where}.terms[{number}]")

    def build(self, given: RewardContext) -> RewardSource:
        names = [name_of(term) for term in self.terms]
        numbered = [n if names.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(names, 1)]
        built = {n: term.build(given) for n, term in zip(numbered, self.terms, strict=True)}
        return Mix(built, self.weights)


REWARDS: dict[str, type[Any]] = {
    "model": Model,
    "ensemble": EnsembleOfModels,
    "function": Function,
    "verifier": Check,
    "judge": Judge,
    "mix": MixOfRewards,
}
"""Sources of reward by the name that a recipe gives."""
register(REWARDS)
TERMS = {name: kind for name, kind in REWARDS.items() if kind is not MixOfRewards}

if TYPE_CHECKING:
    Rewards: TypeAlias = Model | EnsembleOfModels | Function | Check | Judge | MixOfRewards
else:
    Rewards = one_of(REWARDS, {MixOfRewards: sum_of(MixOfRewards, TERMS)})


def name_of(term: Any) -> str:
    """A word for a source among others: the function's name, or its kind."""
    if isinstance(term, Function | Check) and term.path != PYTHON:
        return term.path.rpartition(":")[2]
    return next(name for name, kind in REWARDS.items() if type(term) is kind)


def reward_in(raw: Any) -> Any:
    """A reward as a recipe may say it → a mapping: a word is a function's address or a model."""
    if isinstance(raw, Mapping):
        given = dict(raw)
        if isinstance(path := given.get("path"), str):
            given["path"] = _absolute(path)
        if isinstance(terms := given.get("terms"), list | tuple):
            given["terms"] = [reward_in(term) for term in terms]
        return given if "name" in given else {"name": "model", **given}
    if raw is None:
        return {"name": "model"}
    if isinstance(raw, list | tuple) or callable(raw):
        raise ValueError(
            "one function from Python stands alone, reward=FUNCTION; several rewards are {name: "
            "mix, terms: [my_rewards.py:NAME, runs/MY-REWARD-MODEL], weights: [1, 0.5]}"
        )
    if not isinstance(raw, str | Path):
        return raw
    raw = str(raw)
    if raw == PYTHON or ".py:" in raw:
        return {"name": "function", "path": _absolute(raw)}
    return {"name": raw} if raw in REWARDS else {"name": "model", "model": raw}


def _absolute(address: str) -> str:
    """A function's address that means the same from any folder."""
    file, colon, name = address.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{name}" if colon and file else address


def _scorer(model: str, context: StageContext) -> RewardSource:
    """A frozen reward model that reads the policy's own tokens."""
    precision, template = context.recipe.precision, context.template.source
    made = load_reward_model(model, precision=precision, template=template)
    made.requires_grad_(requires_grad=False)
    check_same_vocabulary(context.tokenizer, load_tokenizer(model), model)
    return RewardModelSource(made)
