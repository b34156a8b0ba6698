"""Pretraining: masked language model and sentence order, on the fly from a prepared corpus."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from flax import nnx

from albert_jax.data.loader import Loader
from albert_jax.data.masking import MaskConfig
from albert_jax.data.pairs import PairConfig
from albert_jax.data.pretraining import PretrainingSource
from albert_jax.data.store import DocumentStore
from albert_jax.model.config import AlbertConfig
from albert_jax.model.heads import AlbertForPretraining
from albert_jax.tasks.base import Batch, Evaluation, Outputs, Sums, cross_entropy, this_process, with_vocabulary


@dataclass(frozen=True)
class Pretrain:
    """MLM + SOP (paper, section 3.1)."""

    data: str = ""  # directory that `prepare` wrote
    pairs: PairConfig = field(default_factory=PairConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    eval_examples: int = 2048  # examples of a held-out split that an evaluation scores, evenly spaced; 0 = all
    eval_seed: int = 1  # masks and orders of the evaluation, the same in every run

    @property
    def max_length(self) -> int:
        return self.pairs.max_length

    @property
    def fine_tunes(self) -> bool:
        """Whether starting from random parameters would be a mistake."""
        return False

    def open(self, config: AlbertConfig, seed: int) -> "OpenPretrain":
        """The task on its data. Raises AlbertError when the data is missing or of another vocabulary size."""
        return OpenPretrain(self, config)


class PretrainObjective:
    """The part of the task that needs no data: model, losses and scores. Benchmarks and compile-only tools use it.

    `order` False leaves the sentence-order loss out.
    """

    losses: tuple[str, ...]
    best = ("loss", False)

    def __init__(self, config: AlbertConfig, max_length: int, predictions: int, order: bool = True):
        self.config = config
        self.tokens_per_example = max_length
        self.predictions_per_example = predictions
        self.losses = ("mlm_loss", "order_loss") if order else ("mlm_loss",)

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
        if "order_loss" in self.losses:
            order_loss, order_hits = cross_entropy(order_logits, batch["order_label"], batch["order_weight"])
            sums |= {"order_loss": (order_loss, "ordered"), "order_accuracy": (order_hits, "ordered")}
        return sums, {}

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        return Evaluation(scores)

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        return iter(())


class OpenPretrain(PretrainObjective):
    """The task on its data; see `albert_jax.tasks.base.OpenTask`."""

    def __init__(self, task: Pretrain, config: AlbertConfig):
        store = DocumentStore.open(task.data, "train")
        self.tokenizer = store.tokenizer()
        config = with_vocabulary(config, self.tokenizer, task.data)
        super().__init__(config, task.max_length, task.masks.slots(task.max_length), task.pairs.order != "off")
        self._task = task
        self._train = PretrainingSource(store, self.tokenizer, task.pairs, task.masks)
        self.baselines = {
            "unigram_entropy": store.unigram_entropy,
            "unigram_accuracy": store.unigram_accuracy,
        }

    def train_batches(self, batch_size: int, seed: int, workers: int) -> Loader:
        return Loader(self._train, batch_size, seed, worker_count=workers, **this_process())

    def eval_batches(self, split: str, batch_size: int) -> Loader:
        store = DocumentStore.open(self._task.data, split)
        source = PretrainingSource(store, self.tokenizer, self._task.pairs, self._task.masks)
        spaced = Spaced(source, self._task.eval_examples or len(source))
        return Loader(spaced, batch_size, self._task.eval_seed, shuffle=False, epochs=1, **this_process())


@dataclass(frozen=True)
class Spaced:
    """`count` evenly spaced examples of a source: a part of a split that shows all of it."""

    source: PretrainingSource
    count: int

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}/{self.count}"

    def __len__(self) -> int:
        return min(self.count, len(self.source))

    def example(self, seed: int, index: int) -> dict[str, np.ndarray]:
        return self.source.example(seed, index * len(self.source) // len(self))
