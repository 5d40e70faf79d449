"""Texts as short vectors, without a model: hashed words and word pairs, TF-IDF, latent directions.

Good enough to tell apart what is about different things and to see what is nearly the same;
whoever has a language model at hand gives its embeddings instead. Every function of ``queries``
takes either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_matrix

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.statistics.judgements import Floats

Sparse: TypeAlias = Any
"""A ``scipy.sparse.csr_matrix``, whose own types are not of much help."""
BUCKETS = 1 << 16
"""Places that n-grams are hashed to; two that share one are one."""
LONGEST = 20_000
"""Characters of a text that are looked at."""
PASSES = 3
"""Power iterations of the randomised decomposition."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")
"""Words, marks, and single characters of scripts that write no spaces."""


def words(text: str) -> list[str]:
    """The words and marks of a text, in lower case."""
    return _WORD.findall(text[:LONGEST].lower())


def grams(text: str) -> list[str]:
    """Each word of a text, and each two neighbouring ones."""
    found = words(text.encode(errors="replace").decode())
    return found + [f"{a} {b}" for a, b in pairwise(found)]


def counts(texts: Sequence[str], *, buckets: int = BUCKETS) -> Sparse:
    """[N, buckets] How often each word and each two neighbouring words occur, by their hash."""
    if not len(texts):
        return csr_matrix((0, buckets))
    sklearn: Any = import_module("sklearn.feature_extraction.text")
    how = {"analyzer": grams, "norm": None, "alternate_sign": False}
    return sklearn.HashingVectorizer(n_features=buckets, **how).transform(texts)


@dataclass(frozen=True)
class Embedding:
    """Fitted to some texts, for any texts."""

    tfidf: Any
    """``TfidfTransformer``: a count weighs (1 + log count)·(log((1 + n)/(1 + df)) + 1), a row is 1
    long (inverse document frequency: Spärck Jones, 1972)."""
    directions: Floats | None
    """[buckets, d]; none: vectors stay as long as there are buckets."""

    @classmethod
    def fit(cls, texts: Sequence[str], *, dimensions: int | None = 128, seed: int = 0) -> Embedding:
        """Learn which words are rare, and the ``dimensions`` along which texts differ most.

        Latent semantic analysis (Deerwester et al., 1990). A few thousand texts are enough.
        """
        sklearn: Any = import_module("sklearn.feature_extraction.text")
        seen = counts(texts if len(texts) else [""])
        tfidf = sklearn.TfidfTransformer(sublinear_tf=True).fit(seen)
        if dimensions is None:
            return cls(tfidf, None)
        return cls(tfidf, _directions(tfidf.transform(seen), dimensions, seed))

    def sparse(self, texts: Sequence[str]) -> Sparse:
        """[N, buckets] TF-IDF rows of length 1; a text without words is 0."""
        return self.tfidf.transform(counts(texts)) if len(texts) else counts(texts)

    def of(self, texts: Sequence[str]) -> Floats:
        """[N, d] Vectors, at most 1 long; a text without words is 0."""
        if self.directions is None:
            raise ValueError("An embedding without directions has sparse vectors only.")
        parts = [
            np.asarray(self.sparse(texts[start : start + 2000]) @ self.directions)
            for start in range(0, len(texts), 2000)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.directions.shape[1]))


def _directions(rows: Sparse, dimensions: int, seed: int) -> Floats:
    """The first right singular vectors, by random projection (Halko et al., 2011, 5.1)."""
    extmath: Any = import_module("sklearn.utils.extmath")
    used = np.unique(rows.indices)
    size = min(dimensions, rows.shape[0], len(used))
    made = np.zeros((rows.shape[1], dimensions))
    if size:
        _, _, right = extmath.randomized_svd(
            rows[:, used],
            size,
            n_iter=PASSES,
            power_iteration_normalizer="QR",
            random_state=seed,
        )
        made[used, :size] = right.T
    return made


def difference(embedding: Embedding, first: Sequence[str], second: Sequence[str]) -> Floats:
    """[N, d + 2] What a pair of answers shows: φ(a) − φ(b), and who is longer and has more lines.

    Odd: the pair the other way round is minus the vector.
    """
    size = [np.array([len(t) for t in texts], np.float64) for texts in (first, second)]
    lines = [np.array([t.count("\n") for t in texts], np.float64) for texts in (first, second)]
    longer = np.log1p(size[0]) - np.log1p(size[1])
    listed = np.log1p(lines[0]) - np.log1p(lines[1])
    between = embedding.of(first) - embedding.of(second)
    return np.column_stack([between, np.tanh(longer), np.tanh(listed)])


# ---- of items


Payloads: TypeAlias = Sequence[Mapping[str, Any]]
Embed: TypeAlias = Callable[[Payloads], Floats]
"""Items → [N, d] what each shows; of a pair odd in which answer is called a."""


def texts_of(payload: Mapping[str, Any]) -> list[str]:
    """The answers of an item, or whatever else it has to read; several steps are one text."""
    found = list[str]()
    for block in kind_of(payload["kind"]).blocks(payload):
        texts = block.content if isinstance(block.content, list) else [block.content]
        found += ["\n".join(texts)] if block.numbered else texts
    return found


def by_words(payloads: Payloads, *, dimensions: int, most: int = 4000, seed: int = 0) -> Embed:
    """An embedding of items, fitted to some of their texts: ``difference`` for pairs of answers."""
    some = payloads[:: max(1, 2 * len(payloads) // most)]
    texts = [text for payload in some for text in texts_of(payload)]
    fitted = Embedding.fit(texts, dimensions=dimensions, seed=seed)

    def embed(given: Payloads) -> Floats:
        sides = [texts_of(payload) for payload in given]
        if sides and all(len(both) == 2 for both in sides):
            return difference(fitted, [a for a, _ in sides], [b for _, b in sides])
        return fitted.of(["\n".join(texts) for texts in sides])

    return embed
