"""Examples of about one length in a batch: which row lengths, which order, and that a loader keeps its promises."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest

from albert_jax.data.examples.buckets import Buckets, choose, steps
from albert_jax.data.examples.loader import Loader
from albert_jax.errors import AlbertError


class Texts:
    """Examples of 3 to 60 pieces, each full of its own number."""

    weights = ("real",)
    max_length = 64

    def __init__(self, count=203):
        self.fingerprint = f"texts {count}"
        self.lengths = np.random.default_rng(0).integers(3, 61, count)
        self.lengths[: count // 2] = 9  # most are short

    def __len__(self):
        return len(self.lengths)

    def example(self, seed, index, place=None, length=None):
        index %= len(self)
        ids = np.zeros(length or self.max_length, np.int32)
        ids[: self.lengths[index]] = index + 1  # raises where it does not fit
        return {"input_ids": ids, "real": np.float32(1)}


def loader_of(source, batch_size, most=4, **options):
    row_lengths = choose(source.lengths, source.max_length, most)
    return Loader(source, batch_size, row_lengths=row_lengths, **options)


def padded(lengths, chosen):
    """Pieces of all examples, each padded to the least of `chosen` that holds it."""
    return sum(min(row for row in chosen if row >= length) for length in lengths)


def test_steps_are_four_to_a_doubling():
    assert steps(128) == [16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128]
    assert (steps(16), steps(8), steps(17), steps(100)[-2:]) == ([16], [8], [16, 17], [96, 100])


def test_the_row_lengths_are_the_best_of_all_subsets():
    random = np.random.default_rng(1)
    for longest in (40, 64, 100):
        lengths = np.minimum(3 + random.geometric(0.05, 500), longest)
        for most in (1, 2, 3):
            found = choose(lengths, longest, most)
            subsets = [each for n in range(1, most + 1) for each in combinations(steps(longest), n)]
            subsets = [each for each in subsets if max(each) >= max(lengths)]
            least = min(padded(lengths, each) for each in subsets)
            assert least <= padded(lengths, found) <= 1.05 * least and len(found) <= most
    # No more than pay: all of one length, and a longer row that nothing needs.
    assert choose(np.full(50, 29), 128, 4) == (32,)
    assert choose(np.array([29] * 49 + [100]), 128, 1) == (112,)
    assert choose(np.array([29] * 49 + [100]), 128, 4) == (32, 112)


@pytest.mark.parametrize(("count", "batch_size"), [(203, 16), (96, 16), (50, 32), (5, 16), (1, 4), (33, 16)])
def test_every_example_comes_once_an_epoch(count, batch_size):
    source = Texts(count)
    loader = loader_of(source, batch_size, 4, seed=3)
    seen = np.concatenate([next(loader)["input_ids"][:, 0] - 1 for _ in range(-(-5 * count // batch_size))])
    epochs = [seen[n * count : (n + 1) * count].tolist() for n in range(5)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert count < 30 or len({tuple(epoch) for epoch in epochs}) == 5
    other = loader_of(source, batch_size, 4, seed=4)
    assert count < 30 or (next(other)["input_ids"][:, 0] - 1).tolist() != epochs[0][:batch_size]


def test_batches_are_of_one_length_also_across_epochs():
    source = Texts()
    loader = loader_of(source, 16, 4, seed=0)
    rows = loader.buckets.row_lengths
    assert rows[0] == 16 and rows[-1] == 64 and len(rows) in (3, 4)
    computed = real = 0
    found = Counter()
    for number in range(1016 // 16):  # five epochs, none of which ends with a batch
        batch = next(loader)["input_ids"]
        lengths = source.lengths[batch[:, 0] - 1]
        assert batch.shape == (16, min(row for row in rows if row >= lengths.max()))
        found[batch.shape[1]] += 1
        if number < 12:
            computed, real = computed + batch.size, real + lengths.sum()
    assert set(found) == set(rows) and found[16] > 1016 / 16 / 3
    assert loader.padding() == pytest.approx(computed / real)
    assert computed / real < 1.4 < 2.5 < 64 / source.lengths.mean()
    assert computed < 1.1 * padded(source.lengths, rows)


def test_processes_see_one_row_length_and_the_rows_of_the_whole():
    source = Texts(70)
    whole = loader_of(source, 16, 3, seed=1)
    parts = [
        loader_of(source, 16, 3, seed=1, rows=rows)
        for rows in ([0, 1, 2, 3, 8, 9], [4, 5, 6, 7, 10, 11, 12, 13, 14, 15])
    ]
    for _ in range(12):
        batch, one, two = next(whole), *map(next, parts)
        np.testing.assert_array_equal(one["input_ids"], batch["input_ids"][[0, 1, 2, 3, 8, 9]])
        np.testing.assert_array_equal(two["input_ids"], batch["input_ids"][[4, 5, 6, 7, *range(10, 16)]])


def test_a_restored_loader_goes_on_and_another_row_length_is_another_sequence():
    source = Texts()
    whole, later = (loader_of(source, 16, 3, seed=1) for _ in range(2))
    expected = [next(whole)["input_ids"] for _ in range(40)]
    later.set_state({**whole.get_state(), "next_batch": 25})
    for batch in expected[25:]:
        np.testing.assert_array_equal(next(later)["input_ids"], batch)
    with pytest.raises(AlbertError, match="row_lengths changed from None to"):
        later.set_state(Loader(source, 16, seed=1).get_state())
    worker = loader_of(source, 16, 3, seed=1, worker_count=1)
    for batch in expected[:3]:
        np.testing.assert_array_equal(next(worker)["input_ids"], batch)
    worker.close()


def test_a_pass_is_from_long_to_short_and_tells_its_order():
    source = Texts(37)
    loader = loader_of(source, 8, 3, shuffle=False, epochs=1)
    batches = list(loader)
    seen = np.concatenate([batch["input_ids"][batch["example_weight"] > 0, 0] - 1 for batch in batches])
    np.testing.assert_array_equal(seen, loader.order)
    assert sorted(seen) == list(range(37))
    shapes = [batch["input_ids"].shape[1] for batch in batches]
    assert shapes == sorted(shapes, reverse=True) and len(set(shapes)) > 1
    assert batches[-1]["example_weight"].tolist() == batches[-1]["real"].tolist() == [1.0] * 5 + [0.0] * 3
    plain = Loader(source, 8, shuffle=False, epochs=1)
    assert plain.order is None and next(plain)["input_ids"].shape == (8, 64)


def test_the_order_within_a_row_length_is_random():
    """Neither by length nor by number: neighbours in one epoch are none in the next."""
    buckets = Buckets(np.full(640, 10), (16,))
    first, second = (buckets.shuffled(0, epoch, 32) for epoch in (0, 1))
    pairs = [set(pairwise(order)) for order in (first, second)]
    assert len(pairs[0] & pairs[1]) < 10 and abs(np.corrcoef(np.arange(640), first)[0, 1]) < 0.15
