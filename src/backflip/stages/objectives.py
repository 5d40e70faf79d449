"""The algorithms that a recipe may name, by their names, and how it says them.

A new one is a line in one of the tables below. Its fields are its settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import (
    BeforeValidator,
    Discriminator,
    InstanceOf,
    PlainSerializer,
    Tag,
    TypeAdapter,
)

from backflip.algorithms.online.one_step_ppo import OneStepPPO
from backflip.algorithms.online.ppo import PPO
from backflip.algorithms.preference.apo_down import APODown
from backflip.algorithms.preference.apo_zero import APOZero
from backflip.algorithms.preference.apo_zero_unpaired import APOZeroUnpaired
from backflip.algorithms.preference.base import DirectObjective
from backflip.algorithms.preference.bco import BCO
from backflip.algorithms.preference.cpo import CPO
from backflip.algorithms.preference.davidson_dpo import DavidsonDPO
from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.exo import EXO
from backflip.algorithms.preference.f_dpo import FDPO
from backflip.algorithms.preference.ipo import IPO
from backflip.algorithms.preference.ipo_sum import IPOSum
from backflip.algorithms.preference.kto import KTO
from backflip.algorithms.preference.length_normalised_dpo import LengthNormalisedDPO
from backflip.algorithms.preference.mixture import Mixture
from backflip.algorithms.preference.nca import NCA
from backflip.algorithms.preference.orpo import ORPO
from backflip.algorithms.preference.plackett_luce_dpo import PlackettLuceDPO
from backflip.algorithms.preference.psi_po import PsiPO
from backflip.algorithms.preference.r_dpo import RDPO
from backflip.algorithms.preference.rao_kupper_dpo import RaoKupperDPO
from backflip.algorithms.preference.robust_dpo import RobustDPO
from backflip.algorithms.preference.simpo import SimPO
from backflip.algorithms.preference.slic import SLiC
from backflip.algorithms.preference.sppo import SPPO
from backflip.algorithms.preference.tr_dpo import TRDPO
from backflip.algorithms.preference.unpaired import UnpairedObjective
from backflip.algorithms.reward.bradley_terry import BradleyTerry
from backflip.algorithms.reward.davidson import Davidson
from backflip.algorithms.reward.plackett_luce import PlackettLuce
from backflip.algorithms.reward.rao_kupper import RaoKupper
from backflip.data.records import Comparison, Labelled
from backflip.sampling.choosing import CHOOSERS, ComparisonChooser

REWARD: dict[str, type[Any]] = {
    "bradley_terry": BradleyTerry,
    "rao_kupper": RaoKupper,
    "davidson": Davidson,
    "plackett_luce": PlackettLuce,
}
"""What a reward model may learn by."""

ONLINE: dict[str, type[Any]] = {"ppo": PPO, "one_step_ppo": OneStepPPO}
"""What may raise a reward."""

PAIRED: dict[str, type[Any]] = {
    "dpo": DPO,
    "robust_dpo": RobustDPO,
    "f_dpo": FDPO,
    "length_normalised_dpo": LengthNormalisedDPO,
    "r_dpo": RDPO,
    "tr_dpo": TRDPO,
    "plackett_luce_dpo": PlackettLuceDPO,
    "davidson_dpo": DavidsonDPO,
    "rao_kupper_dpo": RaoKupperDPO,
    "ipo": IPO,
    "ipo_sum": IPOSum,
    "psi_po": PsiPO,
    "sppo": SPPO,
    "apo_zero": APOZero,
    "apo_down": APODown,
    "exo": EXO,
    "nca": NCA,
    "orpo": ORPO,
    "simpo": SimPO,
    "cpo": CPO,
    "slic": SLiC,
    "mixture": Mixture,
}
"""What a policy may learn by from comparisons."""

UNPAIRED: dict[str, type[Any]] = {
    "kto": KTO,
    "bco": BCO,
    "apo_zero_unpaired": APOZeroUnpaired,
}
"""What a policy may learn by from single answers that were called good or bad."""

DIRECT = PAIRED | UNPAIRED
TERMS = {name: kind for name, kind in PAIRED.items() if kind not in (Mixture, TRDPO)}
"""What a mixture may be made of. TR-DPO is DPO with a reference that moves: that is the run's."""
COMPARISON_CHOOSERS: dict[str, type[Any]] = {
    name: kind for name, kind in CHOOSERS.items() if issubclass(kind, ComparisonChooser)
}
"""How a round may put its answers in order."""
DEMONSTRATION_CHOOSERS: dict[str, type[Any]] = {
    name: kind for name, kind in CHOOSERS.items() if name not in COMPARISON_CHOOSERS
}
"""How a round may choose what is imitated."""

