"""Labelled texts and tagged sentences as the model reads them: piece ids with special pieces, cut and padded to S.

    ("It is late.", "Good night.")   input_ids [CLS] first [SEP] second [SEP] [PAD] ..., segment_ids 0 0 0 1 1 0 ...
    ("Johanson", "won")              input_ids [CLS] ▁joh an son ▁won [SEP], tags at ▁joh and ▁won
    ("今", "天")                      input_ids [CLS] ▁ 今 ▁ 天 [SEP], tags at 今 and 天

Both classes store piece ids and frame them when they are asked for, and are sources of a `Loader`, which may ask for
rows that are shorter than S where the text is.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.telemetry.progress import in_chunks

MIN_LENGTH = 8  # S: special pieces and some text between them
_TEXTS = 1000  # texts that are encoded at once
_SENTENCES = 500  # sentences that are encoded at once
UNKNOWN_SHARE = 0.03  # of the pieces, from which on it is said; text of the vocabulary's own language has below 0.5 %
_END = np.array([-1], np.int32)  # between the texts of a digest


def frame(
    tokenizer: AnyTokenizer, pieces: Sequence[Sequence[int] | np.ndarray], max_length: int
) -> dict[str, np.ndarray]:
    """One or two texts' piece ids as input_ids, segment_ids int32 [S] and mask bool [S].

    What does not fit is cut off the end of the longer of the two, of the second where they are equal.
    """
    lengths = _cut([len(text) for text in pieces], max_length - 1 - len(pieces))
    ids = np.full(max_length, tokenizer.pad_id, np.int32)
    segments = np.zeros(max_length, np.int32)
    ids[0] = tokenizer.cls_id
    end = 1
    for number, (text, length) in enumerate(zip(pieces, lengths, strict=True)):
        ids[end : end + length] = text[:length]
        ids[end + length] = tokenizer.sep_id
        segments[end : end + length + 1] = number
        end += length + 1
    return {"input_ids": ids, "segment_ids": segments, "mask": np.arange(max_length) < end}


def _cut(lengths: list[int], capacity: int) -> list[int]:
    """How many pieces are kept of one or two texts; at most `capacity` together."""
    if len(lengths) == 1:
        return [min(lengths[0], capacity)]
    if sum(lengths) <= capacity:
        return lengths
    # The original pops one piece after the other (`_truncate_seq_pair` of `classifier_utils.py`); this is where it
    # ends: the shorter text whole, or both of one length, the first with one piece more where `capacity` is odd.
    first, second = lengths
    shorter = min(first, second, capacity // 2)
    if shorter == capacity // 2:
        first = min(first, capacity - capacity // 2)
        return [first, capacity - first]
    return [capacity - shorter, shorter] if first > second else [shorter, capacity - shorter]


def _digest(arrays: Iterable[np.ndarray]) -> str:
    """Hex digest of the bytes of arrays, one after the other."""
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


# ---- a vocabulary that was not made for the text


@dataclass
class Unknown:
    """How many pieces the vocabulary does not know, of those that stand for more than a word's start."""

    pieces: int = 0
    unknown: int = 0

    def count(self, tokenizer: AnyTokenizer, ids: np.ndarray) -> None:
        self.pieces += int((ids != tokenizer.bare_mark).sum()) if tokenizer.bare_mark is not None else ids.size
        self.unknown += int((ids == tokenizer.unk_id).sum())

    def notes(self, texts: str) -> list[str]:
        """What to tell where it is too many; `texts` is whose pieces they are."""
        if self.unknown < UNKNOWN_SHARE * self.pieces or not self.unknown:
            return []
        return [
            f"{self.unknown / self.pieces:.0%} of the pieces of {texts} are unknown to the vocabulary, which was not "
            "made for such text: take a model of its language, or prepare a vocabulary from such text (Chinese and "
            "Japanese: prepare --tokenizer wordpiece) and pretrain"
        ]


# ---- texts


