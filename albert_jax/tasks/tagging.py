"""Tagging of words, such as named entities: CoNLL columns, a dataset of TFDS, or code mentions of a pydocs corpus."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
from flax import nnx
from sklearn.metrics import classification_report, confusion_matrix

from albert_jax.data.examples.loader import Loader
from albert_jax.data.labelled import tfds as labelled_tfds
from albert_jax.data.labelled.conll import OUTSIDE, Sentence, read_conll
from albert_jax.data.labelled.framed import check_length
from albert_jax.data.labelled.windows import Windows
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import AlbertForTokenClassification
from albert_jax.tasks import paragraphs
from albert_jax.tasks.base import Batch, Evaluation, Outputs, Sums, cross_entropy, with_vocabulary
from albert_jax.tasks.files import check_counts, open_tokenizer, places
from albert_jax.tasks.targets import all_the_same


@dataclass(frozen=True)
class Tagging:
    """Words and their tags, from files or from a prepared pydocs directory.

    Of a pydocs directory the entities are the words that an author marked as code.
    """

    data: str = ""  # directory that `prepare --corpus pydocs` wrote; empty for files
    train: tuple[str, ...] = ()  # files of CoNLL columns (word ... tag), or tfds:NAME[:SPLIT]
    dev: tuple[str, ...] = ()  # the same, of the validation split
    test: tuple[str, ...] = ()  # the same, of the test split
    vocab: str = ""  # vocabulary for files; empty takes that of the model that the run starts from
    labels: tuple[str, ...] = ()  # IOB2 tags in the order of the head's outputs; empty takes those of the training data
    max_length: int = 128  # S: pieces of an example with [CLS] and [SEP]; longer sentences are read in windows
    examples: int = 0  # training sentences, drawn; 0 = all
    eval_examples: int = 0  # sentences of a held-out split that are scored, drawn; 0 = all
    sample_seed: int = 0  # of both draws

    @property
    def fine_tunes(self) -> bool:
        """Whether starting from random parameters would be a mistake."""
        return True

    def open(self, config: AlbertConfig, seed: int) -> "OpenTagging":
        """The task on its data. Raises AlbertError for missing or bad data."""
        return OpenTagging(self, config, seed)


class OpenTagging:
    """See `albert_jax.tasks.base.OpenTask`. Files are read when they are first needed."""

    losses = ("loss",)
    best = ("f1", True)
    scores = ("loss", "accuracy", "precision", "recall", "f1", "f1_macro")
    predictions_per_example = 0

    def __init__(self, task: Tagging, config: AlbertConfig, seed: int):
        check_length(task.max_length)
        check_counts(task)
        self._task = task
        self._splits: dict[str, tuple[list[Sentence], Windows]] = {}
        self.tokenizer, source = open_tokenizer(task)
        self.config = with_vocabulary(config, self.tokenizer, source)
        self.tokens_per_example = task.max_length
        self.labels = list(task.labels) or _both(sentence.tags for sentence in self._train_sentences)
        if task.labels:
            _check(task.labels)
        elif len(self.labels) < 2:
            raise AlbertError(
                f"the training data has no entity: every tag of {' '.join(task.train) or task.data} is O; put the tag "
                "into the last column"
            )
        self.resolved = dataclasses.replace(task, labels=tuple(self.labels))

    @property
    def baselines(self) -> dict[str, float]:
        """Accuracy over words of always saying the validation split's most frequent tag."""
        counts = Counter(tag for sentence in self._split("validation")[0] for tag in sentence.tags)
        return {"majority_accuracy": counts.most_common(1)[0][1] / counts.total()}

    @property
    def notes(self) -> list[str]:
        sentences, examples = self._split("train")
        if not examples.windowed:
            return []
        return [
            f"{examples.windowed:,} of {len(sentences):,} training sentences are longer than {self._task.max_length} "
            "pieces and are read in windows that overlap"
        ]

    # ---- data

    @cached_property
    def _train_sentences(self) -> list[Sentence]:
        return self._read("train", self._task.examples)

    def _read(self, split: str, count: int) -> list[Sentence]:
        task = self._task
        if task.data:
            return paragraphs.mentions(task.data, split, count, task.sample_seed)
        found: list[Sentence] = []
        for place in places(task, split):
            found += labelled_tfds.read_tagged(place, split) if place.startswith("tfds:") else read_conll(place)
        return paragraphs.stratified_sample(found, [0] * len(found), [0], count, task.sample_seed) if count else found

    def _split(self, split: str) -> tuple[list[Sentence], Windows]:
        if split not in self._splits:
            sentences = self._train_sentences if split == "train" else self._read(split, self._task.eval_examples)
            number = {tag: place for place, tag in enumerate(self.labels)}
            for sentence in sentences:
                if unknown := set(sentence.tags) - set(number):
                    raise AlbertError(
                        f"{sentence.where}: this sentence has the tag {min(unknown)}, which is not among those of the "
                        f"training data ({', '.join(self.labels)}); correct it, or train on examples of it"
                    )
            tags = [[number[tag] for tag in sentence.tags] for sentence in sentences]
            words = [sentence.words for sentence in sentences]
            doing = f"encoding the {split} split"
            self._splits[split] = sentences, Windows(self.tokenizer, words, tags, self._task.max_length, doing)
        return self._splits[split]

    def train_batches(self, batch_size: int, seed: int, workers: int, rows: Sequence[int] | None = None) -> Loader:
        examples = self._split("train")[1]
        self._split("validation")  # now, not after a thousand steps, is the time to learn that it cannot be read
        return Loader(examples, batch_size, seed, worker_count=workers, rows=rows)

    def eval_batches(self, split: str, batch_size: int, rows: Sequence[int] | None = None) -> Loader:
        return Loader(self._split(split)[1], batch_size, shuffle=False, epochs=1, rows=rows)

    # ---- model

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        return AlbertForTokenClassification(self.config, len(self.labels), rngs=rngs)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"words": batch["tag_weights"].sum()}

    def sums(
        self, model: AlbertForTokenClassification, batch: Batch, dropout_keys: jax.Array | None
    ) -> tuple[Sums, dict[str, jax.Array]]:
        logits = model(batch["input_ids"], batch["segment_ids"], batch["mask"], dropout_keys)
        loss, hits = cross_entropy(logits, batch["tags"], batch["tag_weights"])
        shares = jax.nn.softmax(logits)
        outputs = {
            "predicted": shares.argmax(axis=-1),
            "probability": shares.max(axis=-1),
            "tags": batch["tags"],
            "tag_weights": batch["tag_weights"],
            "sentence": batch["sentence"],
        }
        return {"loss": (loss, "words"), "accuracy": (hits, "words")}, outputs

    # ---- scores

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        true, guess = self._by_sentence(outputs, "tags"), self._by_sentence(outputs, "predicted")
        return evaluate_tags(scores, true, guess)

    def _by_sentence(self, outputs: Outputs, name: str) -> list[list[str]]:
        """The tags of each sentence's words, put together from its windows."""
        found: list[list[str]] = []
        sentence = -1
        for row in outputs:
            if int(row["sentence"]) != sentence:
                sentence = int(row["sentence"])
                found.append([])
            found[-1] += [self.labels[i] for i in row[name][row["tag_weights"] > 0].tolist()]
        return found

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        tagged = self._by_sentence(outputs, "predicted")
        for sentence, tags in zip(self._split(split)[0], tagged, strict=True):
            yield {"words": list(sentence.words), "tags": list(sentence.tags), "predicted": tags}