NAMES: dict[type[Any], str] = {
    kind: name for name, kind in (REWARD | ONLINE | DIRECT | CHOOSERS).items()
}
"""What the algorithms, and the ways to choose, are called in a recipe."""

RATES: dict[str, tuple[float, float]] = {
    "kto": (5e-5, 5e-6),
    "orpo": (1e-4, 8e-6),
    "simpo": (3e-5, 1e-6),
}
"""Learning rates (with LoRA, for all weights) of objectives that ask for others than their stage:
KTO's gradients are small (Ethayarajh et al., 2024: 5e-6, which is 2 to 10 times DPO's), ORPO is
fine-tuning at the same time (Hong et al., 2024: 8e-6), and SimPO comes apart when it is hurried
(Meng et al., 2024: 3e-7 to 1e-6)."""


def named(algorithm: Any) -> dict[str, Any]:
    """An algorithm as a recipe says it: its name, then its fields."""
    said: dict[str, Any] = {"name": NAMES[type(algorithm)]}
    for field in dataclasses.fields(algorithm):
        value = getattr(algorithm, field.name)
        terms = isinstance(value, tuple) and all(type(entry) in NAMES for entry in value)
        said[field.name] = [named(term) for term in value] if terms else value
    return said


def name_in(value: Any) -> Any:
    """The ``name`` of an algorithm that is a mapping, a word, or already an object."""
    if isinstance(value, Mapping):
        return value.get("name")
    return NAMES.get(type(value), value)


def _without_name(value: Any) -> Any:
    if isinstance(value, str):
        return {}
    if isinstance(value, Mapping):
        return {key: entry for key, entry in value.items() if key != "name"}
    return value


def _mixture(value: Any) -> Any:
    """A mixture out of its mapping: each term is an objective that is named like one alone."""
    if not isinstance(value, Mapping | str):
        return value
    given = _without_name(value)
    terms, weights = given.get("terms") or (), given.get("weights") or ()
    if not terms or len(terms) != len(weights):
        raise ValueError(
            f"{len(terms)} terms and {len(weights)} weights; give at least one term, and a weight "
            "for each, as in {name: mixture, terms: [dpo, simpo], weights: [1, 0.5]}"
        )
    made = TypeAdapter(one_of(TERMS))
    plain = {key: entry for key, entry in given.items() if key not in ("terms", "weights")}
    unknown = set(plain) - {field.name for field in dataclasses.fields(Mixture)}
    if unknown:
        raise ValueError(f"a mixture has no setting {', '.join(sorted(unknown))}")
    return Mixture(
        terms=tuple(made.validate_python(term) for term in terms),
        weights=tuple(float(weight) for weight in weights),
        **{key: float(entry) for key, entry in plain.items()},
    )


def one_of(table: Mapping[str, type[Any]]) -> Any:
    """The type of a setting that is one of these algorithms, told apart by their names."""
    plain = BeforeValidator(_without_name)
    options = tuple(
        Annotated[InstanceOf[kind], BeforeValidator(_mixture), Tag(name)]
        if kind is Mixture
        else Annotated[kind, plain, Tag(name)]
        for name, kind in table.items()
    )
    return Annotated[Union[options], Discriminator(name_in), PlainSerializer(named)]  # noqa: UP007


if TYPE_CHECKING:
    RewardObjectives: TypeAlias = BradleyTerry | RaoKupper | Davidson | PlackettLuce
    OnlineAlgorithms: TypeAlias = PPO | OneStepPPO
    DirectObjectives: TypeAlias = DirectObjective | UnpairedObjective
else:
    RewardObjectives = one_of(REWARD)
    OnlineAlgorithms = one_of(ONLINE)
    DirectObjectives = one_of(DIRECT)


# ---- what an algorithm can make of its data


def learns_from(objective: Any) -> type[Comparison] | type[Labelled]:
    """Which records an objective of the direct family takes."""
    return Labelled if isinstance(objective, UnpairedObjective) else Comparison
