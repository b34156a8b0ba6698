"""Classification and regression of texts: a user's TSV, CSV or JSON lines, a dataset of TFDS, or the paragraphs of a
pydocs corpus, where the class is the package that a paragraph documents."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from albert_jax.data.labelled import tfds
from albert_jax.data.labelled.tables import Columns, Labelled, read_labelled
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import refuse
from albert_jax.fields import JsonRates, knob
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import AlbertForSequenceClassification
from albert_jax.tasks import paragraphs
from albert_jax.tasks.base import Batch, Evaluation, Outputs, Sums
from albert_jax.tasks.baselines import of_texts
from albert_jax.tasks.files import stratified_sample
from albert_jax.tasks.targets import AnyTarget, ManyLabels, Number, OneClass, balanced, counts, empty, imbalance
from albert_jax.tasks.texts import OpenTextTask, TextTask
from albert_jax.telemetry.baselines import Plain

_PROBLEMS = {"class": "", "labels": "multi_label_classification", "number": "regression"}


@dataclass(frozen=True)
class Classification(TextTask):
    """Texts and their labels, from files (.tsv, .csv, .jsonl) or from a prepared pydocs directory.

    Of a pydocs directory the label is the package that a paragraph documents; names of packages are blanked in the
    text, or it would be a keyword search.
    """

    text_columns: tuple[str, ...] = ("text",)  # one or two columns, fields or features that hold the text
    label_column: str = "label"  # that which holds the label
    target: Literal["class", "labels", "number"] = "class"  # one class a text, any number of labels, or a real value
    label_separator: str = ","  # between the labels of a cell, under target "labels"
    labels: tuple[
        str, ...
    ] = ()  # class names in the order of the head's outputs; empty takes those of the training data
    class_weights: JsonRates = knob(default_factory=dict)  # class to factor of its loss, 1 where not named
    balance: bool = False  # weigh classes so that all have the same say, for those that class_weights does not name
    standard: tuple[float, ...] = ()  # mean and deviation of a real target; empty takes those of the training data
    min_paragraphs: int = knob(100, at_least=1)  # training paragraphs that a package needs to be a class (pydocs)
    max_classes: int = knob(10, at_least=1)  # classes, the packages with most paragraphs (pydocs)

    head = "classification"

    @property
    def columns(self) -> tuple[str, ...]:
        return self.text_columns

    @property
    def problem(self) -> str:
        """Hugging Face's problem_type."""
        return _PROBLEMS[self.target]

    def opened(self, config: AlbertConfig, tokenizer: AnyTokenizer | None = None) -> "OpenClassification":
        """Raises AlbertError for missing or bad data, or fewer than two classes."""
        return OpenClassification(self, config, tokenizer)

    def flaws(self) -> Iterator[str]:
        """What in these fields does not go together, data aside."""
        if not 1 <= len(self.text_columns) <= 2:
            yield f"task.text_columns names {len(self.text_columns)} columns; one or two texts are read"
        if len({*self.text_columns, self.label_column}) <= len(self.text_columns):
            yield (
                f"task.text_columns ({', '.join(self.text_columns)}) and task.label_column ({self.label_column}) name "
                "a column twice; give each its own"
            )
        if self.target == "labels" and not self.label_separator:
            yield "task.label_separator is empty; give what stands between the labels of a cell"
        if self.target == "number" and (self.labels or self.class_weights or self.balance):
            yield "task.target is a number: it has no classes to name, weigh or balance"

    def flaws_of_labels(self, labels: Sequence[str]) -> Iterator[str]:
        if len(labels) < 2:
            has = f"one class only ({labels[0]})" if labels else "no label"
            yield f"the training data has {has}; two are needed"
        if len(set(labels)) < len(labels):
            yield f"task.labels names a class twice: {', '.join(labels)}; leave one of them out"
        if unknown := sorted(set(self.class_weights) - set(labels)):
            yield f"task.class_weights names {unknown[0]!r}; the classes are {', '.join(labels)}"
        for name, factor in self.class_weights.items():
            if not 0 <= factor < np.inf:
                yield f"task.class_weights gives {name!r} {factor:g}; give factors of at least 0"

    def flaws_of_standard(self, standard: tuple[float, ...]) -> Iterator[str]:
        if len(standard) == 2 and standard[1] == 0 and not self.standard:
            yield f"every target of the training data is {standard[0]:g}; two values are needed"
        if len(standard) != 2 or not np.isfinite(standard).all() or standard[1] <= 0:
            yield f"task.standard is {standard}; give a mean and a deviation above 0"