class FramedTexts:
    """Labelled texts as examples: input_ids, segment_ids, mask [S] as in `frame`, and label."""

    weights: tuple[str, ...] = ()

    def __init__(
        self, tokenizer: AnyTokenizer, texts: Sequence[tuple[str, ...]], labels: np.ndarray, max_length: int, doing: str
    ):
        """`texts`: one or two an example; `labels`: an array with an example in each row; `doing`: see `in_chunks`."""
        # Pieces are stored as they are and padded when asked for: padded rows would take several times the memory.
        self._tokenizer, self._labels = tokenizer, labels
        columns = [_encode_all(tokenizer, column, doing) for column in zip(*texts, strict=True)]
        self._pieces = list(zip(*columns, strict=True))
        self.unknown = Unknown()
        for pieces in (text for column in columns for text in column):
            self.unknown.count(tokenizer, pieces)
        # Pieces of each example with [CLS] and [SEP], before it is cut: int [examples].
        self.sizes = np.array([1 + len(columns) + sum(map(len, pieces)) for pieces in self._pieces], np.int64)
        self.lengths, self.max_length = np.minimum(self.sizes, max_length), max_length
        self.cut = int((self.sizes > max_length).sum())  # how many examples do not fit

    @cached_property  # every evaluation makes a loader, which asks for it
    def fingerprint(self) -> str:
        return _digest([self._labels, *(text for pieces in self._pieces for text in (*pieces, _END))])

    def __len__(self) -> int:
        return len(self._pieces)

    def evenly(self, count: int) -> np.ndarray:
        """The numbers of about `count` examples, evenly spaced, ascending."""
        return spaced(len(self), count)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return self.example(0, range(len(self))[index])  # raises IndexError past the end, which ends a `for`

    def example(self, seed: int, index: int, place: int | None = None, length: int | None = None) -> Mapping[str, Any]:
        index %= len(self)
        return frame(self._tokenizer, self._pieces[index], length or self.max_length) | {"label": self._labels[index]}


