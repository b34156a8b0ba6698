"""What a text is labelled with: one class, any number of labels, or a number. Each brings its label array, its outputs,
its loss and its scores; `classification.py` brings the texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

from albert_jax.data.labelled.tables import Labelled
from albert_jax.errors import AlbertError
from albert_jax.tasks.base import Evaluation, Outputs, Sums, cross_entropy
from albert_jax.telemetry.scores import Score, loss, share

_F1_MICRO = Score("f1_micro", "micro F1", ".3f", headline=True)
_F1_MACRO = Score("f1_macro", "macro F1", ".3f", headline=True, chart="F1, mean over classes")
IMBALANCE = 10.0  # times that the largest class exceeds the smallest before a run warns of it


@dataclass(frozen=True)
class OneClass:
    """One of C classes: softmax and cross entropy. `weights` [C] multiply the loss of an example by its class."""

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    best = "accuracy"
    scores = (loss(headline=True), share("accuracy", against="majority class", headline=True), _F1_MACRO)
    answers = ("probabilities",)

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def array(self, records: Sequence[Labelled]) -> np.ndarray:
        """int32 [examples]"""
        place = {name: number for number, name in enumerate(self.labels)}
        return np.array([place[_known(record, str(record.target), place)] for record in records], np.int32)

    def sums(self, logits: jax.Array, batch: Mapping[str, Any]) -> tuple[Sums, dict[str, jax.Array]]:
        labels, weights = batch["label"], batch["example_weight"]
        _, hits = cross_entropy(logits, labels, weights)
        weighed, _ = cross_entropy(logits, labels, weights * jnp.asarray(self.weights, jnp.float32)[labels])
        outputs = {"probabilities": jax.nn.softmax(logits), "label": labels}
        return {"loss": (weighed, "examples"), "accuracy": (hits, "examples")}, outputs

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
        confusion = confusion_matrix(true, guess, labels=classes).tolist()
        degenerate = len(set(guess)) == 1 < len(set(true))
        notes = all_the_same(len(guess), self.labels[guess[0]]) if degenerate else []
        return Evaluation(scores, list(self.labels), confusion, report, degenerate=degenerate, notes=notes)

    def prediction(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        order = row["probabilities"].argsort()[::-1]
        return {
            "label": self.labels[int(row["label"])],
            "predicted": self.labels[order[0]],
            "probabilities": {self.labels[i]: round(float(row["probabilities"][i]), 6) for i in order[:3]},
        }

    def unknown(self, count: int) -> np.ndarray:
        """A label array for texts whose labels nobody knows, as all of `unknown`."""
        return np.zeros(count, np.int32)

    def answer(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What is told of a text without a label, the likeliest class first."""
        order = row["probabilities"].argsort()[::-1]
        shares = {self.labels[i]: round(float(row["probabilities"][i]), 6) for i in order}
        return {"label": self.labels[order[0]], "probabilities": shares}


