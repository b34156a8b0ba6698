"""Answers of a trained model for a user's own texts: labels with probabilities, values, tagged spans.

    predictor = Predictor("runs/tagging")
    predictor(["Anna went home."])[0]["spans"]
    for record in predictor.stream(lines): ...

Texts are put together by length: rows have 16, 24, 32, 40, ... pieces, and a program is compiled once for each length
that is met. Answers come in the order of the texts, a text that cannot be answered gives a record with an "error", and
what is read ahead of an answer is bounded.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from albert_jax import experiment as experiments
from albert_jax.data.labelled.arrivals import Arrivals
from albert_jax.data.labelled.framed import frame
from albert_jax.data.labelled.requests import Request
from albert_jax.engine.step import make_eval_step
from albert_jax.errors import AlbertError
from albert_jax.evaluate import restored
from albert_jax.interop.directory import is_converted
from albert_jax.tasks import Classification, Tagging
from albert_jax.tasks.answers import Answers, Row, TagAnswers, TextAnswers
from albert_jax.tasks.base import OpenTask
from albert_jax.tasks.tagging import OpenTagging

LEAST_LENGTH = 16  # S of the shortest rows; shorter ones would hardly be faster
AHEAD = 16  # batches of rows or texts that may wait for an answer
PATIENCE_S = 0.1  # seconds of waiting for input before what is there is answered in batches that are not full


@dataclass
class Tally:
    """What a predictor has done so far.

    Attributes:
      texts: answered, or refused with an error
      errors: how many of them were refused
      tokens: pieces of their rows, [CLS] and [SEP] included
      positions: the same with what fills up rows and batches
      compiling: seconds
      waiting: seconds in which no input came
      first_error: the first refusal
    """

    texts: int = 0
    errors: int = 0
    tokens: int = 0
    positions: int = 0
    compiling: float = 0.0
    waiting: float = 0.0
    first_error: str = ""


def _steps() -> list[int]:
    """16, 24, 32, then four to a doubling: from 32 on at most a fifth of a row is padding."""
    quarters = (LEAST_LENGTH // 2 << n for n in range(14))
    return [LEAST_LENGTH, 3 * LEAST_LENGTH // 2, *(count * quarter for quarter in quarters for count in (4, 5, 6, 7))]


@dataclass
class _Open:
    """A text that has no answer yet."""

    request: Request | None = None
    rows: list[Row] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)  # of each row, None while there is none
    missing: int = 0
    record: dict[str, Any] | None = None

    @property
    def size(self) -> int:
        return max(len(self.rows), 1)


_Place = tuple[_Open, int]  # a row of a text


class Predictor:
    """The model of a workdir, ready to answer.

    Args:
      workdir: directory of a fine-tuning run; its data need not be there any more.
      checkpoint: "best", "latest" or a step.
      batch_size: rows of a batch; raised to a multiple of the devices that rows are divided over.

    Attributes:
      answers: how the task reads texts and tells answers
      lengths: row lengths S, ascending
      compiled: length -> program, those that were needed so far
      tally: what was done so far

    Raises AlbertError for a directory that holds no finished run or is damaged, a pretraining run, a checkpoint that is
    not there or belongs to another vocabulary.
    """

    def __init__(self, workdir: str | Path, checkpoint: str = "best", batch_size: int = 64):
        if batch_size < 1:
            raise AlbertError(f"batch_size is {batch_size}; it must be at least 1")
        workdir = Path(workdir)
        experiment = _fine_tuned(workdir)
        # The data is not needed: the workdir's experiment holds its classes, and the vocabulary stands beside it.
        place: dict[str, Any] = {"data": "", "train": ("not read",), "vocab": str(workdir / "vocab")}
        chosen = dataclasses.replace(experiment.task, **place)
        model = dataclasses.replace(experiment.model, attention="xla", remat="none")  # rows of any length, no gradient
        self._task: OpenTask = chosen.open(model, experiment.seed)
        self.answers: Answers = (
            TagAnswers(self._task) if isinstance(self._task, OpenTagging) else TextAnswers(self._task)  # type: ignore
        )
        self._params, self._layout, _ = restored(workdir, experiment, self._task, checkpoint)
        self._step = make_eval_step(self._task, self._layout)
        self._rows = batch_size + -batch_size % self._layout.row_groups
        longest = chosen.max_length
        self.lengths = [*(n for n in _steps() if n < longest), longest]
        self.compiled: dict[int, Any] = {}
        self.tally = Tally()

    # ---- what a user calls

    def __call__(self, texts: Sequence[Any]) -> list[dict[str, Any]]:
        """The record of each text, in order. A text is a str; a pair (first, second); a dict with "text", "text_b" or
        "words"; for tagging also a list of words. One that cannot be answered has "error" in its record."""
        if isinstance(texts, (str, bytes, dict)) or not isinstance(texts, Iterable):
            raise AlbertError("give a list of texts, such as [text]")
        return list(self._run(list(texts), "text {}", waits=False))

    def stream(self, texts: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """The records of texts that come one by one, in order, each soon after its text: when none comes for a tenth of
        a second, those that wait are answered. `texts` is iterated by another thread."""
        return self._run(texts, "text {}", waits=True)

    def lines(self, lines: Iterable[bytes], name: str, waits: bool) -> Iterator[dict[str, Any]]:
        """The same of the lines of a file called `name`; `waits` where they may come slowly."""
        return self._run(lines, f"{name}: line {{}}", waits)

    # ---- the machinery: texts -> rows by length -> batches -> outputs -> records in order

    def _run(self, items: Iterable[Any], where: str, waits: bool) -> Iterator[dict[str, Any]]:
        waiting: dict[int, deque[_Place]] = {length: deque() for length in self.lengths}
        texts: deque[_Open] = deque()  # in order, the oldest without an answer first
        flying: list[tuple[list[_Place], Any]] = []  # the batch that the devices are at
        held, patience = 0, PATIENCE_S  # rows of `texts`, and a text without rows counts for one
        number = 0

        def launch(length: int) -> None:
            """Starts a batch, then collects the one before: the devices never wait for this process. Room that rows of
            `length` leave is filled up with shorter ones."""
            places: list[_Place] = []
            for shorter in reversed([each for each in self.lengths if each <= length]):
                row = waiting[shorter]
                places += [row.popleft() for _ in range(min(len(row), self._rows - len(places)))]
            started = self._start([text.rows[place] for text, place in places], length)
            collect()
            flying.append((places, started))

        def collect() -> None:
            for places, started in flying:
                outputs = jax.device_get(started)
                for at, (text, place) in enumerate(places):
                    text.outputs[place] = {name: values[at] for name, values in outputs.items()}
                    text.missing -= 1
            flying.clear()

        with Arrivals(items, waits, self._rows) as source:
            taken: list[Any] | None = []
            while taken is not None:
                before = source.waited
                taken = source.take(self._rows, patience if texts else None)
                if texts:
                    patience -= source.waited - before
                self.tally.waiting += source.waited - before
                opened = self._open(taken or [], where, number)
                number += len(opened)
                texts += opened
                for text in opened:
                    held += text.size
                    for place, row in enumerate(text.rows):
                        waiting[self._length(row)].append((text, place))
                for length in self.lengths:
                    while len(waiting[length]) >= self._rows:
                        launch(length)
                if not taken or patience <= 0:
                    for length in reversed(self.lengths):
                        while waiting[length]:
                            launch(length)
                    collect()
                    patience = PATIENCE_S
                while texts and (not texts[0].missing or held >= AHEAD * self._rows):
                    if texts[0].missing:
                        for length in {self._length(row) for row in texts[0].rows}:
                            while any(text is texts[0] for text, _ in waiting[length]):
                                launch(length)
                        collect()
                    text = texts.popleft()
                    held -= text.size
                    yield self._record(text)
            if source.error is not None:
                raise source.error

    def _open(self, items: Sequence[Any], where: str, before: int) -> list[_Open]:
        opened = []
        for number, item in enumerate(items, before + 1):
            try:
                opened.append(_Open(self.answers.read(item)))
            except AlbertError as error:
                opened.append(_Open(record={"error": f"{where.format(number)}: {error}"}))
        asked = [(text, text.request) for text in opened if text.request is not None]
        if asked:
            found = self.answers.rows([request for _, request in asked])
            for (text, _), rows in zip(asked, found, strict=True):
                text.rows, text.outputs, text.missing = rows, [None] * len(rows), len(rows)
        return opened

    def _length(self, row: Row) -> int:
        return next((length for length in self.lengths if row.length <= length), self.lengths[-1])

    def batch(self, rows: Sequence[Row], length: int) -> dict[str, np.ndarray]:
        """`rows` as a whole batch [B, `length`], filled up with rows of weight 0."""
        framed = [frame(self._task.tokenizer, row.pieces, length) for row in rows]
        batch = {name: np.zeros((self._rows, *array.shape), array.dtype) for name, array in framed[0].items()}
        for name, array in batch.items():
            array[: len(rows)] = [row[name] for row in framed]
        batch["mask"][len(rows) :, 0] = True  # a row of nothing has no softmax
        weight = np.zeros(self._rows, np.float32)
        weight[: len(rows)] = 1
        return batch | self.answers.unknown(self._rows, length) | {"example_weight": weight}

    def _start(self, rows: Sequence[Row], length: int) -> dict[str, jax.Array]:
        """Outputs [B, ...] of `rows` as a batch; they may not be there yet."""
        batch = self.batch(rows, length)
        self.tally.tokens += int(batch["mask"][: len(rows)].sum())
        self.tally.positions += self._rows * length
        given = self._layout.to_devices(batch)
        if length not in self.compiled:
            start = time.perf_counter()
            self.compiled[length] = self._step.lower(self._params, given).compile()
            self.tally.compiling += time.perf_counter() - start
        _, outputs = self.compiled[length](self._params, given)
        return {name: outputs[name] for name in self.answers.outputs}

    def _record(self, text: _Open) -> dict[str, Any]:
        self.tally.texts += 1
        if text.request is not None:
            return self.answers.record(text.request, text.rows, text.outputs)
        assert text.record is not None
        self.tally.errors += 1
        self.tally.first_error = self.tally.first_error or text.record["error"]
        return text.record


def _fine_tuned(workdir: Path) -> experiments.Experiment:
    """The experiment of a workdir whose model answers something. Raises AlbertError where it does not."""
    if is_converted(workdir):
        raise AlbertError(f"{workdir} is a converted model without a task; fine-tune it: {_how(workdir)}")
    experiment = experiments.read(workdir)
    if not isinstance(experiment.task, (Classification, Tagging)):
        raise AlbertError(f"{workdir} is a pretraining run, which has no labels to give; fine-tune it: {_how(workdir)}")
    return experiment


def _how(workdir: Path) -> str:
    return f"albert_jax train --config configs/finetune_tagging.py (or finetune_classification.py) --init {workdir}"
