"""Masked-word targets: n-gram whole-word masking (ALBERT, section 4.1), drawn anew for every example.

Words are runs of pieces that begin where the vocabulary says that a word begins. A span of n words is drawn with p(n)
proportional to 1/n. It lies within one segment: nothing is masked across a [SEP].
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from albert_jax import fields
from albert_jax.data.examples import draws
from albert_jax.errors import refuse
from albert_jax.fields import knob


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

    # Predicted share of an example's pieces, [CLS] and [SEP] counted as in the original
    rate: float = knob(0.15, above=0, below=1)
    # P, prediction slots of an example; 0 = ceil(highest rate * S). The original: 20, at any S
    max_predictions: int = knob(0, at_least=0)
    max_ngram: int = knob(3, at_least=1)  # longest span in words
    mask_share: float = knob(0.8, at_least=0, at_most=1)  # share of predicted pieces shown as [MASK], drawn for each
    random_share: float = knob(0.1, at_least=0, at_most=1)  # share shown as a random piece; the rest is shown as it is
    replacement: Literal["ordinary", "any"] = "ordinary"  # random pieces: no special ones, or (the original) any
    # How spans are chosen: "segment" keeps them in a segment; "google_compat" is the original's walk and its rule of
    # where a word starts (`google_compat.GoogleMasker`)
    spans: Literal["segment", "google_compat"] = "segment"
    # The rate that `rate` moves to, linearly over the first `end_examples` examples of a run (30 to
    # 15 %, say); 0 keeps `rate`. Evaluations see the last rate
    end_rate: float = knob(0.0, at_least=0, below=1)
    end_examples: int = knob(0, at_least=0)

    @classmethod
    def google_compat(cls, max_predictions: int = 20) -> "MaskConfig":
        """All that the original's tool does, at its defaults."""
        return cls(max_predictions=max_predictions, replacement="any", spans="google_compat")

    def slots(self, max_length: int) -> int:
        """P: prediction slots of an example of `max_length` pieces."""
        return self.max_predictions or math.ceil(max(self.rate, self.end_rate) * max_length - 1e-9)

    def rate_at(self, place: int | None) -> float:
        """The rate where `place` examples of the run came before; None: after all of them."""
        if not self.end_rate:
            return self.rate
        done = 1.0 if place is None else min(1.0, place / self.end_examples)
        return self.rate + done * (self.end_rate - self.rate)

    def flaws(self, max_length: int) -> Iterator[str]:
        """What does not go together for examples of `max_length` pieces, or names no rule of spans."""
        if self.spans not in ("segment", "google_compat"):
            yield f"spans={self.spans!r}: choose segment or google_compat"
        if self.max_predictions > max_length:
            yield (
                f"max_predictions={self.max_predictions}: give 1 to max_length={max_length} slots, "
                "or 0 for rate * max_length"
            )
        if bool(self.end_rate) != bool(self.end_examples):
            yield (
                f"end_rate={self.end_rate:g}, end_examples={self.end_examples}: give both, for a rate that moves, or "
                "neither"
            )
        if self.mask_share + self.random_share > 1:
            yield (
                f"mask_share={self.mask_share}, random_share={self.random_share}: give shares that add up to "
                "1 at most; what is left is shown as it is"
            )


@dataclass(frozen=True)
class Masked:
    """What `Masker.apply` makes of one example."""

    input_ids: np.ndarray  # int32 [S]
    positions: np.ndarray  # int32 [P], sorted; 0 in unused slots
    labels: np.ndarray  # int32 [P], the original pieces; 0 in unused slots
    weights: np.ndarray  # float32 [P], 1 in used slots


