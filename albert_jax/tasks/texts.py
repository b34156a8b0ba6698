"""Tasks that answer something about a whole text, or about a pair of texts: the part that all of them share.

A task of this kind says what its model is, its losses and scores, and what an answer is; see `classification.py`, and
docs/own_task.md for a complete one of a user's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from albert_jax.data.labelled.framed import FramedTexts
from albert_jax.data.labelled.requests import Request, read_request
from albert_jax.data.labelled.tables import MAX_CHARACTERS, Labelled
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig
from albert_jax.tasks.base import Answers, Outputs, Row
from albert_jax.tasks.files import FileTask, OpenFileTask, percentile


@dataclass(frozen=True)
class TextTask(FileTask):
    """A task on texts or pairs of texts. A subclass gives `opened`, the class of the task on its data."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the one or two texts of an example."""
        return ("text",)

    def opened(self, config: AlbertConfig, tokenizer: AnyTokenizer | None = None) -> "OpenTextTask":
        """The task on its data, or with the `tokenizer` of a trained run on none."""
        raise NotImplementedError

    def open(self, config: AlbertConfig, seed: int) -> "OpenTextTask":
        return self.opened(config)

    def for_inference(self, config: AlbertConfig, tokenizer: AnyTokenizer) -> Answers:
        return self.opened(config, tokenizer)


class OpenTextTask(OpenFileTask[Labelled], Answers):
    """A `TextTask` on its data; also what answers new texts."""

    # ---- for a subclass to fill in, beside `model`, `sums`, `evaluation` and `read_split`

    def targets(self, records: Sequence[Labelled]) -> np.ndarray:
        """The label array, an example in each row."""
        raise NotImplementedError

    def unknown_targets(self, count: int) -> np.ndarray:
        """A label array for texts whose labels nobody knows."""
        return np.zeros(count, np.float32)

    def answer(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What is said of a text, from its outputs, as JSON."""
        raise NotImplementedError

    def prediction(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The same of an example whose label is known: what a line of predictions-SPLIT.jsonl holds beside the text."""
        return self.answer(outputs)

    # ---- training and evaluation

    def encode(self, records: list[Labelled], doing: str) -> FramedTexts:
        texts, targets = [record.texts for record in records], self.targets(records)
        return FramedTexts(self.tokenizer, texts, targets, self.task.max_length, doing)

    @property
    def notes(self) -> list[str]:
        examples, most = self.split("train").examples, self.task.max_length
        found: list[str] = []
        if examples.cut:
            enough, fits = percentile(examples.sizes)
            fits = min(fits, self.config.max_positions)
            more = f"--task.max-length {fits} reads more of them (99 % have at most {enough:,} pieces)"
            found.append(
                f"{examples.cut:,} of {len(examples):,} training texts are longer than {most} pieces and cut "
                f"({100 * examples.cut / len(examples):.2g} %)" + (f"; {more}" if fits > most else "")
            )
        found += super().notes + examples.unknown.notes("the training data")
        return found

    def shown(self, split: str) -> Iterator[dict[str, Any]]:
        """What a prediction repeats of each example."""
        for record in self.split(split).records:
            yield dict(zip(self.task.columns, record.texts, strict=True))

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        for shown, row in zip(self.shown(split), outputs, strict=True):
            yield {**shown, **self.prediction(row)}

    # ---- new texts

    def read(self, item: Any) -> Request:
        request = read_request(item, self.task.columns)
        for text in request.texts:
            if len(text) > MAX_CHARACTERS:
                raise AlbertError(
                    f"a text of {len(text):,} characters, more than {MAX_CHARACTERS:,}; cut it: only its first pieces "
                    "are read"
                )
        return request

    def rows(self, requests: Sequence[Request]) -> list[list[Row]]:
        # One call for all texts of all requests; a call for each would cost more than its work.
        ids, lengths = self.tokenizer.encode_batch([text for request in requests for text in request.texts])
        pieces = np.split(ids, np.cumsum(lengths)[:-1])
        each = len(self.task.columns)
        return [[Row(tuple(pieces[first : first + each]))] for first in range(0, len(pieces), each)]

    def unknown(self, rows: int, length: int) -> dict[str, np.ndarray]:
        return {"label": self.unknown_targets(rows)}

    def record(self, request: Request, rows: Sequence[Row], outputs: Outputs) -> dict[str, Any]:
        record: dict[str, Any] = dict(zip(("text", "text_b"), request.texts, strict=False))
        record |= self.answer(outputs[0])
        most, row = self.task.max_length, rows[0]
        if row.length > most:
            record["warning"] = (
                f"cut: {most - 1 - len(row.pieces)} of {sum(map(len, row.pieces)):,} pieces were read; train with a "
                "larger task.max_length to read more"
            )
        return record
