"""Heads, and the one model that is trained and restored: an Albert under `albert`, the parts of a head beside it.

The parameter path `albert/...` is the same with every head, which is what initialising one model from another goes by.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from albert_jax.model.albert import Albert, AlbertOutput
from albert_jax.model.config import AlbertConfig
from albert_jax.model.layers import Dense, Dropout, LayerNorm, activation, fold, product

Logits = dict[str, Array]  # by name, float32 whatever the compute dtype

# ---- parts of heads: each turns the encoder's output, the word table [V, E], positions [B, P] and dropout keys [B]
# into logits. `reads` is the output that it uses, "hidden" [B, S, D] or "pooled" [B, D], which needs a pooler.


class MaskedLanguageHead(nnx.Module):
    """`mlm_logits` [B, P, V]: dense to E, activation, LayerNorm, product with the (tied) word table, bias."""

    reads = "hidden"

    def __init__(self, config: AlbertConfig, classes: int = 0, *, rngs: nnx.Rngs):
        D, E = config.hidden_size, config.embedding_size
        self.dense = Dense(D, E, deviation=config.initializer_range, rngs=rngs, axes=("hidden", "factor"))
        self.layer_norm = LayerNorm(E, eps=config.layer_norm_eps)
        self.bias = nnx.Param(jnp.zeros((config.vocab_size,), jnp.float32))
        self.activation = activation(config.activation)

    def __call__(self, hidden_BxSxD: Array, positions_BxP: Array, table_VxE: Array) -> Array:
        # Only at P positions: [B, S, V] logits would outweigh everything else in memory.
        picked_BxPxD = jnp.take_along_axis(hidden_BxSxD, positions_BxP[..., None], axis=1)
        x_BxPxE = self.layer_norm(self.activation(self.dense(picked_BxPxD)))
        B, P, E = x_BxPxE.shape
        return product(x_BxPxE.reshape(-1, E), table_VxE, 1).reshape(B, P, -1) + self.bias[...]

    def logits(self, encoded: AlbertOutput, table: Array, positions: Any, keys: Any) -> Logits:
        return {} if positions is None else {"mlm_logits": self(encoded.hidden, positions, table)}


# A Dense, not a module that has one: `classifier/kernel` is the path of stored parameters.
class DenseHead(Dense):
    """A dense layer to `size` numbers; where that is 0, to the classes of the task."""

    reads, size = "pooled", 0

    def __init__(self, config: AlbertConfig, classes: int = 0, *, rngs: nnx.Rngs):
        super().__init__(config.hidden_size, self.size or classes, deviation=config.initializer_range, rngs=rngs)
        self.dropout = Dropout(config.classifier_dropout)


class SentenceOrder(DenseHead):
    """`order_logits` [B, 2] of two segments in order (0) or swapped (1); paper, section 3.1."""

    size = 2

    def logits(self, encoded: AlbertOutput, table: Array, positions: Any, keys: Any) -> Logits:
        return {"order_logits": self(getattr(encoded, self.reads)).astype(jnp.float32)}


class Classifier(DenseHead):
    """`logits` [B, C] of a whole text."""

    def logits(self, encoded: AlbertOutput, table: Array, positions: Any, keys: Any) -> Logits:
        x = self.dropout(getattr(encoded, self.reads), fold(keys, 2))
        return {"logits": self(x).astype(jnp.float32)}


class Tagger(Classifier):
    """`logits` [B, S, C] of every token."""

    reads = "hidden"


class Span(DenseHead):
    """`start_logits` and `end_logits` [B, S]: the head of SQuAD v1.1."""

    reads, size = "hidden", 2

    def logits(self, encoded: AlbertOutput, table: Array, positions: Any, keys: Any) -> Logits:
        # No dropout beside the encoder's, as in the original (squad_utils.py).
        logits_BxSx2 = self(getattr(encoded, self.reads)).astype(jnp.float32)
        return {"start_logits": logits_BxSx2[..., 0], "end_logits": logits_BxSx2[..., 1]}


Head = Literal["pretrain", "mlm", "classification", "tagging", "span", "choice"]
# The parts of every head, by the name that their parameters have in the model. Named as the tasks are; "mlm" is
# "pretrain" without the sentence order.
HEADS: dict[Head, dict[str, Any]] = {
    "pretrain": {"mlm": MaskedLanguageHead, "order": SentenceOrder},
    "mlm": {"mlm": MaskedLanguageHead},
    "classification": {"classifier": Classifier},
    "tagging": {"classifier": Tagger},
    "span": {"span": Span},
    "choice": {"classifier": Classifier},
}

# ---- models


class AlbertWithHead(nnx.Module):
    """An Albert and one of `HEADS`, None for the encoder alone. `classes` (C) are those of a classifier, 1 for a
    choice; `pools` False leaves the pooler out."""

    def __init__(
        self, config: AlbertConfig, head: Head | None, classes: int = 0, pools: bool = True, *, rngs: nnx.Rngs
    ):
        self.config, self.head, self.pools = config, head, pools
        self.albert = Albert(config, pools, rngs=rngs)
        for name, part in HEADS[head].items() if head else ():
            setattr(self, name, part(config, classes, rngs=rngs))

    def outputs(
        self,
        input_ids: Array,
        segment_ids: Array,
        mask: Array,
        positions: Array | None = None,
        dropout_keys: Array | None = None,
        all_hidden: bool = False,
    ) -> tuple[AlbertOutput, Logits]:
        """The encoder's output and the head's logits by name.

        Arguments as of `Albert.__call__`, and `positions` [B, P] where MLM logits are wanted. The head "choice" takes
        inputs [B, C, S] and gives logits [B, C]; its encoder's output has a row for each text, [B * C, ...].
        """
        choices = input_ids.shape[:2]
        if self.head == "choice":
            input_ids, segment_ids, mask = (x.reshape(-1, x.shape[-1]) for x in (input_ids, segment_ids, mask))
            if dropout_keys is not None:  # one for each text, from that of its example
                each = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
                dropout_keys = each(dropout_keys, jnp.arange(choices[1])).reshape(-1)
        encoded = self.albert(input_ids, segment_ids, mask, dropout_keys=dropout_keys, all_hidden=all_hidden)
        table, logits = self.albert.embeddings.word[...], Logits()
        for name in HEADS[self.head] if self.head else ():
            logits |= getattr(self, name).logits(encoded, table, positions, dropout_keys)
        if self.head == "choice":
            logits["logits"] = logits["logits"].reshape(choices)
        return encoded, logits


class AlbertForPretraining(AlbertWithHead):
    """Masked language model and sentence order."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        super().__init__(config, "pretrain", rngs=rngs)

    def __call__(
        self, input_ids: Array, segment_ids: Array, mask: Array, positions: Array, dropout_keys: Array | None = None
    ) -> tuple[Array, Array]:
        """MLM logits [B, P, V] at `positions` [B, P] and order logits [B, 2]."""
        _, logits = self.outputs(input_ids, segment_ids, mask, positions, dropout_keys)
        return logits["mlm_logits"], logits["order_logits"]


class _AlbertForTexts(AlbertWithHead):
    kind: Head

    def __init__(self, config: AlbertConfig, classes: int = 1, *, rngs: nnx.Rngs):
        super().__init__(config, self.kind, classes, rngs=rngs)

    def __call__(self, input_ids: Array, segment_ids: Array, mask: Array, dropout_keys: Array | None = None) -> Any:
        """The head's logits, a tuple where there are several."""
        logits = tuple(self.outputs(input_ids, segment_ids, mask, None, dropout_keys)[1].values())
        return logits if len(logits) > 1 else logits[0]


class AlbertForSequenceClassification(_AlbertForTexts):
    """Classes of a whole input: logits [B, C]."""

    kind = "classification"


class AlbertForTokenClassification(_AlbertForTexts):
    """Classes of every token: logits [B, S, C]."""

    kind = "tagging"


class AlbertForQuestionAnswering(_AlbertForTexts):
    """Start and end of a span: (start logits [B, S], end logits [B, S])."""

    kind = "span"


class AlbertForMultipleChoice(_AlbertForTexts):
    """One number for each of several texts: logits [B, C] of inputs [B, C, S]."""

    kind = "choice"
