"""One or two texts as the model reads them: [CLS] first [SEP] or [CLS] first [SEP] second [SEP], cut and padded."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError
from albert_jax.telemetry.progress import in_chunks

MIN_LENGTH = 8  # S: special pieces and room for something between them
_CHUNK = 1000  # texts that are encoded at once
_END = np.array([-1], np.int32)  # between the texts of a digest


def frame(
    tokenizer: AnyTokenizer, pieces: Sequence[Sequence[int] | np.ndarray], max_length: int
) -> dict[str, np.ndarray]:
    """One or two texts' piece ids as input_ids, segment_ids int32 [S] and mask bool [S].

    What does not fit is cut off the end of the longer of the two, of the second where they are equal
    (`_truncate_seq_pair` of the original's `classifier_utils.py`).
    """
    room = max_length - 1 - len(pieces)
    lengths = [len(text) for text in pieces]
    if len(lengths) == 1:
        lengths = [min(lengths[0], room)]
    elif sum(lengths) > room:
        shorter = min(min(lengths), room // 2)
        first_is_longer = lengths[0] > lengths[1]
        if shorter == room // 2:  # both are cut to the same length; of an odd room the first text has one more
            lengths = [min(lengths[0], room - room // 2), 0]
            lengths[1] = room - lengths[0]
        else:
            lengths = [room - shorter, shorter] if first_is_longer else [shorter, room - shorter]
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


def encode_all(tokenizer: AnyTokenizer, texts: Sequence[str], doing: str) -> list[np.ndarray]:
    """The piece ids of each text; a long list tells how far it is."""
    found: list[np.ndarray] = []
    for chunk in in_chunks(texts, _CHUNK, doing):
        ids, lengths = tokenizer.encode_batch(chunk)
        found += np.split(ids, np.cumsum(lengths)[:-1])
    return found


class FramedTexts:
    """Labelled texts as examples: stored as piece ids, framed when asked for.

    Attributes:
      cut: how many examples do not fit into `max_length`
    """

    def __init__(
        self, tokenizer: AnyTokenizer, texts: Sequence[tuple[str, ...]], labels: np.ndarray, max_length: int, doing: str
    ):
        """`texts`: one or two an example; `labels`: an array with an example in each row."""
        self._tokenizer, self._labels, self._max_length = tokenizer, labels, max_length
        columns = [encode_all(tokenizer, column, doing) for column in zip(*texts, strict=True)]
        self._pieces = list(zip(*columns, strict=True))
        room = max_length - 1 - len(columns)
        self.cut = sum(sum(map(len, pieces)) > room for pieces in self._pieces)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of pieces and labels: a saved data position belongs to these examples and no others."""
        return digest([self._labels, *(text for pieces in self._pieces for text in (*pieces, _END))])

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return frame(self._tokenizer, self._pieces[index], self._max_length) | {"label": self._labels[index]}


def digest(arrays: Iterable[np.ndarray]) -> str:
    """Hex digest of the bytes of arrays, one after the other."""
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def check_length(max_length: int) -> None:
    """Raises AlbertError where `max_length` leaves no room between the special pieces."""
    if max_length < MIN_LENGTH:
        raise AlbertError(f"task.max_length is {max_length}; it must be at least {MIN_LENGTH}")
