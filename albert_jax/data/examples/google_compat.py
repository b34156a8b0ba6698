"""Segment pairs and masked words as google-research/albert makes them in `create_pretraining_data.py`.

The rules are the tool's; the order is not. The tool writes many copies of the corpus and shuffles them. Here every
pair of target and chunk comes up as often as in those files, but each example draws its own: nothing is enumerated or
stored.
"""

from bisect import bisect_left, bisect_right

import numpy as np

from albert_jax.data.examples import draws
from albert_jax.data.examples.masking import MaskConfig, Masker, Vocabulary
from albert_jax.data.examples.pairs import Documents, Pair, PairConfig, _cut, check

# ---- pairs

_TRIES = 10  # draws of a second document that differs from the first, before any will do
_TARGETS = 16  # short targets that the expected number of chunks is averaged over
# Mean pieces by which a chunk passes its target, in mean sentences: (1 + v) / 2, where v = 0.4 is the squared
# coefficient of variation of the lengths of sentences in English text.
_OVERSHOOT = 0.7


class GooglePairs:
    """`PairSource` under `chunks="google_compat"`: the same methods, the original's rules.

    The tool walks through a document and gathers sentences until they reach a target length. It draws the target once
    for a document and keeps it: all that fits, or (with `short_prob`) a length drawn evenly. A chunk of several
    sentences is divided at a sentence drawn evenly and swapped by a coin. A chunk of one sentence takes its second
    half from a document drawn evenly, and is labelled 1 like a swapped one.

    Raises AlbertError for a store without text, or a field that does not go with these rules.
    """

    # Two consequences of the rules: a short target cuts a document into many chunks, so that with short_prob 0.1 a
    # quarter of the examples are short where documents are long; and for documents of one sentence the task is
    # next-sentence prediction.

    def __init__(self, documents: Documents, config: PairConfig) -> None:
        check(documents, config)
        self.config = config
        self._documents = documents
        lengths = np.asarray(documents.lengths, np.int64)
        self._present = np.flatnonzero(lengths)
        self._targets = np.arange(2, config.max_pieces + 1)
        # An epoch gives each document as many slots as the tool makes of it examples in one pass, on average: documents
        # are stretches of a line, of those lengths, and slots are the points 0, 1, 2, ... on it.
        expected = self._expected(lengths, np.asarray(documents.sentence_counts))
        self._size = int(np.ceil(expected.sum()))
        self._ends = np.cumsum(expected * (self._size / expected.sum()))

    def __len__(self) -> int:
        """Examples of one epoch."""
        return self._size

    def pair(self, seed: int, index: int, place: int | None = None) -> Pair:
        """Pair `index` of the endless sequence that `seed` names; epoch e begins at e * len(source). `place` changes
        nothing: these rules know no warm-up of the length."""
        epoch, slot = divmod(index, self._size)
        # All slots of an epoch are shifted by one draw. Where in its document's stretch a slot lies is where it lies
        # among the document's pairs of target and chunk.
        point = slot + draws.Draws(seed, draws.SHIFTS, epoch).uniform()
        document = min(bisect_right(self._ends, point), int(self._present[-1]))
        before = float(self._ends[document - 1]) if document else 0.0
        share = (point - before) / (float(self._ends[document]) - before)
        pieces, edges = self._read(document)
        draw = draws.Draws(seed, draws.PAIRS, index)
        target, first, last = self._chunk(edges, share, draw)

        begin, end = edges[first], edges[last]
        if last - first == 1:
            left, right, label = pieces[begin:end], self._foreign(draw, document, target - (end - begin)), 1
        else:
            split = edges[first + 1 + draw.below(last - first - 1)]
            left, right, label = pieces[begin:split], pieces[split:end], draw.below(2)
            if label:
                left, right = right, left
        # To the full length and not to the target, which a chunk passes by a part of a sentence.
        return Pair(*_cut(draw, left, right, self.config.max_pieces, self.config.cut), label, 1.0, document)

    def _read(self, document: int) -> tuple[np.ndarray, list[int]]:
        """A document's pieces, and where its sentences begin and the last one ends."""
        pieces, starts = self._documents[document]
        return pieces, [*starts.tolist(), len(pieces)]

    def _chunk(self, edges: list[int], share: float, draw: draws.Draws) -> tuple[int, int, int]:
        """A target and a chunk, sentences first .. last - 1: the one at `share` (0 .. 1) of all of them.

        Targets and chunks lie on a line, each chunk with its target's probability: first those of the full target, then
        those of every short one.
        """
        full, short = self.config.max_pieces, self.config.short_prob
        whole = _walk(edges, full)
        # How many chunks a short target makes is only known when the document has been walked through. So an upper
        # bound is laid out, and a point beyond the last chunk is drawn anew.
        bounds = np.cumsum(np.minimum(len(edges) - 1, -(-edges[-1] // self._targets)))
        weight = (1 - short) * (len(whole) - 1)
        total = weight + short * int(bounds[-1]) / len(bounds)
        while True:
            at = share * total
            if at < weight or not short:
                number = min(int(at / (1 - short)), len(whole) - 2)
                return full, whole[number], whole[number + 1]
            at = (at - weight) * len(bounds) / short
            which = min(int(np.searchsorted(bounds, at, side="right")), len(bounds) - 1)
            chunks = _walk(edges, which + 2)
            number = int(at - (bounds[which - 1] if which else 0))
            if number < len(chunks) - 1:
                return which + 2, chunks[number], chunks[number + 1]
            share = draw.uniform()

    def _foreign(self, draw: draws.Draws, document: int, wanted: int) -> np.ndarray:
        """Whole sentences of a document drawn evenly, from one drawn evenly on: `wanted` pieces, if it has them."""
        for _ in range(_TRIES):
            other = int(self._present[draw.below(len(self._present))])
            if other != document:
                break
        pieces, edges = self._read(other)
        sentences = len(edges) - 1
        first = draw.below(sentences)
        last = bisect_left(edges, edges[first] + max(1, wanted), first + 1, sentences)
        return pieces[edges[first] : edges[last]]

    def _expected(self, lengths: np.ndarray, sentences: np.ndarray) -> np.ndarray:
        """Examples that the tool makes of each document in one pass, on average: float64 [documents]."""
        # An estimate by the numbers of pieces and sentences: the documents themselves would have to be read for more.
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


# ---- masks


class GoogleMasker(Masker):
    """`Masker` under `spans="google_compat"`.

    Words are runs of pieces by the tool's own rule (`google_word_starts`), over the whole example with [CLS] and [SEP]
    taken out: a piece that goes on with a word joins the last word before the [SEP], and spans cross it.
    """

    def __init__(self, config: MaskConfig, vocabulary: Vocabulary, max_length: int) -> None:
        super().__init__(config, vocabulary, max_length)
        self._word_starts = np.asarray(vocabulary.google_word_starts, bool)
        self._left_out = np.zeros(vocabulary.vocab_size, bool)
        self._left_out[[vocabulary.cls_id, vocabulary.sep_id]] = True

    def _targets(
        self, input_ids: np.ndarray, budget: int, length: int, draw: draws.Draws
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pieces = input_ids[:length]
        positions = np.flatnonzero(~self._left_out[pieces])
        starts = self._word_starts[pieces[positions]]
        starts[:1] = True
        edges = [*np.flatnonzero(starts).tolist(), len(positions)]
        words = len(edges) - 1
        uniforms = draw.uniforms(2 * words + 2 * budget)
        kinds, others = uniforms[2 * words :].reshape(2, budget)
        sizes = self.ngram_lengths(uniforms[words : 2 * words]).tolist()
        spans = choose(edges, np.argsort(uniforms[:words]).tolist(), sizes, budget)
        used = np.array([i for begin, end in sorted(spans) for i in range(begin, end)], np.int64)
        return positions[used].astype(np.int32), kinds, others


def choose(edges: list[int], order: list[int], sizes: list[int], budget: int) -> list[tuple[int, int]]:
    """The spans (begin, end) that one walk over the words covers, in its order.

    Word k is edges[k] .. edges[k + 1] - 1. At each word of `order` the span length is the next of `sizes`, in words. At
    most `budget` pieces are covered; what the walk leaves over is not spent.
    """
    words = len(edges) - 1
    covered = bytearray(words)
    spans: list[tuple[int, int]] = []
    for word, size in zip(order, sizes, strict=True):
        begin, last = edges[word], min(word + size, words)
        # A span that would overspend is shortened by words, and dropped if its first word alone is too long.
        while last > word and edges[last] - begin > budget:
            last -= 1
        # One that meets a covered word is dropped with its length. The tool also means to pass over covered words
        # without a draw, but its `continue` only leaves the inner loop.
        if last == word or any(covered[word:last]):
            continue
        spans.append((begin, edges[last]))
        covered[word:last] = b"\x01" * (last - word)
        budget -= edges[last] - begin
        if not budget:
            break
    return spans
