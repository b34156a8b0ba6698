"""Tagged sentences as the model reads them: words encoded one by one, a long sentence in windows that overlap.

    ("Johanson", "won")   input_ids [CLS] ▁joh an son ▁won [SEP], tags at ▁joh and ▁won

Each word has at least one piece: one that normalisation leaves nothing of is read as <unk>, so it is tagged and
scored like any other.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from albert_jax.data.labelled.framed import digest, frame
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.telemetry.progress import in_chunks

_CHUNK = 500  # sentences that are encoded at once


def windows(sizes: Sequence[int], room: int) -> list[tuple[int, int, int, int]]:
    """Cuts words of `sizes` pieces into windows of at most `room` pieces: (first word, end, first tagged, end) of each.

    Windows overlap by about half of `room`. A word is tagged in one of them only: cut in the middle of the overlap, so
    that about a quarter of a window lies between it and the nearest cut. No size may exceed half of `room`.

    >>> windows([1, 1, 1, 1, 1, 1], 4)
    [(0, 4, 0, 3), (2, 6, 3, 6)]
    """
    if sum(sizes) <= room:
        return [(0, len(sizes), 0, len(sizes))]
    ends = np.cumsum(sizes)
    before = ends - sizes
    found: list[tuple[int, int, int, int]] = []
    begin = own = 0
    while True:
        end = int(np.searchsorted(ends, before[begin] + room, side="right"))
        if end == len(sizes):
            return [*found, (begin, end, own, end)]
        following = int(np.searchsorted(before, ends[end - 1] - room // 2))  # first word of the next window
        middle = (before[following] + ends[end - 1]) / 2
        cut = min(max(int(np.searchsorted(before, middle)), following), end)
        if cut > own:
            found.append((begin, end, own, cut))
        begin, own = following, cut


class Windows:
    """Tagged sentences as examples, one or more a sentence, in order.

    An example: input_ids, segment_ids, mask [S] as in `framed.frame`; tags int32 [S] with the word's tag at its first
    piece; tag_weights float32 [S], 1 there and 0 elsewhere; sentence, the int32 number of its sentence.

    Attributes:
      windowed: how many sentences are read in more than one window
    """

    def __init__(
        self, tokenizer: AnyTokenizer, words: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], max_length: int,
        doing: str,
    ):  # fmt: skip
        """`words` and the number of each word's tag, by sentence; no sentence may be empty."""
        self._tokenizer, self._max_length = tokenizer, max_length
        self._rows: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []  # sentence, pieces, tagged places, tags
        self.windowed = 0
        for chunk in in_chunks(range(len(words)), _CHUNK, doing):
            pieces = encode_words(tokenizer, [word for number in chunk for word in words[number]])
            first = 0
            for number in chunk:
                last = first + len(words[number])
                self._add(number, pieces[first:last], np.asarray(tags[number], np.int32))
                first = last

    def _add(self, sentence: int, pieces: list[np.ndarray], tags: np.ndarray) -> None:
        rows = list(in_windows(pieces, self._max_length))
        self.windowed += len(rows) > 1
        self._rows += [(sentence, row, places, tags[own]) for row, places, own in rows]

    @cached_property
    def fingerprint(self) -> str:
        """Digest of pieces and tags: a saved data position belongs to these examples and no others."""
        return digest(array for row in self._rows for array in (np.array(row[0]), *row[1:]))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        sentence, pieces, places, tags = self._rows[index]
        row = frame(self._tokenizer, [pieces], self._max_length)
        row["tags"] = np.zeros(self._max_length, np.int32)
        row["tags"][places] = tags
        row["tag_weights"] = np.zeros(self._max_length, np.float32)
        row["tag_weights"][places] = 1
        row["sentence"] = np.array(sentence, np.int32)
        return row


def in_windows(pieces: Sequence[np.ndarray], max_length: int) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """The words of a sentence, given by their pieces, in windows of at most `max_length` pieces with [CLS] and [SEP].

    Yields of each window its pieces, the places in the framed row of the first piece of each word that is tagged there,
    and which words these are. Of a word longer than half a window the first pieces are read.
    """
    room = max_length - 2
    sizes = list(map(len, pieces))
    if max(sizes, default=0) > room // 2:
        pieces = [word[: room // 2] for word in pieces]
        sizes = list(map(len, pieces))
    for begin, end, own, own_end in windows(sizes, room):
        places = np.cumsum([1, *sizes[begin:end]])[own - begin : own_end - begin]
        yield np.concatenate(pieces[begin:end]), places, slice(own, own_end)


def encode_words(tokenizer: AnyTokenizer, words: Sequence[str]) -> list[np.ndarray]:
    """The piece ids of each word by itself; <unk> for a word that normalisation leaves nothing of."""
    ids, lengths = tokenizer.encode_batch(words)
    nothing = np.array([tokenizer.unk_id], ids.dtype)
    ends = np.cumsum(lengths).tolist()  # np.split takes five times as long for pieces so small
    return [ids[start:end] if end > start else nothing for start, end in zip([0, *ends], ends, strict=False)]
