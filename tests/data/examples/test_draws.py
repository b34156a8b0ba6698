"""Counter-based draws: fixed bits, even spread, permutations."""

import numpy as np
import pytest

from albert_jax.data.examples.draws import MASK, Draws, key, mix, mix_array, shuffled


def test_words_are_splitmix64() -> None:
    """The published test vector: state 1234567 gives these first words."""
    draw = Draws()
    draw._state = 1234567
    words = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [draw.word() for _ in words] == words
    draw._state = 1234567
    assert draw.block(3).tolist() == words


def test_scalar_and_array_draws_agree() -> None:
    left, right = Draws(1, -2, 3), Draws(1, -2, 3)
    assert [left.uniform() for _ in range(9)] == right.uniforms(9).tolist()
    assert left.word() == right.word()
    numbers = np.array([0, 1, MASK, 12345], np.uint64)
    assert mix_array(numbers.copy()).tolist() == [mix(int(number)) for number in numbers]


def test_keys_depend_on_every_part_and_their_order() -> None:
    keys = {key(*parts) for parts in [(1, 2), (2, 1), (1,), (2,), (1, 2, 0), (0, 1, 2), (-1, 2), (1, 1 << 40)]}
    assert len(keys) == 8


def test_draws_are_even() -> None:
    draw = Draws(4)
    below = np.bincount([draw.below(7) for _ in range(14_000)], minlength=7)
    assert below.sum() == 14_000 and ((below - 2000) ** 2 / 2000).sum() < 22.5  # chi-square, 6, p = 0.001
    heads = [draw.heads(130) for _ in range(5_000)]
    assert abs(np.mean(heads) - 65) < 0.33 and abs(np.var(heads) - 32.5) < 2.7
    assert draw.heads(0) == 0


@pytest.mark.parametrize("size", [1, 2, 3, 10, 97, 1000, 4097])
def test_shuffles_are_permutations(size: int) -> None:
    orders = [shuffled(np.arange(size), size, np.full(size, key(salt), np.uint64)) for salt in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(size))
    if size > 10:
        assert np.mean(orders[0] == orders[1]) < 0.1
        assert abs(np.corrcoef(np.arange(size), orders[0])[0, 1]) < 0.35


def test_every_order_of_four_comes() -> None:
    orders = [tuple(shuffled(np.arange(4), 4, np.full(4, key(salt), np.uint64))) for salt in range(4_800)]
    assert len(set(orders)) == 24
    assert max(orders.count(order) for order in set(orders)) < 280  # 200 expected


def test_one_call_may_mix_keys() -> None:
    places, keys = np.array([3, 3, 7]), np.array([key(1), key(2), key(1)], np.uint64)
    alone = [int(shuffled(places[i : i + 1], 50, keys[i : i + 1])[0]) for i in range(3)]
    assert shuffled(places, 50, keys).tolist() == alone
