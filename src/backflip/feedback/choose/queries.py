"""Query selection: how much each candidate would teach, and which of them to take.

Acquisitions take what M models believe of N pairs, as log odds that a is better [M, N], and return
one number for each pair, higher is asked first. Models are the members of an ensemble, or draws of
one posterior (``beliefs``). ``with_random_arm`` then mixes what was chosen with what chance chose.

Active choice is no sure gain: by ensemble variance it did no better than chance for Gleave and
Irving (2022). So there is always a random arm, and ``arms`` measures what the other one gained.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, xlog1py, xlogy

from backflip.feedback.statistics.judgements import Flags, Floats, Ints

OVERSAMPLING = 10
"""Candidates for each question, of which a batch is spread out (Christiano et al., 2017, 2.2.4)."""
ACTIVE, RANDOM = "active", "random"


# ---- the worth of an answer


def disagreement(logits: Floats) -> Floats:
    """[N] Variance over members of their P(a) (Christiano et al., 2017, 2.2.4)."""
    return expit(logits).var(0)


def information(logits: Floats, *, noise: float = 0.0) -> Floats:
    """[N] Nats that an answer is expected to tell of which member is right: H(mean P) − mean H(P).

    BALD (Houlsby et al., 2011). ``noise`` is the share of answers that are coin tosses. Pairs on
    which all members are equally unsure are worth nothing: no answer tells one member from another.
    """
    p = (1 - noise) * expit(logits) + noise / 2
    return np.maximum(entropy(p.mean(0)) - entropy(p).mean(0), 0.0)


def uncertainty(logits: Floats, evidence: Floats | float = 0.0) -> Floats:
    """[N] Entropy of the posterior of each pair's label, in nats.

    Prior is the members' mean P(a); ``evidence`` [N] is what raters have said so far, in log odds
    (``votes_as_evidence``), so that what has been asked and is still unsure comes up again.
    """
    p = np.clip(expit(logits).mean(0), 1e-12, 1 - 1e-12)
    return entropy(expit(logit(p) + evidence))


def best_against_worst(logits: Floats) -> Floats:
    """[N] How far apart the two answers are thought to be: |mean log odds|.

    Raters agree most on such pairs, so a label costs least noise (West-of-N: Pace et al., 2024);
    they hold nothing about close calls.
    """
    return np.abs(logits.mean(0))


def votes_as_evidence(
    item: Ints, value: Floats, reliability: Floats | float, *, items: int
) -> Floats:
    """[items] Σ ±log(η/(1 − η)) over the votes of each item: log odds for a, given who voted.

    ``value`` [V] is above 0 for a, below for b, ties and silence count nothing; ``reliability`` [V]
    or one number is η, P(a vote is right).
    """
    eta = np.clip(np.broadcast_to(np.asarray(reliability, np.float64), value.shape), 0.05, 0.99)
    said = np.sign(np.nan_to_num(value)) * logit(eta)
    return np.bincount(item, said, minlength=items).astype(np.float64)


def entropy(p: Floats | float) -> Floats:
    """Of a coin that shows a with chance p, in nats."""
    p = np.asarray(p, np.float64)
    return np.asarray(-xlogy(p, p) - xlog1py(1 - p, -p))


# ---- which of them?


def once(left: Ints, right: Ints, known: Collection[tuple[int, int]] = ()) -> Flags:
    """[N] Whether a pair may be asked: not with itself, not a second time, not one of ``known``.

    ``left`` and ``right`` number the two answers; the other way round is the same pair.
    """
    seen = np.array(sorted(known), np.int64).reshape(-1, 2)
    both = np.concatenate([seen, np.column_stack([left, right])])
    _, number = np.unique(both, return_inverse=True)
    number = number.reshape(-1, 2)
    _, first = np.unique(number.min(1) * 2 * len(both) + number.max(1), return_index=True)
    fresh = np.zeros(len(both), np.bool_)
    fresh[first] = True
    return fresh[len(seen) :] & (left != right)


def top(score: Floats, count: int, *, allowed: Flags | None = None) -> Ints:
    """The candidates with the highest scores, best first, the earlier one where equal."""
    places = np.flatnonzero(~np.isnan(score) if allowed is None else allowed & ~np.isnan(score))
    return places[np.argsort(-score[places], kind="stable")][:count]


def k_centre(
    vectors: Floats, count: int, *, asked: Floats | None = None, odd: bool = False
) -> Ints:
    """Candidates such that none is far from a chosen one: always the farthest next.

    No set of this size has less than half its radius (Gonzalez, 1985; for active learning Sener and
    Savarese, 2018). Distances are Euclidean, to those chosen and those ``asked`` before [A, d];
    without any the first is the one farthest from the mean. Ends where nothing is left but copies.
    ``odd``: x and −x are the same question with its answers changed round, and no distance apart.
    """
    along = np.abs if odd else np.asarray
    size = (vectors**2).sum(1)
    if asked is None or not len(asked):
        middle = vectors.mean(0) if len(vectors) and not odd else 0.0
        far = ((vectors - middle) ** 2).sum(1)
        near = np.full(len(vectors), np.inf)
    else:
        near = np.full(len(vectors), np.inf)
        for start in range(0, len(asked), 256):
            block = asked[start : start + 256]
            between = size[:, None] - 2 * along(vectors @ block.T) + (block**2).sum(1)
            near = np.minimum(near, between.min(1))
        far = near
    chosen = list[int]()
    tiny = 1e-9 * max(float(size.max(initial=0.0)), 1e-300)
    while len(chosen) < min(count, len(vectors)):
        place = int(np.argmax(far))
        if chosen and far[place] <= tiny:
            break
        chosen.append(place)
        between = size - 2 * along(vectors @ vectors[place]) + size[place]
        near = np.minimum(near, between)
        near[place] = -np.inf
        far = near
    return np.array(chosen, np.int64)


def spread(score: Floats, vectors: Floats, count: int, *, allowed: Flags | None = None) -> Ints:
    """A batch that is not ten times the same question: the best, and of them those far apart.

    The ``OVERSAMPLING``·count highest scores, thinned by ``k_centre``, the best of them first.
    Vectors are differences of two answers.
    """
    short = top(score, OVERSAMPLING * count, allowed=allowed)
    if not len(short):
        return short
    rest = short[1:]
    return np.concatenate(
        [short[:1], rest[k_centre(vectors[rest], count - 1, asked=vectors[short[:1]], odd=True)]]
    )[:count]


# ---- and the random arm


@dataclass(frozen=True)
class Chosen:
    """Queries in their order."""

    index: Ints
    """[K] Which candidates; none twice."""
    random: Flags
    """[K] Which of them chance chose."""

    @property
    def origins(self) -> list[str]:
        """[K] The arm of each, as ``Project.prioritise`` takes it."""
        return [RANDOM if by_chance else ACTIVE for by_chance in self.random]


def with_random_arm(order: Ints, draw: Floats, count: int, share: float) -> Chosen:
    """Mix an active order with the random arm: ``share`` of the questions, evenly among the others.

    ``order`` are candidates, the best first, more than ``count`` where there are more: those of the
    random arm are left out of it. ``draw`` [N] are numbers in (0, 1) by chance, the same in every
    round (``simulate.uniform`` of candidates' keys): those below ``share`` are the random arm. One
    drawn anew each round from what the active arm has left would lack just the pairs that were
    worth asking, and flatter it. Where one arm has too few the other fills up.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of the random arm must lie in 0 to 1, not {share}.")
    members = draw < share
    active = order[~members[order]]
    _, first = np.unique(active, return_index=True)
    active = active[np.sort(first)]
    chance = np.flatnonzero(members)[np.argsort(draw[members], kind="stable")]
    wished = round(share * count)
    of_chance = min(len(chance), max(wished, count - len(active)))
    of_active = min(len(active), count - of_chance)
    turn = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in (of_active, of_chance)])
    index = np.concatenate([active[:of_active], chance[:of_chance]])
    by_chance = np.arange(len(index)) >= of_active
    place = np.argsort(turn, kind="stable")
    return Chosen(index[place], by_chance[place])
