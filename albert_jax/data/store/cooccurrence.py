"""Vectors of pieces from what stands near them in a corpus: seconds of arithmetic for what a model's table of pieces
learns in hours. `albert_jax/model/initial.py` makes initial values of them.

The matrix of positive pointwise mutual information of pieces within a window, cut to its largest eigenvalues (Levy &
Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization", section 4; Levy, Goldberg & Dagan 2015,
sections 3.1 to 3.3, for the window, the smoothed context distribution and the root of the eigenvalues).
"""

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from albert_jax.data.store.store import DocumentStore

WINDOW = 8  # pieces on each side; the nearest counts 1, each further one 1 / WINDOW less
SMOOTHING = 0.75  # power of the frequency of contexts, which takes weight from pairs with a rare piece
SAMPLE = 30_000_000  # pieces that are counted at most, of whole documents that stand evenly in the split


def piece_vectors(store: DocumentStore, width: int) -> np.ndarray:
    """A vector for each piece, float32 [V, width], its length larger the more is known of the piece. Pieces that do not
    occur have zeros, and so have the last columns where a corpus has fewer directions than `width`."""
    counts = neighbours(_pieces(store), store.vocab_size)
    information = _information(counts)
    if not information.nnz:
        return np.zeros((store.vocab_size, width), np.float32)
    rank = min(width, store.vocab_size - 1)
    left, values, right = randomized_svd(information, rank, n_iter=4, random_state=0)
    # A symmetric matrix: the singular vectors of both sides agree up to their sign, which is that of the eigenvalue. A
    # direction with a negative one would pull together what does not occur together.
    values = np.where((left * right.T).sum(axis=0) > 0, values, 0.0)
    vectors = np.zeros((store.vocab_size, width), np.float32)
    vectors[:, :rank] = left * np.sqrt(values)
    vectors[np.diff(information.indptr) == 0] = 0  # exactly: those that do not occur are told by it
    return vectors


def _pieces(store: DocumentStore) -> np.ndarray:
    """Documents one after the other, int32 [n], with WINDOW times -1 between two, over which no window reaches."""
    total = int(store.lengths.sum())
    every = max(1, -(-total // SAMPLE))
    gap = np.full(WINDOW, -1, np.int32)
    parts = [part for index in range(0, len(store), every) for part in (store[index][0].astype(np.int32), gap)]
    return np.concatenate([gap, *parts])


def neighbours(pieces: np.ndarray, V: int) -> sparse.csr_array:
    """How often two pieces stand within a window, float32 [V, V], symmetric; -1 among the `pieces` stands for none."""
    counts = sparse.csr_array((V, V), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        first, second = pieces[:-distance], pieces[distance:]
        both = (first >= 0) & (second >= 0)
        weight = np.full(int(both.sum()), 1 - (distance - 1) / WINDOW, np.float32)
        counts += sparse.coo_array((weight, (first[both], second[both])), shape=(V, V)).tocsr()
    return (counts + counts.T).tocsr()


def _information(counts: sparse.csr_array) -> sparse.csr_array:
    """max(0, log p(a, b) / (p(a) p'(b))), the mean of both directions."""
    total = counts.sum(axis=1)
    context = total**SMOOTHING
    pairs = counts.tocoo()
    expected = total[pairs.row] * (context / context.sum())[pairs.col]
    values = np.maximum(np.log(pairs.data / expected), 0).astype(np.float32)
    information = sparse.coo_array((values, (pairs.row, pairs.col)), shape=counts.shape).tocsr()
    information.eliminate_zeros()
    return (information + information.T).tocsr() / 2