class OpenClassification(OpenTextTask):
    """See `albert_jax.tasks.base.OpenTask`. The training data is read only for what the configuration leaves to it."""

    def __init__(self, task: Classification, config: AlbertConfig, tokenizer: AnyTokenizer | None = None):
        refuse(task.flaws())
        super().__init__(task, config, tokenizer)
        self._shown: dict[str, list[dict[str, Any]]] = {}  # by split, what a prediction repeats of a pydocs paragraph
        self.resolved, self.target = self._resolve(task)
        self.labels = list(self.target.labels)
        self.scores, self.best, self.outputs = self.target.scores, self.target.best, self.target.answers

    # ---- what the training data decides: class names and weights, or the scale of a real target

    def _resolve(self, task: Classification) -> tuple[Classification, AnyTarget]:
        if task.target == "number":
            standard = task.standard or self._scale()
            refuse(task.flaws_of_standard(standard))
            return dataclasses.replace(task, standard=standard), Number(*standard)
        labels = task.labels or self._labels_of_training()
        refuse(task.flaws_of_labels(labels))
        weights = {name: task.class_weights.get(name, 1.0) for name in labels} if task.class_weights else {}
        if task.balance and set(task.class_weights) != set(labels):
            found = counts(labels, self._train_records)
            # Counted before examples are drawn: a balanced draw would hide the imbalance that the weights are for.
            even = balanced(task.target, found, len(self._train_records)).tolist()
            weights = dict(zip(labels, even, strict=True)) | task.class_weights
        resolved = dataclasses.replace(task, labels=labels, class_weights=weights)
        # Stored with the run even where they come from the data: other files must not change what is trained.
        factors = tuple(weights.get(name, 1.0) for name in labels)
        return resolved, (OneClass if task.target == "class" else ManyLabels)(labels, factors)

    def _scale(self) -> tuple[float, float]:
        values = np.array([record.target for record in self._train_records], np.float64)
        # Of equal values the deviation may come out as rounding instead of 0.
        return (float(values.mean()), float(values.std())) if np.ptp(values) else (float(values[0]), 0.0)

    def _labels_of_training(self) -> tuple[str, ...]:
        task = self.task
        if task.data:
            return paragraphs.packages(task.data, task.min_paragraphs, task.max_classes)
        targets = (r.target if isinstance(r.target, tuple) else (str(r.target),) for r in self._train_records)
        return tuple(sorted({name for names in targets for name in names}))

    # ---- data

    @cached_property
    def _train_records(self) -> list[Labelled]:
        """The training data before examples are drawn from it."""
        if self.task.data:
            labels = self.task.labels or self._labels_of_training()
            return paragraphs.by_package(self.task.data, "train", labels, 0, 0)[0]
        return self._read("train")

    def _read(self, split: str) -> list[Labelled]:
        task = self.task
        columns = Columns(task.text_columns, task.label_column, task.target, task.label_separator)
        found: list[Labelled] = []
        for path in task.paths(split):
            is_dataset = path.startswith("tfds:")
            found += tfds.read_labelled(path, split, columns) if is_dataset else read_labelled(path, columns)
        return found

    def read_split(self, split: str) -> list[Labelled]:
        task = self.task
        count = task.examples if split == "train" else task.eval_examples
        if task.data:
            records, self._shown[split] = paragraphs.by_package(task.data, split, self.labels, count, task.sample_seed)
            return records
        records = self._train_records if split == "train" else self._read(split)
        self.target.array(records)  # a label that is unknown is an error, drawn or not
        if not count:
            return records
        classes = [record.target if task.target == "class" else "" for record in records]
        known = self.labels if task.target == "class" else [""]
        return stratified_sample(records, classes, known, count, task.sample_seed)

    def targets(self, records: Sequence[Labelled]) -> np.ndarray:
        return self.target.array(records)

    def unknown_targets(self, count: int) -> np.ndarray:
        return self.target.unknown(count)

    def shown(self, split: str) -> Iterator[dict[str, Any]]:
        self.split(split)
        yield from self._shown[split] if self.task.data else super().shown(split)

    def baselines(self, split: str) -> dict[str, float]:
        """Accuracy of always answering the split's most frequent class."""
        if not isinstance(self.target, OneClass):
            return {}
        shares = counts(self.labels, self.split(split).records)
        return {"accuracy": float(shares.max() / shares.sum())}

    def plain(self, split: str) -> Plain | None:
        decided = (self.labels, self.resolved.class_weights, self.resolved.standard)
        return self.plain_of(split, lambda train, records: of_texts(self.target, train, records), *decided)

    @property
    def notes(self) -> list[str]:
        records = self.split("train").records
        if not self.labels:
            return super().notes
        found = counts(self.labels, records)
        uneven = [] if self.resolved.class_weights else imbalance(self.labels, found, len(records))
        return super().notes + empty(self.labels, found) + uneven

    # ---- model and scores

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        return AlbertForSequenceClassification(self.config, self.target.outputs, rngs=rngs)

    def sums(
        self, model: AlbertForSequenceClassification, batch: Batch, dropout_keys: jax.Array | None
    ) -> tuple[Sums, dict[str, jax.Array]]:
        logits = model(batch["input_ids"], batch["segment_ids"], batch["mask"], dropout_keys)
        return self.target.sums(logits, batch)

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        return self.target.evaluation(scores, outputs)

    def mistakes(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        for shown, row in zip(self.shown(split), outputs, strict=True):
            if wrong := self.target.mistake(row):
                text = " | ".join(str(shown[name]) for name in self.task.columns if name in shown)
                yield {"text": text or str(shown["text"]), **wrong}

    def prediction(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return self.target.prediction(outputs)

    def answer(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return self.target.answer(outputs)
