"""Segment pairs with order labels, drawn from a document store as a function of (seed, index).

Sentence order (ALBERT, section 3.1): two consecutive stretches of one document, label 0 in their order and 1 swapped.
Both halves always come from one document; a document of one sentence serves the masked-word loss alone.
`google_compat` has the original's rules instead.
"""

# The original's tool takes the second half of a one-sentence chunk from another document and calls it swapped: where
# documents are short, that turns the task into next-sentence prediction, which the paper argues against.

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from albert_jax import fields
from albert_jax.data.examples import draws
from albert_jax.errors import refuse
from albert_jax.fields import knob


class Documents(Protocol):
    """What a pair needs of a document store (`albert_jax.data.store.store.DocumentStore` is one)."""

    @property
    def lengths(self) -> np.ndarray: ...  # [documents] pieces

    @property
    def sentence_counts(self) -> np.ndarray: ...  # [documents]

    def __len__(self) -> int: ...

    def __getitem__(self, document: int, /) -> tuple[np.ndarray, np.ndarray]:
        """(pieces [n], sentence_starts [m]): sentence k is pieces[starts[k] : starts[k + 1]], never empty."""


@dataclass(frozen=True)
class PairConfig:
    """How an example's text is chosen."""

    max_length: int = knob(512, at_least=8)  # S: pieces of an example with [CLS] and [SEP]
    # "sop": sentence order; "nsp": the second half of label 1 comes from another document; "off": one segment
    order: Literal["sop", "nsp", "off"] = "sop"
    # Where a pair is too long, "ends" drops a half's surplus from one end, by a coin; "pieces" flips a coin
    # for each piece, as the original does, and so hardly ever shows a document's first and last pieces
    cut: Literal["ends", "pieces"] = "ends"
    # Share of examples whose length is drawn evenly from what fits, each on its own
    short_prob: float = knob(0.1, at_least=0, at_most=1)
    # How documents are divided: "even" shows every part of a document about as often; "google_compat" is the original's
    # walk (`google_compat.GooglePairs`): short lengths drawn for a document, foreign halves for lone sentences
    chunks: Literal["even", "google_compat"] = "even"
    # S of the first `first_examples` examples of a run, whose steps cost less; 0 = max_length from the start. The step
    # is compiled once more where the length changes
    first_length: int = knob(0, at_least=0)
    first_examples: int = knob(0, at_least=0)  # the batch that reaches this number is the last of the first length

    @classmethod
    def google_compat(cls, max_length: int = 512) -> "PairConfig":
        """All that the original's tool does, at its defaults."""
        return cls(max_length, cut="pieces", chunks="google_compat")

    def length_at(self, place: int | None) -> int:
        """S where `place` examples of the run came before; None: after all of them."""
        return self.max_length if place is None or place >= self.first_examples else self.first_length

    def pieces_of(self, length: int) -> int:
        """Text pieces of a full example of `length`: what [CLS] and the [SEP]s leave."""
        return length - (2 if self.order == "off" else 3)

    @property
    def max_pieces(self) -> int:
        """Text pieces of a full example of max_length."""
        return self.pieces_of(self.max_length)

    @property
    def mean_pieces(self) -> float:
        """Text pieces of an average example, short ones included: the length of a slot."""
        return self.max_pieces - self.short_prob * (self.max_pieces - 2) / 2

    def flaws(self) -> Iterator[str]:
        """What does not go together, or names no rule of chunks."""
        if self.chunks not in ("even", "google_compat"):
            yield f"chunks={self.chunks!r}: choose even or google_compat"
        if self.chunks == "google_compat" and self.order != "sop":
            yield f"chunks='google_compat' makes sentence-order pairs; set order='sop', not {self.order!r}"
        if bool(self.first_length) != bool(self.first_examples):
            both = f"first_length={self.first_length}, first_examples={self.first_examples}"
            yield f"{both}: give both, for a run that begins with short examples, or neither"
        if self.first_length and not 8 <= self.first_length <= self.max_length:
            yield f"first_length={self.first_length}: give 8 to max_length={self.max_length} pieces"
        if self.first_length and self.chunks == "google_compat":
            yield "chunks='google_compat' has one length; set first_length=0, or chunks='even'"


