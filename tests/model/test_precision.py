"""Which numbers are float32, what the backward pass recomputes, and that nothing random is computed for nothing; all of
the training step, read off its traced or lowered program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import abstract_params, abstract_state, initial_params, lay_out
from albert_jax.engine.step import make_gradients, make_train_step
from albert_jax.model.config import albert
from albert_jax.optim import Lamb, Schedule
from albert_jax.tasks.pretrain import PretrainObjective, random_batch
from tests.engine.test_step import equations

SMALL = albert("tiny", vocab_size=50, hidden_size=32, heads=2, feed_forward_size=64, embedding_size=16, layers=3)
B, S, P, N, D, F, E, V, L = 4, 12, 4, 2, 32, 64, 16, 50, 3
OPTIM = Lamb(peak_lr=0.02, schedule=Schedule(warmup_steps=2))


def step_and_inputs(**changes):
    task = PretrainObjective(dataclasses.replace(SMALL, **changes), S, P)
    layout = lay_out(task, MeshConfig(devices=1))
    optimizer = OPTIM.build(5, abstract_params(task))
    step = make_train_step(task, optimizer, OPTIM.schedule.build(0.02, 5), layout)
    return step, (abstract_state(task, optimizer, layout), random_batch(SMALL, B, S, P))


@pytest.fixture(scope="module")
def program():
    """All equations of a training step in bfloat16 with dropout."""
    step, inputs = step_and_inputs(compute_dtype="bfloat16", hidden_dropout=0.1, attention_dropout=0.1)
    return list(equations(jax.make_jaxpr(step)(*inputs).jaxpr))


def test_statistics_softmax_loss_and_norms_are_float32(program):
    """LayerNorm (mean, rsqrt), softmax (max, exp, sum), loss (log), LAMB and norms (sqrt, power) and every sum."""
    islands = {"exp", "log", "rsqrt", "sqrt", "integer_pow", "square", "logistic", "reduce_max", "reduce_sum", "psum"}
    found = {
        (equation.primitive.name, variable.aval.dtype.name)
        for equation in program
        if equation.primitive.name in islands
        for variable in (*equation.invars, *equation.outvars)
        if jnp.issubdtype(variable.aval.dtype, jnp.floating)
    }
    assert {dtype for _, dtype in found} == {"float32"}
    assert {name for name, _ in found} >= {"exp", "log", "rsqrt", "sqrt", "logistic", "reduce_max", "reduce_sum"}


def test_products_are_bfloat16_but_for_those_listed(program):
    """The only product that reads float32 is that of the segment table, which comes before the cast. All others read
    bfloat16; those that give bfloat16 are attention's: of the probabilities, and of the backward pass of the scores."""
    products = [equation for equation in program if equation.primitive.name == "dot_general"]
    reads = {True: [], False: []}
    for equation in products:
        reads[all(x.aval.dtype == jnp.bfloat16 for x in equation.invars)].append(equation.outvars[0].aval)
    assert sorted(x.shape for x in reads[False]) == sorted([(E, 2), (B, S, E)])
    heads, scores = (B, N, S, D // N), (B, N, S, S)
    rounded = {x.shape for x in reads[True] if x.dtype == jnp.bfloat16}
    assert {heads} <= rounded <= {heads, scores, (B, N, D // N, S)}
    summed = {x.shape for x in reads[True] if x.dtype == jnp.float32}
    assert summed >= {scores, (B * P, V), (B * P, E), (E, V), (B * S, D), (D, D), (D, F), (F, D)}
    assert len(reads[True]) > 30


def test_moments_parameters_and_metrics_stay_float32():
    step, inputs = step_and_inputs(compute_dtype="bfloat16")
    dtypes = {x.dtype.name for x in jax.tree.leaves(jax.eval_shape(step, *inputs)) if x.dtype != jnp.int32}
    assert dtypes == {"float32"}


DROPPING = {"hidden_dropout": 0.2, "attention_dropout": 0.2}


def gradients(**changes):
    task = PretrainObjective(dataclasses.replace(SMALL, **DROPPING, **changes), S, P)
    layout = lay_out(task, MeshConfig(devices=1))
    batch = layout.to_devices(random_batch(SMALL, B, S, P))
    return jax.jit(make_gradients(task, layout))(initial_params(task, 0), jnp.int32(0), batch)[0]


@pytest.fixture(scope="module")
def reference():
    return gradients()


@pytest.mark.parametrize("changes", [{"remat": "dots"}, {"remat": "full", "scan": False}])
def test_gradients_with_dropout_do_not_depend_on_remat_or_scan(reference, changes):
    """What is recomputed draws the same random numbers again."""
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(reference))
    for a, b in zip(jax.tree.leaves(gradients(**changes)), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * largest)


def kept(remat):
    """Shapes that the forward pass over the layers keeps for the backward pass, [L, ...], as often as they are kept."""
    step, inputs = step_and_inputs(remat=remat, compute_dtype="bfloat16")
    scans = [e for e in equations(jax.make_jaxpr(step)(*inputs).jaxpr) if e.primitive.name == "scan"]
    assert len(scans) == 2  # forward and backward
    return [x.aval.shape for x in scans[0].outvars[scans[0].params["num_carry"] :] if x.aval.ndim > 1]


def test_remat_full_keeps_the_input_of_each_layer_alone():
    assert kept("full") == [(L, B, S, D)]


def test_remat_dots_keeps_the_six_products_too():
    """Query, key, value, attention output and the two of the feed-forward part; no scores, no probabilities."""
    rows = B * S
    assert sorted(kept("dots")) == sorted([(L, B, S, D)] + [(L, rows, D)] * 5 + [(L, rows, 64)])


def test_remat_none_keeps_the_probabilities():
    assert (L, B, N, S, S) in kept("none")


@pytest.mark.parametrize("drops", [False, True])
def test_the_lowered_step_draws_random_numbers_only_for_dropout(drops):
    step, inputs = step_and_inputs(classifier_dropout=0.0, **(DROPPING if drops else {}))
    text = step.lower(*inputs).as_text()
    assert [word in text for word in ("threefry", "shift_right_logical", "stablehlo.xor", "ui32")] == [drops] * 4
    assert "rng" not in text
