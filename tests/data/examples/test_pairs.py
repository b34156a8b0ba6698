"""Segment pairs: what the labels mean, where the halves come from, what of a corpus is seen."""

import collections
import itertools
import re
from pydoc_data.topics import topics

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from albert_jax.data.examples import draws
from albert_jax.data.examples.pairs import PairConfig, PairSource, _cut
from albert_jax.errors import AlbertError
from tests.data.in_memory import MemoryStore, counting_store, random_store

# Documents of every shape: one sentence, one piece, two short ones, many, and sentences that fill examples.
SHAPES = [[9], [1], [3, 4], [30] * 20, [7] * 90, [400, 5, 6, 300], [1, 1, 500], [12, 40, 3, 25, 18] * 8]


def sizes(count: int, seed: int = 0, mean: float = 20.0) -> list[list[int]]:
    """Sentence lengths of `count` documents, spread as sentences and documents are."""
    generator = np.random.default_rng(seed)
    return [
        np.maximum(1, generator.lognormal(np.log(mean), 0.6, generator.integers(2, 40))).astype(int).tolist()
        for _ in range(count)
    ]


def document_of(store: MemoryStore, pieces: np.ndarray) -> set[int]:
    """The documents of a counting store that the pieces come from."""
    ends = 5 + np.cumsum(store.lengths)
    return set(np.searchsorted(ends, pieces, side="right").tolist())


def test_sop_labels_say_which_half_came_first() -> None:
    store = counting_store(SHAPES)
    source = PairSource(store, PairConfig(max_length=64))
    labels = []
    for index in range(10_000):
        pair = source.pair(1, index)
        if pair.weight == 0:
            continue
        labels.append(pair.label)
        earlier, later = (pair.first, pair.second) if pair.label == 0 else (pair.second, pair.first)
        assert earlier.max() < later.min()
    assert abs(np.mean(labels) - 0.5) < 0.02


def test_sop_never_shows_a_foreign_half() -> None:
    store = counting_store(SHAPES)
    source = PairSource(store, PairConfig(max_length=64))
    seen = collections.Counter()
    for index in range(10_000):
        pair = source.pair(2, index)
        assert document_of(store, np.concatenate([pair.first, pair.second])) == {pair.document}
        seen[pair.document] += 1
    assert set(seen) == set(range(len(SHAPES)))


@pytest.mark.parametrize("order", ["sop", "nsp", "off"])
@pytest.mark.parametrize("max_length", [8, 32, 512])
def test_halves_are_whole_stretches_that_fit(order: str, max_length: int) -> None:
    source = PairSource(counting_store(SHAPES), PairConfig(max_length=max_length, order=order, short_prob=0.3))
    for index in range(2_000):
        pair = source.pair(3, index)
        halves = [pair.first, pair.second] if pair.weight else [pair.first]
        assert all(len(half) > 0 and (np.diff(half.astype(int)) == 1).all() for half in halves)
        assert len(pair.first) + len(pair.second) <= max_length - (2 if order == "off" else 3)
        if not pair.weight:
            assert len(pair.second) == 0 and pair.label == 0


def test_halves_begin_and_end_with_sentences_where_nothing_is_cut() -> None:
    shape = [[11, 7, 13]]
    source = PairSource(counting_store(shape), PairConfig(max_length=64, short_prob=0))
    splits = collections.Counter()
    for index in range(400):
        pair = source.pair(4, index)
        splits[tuple(sorted((len(pair.first), len(pair.second))))] += 1
    assert set(splits) == {(11, 20), (13, 18)}
    assert min(splits.values()) > 140  # either boundary as often


def test_one_sentence_documents_have_no_order() -> None:
    store = counting_store([[40], [200], [1], [10, 10]])
    source = PairSource(store, PairConfig(max_length=64, short_prob=0))
    weights = collections.defaultdict(set)
    for index in range(300):
        pair = source.pair(5, index)
        weights[pair.document].add(pair.weight)
    assert weights == {0: {0.0}, 1: {0.0}, 2: {0.0}, 3: {1.0}}


def test_stores_that_cannot_show_an_order_are_refused() -> None:
    single = counting_store([[40], [200]])
    with pytest.raises(AlbertError, match="two sentences"):
        PairSource(single, PairConfig(order="sop"))
    assert PairSource(single, PairConfig(order="off")).pair(0, 0).weight == 0
    with pytest.raises(AlbertError, match="two documents"):
        PairSource(counting_store([[5, 5]]), PairConfig(order="nsp"))
    with pytest.raises(AlbertError, match="no text"):
        PairSource(MemoryStore([[]]), PairConfig())
    for bad in (
        PairConfig(order="nxt"),
        PairConfig(max_length=4),
        PairConfig(short_prob=1.5),
        PairConfig(cut="middle"),
    ):
        with pytest.raises(AlbertError):
            PairSource(single, bad)


def test_nsp_takes_its_second_half_from_another_document() -> None:
    store = counting_store(sizes(40))
    source = PairSource(store, PairConfig(max_length=64, order="nsp"))
    labels, partners = [], collections.Counter()
    for index in range(5_000):
        pair = source.pair(6, index)
        if not pair.weight:
            continue
        assert document_of(store, pair.first) == {pair.document}
        (partner,) = document_of(store, pair.second)
        assert (partner != pair.document) == bool(pair.label)
        labels.append(pair.label)
        partners[partner] += pair.label
    assert abs(np.mean(labels) - 0.5) < 0.02
    assert min(partners[document] for document in range(40)) > 0


