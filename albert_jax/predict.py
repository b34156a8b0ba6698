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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from albert_jax import experiment as experiments
from albert_jax.data.examples import buckets
from albert_jax.data.labelled.framed import Unknown, frame
from albert_jax.data.labelled.requests import Arrivals, Request
from albert_jax.data.text import tokenizers
from albert_jax.engine.step import make_eval_step
from albert_jax.errors import AlbertError
from albert_jax.evaluate import restored
from albert_jax.interop.directory import is_converted
from albert_jax.tasks.base import Answers, Row

AHEAD = 16  # batches of rows or texts that may wait for an answer
PATIENCE_S = 0.1  # seconds of waiting for input before waiting texts are answered in batches that are not full


@dataclass
class Tally:
    """What a predictor has done so far."""

    texts: int = 0  # answered, or refused with an error
    errors: int = 0  # how many of them were refused
    tokens: int = 0  # pieces of their rows, [CLS] and [SEP] included
    positions: int = 0  # the same with what fills up rows and batches
    compiling: float = 0.0  # seconds
    waiting: float = 0.0  # seconds in which no input came
    first_error: str = ""  # the first refusal
    unknown: Unknown = field(default_factory=Unknown)  # pieces that the vocabulary does not know
    warnings: list[str] = field(default_factory=list)  # what was said of how texts were read, each once

    @property
    def notes(self) -> list[str]:
        """What a user should know about the texts, a line each."""
        return [*self.warnings, *self.unknown.notes("the texts")]


@dataclass
class _Text:
    """A text on its way: refused (`refusal`), or read (`request`) and waiting for the outputs of its rows."""

    request: Request | None = None
    refusal: str = ""
    rows: list[Row] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)  # of each row, None while it is not computed
    missing: int = 0  # rows without outputs

    @property
    def size(self) -> int:
        """What it counts for among the waiting: its rows, and 1 without any."""
        return max(len(self.rows), 1)


class _Batcher:
    """Puts rows of about one length together, and runs a batch while the next is being made.

    Args:
      lengths: row lengths S, ascending
      capacity: rows of a batch
      start: starts a batch of rows padded to a length; gives outputs [B, ...] that may not be computed yet
    """

    def __init__(self, lengths: Sequence[int], capacity: int, start: Callable[[list[Row], int], dict[str, jax.Array]]):
        self._lengths, self._capacity, self._start = lengths, capacity, start
        self._waiting: dict[int, deque[tuple[_Text, int]]] = {length: deque() for length in lengths}
        self._running: tuple[list[tuple[_Text, int]], dict[str, jax.Array]] | None = None

    def add(self, text: _Text) -> None:
        for number, row in enumerate(text.rows):
            self._waiting[self._length(row)].append((text, number))

    def full(self) -> None:
        """Runs every batch that is full."""
        for length in self._lengths:
            while len(self._waiting[length]) >= self._capacity:
                self._launch(length)

    def flush(self) -> None:
        """Runs all that waits and collects it, the longest rows first: shorter ones fill their batches up."""
        for length in reversed(self._lengths):
            while self._waiting[length]:
                self._launch(length)
        self._collect()

    def finish(self, text: _Text) -> None:
        """Runs what `text` waits for and collects it."""
        for length in {self._length(row) for row in text.rows}:
            while any(each is text for each, _ in self._waiting[length]):
                self._launch(length)
        self._collect()

    def _length(self, row: Row) -> int:
        return next((length for length in self._lengths if row.length <= length), self._lengths[-1])

    def _launch(self, length: int) -> None:
        """Starts a batch, then collects the one before: the devices never wait for this process."""
        taken: list[tuple[_Text, int]] = []
        for shorter in reversed([each for each in self._lengths if each <= length]):
            queue = self._waiting[shorter]
            # Room that rows of `length` leave is filled with shorter ones: they pad a little more, but a batch is
            # saved.
            taken += [queue.popleft() for _ in range(min(len(queue), self._capacity - len(taken)))]
        outputs = self._start([text.rows[number] for text, number in taken], length)
        self._collect()
        self._running = taken, outputs

    def _collect(self) -> None:
        if self._running is None:
            return
        taken, started = self._running
        self._running, outputs = None, jax.device_get(started)
        for at, (text, number) in enumerate(taken):
            text.outputs[number] = {name: values[at] for name, values in outputs.items()}
            text.missing -= 1


