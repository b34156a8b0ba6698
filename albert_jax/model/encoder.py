"""The encoder: one block, applied L times. Its parameters are closed over by the scan, never stacked, so the parameter
tree and the size of the compiled program do not depend on the depth."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from albert_jax.model import functions
from albert_jax.model.attention import backend
from albert_jax.model.axes import constrain, divides, whole
from albert_jax.model.config import AlbertConfig
from albert_jax.model.layers import Dense, Dropout, LayerNorm, placed


def fold(keys_B: jax.Array | None, number: int | jax.Array) -> jax.Array | None:
    """A fresh key for each example, for the place or layer called `number`; None (no dropout) stays None."""
    return None if keys_B is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, number)


class Attention(nnx.Module):
    """Multi-head self-attention with output projection. Kernels are 2-D [D, D], as in the original."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        def dense(*axes: str) -> Dense:
            D, deviation = config.hidden_size, config.initializer_range
            return Dense(D, D, deviation=deviation, rngs=rngs, axes=axes)  # type: ignore[arg-type]

        self.query, self.key, self.value = (dense("hidden", "heads") for _ in range(3))
        self.output = dense("heads", "hidden")
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.attend = backend(config.attention)

    def __call__(self, x_BxSxD: jax.Array, mask_BxS: jax.Array, keys_B: jax.Array | None) -> jax.Array:
        B, S, D = x_BxSxD.shape
        q, k, v = (
            constrain(x_BxSxD.reshape(B, S, self.heads, D // self.heads), "batch", None, "heads", None)
            for x_BxSxD in self._projections(x_BxSxD)
        )
        rate = 0.0 if keys_B is None else self.dropout
        mixed_BxSxNxK = self.attend(q, k, v, mask_BxS, dropout_rate=rate, dropout_keys=keys_B)
        mixed_BxSxD = constrain(mixed_BxSxNxK, "batch", None, "heads", None).reshape(B, S, D)
        return whole(self.output(mixed_BxSxD))

    def _projections(self, x_BxSxD: jax.Array) -> list[jax.Array]:
        """Queries, keys and values, [B, S, D] each."""
        parts = (self.query, self.key, self.value)
        if not divides("heads"):
            return [dense(x_BxSxD) for dense in parts]
        # One product where heads are divided over devices: the gradient of x is then one sum over them, not three.
        kernel_3xDxD = constrain(jnp.stack([placed(dense.kernel) for dense in parts]), None, None, "heads")
        bias_3x1x1xD = jnp.stack([placed(dense.bias) for dense in parts])[:, None, None]
        product = jnp.einsum("BSD,cDE->cBSE", x_BxSxD, kernel_3xDxD.astype(x_BxSxD.dtype))
        return list((product + bias_3x1x1xD).astype(x_BxSxD.dtype))


class FeedForward(nnx.Module):
    """D -> F -> D."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        D, F, deviation = config.hidden_size, config.feed_forward_size, config.initializer_range
        self.intermediate = Dense(D, F, deviation=deviation, rngs=rngs, axes=("hidden", "feed_forward"))
        self.output = Dense(F, D, deviation=deviation, rngs=rngs, axes=("feed_forward", "hidden"))
        self.activation = functions.activation(config.activation)

    def __call__(self, x_BxSxD: jax.Array) -> jax.Array:
        inner_BxSxF = constrain(self.intermediate(x_BxSxD), "batch", None, "feed_forward")
        return whole(self.output(self.activation(inner_BxSxF)))


class Block(nnx.Module):
    """Attention and feed-forward, each followed by dropout, residual and LayerNorm (post-LN, as in BERT)."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.attention = Attention(config, rngs=rngs)
        self.attention_layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config, rngs=rngs)
        self.feed_forward_layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def __call__(self, x_BxSxD: jax.Array, mask_BxS: jax.Array, keys_B: jax.Array | None) -> jax.Array:
        attended = self.attention(x_BxSxD, mask_BxS, fold(keys_B, 0))
        x_BxSxD = whole(self.attention_layer_norm(whole(x_BxSxD + self.dropout(attended, fold(keys_B, 1)))))
        fed = self.feed_forward(x_BxSxD)
        return whole(self.feed_forward_layer_norm(whole(x_BxSxD + self.dropout(fed, fold(keys_B, 2)))))


class Encoder(nnx.Module):
    """`groups` x `inner_groups` blocks, applied over `layers` layers."""

    def __init__(self, config: AlbertConfig, *, rngs: nnx.Rngs):
        self.config = config
        for group in range(config.groups):
            blocks = {f"block_{inner}": Block(config, rngs=rngs) for inner in range(config.inner_groups)}
            setattr(self, f"group_{group}", nnx.Dict(blocks))

    def __call__(
        self,
        x_BxSxD: jax.Array,
        mask_BxS: jax.Array,
        keys_B: jax.Array | None = None,
        all_hidden: bool = False,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Last hidden states [B, S, D] and, when asked for, those after every layer [L, B, S, D]."""
        collected = []
        first = 0
        for group, count in enumerate(self.config.group_layers):
            blocks = list(getattr(self, f"group_{group}").values())

            def layer(
                x_BxSxD: jax.Array, number: jax.Array, blocks: list[Block] = blocks
            ) -> tuple[jax.Array, jax.Array | None]:
                x_BxSxD = whole(x_BxSxD)
                for inner, block in enumerate(blocks):
                    x_BxSxD = block(x_BxSxD, mask_BxS, fold(keys_B, number * len(blocks) + inner))
                return x_BxSxD, x_BxSxD if all_hidden else None

            apply = remat(layer, self.config.remat)
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
    saved = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if policy == "dots" else None
    return jax.checkpoint(layer, policy=saved)
