"""ALBERT without a head: factorised embeddings, one shared block applied L times, pooler.

The block's parameters are closed over by the scan over layers, never stacked: neither the parameter tree nor the size
of the compiled program depends on the depth.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from albert_jax.errors import AlbertError, refuse
from albert_jax.model.attention import attend, backend
from albert_jax.model.config import AlbertConfig
from albert_jax.model.layers import (
    PRODUCT,
    Dense,
    Dropout,
    LayerNorm,
    activation,
    fold,
    joint,
    normal_param,
    shard,
    shard_rows,
)

# ---- the block


class Attention(nnx.Module):
    """Multi-head self-attention with output projection. Kernels are 2-D [D, D], as in the original."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        D, deviation = config.hidden_size, config.initializer_range
        dense = partial(Dense, D, D, deviation=deviation, rngs=rngs)
        self.query, self.key, self.value = (dense(axes=("hidden", "heads")) for _ in range(3))
        self.output = dense(axes=("heads", "hidden"))
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.attend = backend(config.attention)

    def __call__(self, x_BxSxD: Array, mask_BxS: Array, keys_B: Array | None) -> Array:
        B, S, D = x_BxSxD.shape
        parts = joint([self.query, self.key, self.value], x_BxSxD, "heads")
        q, k, v = (shard(x.reshape(B, S, self.heads, D // self.heads), "batch", None, "heads", None) for x in parts)
        rate = 0.0 if keys_B is None else self.dropout
        mixed_BxSxNxK = self.attend(q, k, v, mask_BxS, dropout_rate=rate, dropout_keys=keys_B)
        mixed_BxSxD = shard(mixed_BxSxNxK, "batch", None, "heads", None).reshape(B, S, D)
        return shard_rows(self.output(mixed_BxSxD))


class FeedForward(nnx.Module):
    """D -> F -> D."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        D, F, deviation = config.hidden_size, config.feed_forward_size, config.initializer_range
        self.intermediate = Dense(D, F, deviation=deviation, rngs=rngs, axes=("hidden", "feed_forward"))
        self.output = Dense(F, D, deviation=deviation, rngs=rngs, axes=("feed_forward", "hidden"))
        self.activation = activation(config.activation)

    def __call__(self, x_BxSxD: Array) -> Array:
        inner_BxSxF = shard(self.intermediate(x_BxSxD), "batch", None, "feed_forward")
        return shard_rows(self.output(self.activation(inner_BxSxF)))


class Block(nnx.Module):
    """Attention and feed-forward, each followed by dropout, residual and LayerNorm (post-LN, as in BERT)."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.attention = Attention(config, rngs=rngs)
        self.attention_layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config, rngs=rngs)
        self.feed_forward_layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def __call__(self, x_BxSxD: Array, mask_BxS: Array, keys_B: Array | None) -> Array:
        attended = self.attention(x_BxSxD, mask_BxS, fold(keys_B, 0))
        x_BxSxD = shard_rows(self.attention_layer_norm(shard_rows(x_BxSxD + self.dropout(attended, fold(keys_B, 1)))))
        fed = self.feed_forward(x_BxSxD)
        return shard_rows(self.feed_forward_layer_norm(shard_rows(x_BxSxD + self.dropout(fed, fold(keys_B, 2)))))


# ---- the encoder


class Encoder(nnx.Module):
    """`groups` x `inner_groups` blocks, applied over `layers` layers."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.config = config
        for group in range(config.groups):
            blocks = {f"block_{inner}": Block(config, rngs=rngs) for inner in range(config.inner_groups)}
            setattr(self, f"group_{group}", nnx.Dict(blocks))

    def groups(self) -> Iterator[tuple[list[Block], int]]:
        """The blocks of each group, in order, and the layers that it serves."""
        for group, layers in enumerate(self.config.group_layers):
            blocks = getattr(self, f"group_{group}")
            # By number: once split and merged, nnx.Dict has its names in the order of the alphabet, block_10 before 2.
            yield [blocks[f"block_{inner}"] for inner in range(self.config.inner_groups)], layers

    def __call__(
        self, x_BxSxD: Array, mask_BxS: Array, keys_B: Array | None = None, all_hidden: bool = False
    ) -> tuple[Array, Array | None]:
        """Last hidden states [B, S, D] and, when asked for, those after every layer [L, B, S, D]."""

        def layer(blocks: list[Block], x_BxSxD: Array, number: Array) -> tuple[Array, Array | None]:
            x_BxSxD = shard_rows(x_BxSxD)
            for inner, block in enumerate(blocks):
                x_BxSxD = block(x_BxSxD, mask_BxS, fold(keys_B, number * len(blocks) + inner))
            return x_BxSxD, x_BxSxD if all_hidden else None

        collected = []
        first = 0
        for blocks, count in self.groups():
            apply = remat(partial(layer, blocks), self.config.remat)
            numbers = jnp.arange(first, first + count)
            if self.config.scan:
                x_BxSxD, states = jax.lax.scan(apply, x_BxSxD, numbers)
            else:
                steps = []
                for number in numbers:
                    x_BxSxD, state = apply(x_BxSxD, number)
                    steps.append(state)
                states = jnp.stack(steps) if all_hidden else None
            collected.append(states)
            first += count
        return x_BxSxD, jnp.concatenate(collected) if all_hidden else None


def remat(layer: Callable, policy: str) -> Callable:
    """`layer` with the backward pass recomputing what `policy` says; values and gradients stay the same."""
    if policy == "none":
        return layer
    if policy == "full":
        return jax.checkpoint(layer)
    # "dots" keeps the products with weights. Those of attention have batch axes and [B, N, S, S] results, the largest
    # arrays of a layer, so they are recomputed.
    policies = jax.checkpoint_policies
    products = policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(PRODUCT)
    return jax.checkpoint(layer, policy=policies.save_from_both_policies(*products))


# ---- the model


class AlbertOutput(NamedTuple):
    hidden: Array  # [B, S, D] after the last layer
    pooled: Array | None  # [B, D] tanh of a dense layer on the first token; None without a pooler
    all_hidden: Array | None  # [L, B, S, D] after each layer, when asked for


class Embeddings(nnx.Module):
    """Word, segment and position tables of width E, summed, normalised, dropped out; the factor of the paper's 3.1."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        deviation, E = config.initializer_range, config.embedding_size
        self.word = normal_param(rngs, (config.vocab_size, E), deviation, ("vocab", "factor"))
        self.segment = normal_param(rngs, (config.segment_types, E), deviation)
        self.position = normal_param(rngs, (config.max_positions, E), deviation, (None, "factor"))
        self.layer_norm = LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def __call__(self, input_ids_BxS: Array, segment_ids_BxS: Array, keys_B: Array | None) -> Array:
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
    """The encoder that every head sits on; `pooler` False leaves the pooler out."""

    def __init__(self, config: AlbertConfig, pooler: bool = True, *, rngs: nnx.Rngs):
        if config.vocab_size < 1:
            raise AlbertError("model.vocab_size is 0 and no data gave it; give the number of pieces")
        E, D, deviation = config.embedding_size, config.hidden_size, config.initializer_range
        self.config = config
        # Each parameter takes the next key of `rngs`: another order here would change every seed's initial values.
        self.embeddings = Embeddings(config, rngs=rngs)
        if E != D:  # with bias; absent when E equals D, as in the original
            self.projection = Dense(E, D, deviation=deviation, rngs=rngs, axes=("factor", "hidden"))
        self.encoder = Encoder(config, rngs=rngs)
        if pooler:
            self.pooler = Dense(D, D, deviation=deviation, rngs=rngs, axes=("hidden", "pooled"))

    def embed(self, input_ids: Array, segment_ids: Array, dropout_keys: Array | None = None) -> Array:
        """What enters the first layer, [B, S, D] in the compute dtype; arguments as in `__call__`."""
        x = self.embeddings(input_ids, segment_ids, fold(dropout_keys, 0))
        x = x.astype(jnp.dtype(self.config.compute_dtype))
        return self.projection(x) if hasattr(self, "projection") else x

    def __call__(
        self,
        input_ids: Array,  # pieces, int [B, S]
        segment_ids: Array | None = None,  # 0 for the first and 1 for the second text, int [B, S]; default: zeros
        mask: Array | None = None,  # True for real tokens, bool [B, S]; default: all True
        *,
        dropout_keys: Array | None = None,  # one random key for each example [B], or None for no dropout
        all_hidden: bool = False,  # also return the states after each layer
    ) -> AlbertOutput:
        """Encodes a batch. Raises AlbertError when S exceeds the position table."""
        segment_ids = jnp.zeros_like(input_ids) if segment_ids is None else segment_ids
        mask = jnp.ones(input_ids.shape, bool) if mask is None else mask.astype(bool)
        x = self.embed(input_ids, segment_ids, dropout_keys)
        hidden, states = self.encoder(x, mask, fold(dropout_keys, 1), all_hidden)
        pooled = jnp.tanh(self.pooler(hidden[:, 0])) if hasattr(self, "pooler") else None
        return AlbertOutput(hidden, pooled, states)


# ---- where each layer attends: the probabilities that training never keeps, for pictures of them


def attention_probabilities(albert: Albert, input_ids: Any, segment_ids: Any = None, mask: Any = None) -> Array:
    """softmax(q k^T / sqrt(K) + bias) of every layer, float32 [L, B, N, S, S]: row = the token that looks, column = the
    token that it looks at. Rows sum to 1; a masked column is 0 wherever a real token is.

    Arguments as in `Albert.__call__`. With `inner_groups` G a layer has G attentions, and the first axis is L * G. All
    of it stays in memory: B = 1 for long sequences.

    Raises AlbertError for an id outside the vocabulary, and sequences longer than the position table.
    """
    ids = np.asarray(input_ids)
    refuse(_foreign_ids(ids, albert.config.vocab_size))
    segment_ids = np.zeros_like(ids) if segment_ids is None else segment_ids
    mask = np.ones(ids.shape, bool) if mask is None else np.asarray(mask, bool)
    graph, params = nnx.split(albert, nnx.Param)
    with jax.default_matmul_precision("highest"):  # a TPU or GPU would round float32 products otherwise
        return _probabilities(graph, params, ids, segment_ids, mask)


def _foreign_ids(ids: np.ndarray, V: int) -> Iterator[str]:
    if ids.size and (ids.min() < 0 or ids.max() >= V):  # indexing past the table would clamp silently
        yield f"input_ids hold {ids.min()} to {ids.max()}, outside 0..{V - 1}; another vocabulary's?"


@partial(jax.jit, static_argnums=0)
def _probabilities(graph: nnx.GraphDef, params: nnx.State, ids: Array, segment_ids: Array, mask: Array) -> Array:
    albert = nnx.merge(graph, params)
    x_BxSxD = albert.embed(ids, segment_ids)
    B, S, D = x_BxSxD.shape
    found = []
    for blocks, layers in albert.encoder.groups():
        for block in blocks * layers:
            attention = block.attention
            N = attention.heads
            q, k = (dense(x_BxSxD).reshape(B, S, N, D // N) for dense in (attention.query, attention.key))
            # With the identity as values, what attention mixes are the probabilities themselves.
            identity = jnp.broadcast_to(jnp.eye(S)[None, :, None], (B, S, N, S))
            found.append(attend(q, k, identity, mask).swapaxes(1, 2))
            x_BxSxD = block(x_BxSxD, mask, None)
    return jnp.stack(found).astype(jnp.float32)