class Masker:
    """Masks examples of one length and vocabulary. Raises AlbertError for a configuration that cannot be used.

    Before: input_ids [CLS] the cat sat . [SEP] it slept . [SEP] [PAD]
    After:  input_ids [CLS] the [MASK] [MASK] . [SEP] it slept . [SEP] [PAD], positions 2 3 0, weights 1 1 0
    """

    def __init__(self, config: MaskConfig, vocabulary: Vocabulary, max_length: int) -> None:
        refuse(config.flaws(max_length))
        fields.check(config, "masks")
        self.config = config
        self.slots = config.slots(max_length)
        self._mask_id = vocabulary.mask_id
        # As a table: special pieces end the word before them and belong to no span.
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

    def budget(self, length: int, place: int | None = None) -> int:
        """How many of `length` pieces, special ones counted, to predict; `place` as of `MaskConfig.rate_at`."""
        return min(self.slots, max(1, round(self.config.rate_at(place) * length)))

    def apply(self, input_ids: np.ndarray, length: int, draw: draws.Draws, place: int | None = None) -> Masked:
        """The pieces as the model shall see them (a copy), and what it shall predict.

        `input_ids`: int32 [S] with special pieces, padded after `length`; `place` as of `MaskConfig.rate_at`.
        """
        used, kinds, others = self._targets(input_ids, self.budget(length, place), length, draw)
        count = len(used)
        masked = np.array(input_ids, dtype=np.int32)
        originals = masked[used]
        noise = self._replacements[(others[:count] * len(self._replacements)).astype(np.int64)]
        # One draw a piece and not a word, as in the original: a masked word may be shown in part.
        kinds, kept_from = kinds[:count], self.config.mask_share + self.config.random_share
        shown = np.where(kinds < kept_from, noise, originals)
        masked[used] = np.where(kinds < self.config.mask_share, self._mask_id, shown)

        positions, labels = np.zeros(self.slots, np.int32), np.zeros(self.slots, np.int32)
        weights = np.zeros(self.slots, np.float32)
        positions[:count], labels[:count], weights[:count] = used, originals, 1.0
        return Masked(masked, positions, labels, weights)

    def _targets(
        self, input_ids: np.ndarray, budget: int, length: int, draw: draws.Draws
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The positions to predict, int32 [n <= budget] sorted, and two rows of numbers in [0, 1) that say what is
        shown."""
        edges, free = self._words(input_ids[:length])
        uniforms = draw.uniforms(len(free) + 3 * budget)  # one call: NumPy's cost here is by the call
        lengths, kinds, others = uniforms[len(free) :].reshape(3, budget)
        order = np.argsort(uniforms[: len(free)]).tolist()
        spans = sorted(_choose(edges, free, order, self.ngram_lengths(lengths).tolist(), budget))
        return np.array([i for begin, end, _ in spans for i in range(begin, end)], np.int32), kinds, others

    def _words(self, pieces: np.ndarray) -> tuple[list[int], list[bool]]:
        """Word k is pieces[edges[k] : edges[k + 1]]; free[k] is False where it is a special piece."""
        special = self._special[pieces]
        starts = np.ones(len(pieces) + 1, bool)  # one more: the last word's end
        # What follows [CLS] or [SEP] begins a word: a cut may have left the rest of one, and the word that it belonged
        # to is not the one before the [SEP].
        starts[1:-1] = self._starts[pieces[1:]] | special[:-1]
        edges = np.flatnonzero(starts)
        sizes = edges[1:] - edges[:-1]
        # A word of more pieces than there are prediction slots (an address, a script without spaces) could never be
        # masked whole: each of its pieces counts as a word.
        if sizes.max() > self.slots:
            starts[:-1] |= np.repeat(sizes > self.slots, sizes)
            edges = np.flatnonzero(starts)
        return edges.tolist(), (~special[edges[:-1]]).tolist()


def _choose(
    edges: Sequence[int], free: list[bool], order: Sequence[int], lengths: Sequence[int], budget: int
) -> list[tuple[int, int, int]]:
    """Spans (begin, end, words) of pieces, in the order in which they are chosen: `budget` pieces, if they can be had.

    `edges` and `free` are of `_words`, entries of `free` become False as words are covered; the words are visited in
    `order`; `lengths` are drawn, in words.
    """
    spans: list[tuple[int, int, int]] = []
    words = len(free)
    drawn = iter(lengths)
    size = next(drawn)
    # The first walk covers spans of the drawn lengths; the second, one word at a time, spends what the first left over.
    for longest in (len(edges), 1):
        for word in order:
            count = min(size, longest)
            # A span that meets a covered word tries its length at the next word. The original drops it with its length,
            # so that collisions thin out the long spans.
            if word + count > words or not all(free[word : word + count]):
                continue
            begin = edges[word]
            # One that would overspend is shortened by words; what still does not fit leaves the rest to a smaller word.
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
