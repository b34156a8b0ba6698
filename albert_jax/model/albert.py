"""ALBERT without a head: factorised embeddings, shared encoder, pooler."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig
from albert_jax.model.encoder import Encoder, fold
from albert_jax.model.layers import Dense, Dropout, LayerNorm, truncated_normal


class AlbertOutput(NamedTuple):
    hidden: jax.Array  # [B, S, D] after the last layer
    pooled: jax.Array  # [B, D] tanh of a dense layer on the first token
    all_hidden: jax.Array | None  # [L, B, S, D] after each layer, when asked for


class Embeddings(nnx.Module):
    """Word, segment and position tables of width E, summed, normalised, dropped out; the factor of the paper's 3.1."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        deviation, E = config.initializer_range, config.embedding_size
        self.word = truncated_normal(rngs, (config.vocab_size, E), deviation, ("vocab", "factor"))
        self.segment = truncated_normal(rngs, (config.segment_types, E), deviation)
        self.position = truncated_normal(rngs, (config.max_positions, E), deviation, (None, "factor"))
        self.layer_norm = LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def __call__(self, input_ids_BxS: jax.Array, segment_ids_BxS: jax.Array, keys_B: jax.Array | None) -> jax.Array:
        S, rows = input_ids_BxS.shape[1], self.position.shape[0]
        if rows < S:  # indexing past the table would clamp silently
            raise AlbertError(
                f"a sequence of {S} pieces is longer than the position table of {rows} rows; "
                f"shorten the sequence to {rows} or raise model.max_positions"
            )
        # Two segment rows: a product with their one-hot rows, because the backward pass of a gather is a slow scatter.
        segments = jax.nn.one_hot(segment_ids_BxS, self.segment.shape[0], dtype=jnp.float32)
        x_BxSxE = self.word[...][input_ids_BxS] + segments @ self.segment[...] + self.position[...][:S]
        return self.dropout(self.layer_norm(x_BxSxE), keys_B)


class Albert(nnx.Module):
    """The encoder that every head sits on."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        if config.vocab_size < 1:
            raise AlbertError("model.vocab_size is 0 and no data told it; give the number of pieces")
        self.config = config
        self.embeddings = Embeddings(config, rngs=rngs)
        if config.embedding_size != config.hidden_size:  # with bias; absent when E equals D, as in the original
            self.projection = Dense(
                config.embedding_size, config.hidden_size, deviation=config.initializer_range, rngs=rngs,
                axes=("factor", "hidden"),
            )  # fmt: skip
        self.encoder = Encoder(config, rngs=rngs)
        self.pooler = Dense(
            config.hidden_size, config.hidden_size, deviation=config.initializer_range, rngs=rngs,
            axes=("hidden", "pooled"),
        )  # fmt: skip

    def __call__(
        self,
        input_ids: jax.Array,
        segment_ids: jax.Array | None = None,
        mask: jax.Array | None = None,
        *,
        dropout_keys: jax.Array | None = None,
        all_hidden: bool = False,
    ) -> AlbertOutput:
        """Encode a batch.

        Args:
          input_ids: pieces, int [B, S]
          segment_ids: 0 for the first and 1 for the second text, int [B, S]; zeros when not given
          mask: True for real tokens, bool [B, S]; all True when not given
          dropout_keys: one random key for each example [B], or None for no dropout
          all_hidden: also return the states after each layer

        Raises AlbertError when S exceeds the position table.
        """
        segment_ids = jnp.zeros_like(input_ids) if segment_ids is None else segment_ids
        mask = jnp.ones(input_ids.shape, bool) if mask is None else mask.astype(bool)
        x = self.embeddings(input_ids, segment_ids, fold(dropout_keys, 0))
        x = x.astype(jnp.dtype(self.config.compute_dtype))
        if hasattr(self, "projection"):
            x = self.projection(x)
        hidden, states = self.encoder(x, mask, fold(dropout_keys, 1), all_hidden)
        return AlbertOutput(hidden, jnp.tanh(self.pooler(hidden[:, 0])), states)
