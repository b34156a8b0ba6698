"""Attention against the plain formula in numpy, its padding, its dropout and its dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.model import attention

B, S, N, K = 2, 7, 3, 4


def _inputs(seed=0, dtype=jnp.float32):
    random = np.random.default_rng(seed)
    q, k, v = (jnp.asarray(random.normal(size=(B, S, N, K)), dtype) for _ in range(3))
    mask = jnp.asarray(np.arange(S)[None, :] < np.array([[S], [4]]))  # the second example has 4 real positions
    return q, k, v, mask


def _plain(q, k, v, mask):
    """One head of one example at a time, float64; masked keys are left out, not biased."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros(q.shape)
    for b in range(q.shape[0]):
        real = np.flatnonzero(np.asarray(mask)[b])
        for n in range(q.shape[2]):
            scores = q[b, :, n] @ k[b, real, n].T / np.sqrt(q.shape[-1])
            probs = np.exp(scores - scores.max(-1, keepdims=True))
            out[b, :, n] = probs / probs.sum(-1, keepdims=True) @ v[b, real, n]
    return out


def test_attend_is_the_formula_over_real_keys():
    q, k, v, mask = _inputs()
    np.testing.assert_allclose(attention.attend(q, k, v, mask), _plain(q, k, v, mask), atol=2e-6)


def test_attend_has_the_gradient_of_the_formula():
    q, k, v, mask = _inputs()
    weight = jnp.asarray(np.random.default_rng(9).normal(size=(B, S, N, K)), jnp.float32)

    def plain(q, k, v):  # another layout, and exp / sum written out
        scores = jnp.einsum("bsnk,btnk->bstn", q, k) / 2.0
        weights = jnp.exp(scores) * mask[:, None, :, None]
        return jnp.sum(weight * jnp.einsum("bstn,btnk->bsnk", weights / weights.sum(2, keepdims=True), v))

    ours = jax.grad(lambda *qkv: jnp.sum(weight * attention.attend(*qkv, mask)), argnums=(0, 1, 2))(q, k, v)
    for got, expected in zip(ours, jax.grad(plain, argnums=(0, 1, 2))(q, k, v), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_padded_keys_and_values_change_nothing():
    q, k, v, mask = _inputs()
    padding = ~np.asarray(mask)[:, :, None, None]
    k2, v2 = (jnp.where(padding, 50.0, x) for x in (k, v))
    np.testing.assert_array_equal(attention.attend(q, k, v, mask), attention.attend(q, k2, v2, mask))


def test_padded_keys_and_values_get_no_gradient():
    q, k, v, mask = _inputs()
    grads = jax.grad(lambda k, v: attention.attend(q, k, v, mask).sum(), argnums=(0, 1))(k, v)
    for grad in grads:
        assert float(jnp.abs(grad[1, 4:]).max()) == 0.0 < float(jnp.abs(grad[1, :4]).max())


def test_an_example_without_real_keys_is_finite():
    q, k, v, _ = _inputs()
    mask = jnp.zeros((B, S), bool)
    value, grads = jax.value_and_grad(lambda q, k, v: attention.attend(q, k, v, mask).sum(), (0, 1, 2))(q, k, v)
    assert np.isfinite(value) and all(np.isfinite(grad).all() for grad in grads)


def test_products_of_the_backward_pass_are_bfloat16_for_bfloat16_inputs():
    q, k, v, mask = _inputs(dtype=jnp.bfloat16)
    loss = lambda *qkv: attention.attend(*qkv, mask).astype(jnp.float32).sum()  # noqa: E731
    backward = jax.value_and_grad(loss, argnums=(0, 1, 2))
    program = jax.jit(backward).lower(q, k, v).as_text()
    types = [line.split(" : ")[-1] for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert len(types) == 6  # two forward, four backward
    assert all(line.split("->")[0].count("xbf16>") == 2 for line in types)


def test_softmax_is_float32_for_bfloat16_inputs():
    q, k, v, mask = _inputs(dtype=jnp.bfloat16)
    jaxpr = jax.make_jaxpr(attention.attend)(q, k, v, mask)
    lines = [line for line in str(jaxpr).splitlines() if " exp " in line or "reduce_sum" in line]
    assert lines and all("f32[" in line and "bf16[" not in line for line in lines)
    out = attention.attend(q, k, v, mask)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), _plain(q, k, v, mask), atol=0.03)


def test_dropout_falls_on_single_probabilities_by_example():
    q, k, _, _ = _inputs()
    eye = jnp.broadcast_to(jnp.eye(S)[None, :, None, :], (B, S, N, S))  # values that read the probabilities out
    mask, keys = jnp.ones((B, S), bool), jax.random.split(jax.random.key(0), B)
    kept = attention.attend(q, k, eye, mask)
    dropped = attention.attend(q, k, eye, mask, dropout_rate=0.5, dropout_keys=keys)
    drawn = np.asarray(dropped) != 0
    np.testing.assert_allclose(np.asarray(dropped)[drawn], 2 * np.asarray(kept)[drawn], rtol=1e-5)
    # 294 draws at 0.5: deviation 0.029, band of 4; and no two rows, heads or examples share a draw.
    assert drawn.mean() == pytest.approx(0.5, abs=0.12)
    rows = drawn.transpose(0, 2, 1, 3).reshape(B * N, -1)
    assert len(np.unique(rows, axis=0)) == B * N
    second = attention.attend(q[1:], k[1:], eye[1:], mask[1:], dropout_rate=0.5, dropout_keys=keys[1:])
    np.testing.assert_array_equal(np.asarray(second[0]) != 0, drawn[1])
