"""What tasks on labelled data share: their files, their vocabulary, their splits."""

import copy
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np

from albert_jax.data.examples import loader
from albert_jax.data.examples.buckets import choose, steps
from albert_jax.data.labelled.framed import MIN_LENGTH
from albert_jax.data.text.tokenizers import AnyTokenizer, load
from albert_jax.errors import AlbertError, refuse
from albert_jax.fields import check, knob
from albert_jax.model.config import AlbertConfig
from albert_jax.tasks.base import Loader, OpenTask, Task, with_vocabulary
from albert_jax.tasks.baselines import digest
from albert_jax.telemetry.baselines import Baseline, Plain

T = TypeVar("T")
_HOW_MANY = "give how many, or 0 for all"
_FIELDS = {"train": "train", "validation": "dev", "test": "test"}  # split -> field of the task


@dataclass(frozen=True)
class FileTask(Task):
    """A task on a user's labelled files, or on the labelled paragraphs of a prepared pydocs directory."""

    data: str = knob("", free=True, local=True)  # directory that `prepare --corpus pydocs` wrote; empty for files
    train: tuple[str, ...] = knob((), free=True, local=True)  # labelled files, or tfds:NAME[:SPLIT]
    dev: tuple[str, ...] = knob((), free=True, local=True)  # the same, of the validation split
    test: tuple[str, ...] = knob((), free=True, local=True)  # the same, of the test split
    vocab: str = knob("", free=True, local=True)  # vocabulary for files; empty takes that of the model to start from
    max_length: int = knob(128, at_least=MIN_LENGTH)  # S: pieces of an example with [CLS] and [SEP]
    examples: int = knob(0, at_least=0, advice=_HOW_MANY)  # training examples, drawn; 0 = all
    eval_examples: int = knob(0, at_least=0, advice=_HOW_MANY)  # examples of a held-out split that are scored; 0 = all
    sample_seed: int = 0  # of both draws
    # Score plain models on the same data too, which takes seconds of a core: off where even they are too many.
    baselines: bool = knob(True, free=True)
    # Short examples are batched together in shorter rows: at most so many row lengths, each of which is compiled once;
    # 1 pads all to max_length.
    row_lengths: int = knob(4, at_least=1, older=1)

    def paths(self, split: str) -> tuple[str, ...]:
        """The files (or tfds:NAME) of a split. Raises AlbertError where the task names none, or nothing."""
        name = _FIELDS[split]
        found: tuple[str, ...] = getattr(self, name)
        use = {"validation": "; the best checkpoint is chosen by them", "test": " to train, or --data FILE to evaluate"}
        if not found:
            raise AlbertError(f"there are no {split} examples: give --task.{name} FILE{use.get(split, '')}")
        if not all(found):
            raise AlbertError(f"task.{name} holds an empty name; give --task.{name} FILE")
        return found

    def with_split(self, split: str, path: str) -> Self:
        field = _FIELDS[split] if self.train else "data"
        return dataclasses.replace(self, **{field: (path,) if self.train else path})  # type: ignore[arg-type]

    def with_vocabulary(self, path: str, before: str = "") -> Self:
        # A prepared directory has its own; and a vocabulary that a user names stays.
        inherits = self.train and self.vocab in ("", before)
        return dataclasses.replace(self, vocab=path) if inherits else self

    def open_tokenizer(self) -> tuple[AnyTokenizer, str]:
        """The vocabulary and where it is from. Raises AlbertError where the task names no data, two kinds of it, or no
        vocabulary."""
        refuse(self._flaws_of_sources())
        source = self.vocab or f"{self.data}/vocab"
        return load(source), source

    def _flaws_of_sources(self) -> Iterator[str]:
        if self.data and self.train:
            yield "task.data and task.train are both given; set the one that is not meant to nothing"
        if not (self.data or self.train):
            yield "there are no training examples: give --task.train FILE --task.dev FILE"
        if not (self.vocab or self.data):
            yield (
                "labelled files come without a vocabulary: give --init WORKDIR of a pretrained model, or "
                "--task.vocab DIR"
            )


@dataclass(frozen=True)
class Part:
    """Some examples of a source."""

    source: Any
    chosen: np.ndarray  # int [examples], their numbers

    @property
    def weights(self) -> tuple[str, ...]:
        weights: tuple[str, ...] = self.source.weights
        return weights

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}/{len(self)}"

    @property
    def lengths(self) -> np.ndarray:
        lengths: np.ndarray = self.source.lengths[self.chosen]
        return lengths

    @property
    def max_length(self) -> int:
        return int(self.source.max_length)

    def __len__(self) -> int:
        return len(self.chosen)

    def example(self, seed: int, index: int, place: int | None = None, length: int | None = None) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self.source.example(seed, int(self.chosen[index % len(self)]), length=length)
        return row


@dataclass(frozen=True)
class Split(Generic[T]):
    """A split as it was read, and as the model reads it."""

    records: list[T]
    examples: Any


