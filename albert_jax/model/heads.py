"""Heads, and the models that a task trains: an Albert under `albert` and its heads beside it.

Every model has the same parameter path `albert/...`, which is what initialising one from another goes by."""

import jax
import jax.numpy as jnp
from flax import nnx

from albert_jax.model import functions
from albert_jax.model.albert import Albert
from albert_jax.model.config import AlbertConfig
from albert_jax.model.encoder import fold
from albert_jax.model.layers import Dense, Dropout, LayerNorm


class MaskedLanguageHead(nnx.Module):
    """Dense to E, activation, LayerNorm, product with the (tied) word table, bias. Only at P positions: [B, S, V]
    logits would outweigh everything else in memory."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.dense = Dense(
            config.hidden_size, config.embedding_size, deviation=config.initializer_range, rngs=rngs,
            axes=("hidden", "factor"),
        )  # fmt: skip
        self.layer_norm = LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.bias = nnx.Param(jnp.zeros((config.vocab_size,), jnp.float32))
        self.activation = functions.activation(config.activation)

    def __call__(self, hidden_BxSxD: jax.Array, positions_BxP: jax.Array, table_VxE: jax.Array) -> jax.Array:
        """Logits [B, P, V] in float32 at `positions_BxP`."""
        picked_BxPxD = jnp.take_along_axis(hidden_BxSxD, positions_BxP[..., None], axis=1)
        x_BxPxE = self.layer_norm(self.activation(self.dense(picked_BxPxD)))
        logits = jnp.einsum("bpe,ve->bpv", x_BxPxE, table_VxE.astype(x_BxPxE.dtype), preferred_element_type=jnp.float32)
        return logits + self.bias[...]


class AlbertForPretraining(nnx.Module):
    """Masked language model and sentence order."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.albert = Albert(config, rngs=rngs)
        self.mlm = MaskedLanguageHead(config, rngs=rngs)
        self.order = Dense(config.hidden_size, 2, deviation=config.initializer_range, rngs=rngs)

    def __call__(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array,
        mask: jax.Array,
        positions: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """MLM logits [B, P, V] at `positions` [B, P] and order logits [B, 2] (0 in order, 1 swapped), both float32."""
        out = self.albert(input_ids, segment_ids, mask, dropout_keys=dropout_keys)
        mlm_logits = self.mlm(out.hidden, positions, self.albert.embeddings.word[...])
        return mlm_logits, self.order(out.pooled).astype(jnp.float32)


class AlbertForSequenceClassification(nnx.Module):
    """Classes of a whole input, from the pooled first token."""

    def __init__(self, config: AlbertConfig, classes: int, *, rngs: nnx.Rngs):
        self.albert = Albert(config, rngs=rngs)
        self.classifier = Dense(config.hidden_size, classes, deviation=config.initializer_range, rngs=rngs)
        self.dropout = Dropout(config.classifier_dropout)

    def __call__(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array,
        mask: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, C], float32."""
        pooled = self.albert(input_ids, segment_ids, mask, dropout_keys=dropout_keys).pooled
        pooled = self.dropout(pooled, fold(dropout_keys, 2))
        return self.classifier(pooled).astype(jnp.float32)


class AlbertForTokenClassification(nnx.Module):
    """Classes of every token, from its last hidden state."""

    def __init__(self, config: AlbertConfig, classes: int, *, rngs: nnx.Rngs):
        self.albert = Albert(config, rngs=rngs)
        self.classifier = Dense(config.hidden_size, classes, deviation=config.initializer_range, rngs=rngs)
        self.dropout = Dropout(config.classifier_dropout)

    def __call__(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array,
        mask: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, S, C], float32."""
        hidden = self.albert(input_ids, segment_ids, mask, dropout_keys=dropout_keys).hidden
        hidden = self.dropout(hidden, fold(dropout_keys, 2))
        return self.classifier(hidden).astype(jnp.float32)


class AlbertForQuestionAnswering(nnx.Module):
    """Start and end of a span, each a class of every token: the head of SQuAD v1.1."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.albert = Albert(config, rngs=rngs)
        self.span = Dense(config.hidden_size, 2, deviation=config.initializer_range, rngs=rngs)

    def __call__(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array,
        mask: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Start logits and end logits [B, S], float32; no dropout beside the encoder's, as in the original."""
        hidden = self.albert(input_ids, segment_ids, mask, dropout_keys=dropout_keys).hidden
        logits_BxSx2 = self.span(hidden).astype(jnp.float32)
        return logits_BxSx2[..., 0], logits_BxSx2[..., 1]


class AlbertForMultipleChoice(nnx.Module):
    """One number for each of several texts, from its pooled first token."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.albert = Albert(config, rngs=rngs)
        self.classifier = Dense(config.hidden_size, 1, deviation=config.initializer_range, rngs=rngs)
        self.dropout = Dropout(config.classifier_dropout)

    def __call__(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array,
        mask: jax.Array,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array:
        """Logits [B, C], float32, of inputs [B, C, S]; all choices of an example share its dropout key's stream."""
        B, C, S = input_ids.shape
        rows = (x.reshape(B * C, S) for x in (input_ids, segment_ids, mask))
        keys = None
        if dropout_keys is not None:
            each = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
            keys = each(dropout_keys, jnp.arange(C)).reshape(B * C)
        pooled = self.dropout(self.albert(*rows, dropout_keys=keys).pooled, fold(keys, 2))
        return self.classifier(pooled).astype(jnp.float32).reshape(B, C)