@dataclass(frozen=True)
class Pair:
    """One example's text, without special pieces. `second` is empty where there is one segment."""

    first: np.ndarray  # pieces [n], shown first, segment 0
    second: np.ndarray  # pieces [m], shown second, segment 1
    label: int = 0  # 0: as in the document; 1: swapped ("sop") or foreign second half ("nsp")
    weight: float = 0.0  # 1 where the label means something, 0 where the order is undefined
    document: int = 0  # where `first` comes from; tests and `inspect` read it


def check(documents: Documents, config: PairConfig) -> None:
    """Raises AlbertError for a configuration that cannot be met, or not with these documents."""
    refuse(config.flaws())
    fields.check(config, "pairs")
    refuse(_lacks(documents, config))


def _lacks(documents: Documents, config: PairConfig) -> Iterator[str]:
    filled = np.asarray(documents.lengths) > 0
    if not filled.any():
        yield "the document store holds no text; prepare a corpus that has some"
    if config.chunks == "google_compat" or config.order == "off":
        return  # the original's rules make a pair of anything: a lone sentence gets a foreign half
    if not (np.asarray(documents.sentence_counts) > 1).any():
        yield (
            f"order={config.order!r} needs documents of two sentences or more, and this store has none; "
            "put one sentence a line and a blank line between documents, or set order='off'"
        )
    if config.order == "nsp" and filled.sum() < 2:
        yield "order='nsp' needs two documents or more; set order='sop' or order='off'"


class PairSource:
    """Random access to segment pairs: `len(source)` slots an epoch, `source.pair(seed, index)`.

    A document has one slot for about every `mean_pieces` of its pieces, so an average piece is seen about once an
    epoch, the outermost ones less. Slot k of a document's n slots aims at a point in the k-th of n equal parts of it;
    the chunk begins at the sentence nearest to half a length before that point, moved to lie inside the document.

    Raises AlbertError for a configuration that cannot be met, a store without text, or (for "sop" and "nsp") without a
    document that could show an order.
    """

    def __init__(self, documents: Documents, config: PairConfig) -> None:
        check(documents, config)
        self.config = config
        self._documents = documents
        # Slot numbers follow from the lengths alone: nothing is planned or stored, and example ten billion costs what
        # example zero costs.
        lengths = np.asarray(documents.lengths, dtype=np.int64)
        slots = np.rint(lengths / config.mean_pieces).astype(np.int64)
        self._ends = np.cumsum(np.where(lengths > 0, np.maximum(slots, 1), 0))

    def __len__(self) -> int:
        """Examples of one epoch."""
        return int(self._ends[-1])

    def pair(self, seed: int, index: int, place: int | None = None) -> Pair:
        """Pair `index` of the endless sequence that `seed` names; epoch e begins at e * len(source). `place`: how many
        examples of the run came before, which decides the length; None: after all of them."""
        epoch, slot = divmod(index, len(self))
        document = bisect_right(self._ends, slot)
        before = int(self._ends[document - 1]) if document else 0
        slots = int(self._ends[document]) - before
        text = _Text(*self._documents[document])
        # Where in its part a slot aims is drawn once for each document and epoch: the slots of an epoch stay evenly
        # spaced, and every epoch cuts the document elsewhere.
        shift = draws.Draws(seed, draws.SHIFTS, epoch, document).uniform()
        centre = int((slot - before + shift) * text.total / slots)

        draw = draws.Draws(seed, draws.PAIRS, index)
        # A slot is a point in a document, so slots are the same at any length: a shorter example shows less about it.
        target = limit = self.config.pieces_of(self.config.length_at(place))
        if draw.uniform() < self.config.short_prob:
            target = 2 + draw.below(limit - 1)
        first, low, last = text.chunk(centre, target, limit)
        # A chunk out of one very long sentence: the sentence before it would be shown with every such chunk.
        inside = last - first == 1 and text.edge(last) - text.edge(first) > limit
        if self.config.order == "off" or len(text.starts) < 2 or inside:
            segment = text.pieces[low : min(text.edge(last), low + target)]
            return Pair(segment, segment[:0], document=document)

        if last - first == 1 and first > 0:  # one sentence fills the chunk: show it with the one before it
            first, low, split = first - 1, text.edge(first - 1), low
        else:
            last = max(last, first + 2)
            split = text.edge(first + 1 + draw.below(last - first - 1))
        left, right = text.pieces[low:split][-limit:], text.pieces[split : text.edge(last)][:limit]
        label = draw.below(2)
        if label and self.config.order == "sop":
            left, right = right, left
        elif label:
            right = self._foreign(draw, before, slots, target - len(left), limit)
        # The swap comes before the cut: the cut favours the first half by a piece and would tell the order.
        return Pair(*_cut(draw, left, right, target, self.config.cut), label, 1.0, document)

    def _foreign(self, draw: draws.Draws, before: int, slots: int, wanted: int, limit: int) -> np.ndarray:
        """Whole sentences of another document (drawn by its slots): `wanted` pieces, if it has them."""
        slot = draw.below(len(self) - slots)
        document = bisect_right(self._ends, slot if slot < before else slot + slots)
        text = _Text(*self._documents[document])
        first = draw.below(len(text.starts))
        low = text.edge(first)
        last = bisect_left(text.starts, low + max(1, wanted), first + 1)
        return text.pieces[low : min(text.edge(last), low + limit)]


