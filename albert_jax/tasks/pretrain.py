"""Pretraining: masked language model and sentence order, on the fly from a prepared corpus."""

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from albert_jax.data.examples.loader import Loader
from albert_jax.data.examples.masking import MaskConfig
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.data.examples.pretraining import GoogleRecords, PretrainingSource
from albert_jax.data.examples.tfrecords import matching_files
from albert_jax.data.store.cooccurrence import piece_vectors
from albert_jax.data.store.store import DocumentStore
from albert_jax.data.text.tokenizers import load as load_tokenizer
from albert_jax.errors import AlbertError, refuse
from albert_jax.fields import knob
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import AlbertForPretraining
from albert_jax.model.initial import initial_values, word_columns
from albert_jax.tasks.base import Batch, Objective, OpenTask, Sums, Task, cross_entropy, with_vocabulary
from albert_jax.telemetry.scores import loss, share

# Pieces, where only the shape of a program is asked for and the config leaves the vocabulary to data: the paper's.
VOCABULARY = 30_000


@dataclass(frozen=True)
class Pretrain(Task):
    """MLM + SOP (paper, section 3.1)."""

    data: str = knob("", free=True, local=True)  # directory that `prepare` wrote, or TFRecord file(s): a path or a glob
    eval_data: str = knob("", free=True, local=True)  # TFRecord file(s) to evaluate on; such files have no splits
    vocab: str = knob("", free=True, local=True)  # vocabulary of TFRecord files: directory, .model file or vocab.txt
    pairs: PairConfig = knob(default_factory=PairConfig)
    masks: MaskConfig = knob(default_factory=MaskConfig)
    # e: the target of a masked piece is 1 - e at the piece and e spread over all of them. "loss" has it; "mlm_loss"
    # stays the plain one
    label_smoothing: float = knob(0.0, at_least=0, below=1)
    # "corpus": tables, positions and attention start with what is known of the corpus (albert_jax/model/initial.py);
    # with --init they are that model's
    initial: Literal["random", "corpus"] = "random"
    eval_examples: int = knob(2048, at_least=0)  # examples of a held-out split that are scored, evenly spaced; 0 = all
    eval_seed: int = 1  # masks and orders of the evaluation, the same in every run

    head = "pretrain"
    fine_tunes = False

    @property
    def max_length(self) -> int:
        return self.pairs.max_length

    def open(self, config: AlbertConfig, seed: int) -> "OpenPretrain | OpenRecords":
        """The task on its data. Raises AlbertError when the data is missing or of another vocabulary size."""
        if self.data and not Path(self.data).is_dir() and (Path(self.data).is_file() or glob.has_magic(self.data)):
            return OpenRecords(self, config)
        if self.vocab or self.eval_data:
            raise AlbertError(
                f"task.vocab and task.eval_data go with TFRecord files, and {self.data or 'task.data'} is none; a "
                "prepared directory has its own vocabulary and splits"
            )
        return OpenPretrain(self, config)

    def objective(self, config: AlbertConfig) -> "PretrainObjective":
        config = config if config.vocab_size else dataclasses.replace(config, vocab_size=VOCABULARY)
        length, order = self.max_length, self.pairs.order != "off"
        return PretrainObjective(config, length, self.masks.slots(length), order, self.label_smoothing)


