"""Masked words: which pieces are chosen, how many, and what is shown in their place."""

import numpy as np
import pytest

from albert_jax.data.examples import draws
from albert_jax.data.examples.masking import MaskConfig, Masker, _choose
from albert_jax.errors import AlbertError
from tests.data.in_memory import SPECIALS, SmallVocabulary

VOCAB_SIZE = 1000
VOCABULARY = SmallVocabulary(VOCAB_SIZE, start_share=0.6)
SHARES = np.array([6, 3, 2]) / 11  # p(n) for n = 1, 2, 3


def example(length: int, max_length: int, seed: int = 0) -> np.ndarray:
    """[CLS] half [SEP] half [SEP] [PAD] ..., of random pieces; `length` are real."""
    ids = np.full(max_length, VOCABULARY.pad_id, np.int32)
    ids[:length] = np.random.default_rng(seed).integers(SPECIALS, VOCAB_SIZE, length)
    ids[0], ids[length // 2], ids[length - 1] = VOCABULARY.cls_id, VOCABULARY.sep_id, VOCABULARY.sep_id
    return ids


def words(ids: np.ndarray, length: int, longest: int) -> list[list[int]]:
    """Whole words by the plain rule, place by place; none holds a special piece."""
    result: list[list[int]] = []
    for place in range(length):
        special = ids[place] < SPECIALS
        if special or ids[place - 1] < SPECIALS or VOCABULARY.word_starts[ids[place]]:
            result.append([])
        if not special:
            result[-1].append(place)
    return [part for word in result for part in ([word] if len(word) <= longest else [[p] for p in word])]


@pytest.mark.parametrize(("length", "max_length"), [(128, 128), (100, 128), (13, 64), (5, 64), (512, 512)])
def test_what_is_masked(length: int, max_length: int) -> None:
    masker = Masker(MaskConfig(), VOCABULARY, max_length)
    budget = min(masker.slots, max(1, round(0.15 * length)))
    for seed in range(200):
        ids = example(length, max_length, seed)
        masked = masker.apply(ids, length, draws.Draws(seed))
        count = int(masked.weights.sum())
        used = masked.positions[:count]
        assert masked.positions.shape == masked.labels.shape == masked.weights.shape == (masker.slots,)
        assert count <= budget and (masked.weights[:count] == 1).all() and (masked.weights[count:] == 0).all()
        assert (masked.positions[count:] == 0).all() and (masked.labels[count:] == 0).all()
        assert (np.diff(used) > 0).all()
        assert (ids[used] >= SPECIALS).all() and (used < length).all()  # never [CLS], [SEP] or [PAD]
        assert np.array_equal(masked.labels[:count], ids[used])
        untouched = np.setdiff1d(np.arange(max_length), used)
        assert np.array_equal(masked.input_ids[untouched], ids[untouched])
        chosen = set(used.tolist())
        for word in words(ids, length, masker.slots):
            assert chosen.issuperset(word) or chosen.isdisjoint(word)


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.4])
def test_realised_rate_is_the_asked_one(rate: float) -> None:
    masker = Masker(MaskConfig(rate=rate), VOCABULARY, 128)
    masked = real = 0
    for seed in range(500):
        length = 40 + seed % 89
        masked += masker.apply(example(length, 128, seed), length, draws.Draws(seed)).weights.sum()
        real += length
    assert abs(masked / real - rate) < 0.005


def test_slots_follow_the_rate_and_the_originals_cap_is_a_choice() -> None:
    assert [MaskConfig().slots(length) for length in (20, 100, 128, 512)] == [3, 15, 20, 77]
    capped = Masker(MaskConfig(max_predictions=20), VOCABULARY, 512)
    counts = [capped.apply(example(512, 512, seed), 512, draws.Draws(seed)).weights.sum() for seed in range(50)]
    assert set(counts) == {20.0}  # 3.9 % of 512


def test_span_lengths_are_drawn_with_one_over_n() -> None:
    drawn = Masker(MaskConfig(), VOCABULARY, 128).ngram_lengths(draws.Draws(1).uniforms(50_000))
    counts = np.bincount(drawn, minlength=4)[1:]
    assert counts.sum() == 50_000
    expected = 50_000 * SHARES
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi-square, 2 degrees of freedom, p = 0.001
    assert set(Masker(MaskConfig(max_ngram=1), VOCABULARY, 128).ngram_lengths(np.array([0, 0.5, 0.99]))) == {1}


def test_realised_spans_keep_the_drawn_shares() -> None:
    masker = Masker(MaskConfig(), VOCABULARY, 512)
    counts = np.zeros(4)
    for seed in range(300):  # 512 words of one piece each, 77 to be masked
        draw = draws.Draws(seed)
        order, lengths = (
            np.argsort(draw.block(510)).tolist(),
            masker.ngram_lengths(draw.uniforms(77)).tolist(),
        )
        spans = _choose(range(511), [True] * 510, order, lengths, 77)
        assert sum(end - begin for begin, end, _ in spans) == 77
        for _, _, size in spans:
            counts[size] += 1
    # The last span of an example is shortened to what is left of the budget, or the shares would be exact.
    assert (abs(counts[1:] / counts.sum() - SHARES) < 0.015).all()


