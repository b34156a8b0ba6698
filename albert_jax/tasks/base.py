"""What a task is. A task's config is a frozen dataclass that stands in the experiment; opened on its data, it answers
everything that training and evaluation ask. The loop knows no task by name."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig

Batch = Mapping[str, Any]  # arrays with a leading B
Outputs = Sequence[dict[str, np.ndarray]]  # of real examples, in order
# A loss or score before its division: name -> (sum over the examples at hand, name of the weight to divide by).
Sums = dict[str, tuple[jax.Array, str]]


@dataclass(frozen=True)
class Evaluation:
    """Scores over a whole split, and what a report draws beside them.

    Attributes:
      scores: name to number
      labels: class names, for tasks that have classes
      confusion: examples by true class (row) and predicted class (column)
      report: precision, recall, f1-score and support by class and averaged, as scikit-learn's `classification_report`
      entities: the same over whole entities by type, as seqeval's, for tasks that tag words
      degenerate: whether every prediction is the same although the truth is not; None where that means nothing
      notes: what a user should be told about these predictions
    """

    scores: dict[str, float]
    labels: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    entities: dict[str, Any] = field(default_factory=dict)
    degenerate: bool | None = None
    notes: list[str] = field(default_factory=list)


class Loader(Protocol):
    """An iterator of batches (dicts of NumPy arrays) whose position can be told and set without replay.

    examples: how many there are, each once an epoch
    """

    @property
    def examples(self) -> int: ...
    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...


class OpenTask(Protocol):
    """A task with its data at hand.

    Attributes:
      config: the model's configuration, its vocabulary size now known
      tokenizer: the vocabulary that the examples were made with; a copy goes into the workdir
      tokens_per_example: S, for tokens/s
      predictions_per_example: P, masked positions that get logits; 0 for tasks without
      losses: names of the sums that add up to the loss
      best: the score that picks the best checkpoint and whether more of it is better
      scores: names of the scores of an evaluation
      baselines: numbers that a report draws beside the curves
      resolved: the task's config with what its data decided filled in (class names), as a workdir stores it
      notes: what a user should be told about the data when a run starts
    """

    config: AlbertConfig
    tokens_per_example: int
    predictions_per_example: int

    @property
    def baselines(self) -> dict[str, float]: ...
    @property
    def tokenizer(self) -> AnyTokenizer: ...
    @property
    def resolved(self) -> Any: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def scores(self) -> tuple[str, ...]: ...
    @property
    def losses(self) -> tuple[str, ...]: ...
    @property
    def best(self) -> tuple[str, bool]: ...

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        """The model with fresh parameters; an `Albert` under `albert` and heads beside it."""
        ...

    def train_batches(self, batch_size: int, seed: int, workers: int, rows: Sequence[int] | None = None) -> Loader:
        """Endless training batches of global size `batch_size`, a function of (seed, batch number); of each, the rows
        that this process holds (None for all)."""
        ...

    def eval_batches(self, split: str, batch_size: int, rows: Sequence[int] | None = None) -> Loader:
        """A split once, every example counted once; the last batch padded with `example_weight` 0."""
        ...

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """What the sums of this batch will be divided by, known before the forward pass."""
        ...

    def sums(self, model: Any, batch: Batch, dropout_keys: jax.Array | None) -> tuple[Sums, dict[str, jax.Array]]:
        """Losses and scores as (sum, weight name), and outputs for each example (leading B)."""
        ...

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        """The whole split's evaluation from its divided sums and the outputs of its real rows, in order."""
        ...

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        """One JSON-able record for each example of the split, in order; empty for tasks without any."""
        ...


def with_vocabulary(config: AlbertConfig, tokenizer: AnyTokenizer, source: str) -> AlbertConfig:
    """`config` with its vocabulary size taken from the data where it is 0. Raises AlbertError where the two differ."""
    if config.vocab_size not in (0, tokenizer.vocab_size):
        raise AlbertError(
            f"model.vocab_size is {config.vocab_size} but the vocabulary of {source} has {tokenizer.vocab_size} "
            "pieces; set model.vocab_size to 0 to take the data's, or prepare the corpus with another --vocab-size"
        )
    return dataclasses.replace(config, vocab_size=tokenizer.vocab_size)


def cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted sums of the cross entropy (nats, float32) and of the hits, over all leading axes.

    logits [..., C], labels int [...], weights float [...]. A label that shares the highest logit with n - 1 others is
    1/n of a hit. (Not argmax, which XLA's CPU compiler runs element by element.)
    """
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    highest = logits.max(axis=-1, keepdims=True)
    ties = jnp.maximum((logits == highest).sum(axis=-1), 1)
    hits = (jnp.take_along_axis(logits, labels[..., None], axis=-1) == highest)[..., 0] / ties
    return (losses * weights).sum(), (hits * weights).sum()
