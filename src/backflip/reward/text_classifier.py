"""A small linear classifier of texts that is trained in seconds: toxicity, sentiment, refusals.

Features are n-grams of words and of letters, hashed, so that the file holds no text that it was
trained on; weighted by log frequency, rarity (tf-idf), and how far labels of texts that have them
are from the mean (in the manner of Wang and Manning, 2012); each row of length 1.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backflip.errors import UserError

__all__ = ["TextClassifier", "out_of_fold"]

Numbers = NDArray[np.float64]
BUCKETS = 1 << 18
"""Features: n-grams that share one are told apart by nobody."""
WORDS, LETTERS = (1, 2), (2, 3, 4, 5)
"""Lengths of n-grams."""
TEACHING, NUMBER = 0.1, 1.0
"""Ridge of classes, and of a number."""
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class TextClassifier:
    """Linear scores of texts: a class each, or one number."""

    labels: tuple[str, ...]
    """Classes; empty for a number."""
    scale: NDArray[np.float32]
    """[F] Weight of each feature: rarity times what it tells."""
    weights: NDArray[np.float32]
    """[F, K]."""
    bias: NDArray[np.float32]
    """[K]."""

    @staticmethod
    def fitted(
        texts: Sequence[str], targets: Sequence[str | float], *, ridge: float | None = None
    ) -> TextClassifier:
        """Trained on texts with a class (text) or a number each.

        Raises UserError for fewer than two classes, or numbers without any spread.
        """
        words = isinstance(targets[0], str) if targets else True
        labels = tuple(sorted({str(t) for t in targets})) if words else ()
        if len(set(targets)) < 2:
            raise UserError(
                f"all of {len(targets)} texts have one label, {targets[:1]}: there is nothing to "
                "learn. Give texts of two kinds or more."
            )
        counts = _counted(texts)
        y: Numbers = np.asarray([labels.index(str(t)) if words else float(t) for t in targets])
        seen = np.asarray((counts > 0).sum(axis=0)).ravel()
        scale = _scale(counts, seen, np.eye(len(labels))[y.astype(int)] if words else y[:, None])
        active = np.flatnonzero(seen)
        matrix = _weighed(counts, scale)[:, active]
        if words:
            small, bias = _logistic(matrix, y.astype(int), len(labels), ridge or TEACHING)
        else:
            small, bias = _ridge(matrix, y, ridge or NUMBER)
        weights = np.zeros((BUCKETS, small.shape[1]), dtype=np.float32)
        weights[active] = small
        return TextClassifier(labels, scale, weights, bias.astype(np.float32))

    def scores(self, texts: Sequence[str]) -> Numbers:
        """[N, K] log odds of each class up to a constant; [N, 1] of a number."""
        if not texts:
            return np.zeros((0, self.weights.shape[1]))
        product = _weighed(_counted(texts), self.scale) @ self.weights.astype(np.float64)
        return np.asarray(product, np.float64) + self.bias

    def probabilities(self, texts: Sequence[str]) -> Numbers:
        """[N, K] of the classes."""
        scores = self.scores(texts)
        exp = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exp / exp.sum(axis=1, keepdims=True)

    def labelled(self, texts: Sequence[str]) -> list[str]:
        """The likeliest class of each."""
        return [self.labels[k] for k in self.scores(texts).argmax(axis=1)]

    def __call__(self, text: str) -> float:
        """The number; of two classes the probability of the second, in order of their names."""
        if not self.labels:
            return float(self.scores([text])[0, 0])
        return float(self.probabilities([text])[0, -1])

    def save(self, path: str | Path) -> None:
        """Write it as one .npz file."""
        rows = np.flatnonzero(np.abs(self.weights).sum(axis=1)).astype(np.int32)
        about = json.dumps({"labels": self.labels})
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file, about=np.array(about), rows=rows, weights=self.weights[rows],
                bias=self.bias, scale=self.scale[rows],
            )  # fmt: skip

    @staticmethod
    def load(path: str | Path) -> TextClassifier:
        """From a file. Raises UserError where it is none."""
        try:
            with np.load(Path(path).expanduser(), allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                scale = np.ones(BUCKETS, dtype=np.float32)
                weights = np.zeros((BUCKETS, file["weights"].shape[1]), dtype=np.float32)
                scale[file["rows"]], weights[file["rows"]] = file["scale"], file["weights"]
                return TextClassifier(tuple(about["labels"]), scale, weights, file["bias"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is no classifier of texts: {error}. Give the .npz that "
                "`backflip evaluate … suite=toxicity train=FILE` wrote."
            ) from error


def out_of_fold(
    texts: Sequence[str],
    targets: Sequence[str | float],
    groups: Sequence[Hashable] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Numbers:
    """[N, K] scores of texts by classifiers that have seen no text of their group.

    Groups, or single texts, are dealt out to ``folds`` parts at random. Raises UserError where a
    part's others hold one class alone.
    """
    groups = list(range(len(texts))) if groups is None else groups
    names = list(dict.fromkeys(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[place]: number % folds for number, place in enumerate(order)}
    part = [fold[group] for group in groups]
    columns = len(set(targets)) if isinstance(targets[0], str) else 1
    found = np.zeros((len(texts), columns))
    for number in range(folds):
        inside = [i for i, p in enumerate(part) if p != number]
        outside = [i for i, p in enumerate(part) if p == number]
        if not outside:
            continue
        made = TextClassifier.fitted([texts[i] for i in inside], [targets[i] for i in inside])
        if made.labels and len(made.labels) < columns:
            raise UserError("a label stands in too few rows to be tested on rows apart.")
        found[outside] = made.scores([texts[i] for i in outside])
    return found


def _grams(text: str) -> Iterator[str]:
    """N-grams of words, and of the letters of each word with its ends."""
    words = _WORD.findall(text.lower())
    for n in WORDS:
        yield from (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    for word in words:
        ended = f"\x02{word}\x03"
        for n in LETTERS:
            yield from (ended[i : i + n] for i in range(max(len(ended) - n + 1, 0)))


def _counted(texts: Sequence[str]) -> Any:
    """[N, F] sparse 1 + log of how often each feature stands in each text."""
    sparse: Any = import_module("scipy.sparse")
    places: list[int] = []
    values: list[float] = []
    ends = [0]
    for text in texts:
        counts = Counter(zlib.crc32(gram.encode()) % BUCKETS for gram in _grams(text))
        places += counts
        values += [1 + math.log(count) for count in counts.values()]
        ends.append(len(places))
    return sparse.csr_matrix((values, places, ends), shape=(len(texts), BUCKETS))


def _scale(counts: Any, seen: NDArray[Any], targets: Numbers) -> NDArray[np.float32]:
    """[F] log((1 + texts)/(1 + texts with it)) + 1, times a tenth and the distance between the mean
    target of texts with it and of all, in standard deviations, drawn to 0 where few have it.
    """
    centred = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    shift = np.abs(np.asarray((counts > 0).T @ centred)).max(axis=1) / (seen + 1)
    return ((np.log((1 + len(targets)) / (1 + seen)) + 1) * (shift + 0.1)).astype(np.float32)


def _weighed(counts: Any, scale: NDArray[np.float32]) -> Any:
    sparse: Any = import_module("scipy.sparse")
    weighed = counts @ sparse.diags(scale.astype(np.float64))
    norms = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(norms, 1e-12)) @ weighed


def _logistic(x: Any, y: NDArray[Any], classes: int, ridge: float) -> tuple[Numbers, Numbers]:
    """Multinomial logistic regression: Σ −log p + ridge/2·‖w‖², by L-BFGS."""
    optimize: Any = import_module("scipy.optimize")
    x, rows, features = x.tocsr(), x.shape[0], x.shape[1]
    one_hot = np.eye(classes)[y]

    def loss(flat: Numbers) -> tuple[float, Numbers]:
        w, b = flat[: features * classes].reshape(features, classes), flat[features * classes :]
        scores = x @ w + b
        scores -= scores.max(axis=1, keepdims=True)
        log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        pull = np.exp(log_p) - one_hot
        slope = x.T @ pull + ridge * w
        total = -float(log_p[np.arange(rows), y].sum()) + ridge / 2 * float((w**2).sum())
        return total, np.concatenate([slope.ravel(), pull.sum(axis=0)])

    start = np.zeros(features * classes + classes)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found[: features * classes].reshape(features, classes), found[features * classes :]


def _ridge(x: Any, y: Numbers, ridge: float) -> tuple[Numbers, Numbers]:
    """Least squares with ridge·‖w‖²; the mean is not held back."""
    linalg: Any = import_module("scipy.sparse.linalg")
    mean = float(y.mean())
    weights = linalg.lsqr(x.tocsr(), y - mean, damp=math.sqrt(ridge), iter_lim=200)[0]
    return weights[:, None], np.array([mean])