class _Text:
    """One document: where its sentences begin and end, and how stretches of it are chosen."""

    __slots__ = ("pieces", "starts", "total")

    def __init__(self, pieces: np.ndarray, starts: np.ndarray) -> None:
        self.pieces, self.starts, self.total = pieces, starts, len(pieces)

    def edge(self, sentence: int) -> int:
        """The piece that a sentence begins with; for the number after the last, the document's end."""
        return int(self.starts[sentence]) if sentence < len(self.starts) else self.total

    def entry(self, sentence: int, piece: int, limit: int) -> int:
        """The piece at which to enter a sentence to read about `piece`, which is in it."""
        begin = self.edge(sentence)
        # A sentence of more than `limit` pieces is entered in its middle, or what lies deep in it would never be shown.
        return begin if self.edge(sentence + 1) - begin <= limit else piece

    def chunk(self, centre: int, target: int, limit: int) -> tuple[int, int, int]:
        """Whole sentences of at least `target` pieces (if the document has them) about the piece `centre`.

        Returns (first, low, last): sentences first .. last - 1, to be read from piece `low` on.
        """
        wish = max(0, centre - target // 2)
        latest = max(0, self.total - target)
        if wish < latest:
            first = bisect_right(self.starts, wish) - 1
            low, end = self.entry(first, wish, limit), self.edge(first + 1)
            if low < wish and wish - low > end - wish:
                first, low = first + 1, end  # the next sentence's start is nearer
            if low <= latest:
                return first, low, bisect_left(self.starts, low + target, first + 1)
        first = bisect_right(self.starts, latest) - 1
        return first, self.entry(first, latest, limit), len(self.starts)  # up to the document's end


def _cut(
    draw: draws.Draws, first: np.ndarray, second: np.ndarray, target: int, cut: str
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts two halves to `target` pieces together, as `PairConfig.cut` says."""
    # The original drops one piece after the other, each from the half that is longer at that moment. What each half
    # keeps follows in closed form; how many of the dropped ones were in front is then one draw.
    keeps = (
        min(len(first), max(target - target // 2, target - len(second))),
        min(len(second), max(target // 2, target - len(first))),
    )
    halves = []
    for half, keep in zip((first, second), keeps, strict=True):
        surplus = len(half) - keep
        begin = draw.heads(surplus) if cut == "pieces" else surplus * draw.below(2)
        halves.append(half[begin : begin + keep])
    return halves[0], halves[1]
