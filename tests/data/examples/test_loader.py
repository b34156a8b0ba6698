"""The loader: one stream whatever the processes and workers, a position that is one number, finite passes."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from albert_jax.data.examples.loader import READ_AHEAD, Loader
from albert_jax.data.examples.masking import MaskConfig
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.data.examples.pretraining import PretrainingSource
from albert_jax.errors import AlbertError
from tests.data.in_memory import SPECIALS, SmallVocabulary, random_store

VOCABULARY = SmallVocabulary(1000, start_share=0.6)


@dataclass(frozen=True)
class ExampleList:
    """A list of dicts of arrays or numbers as a `Source`: the same examples in every epoch."""

    rows: Sequence
    weights: tuple[str, ...] = ()
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def example(self, seed: int, index: int, place: int | None = None):
        return self.rows[index % len(self)]


def pretraining_source(order: str = "sop") -> PretrainingSource:
    generator = np.random.default_rng(0)
    shapes = [generator.integers(1, 30, generator.integers(1, 30)).tolist() for _ in range(39)]
    return PretrainingSource(random_store(shapes, 1000), VOCABULARY, PairConfig(32, order), MaskConfig())


class Counting:
    """Examples that say who they are, and a list of those that were made."""

    fingerprint = "counting"
    weights = ("loss_weight", "label_weights")

    def __init__(self, size: int) -> None:
        self.size, self.made = size, []

    def __len__(self) -> int:
        return self.size

    def example(self, seed: int, index: int, place: int | None = None) -> dict:
        self.made.append(index)
        return {
            "index": np.int64(index),
            "loss_weight": np.float32(1),
            "label_weights": np.ones(3, np.float32),
        }


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in left
    )


def take(loader: Loader, count: int) -> list[dict]:
    batches = list(itertools.islice(loader, count))
    loader.close()
    return batches


def test_pretraining_examples_have_the_promised_form() -> None:
    batch = take(Loader(pretraining_source(), 8), 1)[0]
    forms = {name: (values.shape, values.dtype.name) for name, values in batch.items()}
    assert forms == {
        "input_ids": ((8, 32), "int32"),
        "segment_ids": ((8, 32), "int32"),
        "mask": ((8, 32), "bool"),
        "masked_positions": ((8, 5), "int32"),
        "masked_ids": ((8, 5), "int32"),
        "masked_weights": ((8, 5), "float32"),
        "order_label": ((8,), "int32"),
        "order_weight": ((8,), "float32"),
        "example_weight": ((8,), "float32"),
    }


@pytest.mark.parametrize("order", ["sop", "nsp", "off"])
def test_pretraining_examples_are_laid_out_right(order: str) -> None:
    source = pretraining_source(order)
    for index in range(500):
        example, pair = source.example(1, index), source.pairs.pair(1, index)
        ids = example["input_ids"].copy()
        used = example["masked_weights"] > 0
        ids[example["masked_positions"][used]] = example["masked_ids"][used]
        ends = [VOCABULARY.sep_id]
        halves = [VOCABULARY.cls_id, *pair.first, *ends] + ([*pair.second, *ends] if len(pair.second) else [])
        real = len(halves)
        assert ids[:real].tolist() == halves and (ids[real:] == VOCABULARY.pad_id).all()
        assert example["mask"].tolist() == [True] * real + [False] * (32 - real)
        second = len(pair.second) + 1 if len(pair.second) else 0
        assert example["segment_ids"].tolist() == [0] * (real - second) + [1] * second + [0] * (32 - real)
        assert example["order_weight"] == (len(pair.second) > 0) and example["order_label"] == pair.label
        assert (ids[example["masked_positions"][used]] >= SPECIALS).all()


def test_masks_differ_between_epochs_and_seeds() -> None:
    store = random_store([[12, 15]], 1000)  # one pair: only its order and its masks can differ
    source = PretrainingSource(store, VOCABULARY, PairConfig(32, short_prob=0))
    assert len(source) == 1
    masks = {source.example(seed, epoch)["masked_positions"].tobytes() for seed in range(5) for epoch in range(5)}
    assert len(masks) > 14


def test_rows_of_a_batch_are_the_examples_alone() -> None:
    source = pretraining_source()
    batch = take(Loader(source, 16, seed=3, shuffle=False), 2)[1]
    for row in range(16):
        alone = source.example(3, 16 + row)
        assert all(np.array_equal(batch[name][row], alone[name]) for name in alone)


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    loader = Loader(Counting(97), 10, seed=5)
    indices = np.concatenate([batch["index"] for batch in take(loader, 30)])[: 97 * 3].reshape(3, 97)
    for epoch, order in enumerate(indices):
        assert sorted(order - 97 * epoch) == list(range(97))
    assert not np.array_equal(indices[0], indices[1] - 97)
    other = np.concatenate([batch["index"] for batch in take(Loader(Counting(97), 10, seed=6), 10)])
    assert not np.array_equal(indices[0], other[:97])
    assert not np.array_equal(indices[1] - 97, other[:97])  # seed + 1 is not one epoch further


def test_seeds_give_other_batches() -> None:
    batches = [take(Loader(pretraining_source(), 8, seed=seed), 1)[0] for seed in (1, 1, 2)]
    assert same(batches[0], batches[1]) and not same(batches[0], batches[2])


def test_a_restored_loader_goes_on_bit_for_bit() -> None:
    straight = take(Loader(pretraining_source(), 8, seed=7), 20)
    loader = Loader(pretraining_source(), 8, seed=7)
    assert all(same(*pair) for pair in zip(straight[:9], itertools.islice(loader, 9), strict=True))
    state = json.loads(json.dumps(loader.get_state()))
    loader.close()
    assert state["next_batch"] == 9  # not what was read ahead
    restored = Loader(pretraining_source(), 8, seed=7)
    next(restored)  # a loader that was elsewhere
    restored.set_state(state)
    assert all(same(*pair) for pair in zip(straight[9:], take(restored, 11), strict=True))


def test_restoring_costs_no_replay() -> None:
    source = Counting(1000)
    loader = Loader(source, 4, seed=8)
    loader.set_state({**loader.get_state(), "next_batch": 10**12})
    batch = take(loader, 1)[0]
    assert (batch["index"] // 1000 == 4 * 10**12 // 1000).all()
    assert len(source.made) <= 4 * (READ_AHEAD + 2)
    assert loader.get_state()["next_batch"] == 10**12 + 1


def share_of(batch_size: int, process: int, count: int) -> range:
    """The rows that fall to one of `count` equal processes."""
    return range(batch_size // count * process, batch_size // count * (process + 1))


def test_rows_may_lie_apart() -> None:
    whole, parted = (take(Loader(pretraining_source(), 8, seed=9, rows=rows), 3) for rows in (None, [1, 2, 7]))
    for one, other in zip(whole, parted, strict=True):
        assert same({name: values[[1, 2, 7]] for name, values in one.items()}, other)


@pytest.mark.parametrize("epochs", [None, 1])
def test_the_stream_does_not_depend_on_the_process_count(epochs: int | None) -> None:
    def global_batches(count: int, start: int) -> list[dict]:
        shares = []
        for process in range(count):
            loader = Loader(pretraining_source(), 16, seed=9, epochs=epochs, rows=share_of(16, process, count))
            loader.set_state({**loader.get_state(), "next_batch": start})
            shares.append(take(loader, 100 if epochs else 5))
        assert len({len(share) for share in shares}) == 1
        return [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in zip(*shares, strict=True)
        ]

    assert len(pretraining_source()) % 16 == 10  # of 16 processes, 6 get rows of padding only
    alone = global_batches(1, 0)
    for count in (2, 4, 16):
        assert all(same(*pair) for pair in zip(alone, global_batches(count, 0), strict=True))
    # Saved by one process after two batches, restored by four.
    assert all(same(*pair) for pair in zip(alone[2:], global_batches(4, 2), strict=False))


def test_a_finite_pass_counts_every_example_once() -> None:
    for batch_size, processes in itertools.product((7, 14, 64), (1, 7)):
        if batch_size % processes:
            continue
        counted = []
        for process in range(processes):
            source = Counting(33)
            loader = Loader(source, batch_size, epochs=1, rows=share_of(batch_size, process, processes), shuffle=False)
            batches = take(loader, 1000)
            assert len(batches) == len(loader) == -(-33 // batch_size)
            for batch in batches:
                real = batch["example_weight"] > 0
                assert (batch["loss_weight"] == real).all()
                assert (batch["label_weights"] == real[:, None]).all()
                counted += batch["index"][real].tolist()
        assert sorted(counted) == list(range(33))


def test_a_finite_loader_ends_and_rewinds() -> None:
    loader = Loader(Counting(10), 4, epochs=2, seed=1)
    first = list(loader)
    assert len(first) == 5 and list(loader) == []
    assert np.bincount(np.concatenate([batch["index"] % 10 for batch in first])).min() == 2
    assert all(same(*pair) for pair in zip(first, loader.rewind(), strict=True))
    with pytest.raises(AlbertError, match="no end"):
        len(Loader(Counting(10), 4))


def test_a_list_of_examples_is_a_source() -> None:
    rows = ExampleList([{"input_ids": np.arange(4) + row, "label": row} for row in range(6)])
    batches = list(Loader(rows, 4, epochs=2, seed=2))
    labels = np.concatenate([batch["label"][batch["example_weight"] > 0] for batch in batches])
    assert np.bincount(labels).tolist() == [2] * 6
    assert all((batch["input_ids"][:, 0] == batch["label"]).all() for batch in batches)


def test_weights_are_the_fields_that_the_source_names() -> None:
    rows = [{"loss": np.float32(2), "kept_weight": np.float32(3)} for _ in range(3)]
    last = list(Loader(ExampleList(rows, weights=("loss",)), 2, epochs=1, shuffle=False))[-1]
    assert last["example_weight"].tolist() == [1, 0]
    assert last["loss"].tolist() == [2, 0] and last["kept_weight"].tolist() == [3, 3]


def test_worker_processes_give_the_same_stream() -> None:
    straight = take(Loader(pretraining_source(), 8, seed=11), 12)
    workers = Loader(pretraining_source(), 8, seed=11, worker_count=2)
    assert all(same(*pair) for pair in zip(straight[:7], itertools.islice(workers, 7), strict=True))
    state = workers.get_state()
    workers.close()
    alone = Loader(pretraining_source(), 8, seed=11)
    alone.set_state(state)
    assert all(same(*pair) for pair in zip(straight[7:], take(alone, 5), strict=True))


def test_an_error_in_an_example_reaches_the_reader() -> None:
    class Broken(Counting):
        def example(self, seed: int, index: int, place: int | None = None) -> dict:
            raise AlbertError("document 3 is damaged; run prepare again")

    with pytest.raises(AlbertError, match="document 3"):
        next(Loader(Broken(5), 2))


def test_what_cannot_be_loaded_is_refused() -> None:
    with pytest.raises(AlbertError, match="empty"):
        Loader(ExampleList([]), 4)
    with pytest.raises(AlbertError, match="batch_size is 0"):
        Loader(Counting(10), 0)
    with pytest.raises(AlbertError, match="rows 3 to 4 are not in a batch of 4"):
        Loader(Counting(10), 4, rows=[3, 4])
    with pytest.raises(AlbertError, match="are not in a batch of 4"):
        Loader(Counting(10), 4, rows=[])
    with pytest.raises(AlbertError, match="epochs"):
        Loader(Counting(10), 4, epochs=0)


@pytest.mark.parametrize(("field", "other"), [("batch_size", 8), ("seed", 1), ("shuffle", False)])
def test_the_position_of_another_stream_is_refused(field: str, other: int) -> None:
    state = Loader(Counting(10), 4).get_state()
    changed = Loader(Counting(10), **{"batch_size": 4, field: other})
    with pytest.raises(AlbertError, match=field):
        changed.set_state(state)


def test_the_position_in_another_corpus_is_refused() -> None:
    loader = Loader(pretraining_source(), 8)
    with pytest.raises(AlbertError, match="the training examples changed"):
        loader.set_state(Loader(pretraining_source("off"), 8).get_state())
    one, other = (PretrainingSource(random_store([[9, n]], 1000), VOCABULARY, PairConfig(32)) for n in (8, 9))
    assert len(one) == len(other)
    with pytest.raises(AlbertError, match="the training examples changed"):
        Loader(one, 8).set_state(Loader(other, 8).get_state())


# ---- what changes during a run

GOLDEN_IDENTITY = "bad422a9f1b09608"  # of `pretraining_source()`, before anything could change during a run
SHAPES = [np.random.default_rng(d).integers(3, 8, 30).tolist() for d in range(40)]
# 8 examples of a batch: lengths 16, 16, 16, 32 ...; the rate falls over the first 40 examples, so until batch 5.
CHANGING = (
    PairConfig(32, short_prob=0, first_length=16, first_examples=20),
    MaskConfig(rate=0.5, end_rate=0.25, end_examples=40),
)


def changing_source() -> PretrainingSource:
    return PretrainingSource(random_store(SHAPES, 1000), SmallVocabulary(1000), *CHANGING)


def test_length_and_rate_follow_the_place_in_the_run() -> None:
    batches = take(Loader(changing_source(), 8, seed=4), 8)
    assert [batch["input_ids"].shape[1] for batch in batches] == [16, 16, 16, 32, 32, 32, 32, 32]
    # ceil(highest rate * length) slots
    assert [batch["masked_weights"].shape[1] for batch in batches] == [8, 8, 8, 16, 16, 16, 16, 16]
    assert all(batch["mask"].all() for batch in batches)  # nothing is padded: the texts are cut to the length
    # round(rate * length), with the rate 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.25, ...
    assert [batch["masked_weights"].sum(1).tolist() for batch in batches] == [
        [count] * 8 for count in (8, 7, 6, 11, 10, 8, 8, 8)
    ]


def test_what_changes_during_a_run_is_resumed_and_divided_exactly() -> None:
    straight = take(Loader(changing_source(), 8, seed=4), 6)
    for begin in (2, 3):  # within the first length, and where the second begins
        first = Loader(changing_source(), 8, seed=4)
        take(first, begin)
        again = Loader(changing_source(), 8, seed=4)
        again.set_state(first.get_state())
        assert all(same(*pair) for pair in zip(straight[begin:], take(again, 6 - begin), strict=True))
    for rows in ((0, 1, 2), (3, 4, 5, 6, 7)):
        own = take(Loader(changing_source(), 8, seed=4, rows=rows), 6)
        assert all(
            same({name: values[list(rows)] for name, values in whole.items()}, part)
            for whole, part in zip(straight, own, strict=True)
        )


def test_after_all_changes_the_source_is_a_plain_one() -> None:
    """So an evaluation is the same during and after them, and slots name the same places of the text at any length."""
    plain = PretrainingSource(random_store(SHAPES, 1000), VOCABULARY, PairConfig(32, short_prob=0))
    changing = changing_source()
    assert len(changing) == len(plain)
    for index in range(20):
        example, pair = changing.example(1, index), plain.pairs.pair(1, index)
        assert example["input_ids"].shape == (32,) and example["masked_weights"].sum() == 8
        late = changing.pairs.pair(1, index, 20)
        assert np.array_equal(late.first, pair.first) and np.array_equal(late.second, pair.second)
        early = changing.pairs.pair(1, index, 19)
        assert early.document == pair.document and len(early.first) + len(early.second) == 13


def test_an_identity_is_that_of_before_where_nothing_changes() -> None:
    """A stored run may go on: its data position names this digest."""
    assert pretraining_source().fingerprint == GOLDEN_IDENTITY
    store = random_store(SHAPES, 1000)
    plain = PretrainingSource(store, VOCABULARY, PairConfig(32), MaskConfig()).fingerprint
    changes = [
        (PairConfig(32, first_length=16, first_examples=20), MaskConfig()),
        (PairConfig(32), MaskConfig(end_rate=0.1, end_examples=40)),
        (PairConfig(32), MaskConfig(end_rate=0.1, end_examples=41)),
    ]
    assert len({plain, *(PretrainingSource(store, VOCABULARY, *change).fingerprint for change in changes)}) == 4


def test_changes_that_do_not_go_together_are_refused() -> None:
    store = random_store(SHAPES, 1000)
    for pairs, masks, message in (
        (PairConfig(32, first_length=16), MaskConfig(), "first_length=16, first_examples=0: give both"),
        (PairConfig(32, first_length=64, first_examples=9), MaskConfig(), "give 8 to max_length=32"),
        (PairConfig(32, chunks="google_compat", first_length=16, first_examples=9), MaskConfig(), "has one length"),
        (PairConfig(32), MaskConfig(end_rate=0.1), "end_rate=0.1, end_examples=0: give both"),
        (PairConfig(32, first_length=16, first_examples=9), MaskConfig(max_predictions=20), "max_length=16 slots"),
    ):
        with pytest.raises(AlbertError, match=message):
            PretrainingSource(store, VOCABULARY, pairs, masks)
