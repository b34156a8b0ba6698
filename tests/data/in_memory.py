"""A document store and a vocabulary held in memory, for the tests of what is drawn from them."""

from collections.abc import Sequence

import numpy as np

SPECIALS = 5  # ids 0 .. 4: pad, unk, [CLS], [SEP], [MASK]


class MemoryStore:
    """Documents given as lists of sentences, a sentence as a list of pieces."""

    def __init__(self, documents: Sequence[Sequence[Sequence[int]]]) -> None:
        self._documents = []
        for sentences in documents:
            sizes = [len(sentence) for sentence in sentences]
            pieces = np.array([piece for sentence in sentences for piece in sentence], np.uint16)
            self._documents.append((pieces, np.cumsum([0, *sizes])[:-1].astype(np.int32)))
        self.lengths = np.array([len(pieces) for pieces, _ in self._documents])
        self.sentence_counts = np.array([len(starts) for _, starts in self._documents])

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, document: int) -> tuple[np.ndarray, np.ndarray]:
        return self._documents[document]


class SmallVocabulary:
    """Specials, then the pieces that start words (`start_share` of the others), then those that go on."""

    pad_id, unk_id, cls_id, sep_id, mask_id = range(SPECIALS)

    def __init__(self, vocab_size: int, start_share: float = 1.0) -> None:
        self.vocab_size = vocab_size
        self.word_starts = np.arange(vocab_size) < SPECIALS + start_share * (vocab_size - SPECIALS)
        self.google_word_starts = self.word_starts


def random_store(sizes: Sequence[Sequence[int]], vocab_size: int, seed: int = 0) -> MemoryStore:
    """Random ordinary pieces; sizes[d] holds the sentence lengths of document d."""
    generator = np.random.default_rng(seed)
    return MemoryStore(
        [[generator.integers(SPECIALS, vocab_size, size).tolist() for size in document] for document in sizes]
    )


def counting_store(sizes: Sequence[Sequence[int]]) -> MemoryStore:
    """Every piece of the store has a number of its own, one more than the piece before it."""
    documents, piece = [], SPECIALS
    for document in sizes:
        sentences = []
        for size in document:
            sentences.append(list(range(piece, piece + size)))
            piece += size
        documents.append(sentences)
    assert piece < 1 << 16
    return MemoryStore(documents)