def evaluate_tags(scores: dict[str, float], true: list[list[str]], guess: list[list[str]]) -> Evaluation:
    """Scores of IOB2 tags by sentence: over entities as seqeval's, over words as scikit-learn's.

    `scores` gains accuracy (words), precision, recall, f1 (entities, micro) and f1_macro (mean over types); `report` is
    scikit-learn's over the tags that occur, `entities` seqeval's over types.
    """
    from seqeval.metrics import classification_report as entity_report

    flat_true, flat_guess = [tag for tags in true for tag in tags], [tag for tags in guess for tag in tags]
    tags = sorted({*flat_true, *flat_guess})
    report = classification_report(flat_true, flat_guess, labels=tags, output_dict=True, zero_division=0)
    scores = {**scores, "accuracy": float(report["accuracy"])}
    entities: dict[str, Any] = {}
    micro = macro = dict.fromkeys(("precision", "recall", "f1-score"), 0.0)
    if tags != [OUTSIDE]:
        entities = {
            name: {key: float(value) for key, value in row.items()}
            for name, row in entity_report(true, guess, output_dict=True, zero_division=0).items()
        }
        micro, macro = entities["micro avg"], entities["macro avg"]
    scores |= {"precision": micro["precision"], "recall": micro["recall"], "f1": micro["f1-score"]}
    scores["f1_macro"] = macro["f1-score"]
    degenerate = len(set(flat_guess)) == 1 < len(set(flat_true))
    return Evaluation(
        scores,
        tags,
        confusion_matrix(flat_true, flat_guess, labels=tags).tolist() if len(tags) > 1 else [],
        report,
        entities=entities,
        degenerate=degenerate,
        notes=all_the_same(len(flat_guess), flat_guess[0]) if degenerate else [],
    )


def _check(labels: Sequence[str]) -> None:
    """Raises AlbertError for labels that a user gave and that are not O and at least one tag of IOB2, each once."""
    wrong = next((tag for tag in labels if tag != OUTSIDE and (tag[:2] not in ("B-", "I-") or not tag[2:])), None)
    said = (
        f"has {wrong!r}, which is no tag" if wrong is not None
        else f"has no {OUTSIDE!r}" if OUTSIDE not in labels
        else "has no entity" if len(labels) < 2
        else "has a tag twice" if len(set(labels)) < len(labels)
        else ""
    )  # fmt: skip
    if said:
        raise AlbertError(f"task.labels {said}: {', '.join(labels)}; give O, and B- and I- of each type, once")


def _both(tags: Any) -> list[str]:
    """O, and B- and I- of each type, in alphabetical order of the types."""
    kinds = sorted({tag[2:] for sentence in tags for tag in sentence if tag != OUTSIDE})
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]