@dataclass(frozen=True)
class ManyLabels:
    """Any number of C labels: a sigmoid each, predicted above 0.5, mean cross entropy over the labels.

    `weights` [C] multiply the loss of a label where it applies.
    """

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    best = "f1_micro"
    scores = (loss(headline=True), share("accuracy", headline=True), _F1_MICRO, _F1_MACRO)
    answers = ("probabilities",)

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def array(self, records: Sequence[Labelled]) -> np.ndarray:
        """float32 [examples, C]"""
        place = {name: number for number, name in enumerate(self.labels)}
        labels = np.zeros((len(records), len(self.labels)), np.float32)
        for row, record in enumerate(records):
            assert isinstance(record.target, tuple)
            for name in record.target:
                labels[row, place[_known(record, name, place)]] = 1
        return labels

    def sums(self, logits: jax.Array, batch: Mapping[str, Any]) -> tuple[Sums, dict[str, jax.Array]]:
        labels, weights = batch["label"], batch["example_weight"]
        losses = optax.sigmoid_binary_cross_entropy(logits, labels)
        # Only where the label applies: a factor on both sides would weigh the label, not its rarity.
        losses *= 1 + (jnp.asarray(self.weights, jnp.float32) - 1) * labels
        outputs = {"probabilities": jax.nn.sigmoid(logits), "label": labels}
        return {"loss": ((losses.mean(axis=-1) * weights).sum(), "examples")}, outputs

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        true = np.array([row["label"] for row in outputs]) > 0.5
        guess = np.array([row["probabilities"] for row in outputs]) > 0.5
        scores = {
            **scores,
            "accuracy": float(accuracy_score(true, guess)),  # all labels of a text right
            "f1_micro": float(f1_score(true, guess, average="micro", zero_division=0)),
            "f1_macro": float(f1_score(true, guess, average="macro", zero_division=0)),
        }
        report = classification_report(true, guess, target_names=self.labels, output_dict=True, zero_division=0)
        degenerate = bool((guess == guess[0]).all() and (true != true[0]).any())
        named = ", ".join(name for name, on in zip(self.labels, guess[0], strict=True) if on) or "no label"
        notes = all_the_same(len(guess), named) if degenerate else []
        return Evaluation(scores, list(self.labels), [], report, degenerate=degenerate, notes=notes)

    def prediction(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        answer = self.answer(row)
        true = [name for name, on in zip(self.labels, row["label"] > 0.5, strict=True) if on]
        return {"labels": true, "predicted": answer["labels"], "probabilities": answer["probabilities"]}

    def unknown(self, count: int) -> np.ndarray:
        return np.zeros((count, len(self.labels)), np.float32)

    def answer(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        shares = row["probabilities"]
        return {
            "labels": [name for name, on in zip(self.labels, shares > 0.5, strict=True) if on],
            "probabilities": {name: round(float(share), 6) for name, share in zip(self.labels, shares, strict=True)},
        }


@dataclass(frozen=True)
class Number:
    """A real value: one output and the squared error, both in deviations from the mean of the training targets."""

    mean: float
    deviation: float
    best = "pearson"
    scores = (
        loss(headline=True),
        Score("pearson", "Pearson", ".3f", headline=True, chart="Pearson correlation"),
        Score("spearman", "Spearman", ".3f"),
        Score("rmse", "RMSE", higher_is_better=False),
    )
    answers = ("value",)
    labels: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[int] = 1

    def array(self, records: Sequence[Labelled]) -> np.ndarray:
        """float32 [examples]"""
        targets = np.array([record.target for record in records], np.float64)
        return ((targets - self.mean) / self.deviation).astype(np.float32)

    def sums(self, logits: jax.Array, batch: Mapping[str, Any]) -> tuple[Sums, dict[str, jax.Array]]:
        value = logits[:, 0]
        squared = (jnp.square(value - batch["label"]) * batch["example_weight"]).sum()
        return {"loss": (squared, "examples")}, {"value": value, "label": batch["label"]}

    def _real(self, value: Any) -> Any:
        return np.asarray(value, np.float64) * self.deviation + self.mean

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        true = self._real([row["label"] for row in outputs])
        guess = self._real([row["value"] for row in outputs])
        # In units of the targets, since a collapsed regression varies in the last float32 digits only.
        degenerate = bool(np.ptp(guess) <= 1e-4 * self.deviation and np.ptp(true) > 0)
        pearson = spearman = float("nan")  # of values that do not vary
        # scipy warns and gives NaN for a constant, in other versions an error.
        if len(true) > 1 and np.ptp(true) > 0 and np.ptp(guess) > 0:
            pearson = float(stats.pearsonr(true, guess).statistic)
            spearman = float(stats.spearmanr(true, guess).statistic)
        rmse = float(np.sqrt(np.mean((true - guess) ** 2)))
        notes = all_the_same(len(guess), f"{guess[0]:.4g}") if degenerate else []
        scores = {**scores, "pearson": pearson, "spearman": spearman, "rmse": rmse}
        return Evaluation(scores, degenerate=degenerate, notes=notes)

    def prediction(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {
            "target": round(float(self._real(row["label"])), 6),
            "predicted": round(float(self._real(row["value"])), 6),
        }

    def unknown(self, count: int) -> np.ndarray:
        return np.zeros(count, np.float32)

    def answer(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {"value": float(f"{float(self._real(row['value'])):.7g}")}


AnyTarget = OneClass | ManyLabels | Number


def _known(record: Labelled, name: str, place: Mapping[str, int]) -> str:
    if name not in place:
        listed = ", ".join(place)
        raise AlbertError(
            f"{record.where}: the label {name!r} is not among those of the training data "
            f"({listed if len(listed) < 200 else listed[:200] + ' ...'}); correct it, or train on examples of it"
        )
    return name


def all_the_same(count: int, what: str) -> list[str]:
    """What to tell where every prediction is one and the same."""
    return [
        f"all {count:,} predictions are {what}; a run that ends so is degenerate: try another seed, a longer warm-up "
        "or a lower learning rate, more steps, and see that it starts from a pretrained model"
    ]


def counts(labels: Sequence[str], records: Sequence[Labelled]) -> np.ndarray:
    """Examples of each label, int64 [C]."""
    place = {name: number for number, name in enumerate(labels)}
    found = np.zeros(len(labels), np.int64)
    for record in records:
        for name in record.target if isinstance(record.target, tuple) else (str(record.target),):
            found[place[_known(record, name, place)]] += 1
    return found


def balanced(target: str, found: np.ndarray, examples: int) -> np.ndarray:
    """The weight of each label that gives all the same say: examples / (C x its own) for classes (scikit-learn's
    "balanced"), examples without it per example with it for labels."""
    # A label that a draw has missed would otherwise get an infinite weight.
    found = np.maximum(found, 1)
    return examples / (len(found) * found) if target == "class" else np.maximum(examples - found, 1) / found


def imbalance(labels: Sequence[str], found: np.ndarray, examples: int) -> list[str]:
    """What to tell where the largest class is at least ten times the smallest."""
    most, least = int(found.argmax()), int(found.argmin())
    if found[most] < IMBALANCE * max(found[least], 1):
        return []
    return [
        f"class imbalance: {labels[most]!r} has {found[most]:,} of {examples:,} training examples, {labels[least]!r} "
        f"{found[least]:,}; accuracy says little here, see f1_macro, and try --task.balance"
    ]
