"""Where each layer of an ALBERT attends: the probabilities that training never keeps, for pictures of them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from albert_jax.errors import refuse
from albert_jax.model.albert import Albert
from albert_jax.model.attention import attend


def attention_probabilities(albert: Albert, input_ids: Any, segment_ids: Any = None, mask: Any = None) -> Array:
    """softmax(q k^T / sqrt(K) + bias) of every layer, float32 [L, B, N, S, S]: row = the token that looks, column = the
    token that it looks at. Rows sum to 1; a masked column is 0 wherever a real token is.

        model, tokenizer = albert_jax.load("runs/base")
        probabilities = attention_probabilities(model.albert, ids_BxS)

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
            q, k = (
                dense(x_BxSxD).reshape(B, S, attention.heads, D // attention.heads)
                for dense in (attention.query, attention.key)
            )
            # With the identity as values, what attention mixes are the probabilities themselves.
            identity = jnp.broadcast_to(jnp.eye(S)[None, :, None], (B, S, attention.heads, S))
            found.append(attend(q, k, identity, mask).swapaxes(1, 2))
            x_BxSxD = block(x_BxSxD, mask, None)
    return jnp.stack(found).astype(jnp.float32)
