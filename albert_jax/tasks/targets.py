"""What a text is labelled with: one class, any number of labels, or a number. Each brings its label array, its outputs,
its loss and its scores; `classification.py` brings the texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats
from sklearn.metrics import classification_report, confusion_matrix

from albert_jax.data.labelled.tables import Labelled
from albert_jax.errors import AlbertError
from albert_jax.tasks.base import Evaluation, Outputs, Sums, cross_entropy
from albert_jax.telemetry.scores import Score, loss, share

_F1_MICRO = Score("f1_micro", "micro F1", ".3f", headline=True)
_F1_MACRO = Score("f1_macro", "macro F1", ".3f", headline=True, chart="F1, mean over classes")
IMBALANCE = 10.0  # times that the largest class exceeds the smallest before a run warns of it


@dataclass(frozen=True)
class _Named:
    """A target with C names. `weights` [C] multiply the loss: of OneClass that of an example by its class, of
    ManyLabels that of a label where it applies."""

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    answers = ("probabilities",)

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def shares(self, row: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Name -> probability."""
        return {name: round(float(p), 6) for name, p in zip(self.labels, row["probabilities"], strict=True)}


class OneClass(_Named):
    """One of C classes: softmax and cross entropy."""

    best = "accuracy"
    scores = (loss(headline=True), share("accuracy", against="majority class", headline=True), _F1_MACRO)

    def array(self, records: Sequence[Labelled]) -> np.ndarray:
        """int32 [examples]"""
        return np.array([number for (number,) in _numbers(self.labels, records)], np.int32)

    def unknown(self, count: int) -> np.ndarray:
        """A label array for texts whose labels nobody knows, as all of `unknown`."""
        return np.zeros(count, np.int32)

    def sums(self, logits: jax.Array, batch: Mapping[str, Any]) -> tuple[Sums, dict[str, jax.Array]]:
        labels, weights = batch["label"], batch["example_weight"]
        _, hits = cross_entropy(logits, labels, weights)
        weighed, _ = cross_entropy(logits, labels, weights * jnp.asarray(self.weights, jnp.float32)[labels])
        outputs = {"probabilities": jax.nn.softmax(logits), "label": labels}
        return {"loss": (weighed, "examples"), "accuracy": (hits, "examples")}, outputs

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        true = [int(row["label"]) for row in outputs]
        guess = [int(row["probabilities"].argmax()) for row in outputs]
        known: dict[str, Any] = {"labels": range(len(self.labels))}  # also those that do not occur in the split
        report = classification_report(
            true, guess, **known, target_names=self.labels, output_dict=True, zero_division=0
        )
        scores = {**scores, "f1_macro": float(report["macro avg"]["f1-score"])}
        confusion = confusion_matrix(true, guess, **known).tolist()
        degenerate = len(set(guess)) == 1 < len(set(true))
        notes = all_the_same(len(guess), self.labels[guess[0]]) if degenerate else []
        return Evaluation(scores, list(self.labels), confusion, report, degenerate=degenerate, notes=notes)

    def prediction(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        answer = self.answer(row)
        three = dict(list(answer["probabilities"].items())[:3])
        return {"label": self.labels[int(row["label"])], "predicted": answer["label"], "probabilities": three}

    def mistake(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What `OpenTask.mistakes` has of an example beside its text; empty where the answer is right."""
        true, guess = int(row["label"]), int(row["probabilities"].argmax())
        if true == guess:
            return {}
        probability = round(float(row["probabilities"][guess]), 6)
        return {"gold": self.labels[true], "predicted": self.labels[guess], "probability": probability}

    def answer(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What is said of a text without a label, the likeliest class first."""
        order, shares = row["probabilities"].argsort()[::-1], self.shares(row)
        names = [self.labels[i] for i in order]
        return {"label": names[0], "probabilities": {name: shares[name] for name in names}}


class ManyLabels(_Named):
    """Any number of C labels: a sigmoid each, predicted above 0.5, mean cross entropy over the labels."""

    best = "f1_micro"
    scores = (loss(headline=True), share("accuracy", headline=True), _F1_MICRO, _F1_MACRO)

    def array(self, records: Sequence[Labelled]) -> np.ndarray:
        """float32 [examples, C]"""
        labels = self.unknown(len(records))
        for row, numbers in zip(labels, _numbers(self.labels, records), strict=True):
            row[numbers] = 1
        return labels

    def unknown(self, count: int) -> np.ndarray:
        return np.zeros((count, len(self.labels)), np.float32)

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
        report = classification_report(true, guess, target_names=self.labels, output_dict=True, zero_division=0)
        scores = {
            **scores,
            "accuracy": float((true == guess).all(axis=1).mean()),  # all labels of a text right
            "f1_micro": float(report["micro avg"]["f1-score"]),
            "f1_macro": float(report["macro avg"]["f1-score"]),
        }
        degenerate = bool((guess == guess[0]).all() and (true != true[0]).any())
        notes = all_the_same(len(guess), ", ".join(self._names(guess[0])) or "no label") if degenerate else []
        return Evaluation(scores, list(self.labels), [], report, degenerate=degenerate, notes=notes)

    def prediction(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        answer = self.answer(row)
        true = self._names(row["label"] > 0.5)
        return {"labels": true, "predicted": answer["labels"], "probabilities": answer["probabilities"]}

    def mistake(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The same for labels; the probability is that of the wrong answer that it is surest of."""
        true, guess = row["label"] > 0.5, row["probabilities"] > 0.5
        if (true == guess).all():
            return {}
        sure = np.where(guess, row["probabilities"], 1 - row["probabilities"])[true != guess].max()
        gold, predicted = (", ".join(self._names(each)) or "no label" for each in (true, guess))
        return {"gold": gold, "predicted": predicted, "probability": round(float(sure), 6)}

    def answer(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {"labels": self._names(row["probabilities"] > 0.5), "probabilities": self.shares(row)}

    def _names(self, applies: np.ndarray) -> list[str]:
        return [name for name, on in zip(self.labels, applies, strict=True) if on]


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

    def mistake(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The same for a number, which is hardly ever right: the error in its own units."""
        told = self.prediction(row)
        error = round(abs(told["predicted"] - told["target"]), 6)
        return {"gold": f"{told['target']:.6g}", "predicted": f"{told['predicted']:.6g}", "error": error}

    def unknown(self, count: int) -> np.ndarray:
        return np.zeros(count, np.float32)

    def answer(self, row: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {"value": float(f"{float(self._real(row['value'])):.7g}")}


AnyTarget = OneClass | ManyLabels | Number


def _numbers(labels: Sequence[str], records: Sequence[Labelled]) -> Iterator[list[int]]:
    """The numbers of each record's labels. Raises AlbertError for one that is not among `labels`."""
    number = {name: place for place, name in enumerate(labels)}
    for record in records:
        names = record.target if isinstance(record.target, tuple) else (str(record.target),)
        if unknown := [name for name in names if name not in number]:
            listed = ", ".join(labels)
            raise AlbertError(
                f"{record.where}: the label {unknown[0]!r} is not among those of the training data "
                f"({listed if len(listed) < 200 else listed[:200] + ' ...'}); correct it, or train on examples of it"
            )
        yield [number[name] for name in names]


def all_the_same(count: int, what: str) -> list[str]:
    """What to tell where every prediction is one and the same."""
    return [
        f"all {count:,} predictions are {what}; a run that ends so is degenerate: try another seed, a longer warm-up "
        "or a lower learning rate, more steps, and see that it starts from a pretrained model"
    ]


def counts(labels: Sequence[str], records: Sequence[Labelled]) -> np.ndarray:
    """Examples of each label, int64 [C]."""
    numbers = [number for each in _numbers(labels, records) for number in each]
    return np.bincount(np.array(numbers, np.int64), minlength=len(labels))


def balanced(target: str, found: np.ndarray, examples: int) -> np.ndarray:
    """The weight of each label that gives all the same say: examples / (C x its own) for classes (scikit-learn's
    "balanced"), examples without it per example with it for labels."""
    # A label that a draw has missed would otherwise get an infinite weight.
    found = np.maximum(found, 1)
    return examples / (len(found) * found) if target == "class" else np.maximum(examples - found, 1) / found


def empty(labels: Sequence[str], found: np.ndarray) -> list[str]:
    """What to tell where classes have no training example."""
    names = [repr(name) for name, count in zip(labels, found, strict=True) if not count]
    if not names:
        return []
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [
        f"no training example of {listed}, so it is never learned; add examples, correct the name, or leave it out of "
        "task.labels"
    ]


def imbalance(labels: Sequence[str], found: np.ndarray, examples: int) -> list[str]:
    """What to tell where the largest class is at least ten times the smallest that has any example."""
    most, least = int(found.argmax()), int(np.where(found > 0, found, found.max()).argmin())
    if found[most] < IMBALANCE * max(found[least], 1):
        return []
    return [
        f"class imbalance: {labels[most]!r} has {found[most]:,} of {examples:,} training examples, {labels[least]!r} "
        f"{found[least]:,}; accuracy says little here, see f1_macro, and try --task.balance"
    ]