def test_no_span_crosses_a_sep_and_no_word_goes_on_behind_it() -> None:
    every_second = np.full(64, 900, np.int32)  # 900 goes on with a word
    every_second[[0, 31, 63]] = VOCABULARY.cls_id, VOCABULARY.sep_id, VOCABULARY.sep_id
    every_second[[1, 30, 33]] = 10  # starts a word
    masker = Masker(MaskConfig(rate=0.5), VOCABULARY, 64)
    edges, free = masker._words(every_second)
    assert edges == [0, 1, 30, 31, 32, 33, 63, 64]
    assert free == [False, True, True, False, True, True, False]
    for size in (1, 2, 3):
        spans = _choose(edges, list(free), list(range(len(free))), [size] * 99, 64)
        assert all(not begin <= place < end for begin, end, _ in spans for place in (0, 31, 63))
        assert sum(end - begin for begin, end, _ in spans) == 61


def test_a_span_that_would_overspend_is_shortened() -> None:
    edges, free = [0, 2, 4, 6, 7], [True] * 4  # words of 2, 2, 2 and 1 pieces
    assert _choose(edges, list(free), [0, 1, 2, 3], [3] * 5, 5) == [(0, 4, 2), (6, 7, 1)]
    assert _choose(edges, list(free), [0, 1, 2, 3], [1] * 5, 1) == [(6, 7, 1)]


def test_text_without_word_starts_is_masked_piece_by_piece() -> None:
    ids = np.full(128, 900, np.int32)
    ids[[0, 127]] = VOCABULARY.cls_id, VOCABULARY.sep_id
    masked = Masker(MaskConfig(), VOCABULARY, 128).apply(ids, 128, draws.Draws(3))
    assert masked.weights.sum() == 19


@pytest.mark.parametrize("replacement", ["ordinary", "any"])
def test_what_is_shown(replacement: str) -> None:
    masker = Masker(MaskConfig(replacement=replacement), VOCABULARY, 128)
    shown, labels = [], []
    for seed in range(4_000):
        masked = masker.apply(example(128, 128, seed % 50), 128, draws.Draws(seed))
        count = int(masked.weights.sum())
        shown.append(masked.input_ids[masked.positions[:count]])
        labels.append(masked.labels[:count])
    shown, labels = np.concatenate(shown), np.concatenate(labels)
    noisy = shown[(shown != VOCABULARY.mask_id) & (shown != labels)]
    # 76,000 pieces: a share of 0.1 has a standard deviation of 0.0011.
    assert abs((shown == VOCABULARY.mask_id).mean() - 0.8) < 0.006
    assert abs((shown == labels).mean() - 0.1) < 0.005
    assert abs(len(noisy) / len(shown) - 0.1) < 0.005
    special = (noisy < SPECIALS).sum()
    if replacement == "ordinary":
        assert special == 0
    else:  # 4 of 1,000 ids: [MASK] itself looks like a mask here
        assert 10 < special < 60
    counts = np.bincount(noisy, minlength=VOCAB_SIZE)[SPECIALS:]
    assert (np.histogram(np.arange(VOCAB_SIZE - SPECIALS), 5, weights=counts)[0] / len(noisy) > 0.18).all()


def test_treatment_is_drawn_for_each_piece_not_for_each_word() -> None:
    masker = Masker(MaskConfig(random_share=0, mask_share=0.5), VOCABULARY, 128)
    ids = np.full(128, 900, np.int32)
    ids[1::2] = 10  # words of two pieces
    ids[[0, 127]] = VOCABULARY.cls_id, VOCABULARY.sep_id
    mixed = total = 0
    for seed in range(300):
        masked = masker.apply(ids, 128, draws.Draws(seed))
        count = int(masked.weights.sum())
        pairs = masked.input_ids[masked.positions[: count - count % 2]].reshape(-1, 2)
        mixed += ((pairs == VOCABULARY.mask_id).sum(1) == 1).sum()
        total += len(pairs)
    assert abs(mixed / total - 0.5) < 0.04


def test_masks_are_pure_and_seeds_differ() -> None:
    masker, ids = Masker(MaskConfig(), VOCABULARY, 128), example(128, 128)
    before = ids.copy()
    first, second = (masker.apply(ids, 128, draws.Draws(5, 6)) for _ in range(2))
    other = masker.apply(ids, 128, draws.Draws(5, 7))
    assert np.array_equal(ids, before)
    assert np.array_equal(first.input_ids, second.input_ids) and np.array_equal(first.labels, second.labels)
    assert not np.array_equal(first.positions, other.positions)


def test_bad_knobs_are_refused() -> None:
    for config in (
        MaskConfig(rate=0),
        MaskConfig(rate=1.5),
        MaskConfig(max_predictions=129),
        MaskConfig(max_ngram=0),
        MaskConfig(mask_share=0.95, random_share=0.1),
        MaskConfig(replacement="all"),
    ):
        with pytest.raises(AlbertError):
            Masker(config, VOCABULARY, 128)