class Predictor:
    """The model of a workdir, ready to answer.

    Args:
      workdir: directory of a fine-tuning run; its data need not exist any more.
      checkpoint: "best", "latest" or a step.
      batch_size: rows of a batch; raised to a multiple of the devices that rows are divided over.

    Attributes:
      answers: the task: how texts are read and answers given
      lengths: row lengths S, ascending
      compiled: length -> program, those that were needed so far
      tally: what was done so far

    Raises AlbertError for a directory that holds no finished run or is damaged, a pretraining run, a checkpoint that
    does not exist or belongs to another vocabulary.
    """

    def __init__(self, workdir: str | Path, checkpoint: str = "best", batch_size: int = 64):
        if batch_size < 1:
            raise AlbertError(f"batch_size is {batch_size}; it must be at least 1")
        workdir = Path(workdir)
        experiment = _fine_tuned(workdir)
        tokenizer = tokenizers.load(workdir / "vocab")
        # Rows come in any length and there is no gradient: neither kernels for one length nor remat.
        model = dataclasses.replace(experiment.model, attention="xla", remat="none")
        self.answers: Answers = experiment.task.for_inference(model, tokenizer)
        fingerprint = tokenizer.fingerprint
        self._params, self._layout, _ = restored(workdir, experiment, self.answers, fingerprint, checkpoint)
        self._step = make_eval_step(self.answers, self._layout)
        self._rows = batch_size + -batch_size % self._layout.row_groups
        longest = experiment.task.max_length
        self.lengths = buckets.steps(longest)
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

    # ---- texts -> rows by length -> batches -> outputs -> records in order

    def _run(self, items: Iterable[Any], where: str, waits: bool) -> Iterator[dict[str, Any]]:
        batcher = _Batcher(self.lengths, self._rows, self._start)
        texts: deque[_Text] = deque()  # in order, the oldest without an answer first
        patience, number = PATIENCE_S, 0
        with Arrivals(items, waits, self._rows) as source:
            taken: list[Any] | None = []
            while taken is not None:
                before = source.waited
                taken = source.take(self._rows, patience if texts else None)
                if texts:
                    # Patience is for the oldest text: what has been waited for one part of a batch is not waited
                    # again for the next.
                    patience -= source.waited - before
                self.tally.waiting += source.waited - before
                read = self._read(taken or [], where, number)
                number += len(read)
                texts += read
                for text in read:
                    batcher.add(text)
                batcher.full()
                if not taken or patience <= 0:
                    batcher.flush()
                    patience = PATIENCE_S
                # An endless stream of long rows would otherwise pile up behind one short row that fills no batch.
                held = sum(text.size for text in texts)
                while texts and (not texts[0].missing or held >= AHEAD * self._rows):
                    if texts[0].missing:
                        batcher.finish(texts[0])
                    text = texts.popleft()
                    held -= text.size
                    yield self._record(text)
            if source.error is not None:
                raise source.error

    def _read(self, items: Sequence[Any], where: str, before: int) -> list[_Text]:
        """The items as texts with their rows; `before` of them have been read already."""
        texts = []
        for number, item in enumerate(items, before + 1):
            try:
                texts.append(_Text(self.answers.read(item)))
            except AlbertError as error:
                texts.append(_Text(refusal=f"{where.format(number)}: {error}"))
        asked = [(text, text.request) for text in texts if text.request is not None]
        if asked:
            found = self.answers.rows([request for _, request in asked])
            for (text, request), rows in zip(asked, found, strict=True):
                text.rows, text.outputs, text.missing = rows, [None] * len(rows), len(rows)
                for pieces in (pieces for row in rows for pieces in row.pieces):
                    self.tally.unknown.count(self.answers.tokenizer, pieces)
                if request.warning and request.warning not in self.tally.warnings:
                    self.tally.warnings.append(request.warning)
        return texts

    def batch(self, rows: Sequence[Row], length: int) -> dict[str, np.ndarray]:
        """`rows` as a whole batch [B, `length`], filled up with rows of weight 0."""
        framed = [frame(self.answers.tokenizer, row.pieces, length) for row in rows]
        batch = {name: np.zeros((self._rows, *array.shape), array.dtype) for name, array in framed[0].items()}
        for name, array in batch.items():
            array[: len(rows)] = [row[name] for row in framed]
        batch["mask"][len(rows) :, 0] = True  # a row of nothing has no softmax
        weight = np.zeros(self._rows, np.float32)
        weight[: len(rows)] = 1
        return batch | self.answers.unknown(self._rows, length) | {"example_weight": weight}

    def _start(self, rows: list[Row], length: int) -> dict[str, jax.Array]:
        """Outputs [B, ...] of `rows` as a batch; they may not be computed yet."""
        batch = self.batch(rows, length)
        self.tally.tokens += int(batch["mask"][: len(rows)].sum())
        self.tally.positions += self._rows * length
        given = self._layout.to_devices(batch)
        # Compiled by hand rather than by jit, so that the time of it can be told apart from that of answering.
        if length not in self.compiled:
            start = time.perf_counter()
            self.compiled[length] = self._step.lower(self._params, given).compile()
            self.tally.compiling += time.perf_counter() - start
        _, outputs = self.compiled[length](self._params, given)
        return {name: outputs[name] for name in self.answers.outputs}

    def _record(self, text: _Text) -> dict[str, Any]:
        self.tally.texts += 1
        if text.request is not None:
            return self.answers.record(text.request, text.rows, text.outputs)
        self.tally.errors += 1
        self.tally.first_error = self.tally.first_error or text.refusal
        return {"error": text.refusal}


def _fine_tuned(workdir: Path) -> experiments.Experiment:
    """The experiment of a workdir whose model answers something. Raises AlbertError where it does not."""
    how = f"albert_jax train --config configs/finetune_tagging.py (or finetune_classification.py) --init {workdir}"
    if is_converted(workdir):
        raise AlbertError(f"{workdir} is a converted model without a task; fine-tune it: {how}")
    experiment = experiments.read(workdir)
    if not experiment.task.fine_tunes:
        raise AlbertError(f"{workdir} is a pretraining run, which has no labels to give; fine-tune it: {how}")
    return experiment
