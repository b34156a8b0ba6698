"""Masked-word targets: n-gram whole-word masking (ALBERT, section 4.1), drawn anew for every example.

Words are runs of pieces that begin where the vocabulary says a word begins. A span of n words is drawn with
p(n) proportional to 1/n and covers words of one segment only: nothing is masked across a [SEP], and a piece
that happens to follow a [SEP] is never taken for the rest of the word before it.

The walk differs from the original's in one point: a span that meets a covered word tries its length at the
next place instead of being dropped, so that collisions do not thin out the long spans.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from albert_jax.data.examples import draws
from albert_jax.errors import AlbertError


class Vocabulary(Protocol):
    """What masking needs of a tokenizer (`albert_jax.data.text.sentencepiece.Tokenizer` is one)."""

    vocab_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int

    @property
    def word_starts(self) -> np.ndarray: ...  # bool [V], True where a piece starts a word

    @property
    def google_word_starts(self) -> np.ndarray: ...  # bool [V], the same by the original's rule


@dataclass(frozen=True)
class MaskConfig:
    """Which pieces are predicted, and what the model sees in their place."""

    rate: float = 0.15  # predicted share of an example's pieces, [CLS] and [SEP] counted as in the original
    max_predictions: int = 0  # P, prediction slots of an example; 0 = ceil(rate * S). The original: 20, at any S
    max_ngram: int = 3  # longest span in words
    mask_share: float = 0.8  # share of predicted pieces shown as [MASK], drawn for each piece
    random_share: float = 0.1  # share shown as a random piece; the rest is shown as it is
    replacement: Literal["ordinary", "any"] = "ordinary"  # random pieces: no special ones, or (the original) any
    # How spans are chosen: "segment" as told above; "google_compat" is the original's walk and its rule of where a
    # word starts (`data/google_masks.py`)
    spans: Literal["segment", "google_compat"] = "segment"

    @classmethod
    def google_compat(cls, max_predictions: int = 20) -> "MaskConfig":
        """All that the original's tool does, at its defaults."""
        return cls(max_predictions=max_predictions, replacement="any", spans="google_compat")

    def slots(self, max_length: int) -> int:
        """P: prediction slots of an example of `max_length` pieces."""
        return self.max_predictions or math.ceil(self.rate * max_length - 1e-9)

    def check(self, max_length: int) -> None:
        """Raises AlbertError where a field's value cannot be used."""
        if not 0 < self.rate < 1:
            raise AlbertError(f"rate={self.rate}: give the masked share, between 0 and 1")
        if not 0 <= self.max_predictions <= max_length:
            raise AlbertError(
                f"max_predictions={self.max_predictions}: give 1 to max_length={max_length} slots, "
                "or 0 for rate * max_length"
            )
        if self.max_ngram < 1:
            raise AlbertError(f"max_ngram={self.max_ngram}: the longest span needs one word at least")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            raise AlbertError(
                f"mask_share={self.mask_share}, random_share={self.random_share}: give shares that add up to "
                "1 at most; what is left is shown as it is"
            )
        if self.spans not in ("segment", "google_compat"):
            raise AlbertError(f"spans={self.spans!r}: choose segment or google_compat")
        if self.replacement not in ("ordinary", "any"):
            raise AlbertError(f"replacement={self.replacement!r}: choose ordinary or any")


@dataclass(frozen=True)
class Masked:
    """What `Masker.apply` makes of one example."""

    input_ids: np.ndarray  # int32 [S]
    positions: np.ndarray  # int32 [P], sorted; 0 in unused slots
    labels: np.ndarray  # int32 [P], the pieces that were there; 0 in unused slots
    weights: np.ndarray  # float32 [P], 1 in used slots


