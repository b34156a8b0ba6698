"""Where each layer of an ALBERT attends: the probabilities that training never keeps, for pictures of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from albert_jax.errors import AlbertError
from albert_jax.model.albert import Albert
from albert_jax.model.attention import attend


def attention_probabilities(albert: Albert, input_ids: Any, segment_ids: Any = None, mask: Any = None) -> jax.Array:
    """softmax(q k^T / sqrt(K) + bias) of every layer, float32 [L, B, N, S, S]: row = the token that looks, column = the
    token that it looks at. Rows sum to 1; a masked column is 0 wherever a real token is.

        model, tokenizer = albert_jax.load("runs/base")
        probabilities = attention_probabilities(model.albert, ids_BxS)

    With `inner_groups` G a layer has G attentions, and the first axis L * G. All of it stands in memory: B = 1 for long
    sequences.

    Args:
      albert: the encoder, such as `albert_jax.load(...)[0].albert`
      input_ids, segment_ids, mask: as in `Albert.__call__`, int, int, bool [B, S]

    Raises AlbertError for an id outside the vocabulary, and sequences longer than the position table.
    """
    ids = np.asarray(input_ids)
    V = albert.config.vocab_size
    if ids.size and (ids.min() < 0 or ids.max() >= V):
        raise AlbertError(f"input_ids hold {ids.min()} to {ids.max()}, outside 0..{V - 1}; another vocabulary's?")
    segment_ids = np.zeros_like(ids) if segment_ids is None else segment_ids
    mask = np.ones(ids.shape, bool) if mask is None else np.asarray(mask, bool)
    graph, params = nnx.split(albert, nnx.Param)
    with jax.default_matmul_precision("highest"):  # a TPU or GPU would round float32 products otherwise
        return _run(graph, params, ids, segment_ids, mask)


def _probabilities(
    graph: nnx.GraphDef, params: nnx.State, ids: jax.Array, segment_ids: jax.Array, mask: jax.Array
) -> jax.Array:
    albert = nnx.merge(graph, params)
    x_BxSxD = albert.embeddings(ids, segment_ids, None).astype(jnp.dtype(albert.config.compute_dtype))
    if hasattr(albert, "projection"):
        x_BxSxD = albert.projection(x_BxSxD)
    B, S, D = x_BxSxD.shape
    found = []
    for group, layers in enumerate(albert.config.group_layers):
        for block in list(getattr(albert.encoder, f"group_{group}").values()) * layers:
            attention = block.attention
            q, k = (
                dense(x_BxSxD).reshape(B, S, attention.heads, D // attention.heads)
                for dense in (attention.query, attention.key)
            )
            # Values that are the identity are mixed into the probabilities themselves.
            identity = jnp.broadcast_to(jnp.eye(S)[None, :, None], (B, S, attention.heads, S))
            found.append(attend(q, k, identity, mask).swapaxes(1, 2))
            x_BxSxD = block(x_BxSxD, mask, None)
    return jnp.stack(found).astype(jnp.float32)


_run = jax.jit(_probabilities, static_argnums=0)