def _encode_all(tokenizer: AnyTokenizer, texts: Sequence[str], doing: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for chunk in in_chunks(texts, _TEXTS, doing):
        ids, lengths = tokenizer.encode_batch(chunk)
        found += np.split(ids, np.cumsum(lengths)[:-1])
    return found


# ---- tagged sentences


class Windows:
    """Tagged sentences as examples, in order: one a sentence, or windows that overlap where it is long.

    An example: input_ids, segment_ids, mask [S] as in `frame`; tags int32 [S] with the word's tag at one of its pieces;
    tag_weights float32 [S], 1 at these pieces and 0 elsewhere; sentence, the int32 number of its sentence.
    """

    weights = ("tag_weights",)

    def __init__(
        self, tokenizer: AnyTokenizer, words: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], max_length: int,
        doing: str, mark: int | None = None,
    ):  # fmt: skip
        """`words` and the number of each word's tag, by sentence, none of them empty. `mark`: see `in_windows`."""
        self._tokenizer, self.max_length = tokenizer, max_length
        self._rows: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []  # sentence, pieces, positions, tags
        self.windowed = 0  # sentences that are read in more than one window
        self.unknown = Unknown()
        for chunk in in_chunks(range(len(words)), _SENTENCES, doing):
            pieces = iter(encode_words(tokenizer, [word for number in chunk for word in words[number]]))
            for number in chunk:
                numbers = np.asarray(tags[number], np.int32)
                rows = list(in_windows(list(islice(pieces, len(words[number]))), max_length, mark))
                self.windowed += len(rows) > 1
                self._rows += [(number, row, positions, numbers[own]) for row, positions, own in rows]
                for row, _, _ in rows:
                    self.unknown.count(tokenizer, row)
        self.lengths = np.array([2 + len(row) for _, row, _, _ in self._rows], np.int64)  # pieces of each example

    @cached_property
    def fingerprint(self) -> str:
        return _digest(array for row in self._rows for array in (np.array(row[0]), *row[1:]))

    def __len__(self) -> int:
        return len(self._rows)

    def evenly(self, count: int) -> np.ndarray:
        """The numbers of at most `count` examples (at least one sentence) of evenly spaced sentences, ascending."""
        sentences = np.array([sentence for sentence, _, _, _ in self._rows])
        number = sentences[-1] + 1
        for wanted in range(max(count * number // len(self), 1), 0, -1):
            chosen = np.flatnonzero(np.isin(sentences, spaced(number, wanted)))
            if len(chosen) <= count:
                break
        return chosen

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return self.example(0, range(len(self))[index])  # raises IndexError past the end, which ends a `for`

    def example(self, seed: int, index: int, place: int | None = None, length: int | None = None) -> Mapping[str, Any]:
        sentence, pieces, positions, tags = self._rows[index % len(self)]
        length = length or self.max_length
        row = frame(self._tokenizer, [pieces], length)
        row["tags"] = np.zeros(length, np.int32)
        row["tags"][positions] = tags
        row["tag_weights"] = np.zeros(length, np.float32)
        row["tag_weights"][positions] = 1
        row["sentence"] = np.array(sentence, np.int32)
        return row


def spaced(size: int, count: int) -> np.ndarray:
    """`count` of `size` numbers from 0, evenly spaced: int64 [count], all of them where there are no more."""
    return np.arange(min(count, size)) * size // min(count, size)


def encode_words(tokenizer: AnyTokenizer, words: Sequence[str]) -> list[np.ndarray]:
    """The piece ids of each word by itself."""
    ids, lengths = tokenizer.encode_batch(words)
    # A word that normalisation leaves nothing of is read as <unk>, so that it is tagged and scored like any other.
    nothing = np.array([tokenizer.unk_id], ids.dtype)
    ends = np.cumsum(lengths).tolist()  # np.split takes five times as long for pieces so small
    return [ids[start:end] if end > start else nothing for start, end in zip([0, *ends], ends, strict=False)]


def in_windows(
    pieces: Sequence[np.ndarray], max_length: int, mark: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """The words of a sentence, given by their pieces, in windows of at most `max_length` pieces with [CLS] and [SEP].

    Yields of each window its pieces, the positions in the framed row where the words are tagged that are tagged in it,
    and which words these are. A word is tagged at its first piece, or at the first that is not `mark` (a tokenizer's
    `bare_mark`): of a mark alone the model sees one and the same embedding under every word. Of a word longer than half
    a window the first pieces are read.
    """
    capacity = max_length - 2
    pieces = [word[: capacity // 2] for word in pieces]
    after_mark = np.array([_after_mark(word, mark) for word in pieces], np.int64)
    sizes = list(map(len, pieces))
    for begin, end, own, own_end in windows(sizes, capacity):
        positions = np.cumsum([1, *sizes[begin:end]])[own - begin : own_end - begin] + after_mark[own:own_end]
        yield np.concatenate(pieces[begin:end]), positions, slice(own, own_end)


def _after_mark(word: np.ndarray, mark: int | None) -> int:
    """The place of the first piece of `word` that is not `mark`; 0 where there is no other."""
    if word[0] != mark:
        return 0
    return int((word != mark).argmax())


def windows(sizes: Sequence[int], capacity: int) -> list[tuple[int, int, int, int]]:
    """Cuts words of `sizes` pieces into windows of `capacity` pieces: (first word, end, first tagged, end) of each.

    Windows overlap by about half of `capacity`; each word is tagged in one of them. No size may exceed half of
    `capacity`.

    >>> windows([1, 1, 1, 1, 1, 1], 4)
    [(0, 4, 0, 3), (2, 6, 3, 6)]
    """
    if sum(sizes) <= capacity:
        return [(0, len(sizes), 0, len(sizes))]
    ends = np.cumsum(sizes)
    before = ends - sizes
    found: list[tuple[int, int, int, int]] = []
    begin = own = 0
    while True:
        end = int(np.searchsorted(ends, before[begin] + capacity, side="right"))
        if end == len(sizes):
            return [*found, (begin, end, own, end)]
        following = int(np.searchsorted(before, ends[end - 1] - capacity // 2))  # first word of the next window
        # The tagged words end in the middle of the overlap, so that about a quarter of a window lies between a tagged
        # word and the nearest edge: a word at an edge would be tagged without what stands beside it.
        middle = (before[following] + ends[end - 1]) / 2
        cut = min(max(int(np.searchsorted(before, middle)), following), end)
        if cut > own:
            found.append((begin, end, own, cut))
        begin, own = following, cut