class Masker:
    """Masks examples of one length and vocabulary.

    Before: input_ids [CLS] the cat sat . [SEP] it slept . [SEP] [PAD]
    After:  input_ids [CLS] the [MASK] [MASK] . [SEP] it slept . [SEP] [PAD], positions 2 3 0, weights 1 1 0
    """

    def __init__(self, config: MaskConfig, vocabulary: Vocabulary, max_length: int) -> None:
        config.check(max_length)
        self.config = config
        self.slots = config.slots(max_length)
        self._mask_id = vocabulary.mask_id
        # As a table: specials close the word before them, and can belong to no span.
        self._special = np.zeros(vocabulary.vocab_size, bool)
        self._special[[vocabulary.pad_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id]] = True
        self._starts = np.asarray(vocabulary.word_starts, bool) | self._special
        ordinary = ~self._special
        ordinary[vocabulary.unk_id] = False
        self._replacements = np.flatnonzero(ordinary if config.replacement == "ordinary" else np.ones_like(ordinary))
        shares = np.cumsum(1 / np.arange(1, config.max_ngram + 1))
        self._ngram_shares = shares[:-1] / shares[-1]

    def ngram_lengths(self, uniforms: np.ndarray) -> np.ndarray:
        """Span lengths in words, 1 .. max_ngram with p(n) = (1/n) / sum, for as many numbers in [0, 1)."""
        return np.searchsorted(self._ngram_shares, uniforms, side="right") + 1

    def budget(self, length: int) -> int:
        """How many of `length` pieces (special ones counted) are to be predicted."""
        return min(self.slots, max(1, round(self.config.rate * length)))

    def apply(self, input_ids: np.ndarray, length: int, draw: draws.Draws) -> Masked:
        """Masks one example.

        Args:
            input_ids: int32 [S], special pieces in place, padded after `length`.
            length: pieces that are not padding.
            draw: where the random numbers come from.

        Returns:
            A copy of the pieces as the model shall see them, and what it shall predict.
        """
        used, kinds, others = self._targets(input_ids, length, draw)
        count = len(used)
        masked = np.array(input_ids, dtype=np.int32)
        originals = masked[used]
        noise = self._replacements[(others[:count] * len(self._replacements)).astype(np.int64)]
        kinds, kept_from = kinds[:count], self.config.mask_share + self.config.random_share
        shown = np.where(kinds < kept_from, noise, originals)
        masked[used] = np.where(kinds < self.config.mask_share, self._mask_id, shown)

        positions, labels = np.zeros(self.slots, np.int32), np.zeros(self.slots, np.int32)
        weights = np.zeros(self.slots, np.float32)
        positions[:count], labels[:count], weights[:count] = used, originals, 1.0
        return Masked(masked, positions, labels, weights)

    def _targets(
        self, input_ids: np.ndarray, length: int, draw: draws.Draws
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The places to predict, int32 [n] in order, and two rows of numbers in [0, 1) that say what is shown there."""
        edges, free = self._words(input_ids[:length])
        budget = self.budget(length)
        uniforms = draw.uniforms(len(free) + 3 * budget)  # one call: NumPy's cost here is by the call
        lengths, kinds, others = uniforms[len(free) :].reshape(3, budget)
        order = np.argsort(uniforms[: len(free)]).tolist()
        spans = sorted(_choose(edges, free, order, self.ngram_lengths(lengths).tolist(), budget))
        return np.array([place for begin, end, _ in spans for place in range(begin, end)], np.int32), kinds, others

    def _words(self, pieces: np.ndarray) -> tuple[list[int], list[bool]]:
        """Word k is pieces[edges[k] : edges[k + 1]]; free[k] is False where it is a special piece.

        A word of more pieces than there are prediction slots (an address, a script without spaces under a
        rule that does not know it) could never be masked whole; it counts as one word a piece.
        """
        special = self._special[pieces]
        starts = np.ones(len(pieces) + 1, bool)  # one more: the last word's end
        starts[1:-1] = self._starts[pieces[1:]] | special[:-1]  # what follows [CLS] or [SEP] begins a word
        edges = np.flatnonzero(starts)
        sizes = edges[1:] - edges[:-1]
        if sizes.max() > self.slots:
            starts[:-1] |= np.repeat(sizes > self.slots, sizes)
            edges = np.flatnonzero(starts)
        return edges.tolist(), (~special[edges[:-1]]).tolist()


def _choose(
    edges: Sequence[int], free: list[bool], order: Sequence[int], lengths: Sequence[int], budget: int
) -> list[tuple[int, int, int]]:
    """Walks over the words in random order and covers spans of the drawn lengths until the budget is spent.

    A span that would overspend is shortened by words; what still does not fit is left for a smaller word
    later in the walk. A second walk, one word at a time, spends what the first left over.

    Args:
        edges: where the words begin, and where the last one ends.
        free: for each word whether it may be covered; entries of covered words become False.
        order: the words in the order of the walk.
        lengths: drawn span lengths in words, `budget` of them.
        budget: pieces to cover.

    Returns:
        Spans (begin, end, words) of pieces, in the order of the walk.
    """
    spans: list[tuple[int, int, int]] = []
    words = len(free)
    drawn = iter(lengths)
    size = next(drawn)
    for longest in (len(edges), 1):
        for word in order:
            count = min(size, longest)
            if word + count > words or not all(free[word : word + count]):
                continue
            begin = edges[word]
            while count and edges[word + count] - begin > budget:
                count -= 1
            if not count:
                continue
            end = edges[word + count]
            spans.append((begin, end, count))
            free[word : word + count] = [False] * count
            budget -= end - begin
            if not budget:
                return spans
            size = next(drawn)
    return spans
