"""Fifty steps of the original's optimizers, under gradients drawn without a model and under those of the model itself.

The goldens and the script that made them (TensorFlow 1.15.5) are in `tests/goldens/google`.
"""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import create, lay_out
from albert_jax.engine.step import make_train_step
from albert_jax.interop.released import config_from_google
from albert_jax.optim import AdamW, Lamb, Schedule
from albert_jax.tasks.pretrain import PretrainObjective
from tests.goldens.google import draw
from tests.goldens.google.compare import GOLDENS, apart, drawn, flat, params

SCHEDULE = Schedule(warmup_steps=draw.WARMUP, decay_from="step_zero")


def optimizer(kind, peak):
    """As `optimization.create_optimizer` makes it."""
    if kind == "lamb":
        return Lamb(peak_lr=peak, schedule=SCHEDULE)
    return AdamW(peak_lr=peak, schedule=SCHEDULE, bias_correction=False)


def relative(ours, theirs):
    """|ours - theirs| / |theirs| of each variable."""
    return {path: float(np.linalg.norm(ours[path] - x) / np.linalg.norm(x)) for path, x in theirs.items()}


@cache
def gradients(step):
    config = config_from_google(draw.config("tiny"))
    return drawn(config, lambda name, shape: draw.gradient(name, shape, step))


@pytest.mark.parametrize("kind", ["lamb", "adamw"])
def test_fifty_steps_of_the_optimizer(kind):
    config, golden = config_from_google(draw.config("tiny")), np.load(GOLDENS / "optimizers.npz")
    current = begin = drawn(config, draw.start)
    built = optimizer(kind, draw.PEAK[kind]).build(draw.STEPS, begin)
    state = built.init(current)

    @jax.jit
    def update(grads, state, params):
        updates, state = built.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    norms = []
    for step in range(draw.STEPS):
        grads = gradients(step)
        norms.append(float(optax.tree.norm(grads)))
        current, state = update(grads, state, current)
        if step + 1 not in draw.KEPT:
            continue
        theirs = apart(golden[f"{kind}/{step + 1}"], config)
        assert set(theirs) == set(flat(current))
        if step == 0:  # the rate of the first step of a warm-up is 0
            for path, value in theirs.items():
                np.testing.assert_array_equal(value, flat(begin)[path])
            theirs.pop("albert/pooler/kernel")  # all zeros
        differences = relative(flat(current), theirs)
        print(kind, step + 1, f"{max(differences.values()):.1e}")
        assert max(differences.values()) <= 1e-6, differences
    assert norms[0] < 1 < norms[-1]  # clipping is idle at first and at work later
    moved = relative(flat(current), {path: x for path, x in flat(begin).items() if np.any(x)})
    assert min(moved.values()) > 1e-2, moved  # biases and LayerNorms included


def ours(batch):
    """The original's batch under our names."""
    return {
        "input_ids": batch["input_ids"],
        "segment_ids": batch["segment_ids"],
        "mask": batch["input_mask"].astype(bool),
        "masked_positions": batch["masked_lm_positions"],
        "masked_ids": batch["masked_lm_ids"],
        "masked_weights": batch["masked_lm_weights"],
        "order_label": batch["next_sentence_labels"][:, 0],
        "order_weight": np.ones(draw.B, np.float32),
    }


def test_fifty_steps_of_training():
    """Model, losses, gradients, clipping, schedule and LAMB together: the step that `train` runs."""
    config = config_from_google(draw.config(draw.TRAINED))
    config = dataclasses.replace(config, hidden_dropout=0.0, attention_dropout=0.0)
    task = PretrainObjective(config, config.max_positions - 2, draw.P)
    layout, begin = lay_out(task, MeshConfig(devices=1)), params(draw.TRAINED, config)
    knobs = optimizer("lamb", draw.TRAINING_PEAK)
    built = knobs.build(draw.STEPS, begin)
    state = create(task, built, 0, layout).replace(params=jax.tree.map(jnp.asarray, begin))
    schedule = knobs.schedule.build(knobs.peak_lr, draw.STEPS)
    step, losses = make_train_step(task, built, schedule, layout), []
    with jax.default_matmul_precision("highest"):
        for number in range(draw.STEPS):
            state, metrics = step(state, layout.to_devices(ours(draw.batch(draw.TRAINED, number))))
            losses.append(metrics["loss"])
    golden = np.load(GOLDENS / "training.npz")
    np.testing.assert_allclose(np.array(losses), golden["losses"], rtol=1e-5)
    theirs = apart(golden["parameters"], config)
    differences, moved = relative(flat(state.params), theirs), relative(theirs, flat(begin))
    # A key's bias adds one number to all scores of a query: its gradient is 0, and only rounding moves it.
    keys = [path for path in theirs if path.endswith("key/bias")]
    noise, _ = [differences.pop(path) for path in keys], [moved.pop(path) for path in keys]
    worst = max(differences, key=differences.get)  # type: ignore[arg-type]
    print(f"training: {worst} {differences[worst]:.1e}, key biases {max(noise):.1e}")
    assert differences[worst] <= 1e-5, (worst, differences)
    assert max(noise) <= 1e-4
    assert min(moved.values()) > 1e-3, moved
