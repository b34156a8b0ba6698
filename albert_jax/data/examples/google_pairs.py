"""Segment pairs as the original's tool makes them: google-research/albert, `create_pretraining_data.py`.

The tool walks through a document and gathers sentences until they reach a target length. It draws the target
once for a document and keeps it: all that fits, or (with `short_prob`) a length drawn evenly. A short target
cuts a document into many chunks, so that with short_prob 0.1 a quarter of the examples are short where documents
are long. A chunk of several sentences is divided at a sentence drawn evenly and swapped by a coin. A chunk of
one sentence takes its second half from a document drawn evenly, and is labelled 1 like a swapped one: for
documents of one sentence the task is next-sentence prediction. A pair that is too long is cut to the full length,
not to the target.

Every (target, chunk) of a document comes up here as often as in the tool's files with their many copies of
the corpus, which are shuffled afterwards; but each example draws its own, so that nothing is enumerated or stored.
"""

from bisect import bisect_left, bisect_right

import numpy as np

from albert_jax.data.examples import draws
from albert_jax.data.examples.pairs import Documents, Pair, PairConfig, _cut
from albert_jax.errors import AlbertError

_TRIES = 10  # draws of a second document that differs from the first, before any will do
_TARGETS = 16  # short targets that the expected number of chunks is averaged over
# Mean pieces by which a chunk passes its target, in mean sentences: (1 + v) / 2, where v = 0.4 is the squared
# coefficient of variation of the lengths of sentences in English text.
_OVERSHOOT = 0.7


class GooglePairs:
    """`albert_jax.data.examples.pairs.PairSource` under `chunks="google_compat"`: the same methods, the
    original's rules.

    An epoch gives each document as many slots as the tool makes of it examples in one pass on average (an
    estimate by its numbers of pieces and sentences): documents are stretches of a line, of those lengths, and
    slots are the points 0, 1, 2, ... on it, shifted by a draw for each epoch. Where in its document's stretch a
    slot lies is where it lies among the document's pairs of target and chunk, weighted as the tool draws them.

    Raises:
        AlbertError: a store without text, or a knob that does not go with these rules.
    """

    def __init__(self, documents: Documents, config: PairConfig) -> None:
        config.check()
        self.config = config
        self._documents = documents
        lengths = np.asarray(documents.lengths, np.int64)
        if not lengths.any():
            raise AlbertError("the document store holds no text; prepare a corpus that has some")
        self._present = np.flatnonzero(lengths)
        self._targets = np.arange(2, config.max_pieces + 1)
        expected = self._expected(lengths, np.asarray(documents.sentence_counts))
        self._size = int(np.ceil(expected.sum()))
        self._ends = np.cumsum(expected * (self._size / expected.sum()))

    def __len__(self) -> int:
        """Examples of one epoch."""
        return self._size

    def pair(self, seed: int, index: int) -> Pair:
        """Pair `index` of the endless sequence that `seed` names; epoch e begins at e * len(source)."""
        epoch, slot = divmod(index, self._size)
        point = slot + draws.Draws(seed, draws.SHIFTS, epoch).uniform()
        document = min(bisect_right(self._ends, point), int(self._present[-1]))
        before = float(self._ends[document - 1]) if document else 0.0
        place = (point - before) / (float(self._ends[document]) - before)
        pieces, starts = self._documents[document]
        edges = [*starts.tolist(), len(pieces)]
        draw = draws.Draws(seed, draws.PAIRS, index)
        target, first, last = self._chunk(edges, place, draw)

        begin, end = edges[first], edges[last]
        if last - first == 1:
            left, right, label = pieces[begin:end], self._foreign(draw, document, target - (end - begin)), 1
        else:
            split = edges[first + 1 + draw.below(last - first - 1)]
            left, right, label = pieces[begin:split], pieces[split:end], draw.below(2)
            if label:
                left, right = right, left
        return Pair(*_cut(draw, left, right, self.config.max_pieces, self.config.cut), label, 1.0, document)

    def _chunk(self, edges: list[int], place: float, draw: draws.Draws) -> tuple[int, int, int]:
        """A target and a chunk, sentences first .. last - 1: the one at `place` (0 .. 1) among all of them.

        Targets and chunks lie on a line, each chunk with its target's probability: first those of the full
        target, then those of every short one. How many chunks a short target makes is only known when the
        document has been walked through, so an upper bound is laid out and a place beyond the last chunk drawn
        anew.
        """
        full, share = self.config.max_pieces, self.config.short_prob
        whole = _walk(edges, full)
        bounds = np.cumsum(np.minimum(len(edges) - 1, -(-edges[-1] // self._targets)))
        weight = (1 - share) * (len(whole) - 1)
        total = weight + share * int(bounds[-1]) / len(bounds)
        while True:
            at = place * total
            if at < weight or not share:
                number = min(int(at / (1 - share)), len(whole) - 2)
                return full, whole[number], whole[number + 1]
            at = (at - weight) * len(bounds) / share
            which = min(int(np.searchsorted(bounds, at, side="right")), len(bounds) - 1)
            chunks = _walk(edges, which + 2)
            number = int(at - (bounds[which - 1] if which else 0))
            if number < len(chunks) - 1:
                return which + 2, chunks[number], chunks[number + 1]
            place = draw.uniform()

    def _foreign(self, draw: draws.Draws, document: int, room: int) -> np.ndarray:
        """Whole sentences of a document drawn evenly, from one drawn evenly on: `room` pieces, if it has them."""
        for _ in range(_TRIES):
            other = int(self._present[draw.below(len(self._present))])
            if other != document:
                break
        pieces, starts = self._documents[other]
        edges = [*starts.tolist(), len(pieces)]
        first = draw.below(len(starts))
        last = bisect_left(edges, edges[first] + max(1, room), first + 1, len(starts))
        return pieces[edges[first] : edges[last]]

    def _expected(self, lengths: np.ndarray, sentences: np.ndarray) -> np.ndarray:
        """Examples that the tool makes of each document in one pass, on average: float64 [documents]."""
        overshoot = np.maximum(_OVERSHOOT * lengths / np.maximum(sentences, 1) - 0.5, 0)

        def chunks(target: float) -> np.ndarray:
            counts = np.where(lengths <= target, 1, np.ceil(lengths / (target + overshoot)))
            return np.minimum(counts, np.where(lengths > 0, sentences, 0))

        evenly = np.linspace(1.5, self.config.max_pieces + 0.5, 2 * _TARGETS + 1)[1::2]
        short = sum(chunks(target) for target in evenly) / _TARGETS
        return (1 - self.config.short_prob) * chunks(self.config.max_pieces) + self.config.short_prob * short


def _walk(edges: list[int], target: int) -> list[int]:
    """Where the chunks of at least `target` pieces begin, in sentences, and where the last one ends."""
    sentences = len(edges) - 1
    chunks = [0]
    while chunks[-1] < sentences:
        first = chunks[-1]
        chunks.append(bisect_left(edges, edges[first] + target, first + 1, sentences))
    return chunks
