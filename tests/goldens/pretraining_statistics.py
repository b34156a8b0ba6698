"""What pretraining examples look like, in numbers: the same sums over the original tool's records and over ours.

Needs NumPy alone and runs under Python 3.7 too, where the original's tool runs.
"""

import numpy as np

CLS, SEP, MASK = 2, 3, 4
LEAST_TELLING = 8  # pieces: a shorter half may stand in several documents


def statistics(examples, documents, word_starts):
    """Shares and means over n examples.

    Args:
        examples: dict of arrays: input_ids, segment_ids, mask [n, S]; masked_positions, masked_ids, masked_weights
            [n, P]; order_label [n].
        documents: for each document its sentences as lists of piece ids.
        word_starts: bool [V], by the original's rule.

    Returns:
        dict of numbers and lists of numbers; see the comments.
    """
    ids = np.array(examples["input_ids"])
    count, size = ids.shape
    lengths = np.asarray(examples["mask"]).astype(bool).sum(1)
    labels = np.asarray(examples["order_label"]).reshape(-1)
    weights = np.asarray(examples["masked_weights"]) > 0
    rows = np.repeat(np.arange(count), weights.sum(1))
    places = np.asarray(examples["masked_positions"])[weights]
    truth = np.asarray(examples["masked_ids"])[weights]
    shown = ids[rows, places]
    other = (shown != MASK) & (shown != truth)
    ids[rows, places] = truth
    masked = np.zeros(ids.shape, bool)
    masked[rows, places] = True

    index = _Index(documents)
    runs = np.zeros(5)
    both_sides = kinship = telling = single = single_swapped = begins = ends = first_share = 0
    for row in range(count):
        pieces, covered = ids[row, : lengths[row]], masked[row, : lengths[row]]
        edge = int(np.flatnonzero(pieces == SEP)[0])
        first, second = pieces[1:edge], pieces[edge + 1 : -1]
        first_share += len(first) / (len(first) + len(second))
        if min(len(first), len(second)) >= LEAST_TELLING:
            (document, begin, _), (other_document, _, end) = index.find(first), index.find(second)
            telling += 1
            kinship += document == other_document
            begins += begin
            ends += end
            if len(documents[document]) == 1:
                single += 1
                single_swapped += labels[row]
        kept = (pieces != CLS) & (pieces != SEP)
        starts = word_starts[pieces[kept]]
        starts[0] = True
        words = covered[kept][starts]  # whole words are masked, so a word's first piece tells
        changes = np.flatnonzero(np.diff(np.concatenate([[0], words, [0]]).astype(int)))
        for length in changes[1::2] - changes[::2]:
            runs[min(length, 5) - 1] += 1
        both_sides += covered[edge - 1] and covered[edge + 1]
    return {
        "examples": count,
        "length_histogram": (np.histogram(lengths, np.linspace(0, size, 9))[0] / count).tolist(),  # eighths of S
        "padded": float((lengths < size).mean()),
        "label": float(labels.mean()),
        "first_half": first_share / count,  # of the text's pieces
        "same_document": kinship / telling,  # where both halves tell
        "single_sentence_label": single_swapped / max(single, 1),  # first half from a document of one sentence
        "begins_at_sentence": begins / telling,  # first half
        "ends_at_sentence": ends / telling,  # second half
        "predictions": float(weights.sum(1).mean()),
        "mask_rate": float(weights.sum() / lengths.sum()),
        "masked_runs": (runs / runs.sum()).tolist(),  # of 1, 2, 3, 4 and more neighbouring words
        "both_sides_of_sep": both_sides / count,
        "shown_mask": float((shown == MASK).mean()),
        "shown_true": float((shown == truth).mean()),
        "shown_other": float(other.mean()),
        "special_among_other": float((shown[other] < 5).mean()),
    }


class _Index:
    """Finds a stretch of text in the documents."""

    def __init__(self, documents):
        pieces, self._edges, self._begins, self._ends = [0], [], set(), set()
        for sentences in documents:
            self._edges.append(len(pieces))
            for sentence in sentences:
                self._begins.add(len(pieces))
                pieces += sentence
                self._ends.add(len(pieces))
            pieces.append(0)
        self._text = np.array(pieces, np.uint16).tobytes()

    def find(self, stretch):
        """(document, whether it begins with a sentence, whether it ends with one) of its first occurrence."""
        wanted = stretch.astype(np.uint16).tobytes()
        place = self._text.find(wanted)
        while place % 2:
            place = self._text.find(wanted, place + 1)
        begin = place // 2
        assert place >= 0, "a half that is in no document"
        document = int(np.searchsorted(self._edges, begin, side="right")) - 1
        return document, begin in self._begins, begin + len(stretch) in self._ends
