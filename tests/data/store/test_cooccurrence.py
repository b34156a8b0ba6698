"""Vectors of pieces from what stands near them."""

import numpy as np

from albert_jax.data.store import cooccurrence
from tests.data.in_memory import MemoryStore


def test_counts_are_of_pairs_within_the_window_weighted_by_their_distance():
    pieces = np.array([1, 2, 3, *[-1] * 8, 3, 3], np.int32)
    counts = cooccurrence.neighbours(pieces, 5).toarray()
    expected = np.zeros((5, 5))
    expected[1, 2] = expected[2, 1] = 1  # neighbours
    expected[2, 3] = expected[3, 2] = 1
    expected[1, 3] = expected[3, 1] = 7 / 8  # two apart
    expected[3, 3] = 2  # seen from both sides; none of the pairs reaches over the gap between documents
    np.testing.assert_allclose(counts, expected)


def _store() -> MemoryStore:
    random = np.random.default_rng(0)
    topics = (np.arange(5, 15), np.arange(15, 25))
    store = MemoryStore([[random.choice(topics[number % 2], 40).tolist()] for number in range(40)])
    store.vocab_size = 30
    return store


def test_pieces_of_one_topic_are_near_each_other_and_those_that_never_occur_are_zero():
    vectors = cooccurrence.piece_vectors(_store(), 2)
    assert vectors.shape == (30, 2) and vectors.dtype == np.float32
    assert not vectors[:5].any() and not vectors[25:].any()
    directions = vectors[5:25] / np.linalg.norm(vectors[5:25], axis=1, keepdims=True)
    cosines = directions @ directions.T
    assert cosines[:10, :10].min() > 0.5 and cosines[10:, 10:].min() > 0.5
    assert cosines[:10, 10:].max() < 0.1


def test_a_sample_takes_documents_that_stand_evenly(monkeypatch):
    store = MemoryStore([[[5 + number] * 10] for number in range(9)])
    monkeypatch.setattr(cooccurrence, "SAMPLE", 30)
    assert sorted(set(cooccurrence._pieces(store)[cooccurrence._pieces(store) >= 0])) == [5, 8, 11]


def test_more_columns_than_pieces_are_left_at_zero():
    vectors = cooccurrence.piece_vectors(_store(), 40)
    assert vectors.shape == (30, 40) and not vectors[:, 29:].any() and vectors[:, 0].any()
