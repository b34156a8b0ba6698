"""Masked-word targets as the original's tool draws them: google-research/albert, `create_pretraining_data.py`.

Words are runs of pieces by the tool's own rule (`data/words.py`, "google"), over the whole example with [CLS] and
[SEP] taken out: a piece that goes on with a word joins the last word before the [SEP], and spans cross it. The
tool visits the words in random order and draws a span length at each. A span that would overspend is shortened
by words, and dropped if its first word alone is too long; one that meets a covered word is dropped with its
length. (The tool also means to pass over covered words without a draw, but its `continue` only leaves the inner
loop.) What the one walk leaves over is not spent.
"""

import numpy as np

from albert_jax.data.examples import draws
from albert_jax.data.examples.masking import MaskConfig, Masker, Vocabulary


class GoogleMasker(Masker):
    """`Masker` under `spans="google_compat"`."""

    def __init__(self, config: MaskConfig, vocabulary: Vocabulary, max_length: int) -> None:
        super().__init__(config, vocabulary, max_length)
        self._word_starts = np.asarray(vocabulary.google_word_starts, bool)
        self._left_out = np.zeros(vocabulary.vocab_size, bool)
        self._left_out[[vocabulary.cls_id, vocabulary.sep_id]] = True

    def _targets(
        self, input_ids: np.ndarray, length: int, draw: draws.Draws
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pieces = input_ids[:length]
        places = np.flatnonzero(~self._left_out[pieces])
        starts = self._word_starts[pieces[places]]
        starts[:1] = True
        edges = [*np.flatnonzero(starts).tolist(), len(places)]
        words, budget = len(edges) - 1, self.budget(length)
        uniforms = draw.uniforms(2 * words + 2 * budget)
        kinds, others = uniforms[2 * words :].reshape(2, budget)
        sizes = self.ngram_lengths(uniforms[words : 2 * words]).tolist()
        spans = choose(edges, np.argsort(uniforms[:words]).tolist(), sizes, budget)
        used = np.array([place for begin, end in sorted(spans) for place in range(begin, end)], np.int64)
        return places[used].astype(np.int32), kinds, others


def choose(edges: list[int], order: list[int], sizes: list[int], budget: int) -> list[tuple[int, int]]:
    """The spans (begin, end) that one walk over the words covers, in its order.

    Args:
        edges: word k is edges[k] .. edges[k + 1] - 1.
        order: the words as they are visited.
        sizes: the span length in words that is drawn at each visit.
        budget: pieces to cover at most.
    """
    words = len(edges) - 1
    covered = bytearray(words)
    spans: list[tuple[int, int]] = []
    for word, size in zip(order, sizes, strict=True):
        begin, last = edges[word], min(word + size, words)
        while last > word and edges[last] - begin > budget:
            last -= 1
        if last == word or any(covered[word:last]):
            continue
        spans.append((begin, edges[last]))
        covered[word:last] = b"\x01" * (last - word)
        budget -= edges[last] - begin
        if not budget:
            break
    return spans
