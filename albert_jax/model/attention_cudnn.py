"""Attention by cuDNN's fused kernels, on NVIDIA GPUs in bfloat16; `attention.backend` checks the device."""

import jax
import jax.numpy as jnp
from jax import Array

from albert_jax.errors import AlbertError


def attend(q_BxSxNxK: Array, k_BxSxNxK: Array, v_BxSxNxK: Array, mask_BxS: Array) -> Array:
    """What `attention.attend` computes without dropout; -> [B, S, N, K]. Raises AlbertError where q is not bfloat16."""
    if q_BxSxNxK.dtype != jnp.bfloat16:
        raise AlbertError(
            f"model.attention 'cudnn' computes in bfloat16, not {q_BxSxNxK.dtype}; set model.compute_dtype to "
            "'bfloat16' or model.attention to 'xla'"
        )
    B, S = mask_BxS.shape
    # A mask of the scores and not sequence lengths, because the padding mask may have holes.
    mask_Bx1xSxT = jnp.broadcast_to(mask_BxS[:, None, None, :], (B, 1, S, S))
    return jax.nn.dot_product_attention(q_BxSxNxK, k_BxSxNxK, v_BxSxNxK, mask=mask_Bx1xSxT, implementation="cudnn")