class PretrainObjective(Objective):
    """The part of the task that needs no data: model, losses and scores. `order` False leaves sentence order out;
    `smoothing` is the masked pieces' label smoothing."""

    def __init__(
        self, config: AlbertConfig, max_length: int, predictions: int, order: bool = True, smoothing: float = 0.0
    ):
        self.config = config
        self.tokens_per_example = max_length
        self.predictions_per_example = predictions
        self.smoothing = smoothing
        self.losses = ("mlm_loss", "order_loss") if order else ("mlm_loss",)
        if smoothing:
            self.losses += ("smoothing",)
        accuracy = share("order_accuracy", "order accuracy", baseline=0.5, against="chance", headline=True)
        self.scores = (
            loss(headline=True),
            loss("mlm_loss", "MLM loss", against="unigram entropy"),
            *((loss("order_loss", "order loss"),) if order else ()),
            share("mlm_accuracy", "MLM accuracy", against="unigram", headline=True),
            *((loss("smoothing", "label smoothing"),) if smoothing else ()),
            *((accuracy,) if order else ()),
        )

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        return AlbertForPretraining(self.config, rngs=rngs)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"masked": batch["masked_weights"].sum(), "ordered": batch["order_weight"].sum()}

    def sums(
        self, model: AlbertForPretraining, batch: Batch, dropout_keys: jax.Array | None
    ) -> tuple[Sums, dict[str, jax.Array]]:
        mlm_logits, order_logits = model(
            batch["input_ids"], batch["segment_ids"], batch["mask"], batch["masked_positions"], dropout_keys
        )
        mlm_loss, mlm_hits = cross_entropy(mlm_logits, batch["masked_ids"], batch["masked_weights"])
        sums: Sums = {"mlm_loss": (mlm_loss, "masked"), "mlm_accuracy": (mlm_hits, "masked")}
        if self.smoothing:
            extra = self.smoothing * _beside_mean(mlm_logits, batch["masked_ids"], batch["masked_weights"])
            sums["smoothing"] = (extra, "masked")
        if "order_loss" in self.losses:
            order_loss, order_hits = cross_entropy(order_logits, batch["order_label"], batch["order_weight"])
            sums |= {"order_loss": (order_loss, "ordered"), "order_accuracy": (order_hits, "ordered")}
        return sums, {}

    def example_batch(self, rows: int) -> dict[str, np.ndarray]:
        return random_batch(self.config, rows, self.tokens_per_example, self.predictions_per_example)


