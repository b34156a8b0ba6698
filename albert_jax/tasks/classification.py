"""Classification and regression of texts: a user's TSV, CSV or JSON lines, a dataset of TFDS, or the paragraphs of a
pydocs corpus, where the class is the package that a paragraph documents."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from albert_jax.data.examples.loader import Loader
from albert_jax.data.labelled import tfds as labelled_tfds
from albert_jax.data.labelled.framed import FramedTexts, check_length, frame
from albert_jax.data.labelled.tables import Columns, Labelled, read_labelled
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError
from albert_jax.fields import JsonRates
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import AlbertForSequenceClassification
from albert_jax.tasks import paragraphs
from albert_jax.tasks.base import Batch, Evaluation, Outputs, Sums, with_vocabulary
from albert_jax.tasks.files import check_counts, open_tokenizer, places
from albert_jax.tasks.targets import AnyTarget, ManyLabels, Number, OneClass, balanced, counts, imbalance


@dataclass(frozen=True)
class Classification:
    """Texts and their labels, from files or from a prepared pydocs directory.

    Of a pydocs directory the label is the package that a paragraph documents; names of packages are blanked in the
    text, or it would be a keyword search.
    """

    data: str = ""  # directory that `prepare --corpus pydocs` wrote; empty for files
    train: tuple[str, ...] = ()  # .tsv, .csv or .jsonl files, or tfds:NAME[:SPLIT]
    dev: tuple[str, ...] = ()  # the same, of the validation split
    test: tuple[str, ...] = ()  # the same, of the test split
    vocab: str = ""  # vocabulary for files; empty takes that of the model that the run starts from
    text_columns: tuple[str, ...] = ("text",)  # one or two columns, fields or features that hold the text
    label_column: str = "label"  # that which holds the label
    target: Literal["class", "labels", "number"] = "class"  # one class a text, any number of labels, or a real value
    label_separator: str = ","  # between the labels of a cell, under target "labels"
    labels: tuple[
        str, ...
    ] = ()  # class names in the order of the head's outputs; empty takes those of the training data
    class_weights: JsonRates = field(default_factory=dict)  # class to factor of its loss, 1 where not named
    balance: bool = False  # weigh classes so that all have the same say, for those that class_weights does not name
    standard: tuple[float, ...] = ()  # mean and deviation of a real target; empty takes those of the training data
    max_length: int = 128  # S: pieces of an example with [CLS] and [SEP]; longer texts are cut
    examples: int = 0  # training examples, equally many a class; 0 = all
    min_paragraphs: int = 100  # training paragraphs that a package needs to be a class (pydocs)
    max_classes: int = 10  # classes, the packages with most paragraphs (pydocs)
    eval_examples: int = 0  # examples of a held-out split that are scored, equally many a class; 0 = all
    sample_seed: int = 0  # of the draw of training and scored examples

    @property
    def fine_tunes(self) -> bool:
        """Whether starting from random parameters would be a mistake."""
        return True

    def open(self, config: AlbertConfig, seed: int) -> "OpenClassification":
        """The task on its data. Raises AlbertError for missing or bad data, or fewer than two classes."""
        return OpenClassification(self, config, seed)


@dataclass(frozen=True)
class _Split:
    records: list[Labelled]
    shown: list[dict[str, Any]]  # of each example, what a prediction repeats
    examples: FramedTexts


class OpenClassification:
    """See `albert_jax.tasks.base.OpenTask`. Files are read when they are first needed; the training data only for what
    the task's config leaves to it."""

    losses = ("loss",)
    predictions_per_example = 0

    def __init__(self, task: Classification, config: AlbertConfig, seed: int):
        check_length(task.max_length)
        if not 1 <= len(task.text_columns) <= 2:
            raise AlbertError(f"task.text_columns names {len(task.text_columns)} columns; one or two texts are read")
        if len({*task.text_columns, task.label_column}) <= len(task.text_columns):
            raise AlbertError(
                f"task.text_columns ({', '.join(task.text_columns)}) and task.label_column ({task.label_column}) name "
                "a column twice; give each its own"
            )
        if task.target == "labels" and not task.label_separator:
            raise AlbertError("task.label_separator is empty; give what stands between the labels of a cell")
        check_counts(task)
        self._task = task
        self._splits: dict[str, _Split] = {}
        self.tokenizer, source = open_tokenizer(task)
        self.config = with_vocabulary(config, self.tokenizer, source)
        self.tokens_per_example = task.max_length
        self.resolved, self.target = self._settle()
        self.labels = list(self.target.labels)

    @property
    def best(self) -> tuple[str, bool]:
        return self.target.best

    @property
    def scores(self) -> tuple[str, ...]:
        return self.target.scores

    @property
    def baselines(self) -> dict[str, float]:
        """Accuracy of always saying the validation split's most frequent class."""
        if not isinstance(self.target, OneClass):
            return {}
        shares = counts(self.labels, self._split("validation").records)
        return {"majority_accuracy": float(shares.max() / shares.sum())}

    @property
    def notes(self) -> list[str]:
        split, task = self._split("train"), self._task
        said = []
        if cut := split.examples.cut:
            said.append(
                f"{cut:,} of {len(split.examples):,} training texts are longer than {task.max_length} pieces and cut; "
                "raise task.max_length to read more of them"
            )
        if self.labels and not self.resolved.class_weights:
            said += imbalance(self.labels, counts(self.labels, split.records), len(split.records))
        return said

    # ---- data

    def _settle(self) -> tuple[Classification, AnyTarget]:
        """The task's config with what the training data decides filled in, and its target."""
        task = self._task
        if task.target == "number":
            if task.labels or task.class_weights or task.balance:
                raise AlbertError("task.target is a number: it has no classes to name, weigh or balance")
            standard = task.standard
            if not standard:
                values = np.array([record.target for record in self._train_records], np.float64)
                if np.ptp(values) == 0:
                    raise AlbertError(f"every target of the training data is {values[0]:g}; two values are needed")
                standard = (float(values.mean()), float(values.std()))
            if len(standard) != 2 or not np.isfinite(standard).all() or standard[1] <= 0:
                raise AlbertError(f"task.standard is {standard}; give a mean and a deviation above 0")
            return dataclasses.replace(task, standard=standard), Number(*standard)
        labels = task.labels or self._labels_of_training()
        if len(labels) < 2:
            has = f"one class only ({labels[0]})" if labels else "no label"
            raise AlbertError(f"the training data has {has}; two are needed")
        if len(set(labels)) < len(labels):
            raise AlbertError(f"task.labels names a class twice: {', '.join(labels)}; leave one of them out")
        unknown = sorted(set(task.class_weights) - set(labels))
        if unknown:
            raise AlbertError(f"task.class_weights names {unknown[0]!r}; the classes are {', '.join(labels)}")
        for name, factor in task.class_weights.items():
            if not 0 <= factor < np.inf:
                raise AlbertError(f"task.class_weights gives {name!r} {factor:g}; give factors of at least 0")
        weights = {name: task.class_weights.get(name, 1.0) for name in labels} if task.class_weights else {}
        if task.balance and set(task.class_weights) != set(labels):
            found = counts(labels, self._train_records)
            even = balanced(task.target, found, len(self._train_records)).tolist()
            weights = dict(zip(labels, even, strict=True)) | task.class_weights
        settled = dataclasses.replace(task, labels=labels, class_weights=weights)
        factors = tuple(weights.get(name, 1.0) for name in labels)
        return settled, (OneClass if task.target == "class" else ManyLabels)(labels, factors)

    def _labels_of_training(self) -> tuple[str, ...]:
        task = self._task
        if task.data:
            return paragraphs.packages(task.data, task.min_paragraphs, task.max_classes)
        targets = (r.target if isinstance(r.target, tuple) else (str(r.target),) for r in self._train_records)
        return tuple(sorted({name for names in targets for name in names}))

    @cached_property
    def _train_records(self) -> list[Labelled]:
        """The training data before examples are drawn from it."""
        if self._task.data:
            labels = self._task.labels or self._labels_of_training()
            return paragraphs.by_package(self._task.data, "train", labels, 0, 0)[0]
        return self._read("train")

    def _read(self, split: str) -> list[Labelled]:
        task = self._task
        columns = Columns(task.text_columns, task.label_column, task.target, task.label_separator)
        found: list[Labelled] = []
        for place in places(task, split):
            is_dataset = place.startswith("tfds:")
            found += labelled_tfds.read_labelled(place, split, columns) if is_dataset else read_labelled(place, columns)
        return found

    def _split(self, split: str) -> _Split:
        if split in self._splits:
            return self._splits[split]
        task = self._task
        count = task.examples if split == "train" else task.eval_examples
        if task.data:
            records, shown = paragraphs.by_package(task.data, split, self.labels, count, task.sample_seed)
        else:
            records = self._train_records if split == "train" else self._read(split)
            self.target.array(records)  # a label that is unknown is an error, drawn or not
            if count:
                known = self.labels if task.target == "class" else [""]
                classes = [record.target if task.target == "class" else "" for record in records]
                records = paragraphs.stratified_sample(records, classes, known, count, task.sample_seed)
            shown = [dict(zip(task.text_columns, record.texts, strict=True)) for record in records]
        texts = [record.texts for record in records]
        doing = f"encoding the {split} split"
        examples = FramedTexts(self.tokenizer, texts, self.target.array(records), task.max_length, doing)
        self._splits[split] = _Split(records, shown, examples)
        return self._splits[split]

    @property
    def _train(self) -> FramedTexts:
        return self._split("train").examples

    def train_batches(self, batch_size: int, seed: int, workers: int, rows: Sequence[int] | None = None) -> Loader:
        examples = self._train
        self._split("validation")  # now, not after a thousand steps, is the time to learn that it cannot be read
        return Loader(examples, batch_size, seed, worker_count=workers, rows=rows)

    def eval_batches(self, split: str, batch_size: int, rows: Sequence[int] | None = None) -> Loader:
        return Loader(self._split(split).examples, batch_size, shuffle=False, epochs=1, rows=rows)

    # ---- model

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        return AlbertForSequenceClassification(self.config, self.target.outputs, rngs=rngs)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"examples": batch["example_weight"].sum()}

    def sums(
        self, model: AlbertForSequenceClassification, batch: Batch, dropout_keys: jax.Array | None
    ) -> tuple[Sums, dict[str, jax.Array]]:
        logits = model(batch["input_ids"], batch["segment_ids"], batch["mask"], dropout_keys)
        return self.target.sums(logits, batch)

    # ---- scores

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        return self.target.evaluation(scores, outputs)

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        for shown, row in zip(self._split(split).shown, outputs, strict=True):
            yield {**shown, **self.target.prediction(row)}


def encode(tokenizer: AnyTokenizer, text: str, max_length: int) -> dict[str, np.ndarray]:
    """[CLS] text [SEP], cut and padded to `max_length`: input_ids, segment_ids int32 [S], mask bool [S]."""
    return frame(tokenizer, [tokenizer.encode(text)], max_length)
