"""Texts as vectors, against scikit-learn."""

import numpy as np
from scipy.sparse.linalg import svds
from sklearn.feature_extraction.text import TfidfVectorizer

from backflip.feedback.choose.embedding import (
    Embedding,
    by_words,
    counts,
    difference,
    texts_of,
    words,
)

TEXTS = [
    "Boil the pasta in salted water.",
    "Salt the water, then boil the pasta: nine minutes.",
    "The moon orbits the earth once a month.",
    "Once a month the moon is full.",
    "def f(x): return x + 1",
    "",
]


def test_weights_are_those_of_scikit_learns_tfidf():
    theirs = TfidfVectorizer(
        tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
    )
    wanted = theirs.fit_transform(TEXTS)
    ours = Embedding.fit(TEXTS, dimensions=None).sparse(TEXTS)
    assert (ours.getnnz(1) == wanted.getnnz(1)).all()  # no two n-grams share a bucket here
    np.testing.assert_allclose((ours @ ours.T).toarray(), (wanted @ wanted.T).toarray(), atol=1e-12)


def test_short_vectors_keep_what_the_best_directions_keep():
    """Against ARPACK's singular values: no directions of this number hold more of the texts."""
    rng = np.random.default_rng(0)
    topics = [[f"w{t}x{i}" for i in range(30)] for t in range(4)]
    texts = [" ".join(rng.choice(topics[i % 4], 20)) for i in range(120)]
    found = Embedding.fit(texts, dimensions=6)
    best = svds(found.sparse(texts), k=6, return_singular_vectors=False)
    kept = np.linalg.svd(found.of(texts), compute_uv=False)
    np.testing.assert_allclose(np.sort(kept)[2:], np.sort(best)[2:], rtol=1e-3)  # the topics
    np.testing.assert_allclose(np.sort(kept)[:2], np.sort(best)[:2], rtol=0.05)  # noise
    np.testing.assert_array_equal(found.of(texts), Embedding.fit(texts, dimensions=6).of(texts))


def test_what_is_about_the_same_is_near():
    x = Embedding.fit(TEXTS, dimensions=4).of(TEXTS)
    near = x @ x.T
    assert near[0, 1] > near[0, 2]
    assert near[2, 3] > near[0, 2]
    assert not x[5].any()
    assert x.shape == (6, 4)


def test_scripts_without_spaces_have_words_too():
    assert words("日本語です Ok.") == ["日", "本", "語", "で", "す", "ok", "."]
    assert counts(["\ud800 broken"]).sum() == 3


def test_a_pair_the_other_way_round_is_minus_the_pair():
    fitted = Embedding.fit(TEXTS, dimensions=3)
    there = difference(fitted, TEXTS[:3], TEXTS[3:])
    np.testing.assert_array_equal(there, -difference(fitted, TEXTS[3:], TEXTS[:3]))
    assert there.shape == (3, 5)


def test_items_of_all_kinds_have_texts():
    pair = {"kind": "compare", "answers": [{"text": "a"}, {"text": "b"}]}
    assert texts_of(pair) == ["a", "b"]
    assert texts_of({"kind": "thumbs", "answer": {"text": "a"}}) == ["a"]
    assert texts_of({"kind": "principles", "principle": "be kind"}) == ["be kind"]
    assert texts_of({"kind": "steps", "steps": ["one", "two"]}) == ["one\ntwo"]
    singles = [{"kind": "thumbs", "answer": {"text": text}} for text in TEXTS]
    assert by_words(singles, dimensions=3)(singles).shape == (6, 3)