def _beside_mean(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of (logit of the label - mean logit): e times this is what smoothing by e adds to the plain cross
    entropy, (1 - e) (Z - own) + e (Z - mean) = (Z - own) + e (own - mean). Shapes as of `cross_entropy`."""
    logits = logits.astype(jnp.float32)
    # By comparison and not by indexing, whose gradient is a scatter; see `tasks.base.cross_entropy`.
    own = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1) == labels[..., None]
    beside = jnp.where(own, logits, 0.0).sum(axis=-1) - logits.mean(axis=-1)
    return (beside * weights).sum()


class OpenPretrain(PretrainObjective, OpenTask):
    """The task on a prepared corpus; see `albert_jax.tasks.base.OpenTask`."""

    def __init__(self, task: Pretrain, config: AlbertConfig):
        store = DocumentStore.open(task.data, "train")
        self.tokenizer = store.tokenizer()
        config = with_vocabulary(config, self.tokenizer, task.data)
        slots, order = task.masks.slots(task.max_length), task.pairs.order != "off"
        super().__init__(config, task.max_length, slots, order, task.label_smoothing)
        self.resolved = self._task = task
        self._store = store
        self._train = PretrainingSource(store, self.tokenizer, task.pairs, task.masks)

    def initial_values(self, seed: int) -> dict[str, np.ndarray]:
        if self._task.initial == "random":
            return {}
        vectors = piece_vectors(self._store, word_columns(self.config))
        return initial_values(self.config, vectors, self._store.unigram_counts, seed)

    def baselines(self, split: str) -> dict[str, float]:
        """What answering by the pieces' frequencies in the training split reaches."""
        return {"mlm_loss": self._store.unigram_entropy, "mlm_accuracy": self._store.unigram_accuracy}

    def train_batches(self, batch_size: int, seed: int, workers: int, rows: Sequence[int] | None = None) -> Loader:
        return Loader(self._train, batch_size, seed, worker_count=workers, rows=rows)

    def eval_batches(self, split: str, batch_size: int, rows: Sequence[int] | None = None) -> Loader:
        store = DocumentStore.open(self._task.data, split)
        source = PretrainingSource(store, self.tokenizer, self._task.pairs, self._task.masks)
        spaced = Spaced(source, self._task.eval_examples or len(source))
        return Loader(spaced, batch_size, self._task.eval_seed, shuffle=False, epochs=1, rows=rows)


class OpenRecords(PretrainObjective, OpenTask):
    """The task on records of the original's data tool: segment pairs and masks as they were drawn when it ran.

    The split "train" is `task.data`, the others are `task.eval_data`.
    """

    def __init__(self, task: Pretrain, config: AlbertConfig):
        for name, use in (("vocab", "the vocabulary"), ("eval_data", "the held-out records")):
            if not getattr(task, name):
                raise AlbertError(f"task.data is TFRecord files, which come without {use}: give task.{name}")
        self.tokenizer = load_tokenizer(task.vocab)
        config = with_vocabulary(config, self.tokenizer, task.vocab)
        self._train, self._held_out = (
            GoogleRecords(matching_files(files), self.tokenizer.vocab_size) for files in (task.data, task.eval_data)
        )
        self.resolved = self._task = task
        refuse(self._flaws())
        super().__init__(config, task.max_length, self._train.predictions, smoothing=task.label_smoothing)
        self._baselines = self._unigram()  # now: it reads every piece, and so meets records of another vocabulary

    def _flaws(self) -> Iterator[str]:
        task = self._task
        if task.initial == "corpus":
            yield (
                f"{task.data}: task.initial 'corpus' counts pieces of whole documents, which records do not have; "
                "set it to 'random', or prepare the text"
            )
        if task.pairs.first_length or task.masks.end_rate:
            yield (
                f"{task.data}: records have one length and their masks were drawn when they were made; set "
                "task.pairs.first_length and task.masks.end_rate to 0, or prepare the text"
            )
        for files, records in ((task.data, self._train), (task.eval_data, self._held_out)):
            if records.max_length != task.max_length:
                yield (
                    f"{files}: examples of {records.max_length} pieces, but task.pairs.max_length is "
                    f"{task.max_length}; set it to {records.max_length}, or give other files"
                )

    def baselines(self, split: str) -> dict[str, float]:
        return self._baselines

    def _unigram(self) -> dict[str, float]:
        """What answering by the pieces' frequencies in the training records reaches."""
        counts = self._train.unigram_counts()
        counts[[self.tokenizer.cls_id, self.tokenizer.sep_id]] = 0  # in every row, and never masked
        shares = counts / counts.sum()
        seen = shares[shares > 0]
        return {
            "mlm_loss": float(-(seen * np.log(seen)).sum()),
            "mlm_accuracy": float(np.delete(shares, self.tokenizer.unk_id).max()),
        }

    def train_batches(self, batch_size: int, seed: int, workers: int, rows: Sequence[int] | None = None) -> Loader:
        return Loader(self._train, batch_size, seed, worker_count=workers, rows=rows)

    def eval_batches(self, split: str, batch_size: int, rows: Sequence[int] | None = None) -> Loader:
        # The original writes no splits: what is held out is a matter of which files were given.
        source = self._train if split == "train" else self._held_out
        spaced = Spaced(source, self._task.eval_examples or len(source))
        return Loader(spaced, batch_size, shuffle=False, epochs=1, rows=rows)


@dataclass(frozen=True)
class Spaced:
    """`count` evenly spaced examples of a source: a part of a split that shows all of it."""

    source: PretrainingSource | GoogleRecords
    count: int

    @property
    def weights(self) -> tuple[str, ...]:
        return self.source.weights

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}/{self.count}"

    def __len__(self) -> int:
        return min(self.count, len(self.source))

    def example(self, seed: int, index: int, place: int | None = None) -> dict[str, np.ndarray]:
        # Without the place: an evaluation is the same at any time of a run.
        # Evenly spaced rather than the first: documents of one source stand together in a store.
        return self.source.example(seed, index * len(self.source) // len(self))


def random_batch(config: AlbertConfig, rows: int, length: int, predictions: int, seed: int = 0) -> dict[str, Any]:
    """A pretraining batch of random pieces, every position real."""
    random = np.random.default_rng(seed)
    positions = np.sort(random.permuted(np.tile(np.arange(length), (rows, 1)), axis=1)[:, :predictions], axis=1)
    return {
        "input_ids": random.integers(5, config.vocab_size, (rows, length)).astype(np.int32),
        "segment_ids": np.tile((np.arange(length) >= length // 2).astype(np.int32), (rows, 1)),
        "mask": np.ones((rows, length), bool),
        "masked_positions": positions.astype(np.int32),
        "masked_ids": random.integers(5, config.vocab_size, (rows, predictions)).astype(np.int32),
        "masked_weights": np.ones((rows, predictions), np.float32),
        "order_label": random.integers(0, 2, rows).astype(np.int32),
        "order_weight": np.ones(rows, np.float32),
        "example_weight": np.ones(rows, np.float32),
    }
