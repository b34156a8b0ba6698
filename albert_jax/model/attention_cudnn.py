"""Attention by cuDNN's fused kernels, on NVIDIA GPUs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from albert_jax.errors import AlbertError
from albert_jax.model.attention_base import refuse_dropout, require_platform


def attend(
    q_BxSxNxK: jax.Array,
    k_BxSxNxK: jax.Array,
    v_BxSxNxK: jax.Array,
    mask_BxS: jax.Array,
    dropout_rate: float = 0.0,
    dropout_keys: jax.Array | None = None,
) -> jax.Array:
    """What `attention.attend` computes, on an NVIDIA GPU in bfloat16; -> [B, S, N, K] in the dtype of q.

    The padding mask goes in as a mask of the scores and not as sequence lengths, because it may have holes.

    Args:
        q_BxSxNxK, k_BxSxNxK, v_BxSxNxK, mask_BxS: as in `attention.attend`.
        dropout_rate, dropout_keys: of the common signature; the rate must be 0.

    Raises:
        AlbertError: for a positive dropout rate, a device that is not a GPU, or another dtype than bfloat16.
    """
    refuse_dropout("cudnn", dropout_rate)
    if q_BxSxNxK.dtype != jnp.bfloat16:
        raise AlbertError(
            f"model.attention 'cudnn' computes in bfloat16, not {q_BxSxNxK.dtype}; set model.compute_dtype to "
            "'bfloat16' or model.attention to 'xla'"
        )
    require_platform("cudnn", "gpu")
    B, S = mask_BxS.shape
    mask_Bx1xSxT = jnp.broadcast_to(mask_BxS[:, None, None, :], (B, 1, S, S))
    return jax.nn.dot_product_attention(q_BxSxNxK, k_BxSxNxK, v_BxSxNxK, mask=mask_Bx1xSxT, implementation="cudnn")
