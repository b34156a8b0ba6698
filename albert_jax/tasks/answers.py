"""What a trained task makes of a user's texts: rows for the model, and a record for each text of what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from albert_jax.data.labelled.conll import spans
from albert_jax.data.labelled.requests import Request, read_request, word_spans
from albert_jax.data.labelled.tables import MAX_CHARACTERS
from albert_jax.data.labelled.windows import encode_words, in_windows
from albert_jax.errors import AlbertError
from albert_jax.tasks.classification import OpenClassification
from albert_jax.tasks.tagging import OpenTagging

_KNOWN_WORDS = 100_000  # distinct words whose pieces are kept before all are forgotten
_LONG_WORD = 64  # characters; longer ones are not kept


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch before it is framed.

    Attributes:
      pieces: ids of one or two texts, not cut
      places: of a tagging task, where in the framed row the words that are tagged there begin
    """

    pieces: tuple[np.ndarray, ...]
    places: np.ndarray | None = None

    @property
    def length(self) -> int:
        """Pieces with [CLS] and [SEP]."""
        return 1 + len(self.pieces) + sum(map(len, self.pieces))


class Answers(Protocol):
    """How a kind of task answers.

    Attributes:
      outputs: names of the model's outputs that `record` reads
    """

    outputs: tuple[str, ...]

    def read(self, item: Any) -> Request:
        """See `albert_jax.data.labelled.requests.read_request`."""
        ...

    def rows(self, requests: Sequence[Request]) -> list[list[Row]]:
        """One row or more for each request, encoded together."""
        ...

    def unknown(self, rows: int, length: int) -> dict[str, np.ndarray]:
        """What a batch [rows, length] holds beside the text, where no label is known."""
        ...

    def record(self, request: Request, rows: Sequence[Row], outputs: Sequence[Mapping[str, np.ndarray]]) -> dict:
        """The answer as JSON; `outputs` are those of each row."""
        ...


class TextAnswers:
    """Of a classification or regression: label or labels with probabilities, or a value."""

    def __init__(self, task: OpenClassification):
        self._task = task
        self.outputs = ("value",) if task.resolved.target == "number" else ("probabilities",)

    def read(self, item: Any) -> Request:
        """Refuses, as the task does, a text of more than 200,000 characters."""
        request = read_request(item, self._task.resolved.text_columns)
        for text in request.texts:
            if len(text) > MAX_CHARACTERS:
                raise AlbertError(
                    f"a text of {len(text):,} characters, more than {MAX_CHARACTERS:,}; cut it: only its first pieces "
                    "are read"
                )
        return request

    def rows(self, requests: Sequence[Request]) -> list[list[Row]]:
        texts = [text for request in requests for text in request.texts]
        ids, lengths = self._task.tokenizer.encode_batch(texts)
        pieces = np.split(ids, np.cumsum(lengths)[:-1])
        count = len(self._task.resolved.text_columns)
        return [[Row(tuple(pieces[first : first + count]))] for first in range(0, len(pieces), count)]

    def unknown(self, rows: int, length: int) -> dict[str, np.ndarray]:
        return {"label": self._task.target.unknown(rows)}

    def record(self, request: Request, rows: Sequence[Row], outputs: Sequence[Mapping[str, np.ndarray]]) -> dict:
        told: dict[str, Any] = dict(zip(("text", "text_b"), request.texts, strict=False))
        told |= self._task.target.answer(outputs[0])
        most, row = self._task.resolved.max_length, rows[0]
        if row.length > most:
            told["warning"] = (
                f"cut: {most - 1 - len(row.pieces)} of {sum(map(len, row.pieces)):,} pieces were read; train with a "
                "larger task.max_length to read more"
            )
        return told


class TagAnswers:
    """Of a tagging: every word with its tag and probability, and the spans that the tags make.

    Offsets are characters [start, end) of the text, which is the user's own; of words without a text it is the words
    with a space between them. The probability of a span is the least of its words'.
    """

    outputs = ("predicted", "probability")

    def __init__(self, task: OpenTagging):
        self._task = task
        self._pieces: dict[str, np.ndarray] = {}  # of words met before: most words of a text are

    def read(self, item: Any) -> Request:
        request = read_request(item, ("text",), tags=True)
        return request if request.words is not None else replace(request, words=word_spans(request.texts[0]))

    def rows(self, requests: Sequence[Request]) -> list[list[Row]]:
        words = [[request.texts[0][start:end] for start, end in request.words or ()] for request in requests]
        if len(self._pieces) > _KNOWN_WORDS:
            self._pieces.clear()
        new = list({word for text in words for word in text} - self._pieces.keys())
        if new:
            self._pieces.update(zip(new, encode_words(self._task.tokenizer, new), strict=True))
        found = []
        for text in words:
            cuts = in_windows([self._pieces[word] for word in text], self._task.resolved.max_length)
            found.append([Row((row,), places) for row, places, _ in cuts])
        for word in new:
            if len(word) > _LONG_WORD:
                del self._pieces[word]
        return found

    def unknown(self, rows: int, length: int) -> dict[str, np.ndarray]:
        return {
            "tags": np.zeros((rows, length), np.int32),
            "tag_weights": np.zeros((rows, length), np.float32),
            "sentence": np.zeros(rows, np.int32),
        }

    def record(self, request: Request, rows: Sequence[Row], outputs: Sequence[Mapping[str, np.ndarray]]) -> dict:
        text = request.texts[0]
        tags: list[str] = []
        shares: list[float] = []
        for row, output in zip(rows, outputs, strict=True):
            tags += [self._task.labels[number] for number in output["predicted"][row.places].tolist()]
            shares += output["probability"][row.places].astype(np.float64).round(6).tolist()
        words: list[dict[str, Any]] = [
            {"text": text[start:end], "start": start, "end": end, "tag": tag, "probability": share}
            for (start, end), tag, share in zip(request.words or (), tags, shares, strict=True)
        ]
        found = []
        for kind, first, after in spans(tags):
            start, end = words[first]["start"], words[after - 1]["end"]
            share = min(shares[first:after])
            found.append({"type": kind, "text": text[start:end], "start": start, "end": end, "probability": share})
        return {"text": text, "spans": found, "words": words}
