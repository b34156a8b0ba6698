"""What a task is. A task's configuration is a frozen dataclass that stands in the experiment; opened on its data, it
answers everything that training, evaluation and prediction ask. No file outside `tasks/` knows a task by name, so a new
kind is one file: here, or beside the experiment in a user's own config (docs/own_task.md has one).

Three sizes of the same thing:
  Objective   model, losses and scores: what a compiled step needs, no data
  OpenTask    an Objective with its data: what training and evaluation need
  Answers     an Objective that turns texts into rows and outputs into records: what prediction needs
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from albert_jax.data.labelled.requests import Request
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig
from albert_jax.telemetry.baselines import Baseline, Plain
from albert_jax.telemetry.scores import Score

Batch = Mapping[str, Any]  # arrays with a leading B
Outputs = Sequence[Mapping[str, np.ndarray]]  # of real examples, in order
# A loss or score before its division: name -> (sum over the examples at hand, name of the weight to divide by).
Sums = dict[str, tuple[jax.Array, str]]


@dataclass(frozen=True)
class Evaluation:
    """Scores over a whole split, and what a report draws beside them."""

    scores: dict[str, float]
    labels: list[str] = field(default_factory=list)  # class names, for tasks that have classes
    confusion: list[list[int]] = field(default_factory=list)  # examples by true (row) and predicted class (column)
    report: dict[str, Any] = field(default_factory=dict)  # scikit-learn's `classification_report`
    entities: dict[str, Any] = field(
        default_factory=dict
    )  # seqeval's of whole entities by type, where words are tagged
    degenerate: bool | None = None  # every prediction is the same although the truth is not; None: means nothing here
    notes: list[str] = field(default_factory=list)  # what a user should know about these predictions
    mistakes: list[dict[str, Any]] = field(default_factory=list)  # the most confident first; see `OpenTask.mistakes`
    plain: list[Baseline] = field(default_factory=list)  # what plain models reach on the same split
    verdicts: list[str] = field(default_factory=list)  # that the model does not beat them, or why there are none


class Loader(Protocol):
    """An iterator of batches (dicts of NumPy arrays) whose position can be read and set without replay."""

    @property
    def examples(self) -> int: ...  # each once an epoch
    @property
    def order(self) -> np.ndarray | None: ...  # of a pass in another order than the split's, the example at each place
    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...


class Objective(Protocol):
    """Model, losses and scores of a task, without its data."""

    config: AlbertConfig  # the model's, its vocabulary size known
    tokens_per_example: int  # S, for tokens/s
    predictions_per_example: int = 0  # P, masked positions that get logits; 0 for tasks without
    losses: Sequence[str] = ("loss",)  # names of the sums that add up to the loss
    scores: Sequence[Score] = ()  # what an evaluation gives; "loss" is always among them
    best: str = "loss"  # name of the score that picks the best checkpoint

    def model(self, rngs: nnx.Rngs) -> nnx.Module:
        """The model with fresh parameters; an `Albert` under `albert` and heads beside it."""
        ...

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """What the sums of this batch will be divided by, known before the forward pass."""
        return {"examples": batch["example_weight"].sum()}

    def sums(self, model: Any, batch: Batch, dropout_keys: jax.Array | None) -> tuple[Sums, dict[str, jax.Array]]:
        """Losses and scores as (sum, weight name), and outputs for each example (leading B)."""
        ...

    def example_batch(self, rows: int) -> dict[str, np.ndarray]:
        """A batch of `rows` drawn at random: its shapes for a compiler, its content for a stop-watch."""
        raise AlbertError(f"{type(self).__name__} makes no batch without data; bench and plan know pretraining only")


class OpenTask(Objective, Protocol):
    """A task with its data at hand."""

    tokenizer: AnyTokenizer  # that the examples were made with; a copy goes into the workdir
    resolved: Any  # the configuration with what the data decided filled in (class names), as a workdir stores it

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know about the data when a run starts."""
        return ()

    def initial_values(self, seed: int) -> dict[str, np.ndarray]:
        """Path -> array of the parameters that start with what the data says, not as drawn; empty for none."""
        return {}

    def baselines(self, split: str) -> dict[str, float]:
        """Score -> what a model that looks at nothing reaches on a split."""
        return {}

    def plain(self, split: str) -> Plain | None:
        """Plain models that learn from the same training data, to be scored on a split; None for a task without any."""
        return None

    def train_batches(self, batch_size: int, seed: int, workers: int, rows: Sequence[int] | None = None) -> Loader:
        """Endless training batches of global size `batch_size`, a function of (seed, batch number); of each, the rows
        that this process holds (None for all)."""
        ...

    def eval_batches(self, split: str, batch_size: int, rows: Sequence[int] | None = None) -> Loader:
        """A split once, every example counted once; the last batch padded with `example_weight` 0."""
        ...

    def scored_on(self, split: str, count: int) -> "OpenTask":
        """Itself with at most `count` evenly spaced examples to score of a split; itself where it has no more, or none
        can be left out."""
        return self

    def evaluation(self, scores: dict[str, float], outputs: Outputs) -> Evaluation:
        """The whole split's evaluation from its divided sums and the outputs of its real rows, in order."""
        return Evaluation(scores)

    def predictions(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        """One JSON-able record for each example of the split, in order; empty for tasks without any."""
        return iter(())

    def mistakes(self, split: str, outputs: Outputs) -> Iterator[dict[str, Any]]:
        """{"text", "gold", "predicted"} of each wrong answer, in any order, with the "probability" that the model gave
        it, or the "error" of a number; empty for tasks without any."""
        return iter(())


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch before it is framed."""

    pieces: tuple[np.ndarray, ...]  # ids of one or two texts, not cut
    positions: np.ndarray | None = None  # where in the framed row a tagging task tags words

    @property
    def length(self) -> int:
        """Pieces with [CLS] and [SEP]."""
        return 1 + len(self.pieces) + sum(map(len, self.pieces))


class Answers(Objective, Protocol):
    """A trained task that answers texts nobody has labelled."""

    tokenizer: AnyTokenizer  # that of the run
    outputs: Sequence[str]  # names of the model's outputs that `record` reads

    def read(self, item: Any) -> Request:
        """See `albert_jax.data.labelled.requests.read_request`. Raises AlbertError for what cannot be answered."""
        ...

    def rows(self, requests: Sequence[Request]) -> list[list[Row]]:
        """One row or more for each request, encoded together."""
        ...

    def unknown(self, rows: int, length: int) -> dict[str, np.ndarray]:
        """What a batch [rows, length] holds beside the text, where no label is known."""
        ...

    def record(self, request: Request, rows: Sequence[Row], outputs: Outputs) -> dict[str, Any]:
        """The answer as JSON; `outputs` are those of each row."""
        ...


@dataclass(frozen=True)
class Task:
    """The configuration of a task: what stands in an experiment. A kind of task is a subclass."""

    head: ClassVar[str] = ""  # of `albert_jax.load`, such as "classification"; empty for one of its own
    fine_tunes: ClassVar[bool] = True  # starting from random parameters would be a mistake

    @property
    def problem(self) -> str:
        """Hugging Face's problem_type of a classifier; empty for one class a text and for other heads."""
        return ""

    @property
    def max_length(self) -> int:
        """S, pieces of an example with [CLS] and [SEP]."""
        raise NotImplementedError

    def open(self, config: AlbertConfig, seed: int) -> OpenTask:
        """The task on its data. Raises AlbertError for missing or bad data."""
        raise NotImplementedError

    def objective(self, config: AlbertConfig) -> Objective:
        """The task without its data, for benchmarks and compile-only tools. Raises AlbertError where it has none."""
        raise AlbertError(f"a {type(self).__name__} needs its data to be built; plan knows pretraining only, bench too")

    def for_inference(self, config: AlbertConfig, tokenizer: AnyTokenizer) -> Answers:
        """The trained task, ready to answer; `self` is as a workdir stores it. Raises AlbertError where it cannot."""
        raise AlbertError(f"a {type(self).__name__} run gives no answers to single texts")

    def with_split(self, split: str, path: str) -> Self:
        """Itself with other data for `split`: what `evaluate --data` gives."""
        return dataclasses.replace(self, data=path)  # type: ignore[call-arg]

    def with_vocabulary(self, path: str, before: str = "") -> Self:
        """Itself with the vocabulary of the model that a run starts from, where it has none of its own, or that which
        the workdir knew `before`."""
        return self


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
    1/n of a hit.
    """
    total: tuple[jax.Array, jax.Array] = _cross_entropy(logits.astype(jnp.float32), labels, weights)
    return total


# Its gradient is written out, softmax - one-hot in one pass over the logits: derived by JAX it scatters into an array
# of zeros and adds that, which for a small model on a CPU is a tenth of a training step.
@jax.custom_vjp
def _cross_entropy(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    total: tuple[jax.Array, jax.Array] = _cross_entropy_fwd(logits, labels, weights)[0]
    return total


def _cross_entropy_fwd(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> Any:
    # Not argmax: XLA's CPU compiler runs it element by element, 42 ms of an ALBERT-base step.
    highest = logits.max(axis=-1, keepdims=True)
    ties = (logits == highest).sum(axis=-1)
    log_total = jnp.log(jnp.exp(logits - highest).sum(axis=-1, keepdims=True)) + highest
    own = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    losses, hits = (log_total - own)[..., 0], (own == highest)[..., 0] / jnp.maximum(ties, 1)
    return ((losses * weights).sum(), (hits * weights).sum()), (logits, labels, weights, log_total, losses)


def _cross_entropy_bwd(residuals: Any, grads: tuple[jax.Array, jax.Array]) -> Any:
    logits, labels, weights, log_total, losses = residuals
    own = jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1) == labels[..., None]
    grad = (jnp.exp(logits - log_total) - own) * (grads[0] * weights)[..., None]
    return grad, None, grads[0] * losses


_cross_entropy.defvjp(_cross_entropy_fwd, _cross_entropy_bwd)