def test_short_sequences_have_the_asked_share_and_an_even_length() -> None:
    source = PairSource(counting_store([[20] * 2000]), PairConfig(max_length=128, short_prob=0.1))
    lengths = []
    for index in range(10_000):
        pair = source.pair(7, index)
        lengths.append(len(pair.first) + len(pair.second))
    short = np.array([length for length in lengths if length < 125])
    # 1 in 124 of the short ones draws the full length; three standard deviations of the share are 0.009.
    assert abs(len(short) / 10_000 - 0.1 * 123 / 124) < 0.009
    counts = np.histogram(short, bins=[2, 33, 64, 95, 126])[0]
    assert short.min() >= 2 and (abs(counts / len(short) - 0.25) < 0.045).all()


def test_every_piece_is_seen_about_once_an_epoch() -> None:
    shapes = [*sizes(30, seed=1, mean=18), [700, 9, 900]]
    store = counting_store(shapes)
    source = PairSource(store, PairConfig(max_length=64))
    seen = np.zeros(5 + store.lengths.sum())
    epochs = 60
    for index in range(epochs * len(source)):
        pair = source.pair(8, index)
        seen[pair.first] += 1
        seen[pair.second] += 1
    rates = np.split(seen[5:] / epochs, np.cumsum(store.lengths)[:-1])
    assert abs(np.concatenate(rates).mean() - 1) < 0.05
    inner = [rate[64:-64].mean() for rate in rates if len(rate) > 300]
    assert 0.9 < np.mean(inner) < 1.15
    outer = [np.mean([rate[0], rate[-1]]) for rate in rates]
    assert 0.4 < np.mean(outer) < 0.9
    low, high = np.quantile(np.concatenate(rates), [0.01, 0.99])
    assert low > 0.3 and high < 1.8 and np.concatenate(rates).min() > 0.1


def test_examples_are_pure_and_seeds_differ() -> None:
    store = random_store(sizes(20), 1000)
    source, again = (PairSource(store, PairConfig(max_length=64)) for _ in range(2))
    forward = [source.pair(9, index) for index in range(300)]
    backward = [again.pair(9, index) for index in reversed(range(300))][::-1]
    for left, right in zip(forward, backward, strict=True):
        assert left.label == right.label and left.document == right.document
        assert np.array_equal(left.first, right.first) and np.array_equal(left.second, right.second)
    others = [source.pair(10, index) for index in range(300)]
    same = [np.array_equal(a.first, b.first) for a, b in zip(forward, others, strict=True)]
    assert np.mean(same) < 0.25
    next_epoch = [source.pair(9, index + len(source)) for index in range(300)]
    assert np.mean([np.array_equal(a.first, b.first) for a, b in zip(forward, next_epoch, strict=True)]) < 0.25


def test_cut_keeps_what_the_originals_loop_keeps() -> None:
    for size, other, target in itertools.product(range(1, 12), range(1, 12), range(2, 16)):
        keeps = [size, other]
        while sum(keeps) > target:
            keeps[0 if keeps[0] > keeps[1] else 1] -= 1
        for cut in ("ends", "pieces"):
            draw = draws.Draws(size, other, target)
            halves = _cut(draw, np.arange(size), np.arange(other), target, cut)
            assert [len(half) for half in halves] == keeps
    fronts = [_cut(draws.Draws(k), np.arange(200), np.arange(50), 150, "pieces")[0][0] for k in range(4000)]
    # 100 fair coins: 50 +- 5, so the mean of 4,000 has a standard deviation of 0.08 and theirs one of 0.06.
    assert abs(np.mean(fronts) - 50) < 0.32 and abs(np.std(fronts) - 5) < 0.25
    fronts = [_cut(draws.Draws(k), np.arange(200), np.arange(50), 150, "ends")[0][0] for k in range(4000)]
    assert set(fronts) == {0, 100} and abs(np.mean(fronts) - 50) < 3.2


def real_text() -> MemoryStore:
    """The Python manual's topics, one document each: real English prose with a beginning and an end."""
    documents = []
    for _, text in sorted(topics.items()):
        words = [re.findall(r"[a-z]+", sentence.lower()) for sentence in re.split(r"[.:]\s+", text)]
        documents.append([[5 + draws.key(*word.encode()) % 400 for word in line] for line in words if line])
    return MemoryStore([document for document in documents if len(document) > 3])


def probe(order: str, features: str) -> float:
    """Held-out accuracy of a linear classifier of order labels; the documents held out are not trained on."""
    source = PairSource(real_text(), PairConfig(max_length=128, order=order, short_prob=0))
    rows, labels, held_out = [], [], []
    for index in range(3_000):
        pair = source.pair(11, index)
        if not pair.weight:
            continue
        bags = [np.bincount(half, minlength=405)[5:] for half in (pair.first, pair.second)]
        shared = np.minimum(*bags).sum() / min(len(pair.first), len(pair.second))
        if features == "bags":
            rows.append([*(np.sign(bags[0]) - np.sign(bags[1])), 10 * shared])
        else:
            lead = len(pair.first) - len(pair.second)
            rows.append([len(pair.first) / 64, len(pair.second) / 64, lead > 0, lead == 1, lead == -1])
        labels.append(pair.label)
        held_out.append(pair.document % 3 == 0)
    rows, labels, held_out = np.array(rows, np.float32), np.array(labels), np.array(held_out)
    model = LogisticRegression(C=0.01, max_iter=200).fit(rows[~held_out], labels[~held_out])
    return model.score(rows[held_out], labels[held_out])


def test_sop_is_not_solved_by_a_bag_of_words() -> None:
    assert probe("sop", "bags") < 0.56
    assert probe("nsp", "bags") > 0.62  # the same probe does see a foreign half


def test_sop_is_not_solved_by_lengths() -> None:
    assert abs(probe("sop", "lengths") - 0.5) < 0.03
