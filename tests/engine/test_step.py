"""The step: one loss whatever the micro-batches and devices, learning, and what it must refuse or leave out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import abstract_params, create, lay_out
from albert_jax.engine.step import make_gradients, make_train_step
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Lamb, Schedule
from albert_jax.tasks.base import cross_entropy
from albert_jax.tasks.pretrain import PretrainObjective, random_batch
from albert_jax.trees import by_name, from_names

SMALL = albert("tiny", vocab_size=50, hidden_size=32, heads=2, feed_forward_size=64, embedding_size=16)
OPTIM = Lamb(peak_lr=0.02, schedule=Schedule(warmup_steps=2))


def uneven_batch(rows=16, length=12, predictions=4):
    """Unequal counts of masked positions and of ordered pairs in every half of the batch."""
    batch = random_batch(SMALL, rows, length, predictions)
    batch["masked_weights"][: rows // 2, 1:] = 0
    batch["order_weight"][:3] = 0
    batch["mask"][1, 7:] = False
    return batch


def run(config, devices=1, micro_batches=1, steps=5):
    task = PretrainObjective(config, 12, 4)
    layout = lay_out(task, MeshConfig(devices=devices))
    optimizer = OPTIM.build(steps, abstract_params(task))
    state = create(task, optimizer, 0, layout)
    schedule = OPTIM.schedule.build(OPTIM.peak_lr, steps)
    step = make_train_step(task, optimizer, schedule, layout, micro_batches=micro_batches)
    batch, losses = layout.to_devices(uneven_batch()), []
    for _ in range(steps):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return np.array(losses), state


DROPPING = dataclasses.replace(SMALL, hidden_dropout=0.2, attention_dropout=0.2)


@pytest.fixture(scope="module")
def reference():
    return run(DROPPING)


@pytest.mark.parametrize(("devices", "micro_batches"), [(8, 1), (1, 4), (2, 2)])
def test_losses_do_not_depend_on_devices_or_micro_batches(reference, devices, micro_batches):
    losses, state = run(DROPPING, devices, micro_batches)
    np.testing.assert_allclose(losses, reference[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(reference[1].params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_dropout_is_on_in_that_comparison(reference):
    losses, _ = run(SMALL)
    assert abs(losses[0] - reference[0][0]) > 1e-3


def test_losses_are_global_means_of_the_parts_that_count():
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 5)), jnp.float32)
    labels, weights = np.array([[0, 1], [2, 3], [4, 0]]), np.array([[1, 1], [1, 0], [0, 0]], np.float32)
    total, hits = cross_entropy(logits, labels, weights)
    z = np.asarray(logits, np.float64)
    each = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(total, (each * weights).sum(), rtol=1e-6)
    np.testing.assert_allclose(hits, ((z.argmax(-1) == labels) * weights).sum())
    _, tied = cross_entropy(jnp.zeros((1, 4)), np.array([2]), np.ones(1, np.float32))
    np.testing.assert_allclose(tied, 0.25)


def test_the_gradient_of_the_loss_is_softmax_minus_one_hot():
    random = np.random.default_rng(0)
    logits = jnp.asarray(3 * random.standard_normal((3, 2, 5)), jnp.float32)
    labels, weights = np.array([[0, 1], [2, 3], [4, 0]]), jnp.asarray(random.random((3, 2)), jnp.float32)
    grads = jax.grad(lambda *given: 7 * cross_entropy(given[0], labels, given[1])[0], argnums=(0, 1))(logits, weights)
    z = np.asarray(logits, np.float64)
    shares = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    np.testing.assert_allclose(grads[0], 7 * (shares - np.eye(5)[labels]) * weights[..., None], atol=1e-6)
    own = np.take_along_axis(shares, labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(grads[1], -7 * np.log(own), rtol=1e-5)


@pytest.mark.parametrize(
    "optim",
    [
        AdamW(peak_lr=2e-3, schedule=Schedule(warmup_steps=40)),
        Lamb(peak_lr=1e-2, schedule=Schedule(warmup_steps=40)),
    ],
    ids=["adamw", "lamb"],
)
def test_sixty_four_sequences_are_learned_by_heart(optim):
    config = albert("tiny", vocab_size=300, hidden_size=64, feed_forward_size=128)
    task = PretrainObjective(config, 16, 3)
    layout = lay_out(task, MeshConfig(devices=1))
    optimizer = optim.build(400, abstract_params(task))
    state = create(task, optimizer, 0, layout)
    step = make_train_step(task, optimizer, optim.schedule.build(optim.peak_lr, 400), layout)
    batch = layout.to_devices(random_batch(config, 64, 16, 3))
    for _ in range(400):
        state, metrics = step(state, batch)
    assert float(metrics["mlm_accuracy"]) > 0.99
    assert float(metrics["order_accuracy"]) == 1.0


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted():
    task = PretrainObjective(SMALL, 12, 4)
    layout = lay_out(task, MeshConfig(devices=1))
    optimizer = OPTIM.build(5, abstract_params(task))
    step = make_train_step(task, optimizer, OPTIM.schedule.build(0.02, 5), layout)
    good = uneven_batch()
    state, _ = step(create(task, optimizer, 0, layout), layout.to_devices(good))
    before = jax.device_get((state.params, state.opt_state))
    bad = {**good, "masked_weights": good["masked_weights"] * np.float32("nan")}
    for skipped in (1, 2):
        state, metrics = step(state, layout.to_devices(bad))
        assert int(metrics["skipped"]) == int(state.skipped) == skipped
    after = jax.device_get((state.params, state.opt_state))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert int(state.step) == 3
    state, _ = step(state, layout.to_devices(good))
    assert int(state.skipped) == 0


def equations(jaxpr):
    """All equations of a traced program, those of inner programs included."""
    is_program = lambda value: hasattr(value, "eqns") or hasattr(value, "jaxpr")  # noqa: E731
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(value):
                yield from equations(getattr(value, "jaxpr", value))


@pytest.mark.parametrize(("rate", "draws"), [(0.0, False), (0.1, True)])
def test_random_numbers_are_drawn_only_for_dropout(rate, draws):
    config = dataclasses.replace(SMALL, hidden_dropout=rate, attention_dropout=rate, classifier_dropout=rate)
    task = PretrainObjective(config, 12, 4)
    gradients = make_gradients(task, lay_out(task, MeshConfig(devices=1)))
    traced = jax.make_jaxpr(gradients)(abstract_params(task), jnp.int32(0), uneven_batch())
    found = {equation.primitive.name for equation in equations(traced.jaxpr)}
    assert bool({name for name in found if "random" in name or "threefry" in name or "rng" in name}) == draws


def test_gradients_of_shared_weights_are_summed_in_float32():
    """bfloat16 compute must not make the sum over layers bfloat16: the parameters are cast inside the scanned body."""
    config = dataclasses.replace(SMALL, compute_dtype="bfloat16", layers=6)
    task = PretrainObjective(config, 12, 4)
    gradients = make_gradients(task, lay_out(task, MeshConfig(devices=1)))
    jaxpr = jax.make_jaxpr(gradients)(abstract_params(task), jnp.int32(0), uneven_batch())
    shape = (32, 64)  # of the intermediate kernel
    carried = [
        variable.aval.dtype
        for equation in equations(jaxpr.jaxpr)
        if equation.primitive.name == "scan"
        for variable in equation.outvars[: equation.params["num_carry"]]
        if variable.aval.shape == shape
    ]
    assert carried and all(dtype == jnp.float32 for dtype in carried)


def test_state_is_written_by_name():
    task = PretrainObjective(SMALL, 12, 4)
    optimizer = OPTIM.build(5, abstract_params(task))
    state = optimizer.init(jax.tree.map(lambda x: jnp.zeros(x.shape), abstract_params(task)))
    named = by_name(state)
    assert set(named) == {"moments", "rate"}
    assert set(named["moments"]) == {"mean", "square"}
    assert named["moments"]["mean"]["albert"]["pooler"]["kernel"].shape == (32, 32)
    again = from_names(state, named)
    assert jax.tree.structure(again) == jax.tree.structure(state)
