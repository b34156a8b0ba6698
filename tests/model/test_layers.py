"""Element-wise and row-wise functions against plain formulas in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.errors import AlbertError
from albert_jax.model import layers


def _random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _dtypes_of(closed_jaxpr, primitive):
    """Input dtypes of every use of `primitive`, however deep."""
    found = []

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == primitive:
                found.append(eqn.invars[0].aval.dtype)
            for value in eqn.params.values():
                if hasattr(value, "jaxpr"):
                    walk(value.jaxpr)
                elif hasattr(value, "eqns"):
                    walk(value)

    walk(closed_jaxpr.jaxpr)
    return found


def test_gelu_tanh_is_the_tanh_formula_of_the_original():
    x = np.linspace(-12.0, 12.0, 4001)
    expected = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(layers.gelu_tanh(jnp.float32(x)), expected, atol=1e-6)


def test_gelu_tanh_gradient_is_that_of_the_formula():
    x = np.linspace(-12.0, 12.0, 4001)
    tanh = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    expected = 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * slope
    ours = jax.grad(lambda x: layers.gelu_tanh(x).sum())(jnp.float32(x))
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_gelu_erf_is_x_times_the_normal_distribution():
    x = np.linspace(-6.0, 6.0, 1001)
    expected = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(layers.gelu_erf(jnp.float32(x)), expected, atol=1e-6)


def test_the_two_gelus_differ_by_as_much_as_is_known():
    x = jnp.linspace(-6.0, 6.0, 200_001)
    difference = jnp.abs(layers.gelu_tanh(x) - layers.gelu_erf(x))
    assert float(difference.max()) == pytest.approx(4.73e-4, rel=0.01)
    assert abs(float(x[difference.argmax()])) == pytest.approx(2.68, abs=0.02)


def test_activations_by_name():
    assert layers.activation("gelu_tanh") is layers.gelu_tanh
    assert layers.activation("gelu_erf") is layers.gelu_erf
    assert layers.activation("relu")(jnp.float32(-1.0)) == 0.0
    with pytest.raises(AlbertError, match="gelu_tanh"):
        layers.activation("gelu")


@pytest.mark.parametrize("sizes", [(5, 7), (7, 5)])
def test_dense_and_its_gradients_are_the_plain_formula(sizes):
    x, kernel, bias = _random(0, 2, 3, sizes[0]), _random(1, *sizes), _random(2, sizes[1])
    weight = _random(3, 2, 3, sizes[1])
    np.testing.assert_allclose(layers.dense(x, kernel, bias), x @ kernel + bias, rtol=1e-5, atol=1e-5)
    ours = jax.grad(lambda *a: jnp.sum(weight * layers.dense(*a)), argnums=(0, 1, 2))(x, kernel, bias)
    plain = jax.grad(lambda x, k, b: jnp.sum(weight * (x @ k + b)), argnums=(0, 1, 2))(x, kernel, bias)
    for got, expected in zip(ours, plain, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_gradient_of_a_shared_kernel_is_summed_in_float32_under_bfloat16():
    kernel, bias, L = jnp.asarray(_random(0, 8, 8)) / 8, jnp.zeros(8), 64
    x = jnp.asarray(_random(1, 4, 8), jnp.bfloat16)

    def loss(kernel):
        out, _ = jax.lax.scan(lambda x, _: (layers.dense(x, kernel, bias), None), x, None, length=L)
        return out.astype(jnp.float32).sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(kernel)
    sums = _dtypes_of(jaxpr, "add_any")
    assert sums and all(dtype == jnp.float32 for dtype in sums)
    assert jax.grad(loss)(kernel).dtype == jnp.float32
    assert layers.dense(x, kernel, bias).dtype == jnp.bfloat16


def test_layer_norm_is_the_formula():
    x, scale, bias = _random(0, 4, 6, 32), _random(1, 32), _random(2, 32)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-12) * scale + bias
    np.testing.assert_allclose(layers.layer_norm(x, scale, bias), expected, atol=2e-6)


def test_layer_norm_keeps_its_accuracy_when_the_mean_dwarfs_the_deviation():
    # Mean 30, deviation 1e-3: the one-pass variance E[x^2] - E[x]^2 is off by thousands here, two passes by 0.004.
    x = (30.0 + 1e-3 * np.random.default_rng(0).normal(size=(64, 768))).astype(np.float32)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-12)
    ours = layers.layer_norm(x, np.ones(768, np.float32), np.zeros(768, np.float32))
    assert np.abs(ours - expected).max() < 0.01


def test_layer_norm_of_a_constant_row_is_the_bias():
    bias = jnp.arange(16.0)
    ours = layers.layer_norm(jnp.full((2, 16), 3.0), jnp.ones(16), bias)
    np.testing.assert_allclose(ours, jnp.tile(bias, (2, 1)))


def test_layer_norm_takes_its_statistics_in_float32_from_bfloat16():
    x = jnp.asarray(_random(0, 4, 32), jnp.bfloat16)
    jaxpr = jax.make_jaxpr(layers.layer_norm)(x, jnp.ones(32), jnp.zeros(32))
    for primitive in ("reduce_sum", "rsqrt"):
        dtypes = _dtypes_of(jaxpr, primitive)
        assert dtypes and all(dtype == jnp.float32 for dtype in dtypes)
    assert jaxpr.out_avals[0].dtype == jnp.bfloat16


def test_dropout_keeps_the_mean_and_drops_its_rate():
    keys = jax.random.split(jax.random.key(0), 64)
    dropped = np.asarray(layers.dropout(jnp.ones((64, 1000)), 0.1, keys))
    # 64,000 draws: the share dropped has deviation sqrt(0.1 x 0.9 / 64000) = 0.0012; the band is 4 of these.
    assert np.mean(dropped == 0) == pytest.approx(0.1, abs=0.005)
    np.testing.assert_allclose(dropped[dropped != 0], 1 / 0.9, rtol=1e-6)


def test_dropout_of_an_example_does_not_depend_on_the_batch_around_it():
    keys, x = jax.random.split(jax.random.key(0), 8), jnp.asarray(_random(0, 8, 5, 3))
    whole = layers.dropout(x, 0.5, keys)
    halves = [layers.dropout(x[rows], 0.5, keys[rows]) for rows in (slice(0, 3), slice(3, 8))]
    np.testing.assert_array_equal(whole, jnp.concatenate(halves))
    assert not np.array_equal(whole[0] != 0, whole[1] != 0)


def test_dropout_of_rate_zero_draws_nothing():
    x = jnp.ones((2, 3))
    keys = jax.random.split(jax.random.key(0), 2)
    drawing = jax.make_jaxpr(lambda x, keys: layers.dropout(x, 0.1, keys))(x, keys)
    silent = jax.make_jaxpr(lambda x, keys: layers.dropout(x, 0.0, keys))(x, keys)
    assert "random_bits" in str(drawing) and len(silent.eqns) == 0
    with pytest.raises(AlbertError, match="key"):
        layers.dropout(x, 0.1, None)
    with pytest.raises(AlbertError, match="1.5"):
        layers.dropout(x, 1.5, keys)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_bfloat16_product_has_float32_sums_in_both_passes(axis):
    x, kernel, grad = (jnp.bfloat16(_random(i, *shape)) for i, shape in enumerate(((300, 24), (24, 40), (300, 40))))
    exact = [np.asarray(a, np.float64) for a in (x, kernel, grad)]
    table = (kernel.T if axis else kernel).astype(jnp.float32)

    @jax.jit
    def both(x, table, grad):
        value, backward = jax.vjp(lambda *factors: layers.product(*factors, axis), x, table)
        return value, *backward(grad)

    value, x_grad, kernel_grad = both(x, table, grad.astype(jnp.float32))
    kernel_grad = kernel_grad.T if axis else kernel_grad
    assert (value.dtype, x_grad.dtype, kernel_grad.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(value, exact[0] @ exact[1], atol=2e-5)
    np.testing.assert_allclose(kernel_grad, exact[0].T @ exact[2], atol=1e-4)  # bfloat16 sums would be off by 0.1
    np.testing.assert_allclose(x_grad.astype(jnp.float32), exact[2] @ exact[1].T, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dense_is_the_affine_map_and_its_gradients(dtype):
    x, kernel, bias = jnp.asarray(_random(0, 2, 30, 24), dtype), _random(1, 24, 40), _random(2, 40)
    value, backward = jax.vjp(layers.dense, x, kernel, bias)
    grads = backward(jnp.ones_like(value))
    exact = np.asarray(x, np.float64)
    tolerance = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    assert value.dtype == grads[0].dtype == dtype and grads[1].dtype == grads[2].dtype == jnp.float32
    expected = (
        np.ones((*exact.shape[:2], 40)) @ kernel.T,
        exact.sum((0, 1))[:, None].repeat(40, 1),
        np.full(40, 60.0),
    )
    np.testing.assert_allclose(np.asarray(value, np.float64), exact @ kernel + bias, rtol=tolerance, atol=tolerance * 4)
    for found, exact_one in zip(grads, expected, strict=True):
        np.testing.assert_allclose(np.asarray(found, np.float64), exact_one, rtol=tolerance, atol=tolerance * 4)
