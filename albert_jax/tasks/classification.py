"""Sequence classification. The first source: which package a paragraph of documentation belongs to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from sklearn.metrics import classification_report, confusion_matrix, f1_score

from albert_jax.data.loader import Loader
from albert_jax.data.pydocs import Paragraph, blank_names, load_names, load_paragraphs
from albert_jax.data.tokenizer import Tokenizer
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import AlbertForSequenceClassification
from albert_jax.tasks.base import Batch, Evaluation, Outputs, Sums, cross_entropy, this_process, with_vocabulary


@dataclass(frozen=True)
class Classification:
    """The package that a paragraph documents; names of packages are blanked in the text, or it is a keyword search."""

    data: str = ""  # directory that `prepare --corpus pydocs` wrote
    max_length: int = 128  # S: pieces of an example with [CLS] and [SEP]; longer texts are cut
    examples: int = 400  # labelled training paragraphs, equally many a class; 0 = all
    min_paragraphs: int = 100  # training paragraphs that a package needs to be a class
    max_classes: int = 10  # classes, the packages with most paragraphs
    eval_examples: int = 600  # paragraphs of a held-out split that are scored, equally many a class; 0 = all
    sample_seed: int = 0  # of the draw of labelled and evaluated paragraphs

    @property
    def fine_tunes(self) -> bool:
        """Whether starting from random parameters would be a mistake."""
        return True

    def open(self, config: AlbertConfig, seed: int) -> "OpenClassification":
        """The task on its data. Raises AlbertError when the data is missing, or has fewer than two classes."""
        return OpenClassification(self, config, seed)


class OpenClassification:
    """See `albert_jax.tasks.base.OpenTask`."""

    losses = ("loss",)
    best = ("accuracy", True)
    predictions_per_example = 0

    def __init__(self, task: Classification, config: AlbertConfig, seed: int):
        self._task = task
        self.tokenizer = Tokenizer.load(f"{task.data}/vocab")
        self.config = with_vocabulary(config, self.tokenizer, task.data)
        self.tokens_per_example = task.max_length
        paragraphs = load_paragraphs(task.data, "train")
        packages, counts = np.unique([paragraph.package for paragraph in paragraphs], return_counts=True)
        ranked = sorted(zip(-counts, packages, strict=True))
        names = [str(name) for count, name in ranked if -count >= task.min_paragraphs][: task.max_classes]
        if len(names) < 2:
            raise AlbertError(
                f"{task.data} has {len(names)} packages with at least {task.min_paragraphs} training paragraphs; "
                "two classes are needed: lower task.min_paragraphs or prepare more packages"
            )
        self.labels = sorted(names)
        known = load_names(task.data)
        self._names = sorted({name for label in self.labels for name in known[label]})
        self._train = self._examples(self._sample(paragraphs, task.examples))
        shares = np.bincount([int(example["label"]) for example in self._split("validation")[1]])
        self.baselines = {"majority_accuracy": float(shares.max() / shares.sum())}

    def _sample(self, paragraphs: Sequence[Paragraph], count: int) -> list[Paragraph]:
        """`count` paragraphs, equally many of each class while there are any, drawn by the seed; 0: all there are."""
        order = np.random.default_rng(self._task.sample_seed).permutation(len(paragraphs))
        known = [paragraphs[i] for i in order if paragraphs[i].package in set(self.labels)]
        by_class = [[p for p in known if p.package == label] for label in self.labels]
        dealt = [group[turn] for turn in range(len(known)) for group in by_class if turn < len(group)]
        return dealt[: count or None]

    def _examples(self, paragraphs: Sequence[Paragraph]) -> list[dict[str, np.ndarray]]:
        return [
            encode(self.tokenizer, blank_names(p.text, self._names), self._task.max_length)
            | {"label": np.array(self.labels.index(p.package), np.int32)}
            for p in paragraphs
        ]

    def _split(self, split: str) -> tuple[list[Paragraph], list[dict[str, np.ndarray]]]:
        paragraphs = self._sample(load_paragraphs(self._task.data, split), self._task.eval_examples)
        if not paragraphs:
            raise AlbertError(f"{self._task.data} has no {split} paragraph of the classes {', '.join(self.labels)}")
        return paragraphs, self._examples(paragraphs)

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        return AlbertForSequenceClassification(self.config, len(self.labels), rngs=rngs)

    def train_batches(self, batch_size: int, seed: int, workers: int) -> Loader:
        return Loader(self._train, batch_size, seed, worker_count=workers, **this_process())

    def eval_batches(self, split: str, batch_size: int) -> Loader:
        return Loader(self._split(split)[1], batch_size, shuffle=False, epochs=1, **this_process())

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"examples": batch["example_weight"].sum()}

    def sums(
        self, model: AlbertForSequenceClassification, batch: Batch, dropout_keys: jax.Array | None
    ) -> tuple[Sums, dict[str, jax.Array]]:
        logits = model(batch["input_ids"], batch["segment_ids"], batch["mask"], dropout_keys)
        loss, hits = cross_entropy(logits, batch["label"], batch["example_weight"])
        outputs = {"probabilities": jax.nn.softmax(logits), "label": batch["label"]}
        return {"loss": (loss, "examples"), "accuracy": (hits, "examples")}, outputs

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        true = [int(row["label"]) for row in outputs]
        guess = [int(row["probabilities"].argmax()) for row in outputs]
        classes = range(len(self.labels))
        scores = {
            **scores,
            "f1_macro": float(f1_score(true, guess, labels=classes, average="macro", zero_division=0)),
        }
        report = classification_report(
            true, guess, labels=classes, target_names=self.labels, output_dict=True, zero_division=0
        )
        return Evaluation(scores, self.labels, confusion_matrix(true, guess, labels=classes).tolist(), report)

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        for paragraph, row in zip(self._split(split)[0], outputs, strict=True):
            order = row["probabilities"].argsort()[::-1]
            yield {
                "module": paragraph.module,
                "text": paragraph.text,
                "label": self.labels[int(row["label"])],
                "predicted": self.labels[order[0]],
                "probabilities": {self.labels[i]: round(float(row["probabilities"][i]), 6) for i in order[:3]},
            }


def encode(tokenizer: Tokenizer, text: str, max_length: int) -> dict[str, np.ndarray]:
    """[CLS] text [SEP], cut and padded to `max_length`: input_ids, segment_ids int32 [S], mask bool [S]."""
    pieces = [tokenizer.cls_id, *tokenizer.encode(text)[: max_length - 2], tokenizer.sep_id]
    ids = np.full(max_length, tokenizer.pad_id, np.int32)
    ids[: len(pieces)] = pieces
    return {
        "input_ids": ids,
        "segment_ids": np.zeros(max_length, np.int32),
        "mask": np.arange(max_length) < len(pieces),
    }