class OpenFileTask(OpenTask, Generic[T]):
    """A `FileTask` on its data, or without any for inference.

    A kind of task says how a split is read (`read_split`) and encoded (`encode`); the rest of `OpenTask` that has to do
    with data stands here. Files are read when they are first needed, a split once.
    """

    def __init__(self, task: Any, config: AlbertConfig, tokenizer: AnyTokenizer | None = None):
        """`tokenizer` is that of a trained run, which needs no data."""
        check(task, "task")  # again, for those who open a task without an experiment around it
        self.task = self.resolved = task
        opened: tuple[AnyTokenizer, str] = (tokenizer, "the run") if tokenizer else task.open_tokenizer()
        self.tokenizer, source = opened
        self.config = with_vocabulary(config, self.tokenizer, source)
        self.tokens_per_example = task.max_length
        self._splits: dict[str, Split[T]] = {}
        self._padding: list[str] = []  # what to say of the rows of training batches
        self._parts: dict[str, np.ndarray] = {}  # split -> numbers of the examples that are scored, where not of all

    examples_are = "texts"  # what a message calls them

    def read_split(self, split: str) -> list[T]:
        """The labelled records of a split, those that are to be used of it."""
        raise NotImplementedError

    def encode(self, records: list[T], doing: str) -> Any:
        """The records as examples; `doing` is what a progress line says meanwhile."""
        raise NotImplementedError

    def plain_of(self, split: str, fit: Callable[[list[T], list[T]], list[Baseline]], *decided: Any) -> Plain | None:
        """What `OpenTask.plain` gives: `fit` takes the training records and those of the split, and what the training
        data has `decided` beside them, such as class names, is part of the key."""
        task = self.task
        if not task.baselines:
            return None
        records = self.split(split).records
        # Not the training texts: an evaluation should not have to read them for what is stored in the workdir.
        key = digest(records, decided, task.train, task.data, task.examples, task.sample_seed)

        def fitted() -> list[Baseline]:
            train = self._splits["train"].records if "train" in self._splits else self.read_split("train")
            return fit(train, records)

        return Plain(key, fitted)

    def split(self, split: str) -> Split[T]:
        if split not in self._splits:
            records = self.read_split(split)
            self._splits[split] = Split(records, self.encode(records, f"encoding the {split} split"))
        return self._splits[split]

    def train_batches(self, batch_size: int, seed: int, workers: int, rows: Sequence[int] | None = None) -> Loader:
        examples = self.split("train").examples
        self.split("validation")  # a file that cannot be read must be known now, not after a thousand steps
        row_lengths = self._row_lengths(examples)
        batches = loader.Loader(examples, batch_size, seed, worker_count=workers, rows=rows, row_lengths=row_lengths)
        if batches.buckets:
            lengths = ", ".join(map(str, batches.buckets.row_lengths))
            before = examples.max_length / examples.lengths.mean()
            self._padding = [
                f"rows of {lengths} pieces in the place of {examples.max_length}: {batches.padding():.2f} pieces are "
                f"computed for each real one, not {before:.2f}; --task.row-lengths 1 pads all alike"
            ]
        return batches

    def eval_batches(self, split: str, batch_size: int, rows: Sequence[int] | None = None) -> Loader:
        examples = self.split(split).examples
        row_lengths = self._row_lengths(examples)  # also of a part, or it would be compiled anew
        if split in self._parts:
            examples = Part(examples, self._parts[split])
        return loader.Loader(examples, batch_size, shuffle=False, epochs=1, rows=rows, row_lengths=row_lengths)

    def _row_lengths(self, examples: Any) -> tuple[int, ...]:
        most = self.task.row_lengths
        return choose(examples.lengths, examples.max_length, most) if most > 1 and len(examples) else ()

    def scored_on(self, split: str, count: int) -> OpenTask:
        examples = self.split(split).examples
        if count >= len(examples):
            return self
        part = copy.copy(self)
        part._parts = {**self._parts, split: examples.evenly(count)}
        return part

    @property
    def notes(self) -> list[str]:
        return self._padding + self._notes_of_length()

    def _notes_of_length(self) -> list[str]:
        """A line where nearly all training examples are far shorter than the rows that they may have."""
        examples, name = self.split("train").examples, self.examples_are
        enough, fits = percentile(examples.lengths)
        if 2 * fits > examples.max_length:
            return []
        # Where rows are padded by length, and none is longer, the unused positions are not computed.
        rows = self._row_lengths(examples) or (examples.max_length,)
        gain = "costs less" if rows[-1] > fits else "is enough"
        return [f"99 % of the {name} have at most {enough:,} pieces: --task.max-length {fits} {gain}"]


def percentile(lengths: np.ndarray) -> tuple[int, int]:
    """What 99 % of `lengths` do not exceed, and the row length that holds it."""
    enough = int(np.percentile(lengths, 99, method="higher"))
    return enough, next(length for length in steps(1 << 20) if length >= enough)


def stratified_sample(
    items: Sequence[T], classes: Sequence[Hashable], known: Sequence[Hashable], count: int, seed: int
) -> list[T]:
    """`count` items, equally many of each known class while there are any, drawn by the seed; 0: all there are.

    `classes` has the class of each item.
    """
    # The order of the file must not decide: files are often sorted by label or by source.
    order = np.random.default_rng(seed).permutation(len(items)).tolist()
    groups = {label: [i for i in order if classes[i] == label] for label in known}
    longest = max(map(len, groups.values()), default=0)
    # In turns, so that few examples of a rare class are all taken before a common one has many.
    drawn = [group[turn] for turn in range(longest) for group in groups.values() if turn < len(group)]
    return [items[i] for i in drawn[: count or None]]
