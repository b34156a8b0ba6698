"""Counter-based random numbers: every draw is a function of a key, so no generator state has to be saved.

The stream is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

# Written out here, in some forty lines, because a resumed run must see the same bits under any NumPy and any Grain:
# NumPy promises that for its bit generators, but not for what is drawn from them.

import numpy as np

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15  # the odd step between two states of SplitMix64
FIRST = 0xBF58476D1CE4E5B9
SECOND = 0x94D049BB133111EB
UNIT = 2.0**-53  # a double holds 53 random bits

# Streams of one (seed, index), so that drawing more for one purpose does not move what another purpose draws. The
# numbers are part of every key: a new one would change all runs.
PAIRS, MASKS, SHIFTS, ORDER = 1, 2, 3, 4

SHUFFLE_ROUNDS = 6  # three on either side; four already pass for random when n is large


def mix(word: int) -> int:
    """SplitMix64's output function: a bijection of the 64-bit integers that looks random."""
    word = ((word ^ (word >> 30)) * FIRST) & MASK
    word = ((word ^ (word >> 27)) * SECOND) & MASK
    return word ^ (word >> 31)


def mix_array(words: np.ndarray) -> np.ndarray:
    """`mix` of every element of a uint64 array, in place (overflow wraps, as it should)."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(FIRST)
    words ^= words >> np.uint64(27)
    words *= np.uint64(SECOND)
    words ^= words >> np.uint64(31)
    return words


def key(*parts: int) -> int:
    """Folds integers (any size, any sign) into one 64-bit key; the order of the parts counts."""
    state = 0
    for part in parts:
        state = mix((state + GAMMA + part) & MASK)
    return state


class Draws:
    """A short sequence of draws that starts at a key; make one per (seed, stream, index) and throw it away."""

    # Scalars are plain Python integers: a handful of them costs less than one NumPy call.
    __slots__ = ("_state",)

    def __init__(self, *parts: int) -> None:
        self._state = key(*parts)

    def word(self) -> int:
        """The next 64 random bits."""
        self._state = (self._state + GAMMA) & MASK
        return mix(self._state)

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return (self.word() >> 11) * UNIT

    def below(self, bound: int) -> int:
        """An integer in [0, bound)."""
        # A multiplication instead of a loop that rejects: the bias is below bound / 2**64, and each draw costs one
        # word.
        return (self.word() * bound) >> 64

    def heads(self, coins: int) -> int:
        """How many of `coins` fair coins show heads: an exact binomial draw, 64 coins a word."""
        count = 0
        while coins > 0:
            count += (self.word() & ((1 << min(coins, 64)) - 1)).bit_count()
            coins -= 64
        return count

    def block(self, count: int) -> np.ndarray:
        """The next `count` words at once: uint64 [count], the same words that `word` would give."""
        states = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GAMMA) + np.uint64(self._state)
        self._state = (self._state + count * GAMMA) & MASK
        return mix_array(states)

    def uniforms(self, count: int) -> np.ndarray:
        """The next `count` numbers in [0, 1): float64 [count]."""
        return (self.block(count) >> np.uint64(11)) * UNIT


def shuffled(positions: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Which of `size` things stands at each position of a shuffled order: a permutation of range(size) for every key.

    `positions`: int64 [n], each in [0, size); `keys`: uint64 [n], the key of each position's permutation (one for each
    epoch). Returns int64 [n], each in [0, size).
    """
    # A Feistel network over a grid of about sqrt(size) x sqrt(size) cells (Black and Rogaway, "Ciphers with arbitrary
    # finite domains", CT-RSA 2002): no permutation is stored, so element ten billion costs what element zero costs.
    columns = max(1, int(np.ceil(np.sqrt(size))))
    rows = -(-size // columns)
    result = np.array(positions, dtype=np.uint64)
    todo = np.arange(result.size)
    while todo.size:
        high, low = np.divmod(result[todo], np.uint64(columns))
        for turn in range(SHUFFLE_ROUNDS):
            salts = keys[todo] + np.uint64(key(turn))
            if turn % 2:
                high = (high + mix_array(low + salts) % np.uint64(rows)) % np.uint64(rows)
            else:
                low = (low + mix_array(high + salts) % np.uint64(columns)) % np.uint64(columns)
        result[todo] = high * np.uint64(columns) + low
        # The grid has up to `columns` more cells than things: what lands on one of those is permuted again.
        todo = todo[result[todo] >= size]
    return result.astype(np.int64)
