"""Optimizers against transcriptions of their rules in NumPy, and the schedule against its formula."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from albert_jax import experiment as experiments
from albert_jax.commands.args import parse
from albert_jax.errors import AlbertError
from albert_jax.fields import knob
from albert_jax.optim import AdamW, Lamb, Muon, Optimizer, Schedule
from albert_jax.optim.links import adapts, paths, scale_by_path

TREE = {
    "block": {"kernel": (6, 4), "bias": (4,), "attention_layer_norm": {"scale": (4,), "bias": (4,)}},
    "word": (9, 4),
}


def tree(random, spread=1.0):
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(lambda s: spread * random.standard_normal(s).astype(np.float32), TREE, is_leaf=is_shape)


def run(config, steps, params, grads):
    optimizer = config.build(steps, params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for t in range(steps):
        updates, state = update(grads[t], state, params)
        params = optax.apply_updates(params, updates)
    return params


def transcribed(
    steps, params, grads, *, peak, warmup, clip, trust, wd=0.01, b1=0.9, b2=0.999, eps=1e-6, corrected=False
):
    """One variable after the other, float64, as the rules read."""
    params = {name: x.astype(np.float64) for name, x in params.items()}
    m = {name: np.zeros_like(x) for name, x in params.items()}
    v = {name: np.zeros_like(x) for name, x in params.items()}
    for t in range(steps):
        g = {name: x.astype(np.float64) for name, x in grads[t].items()}
        norm = np.sqrt(sum((x**2).sum() for x in g.values()))
        if clip and norm > clip:
            g = {name: x * clip / norm for name, x in g.items()}
        rate = peak * t / warmup if t < warmup else peak * (1 - (t - warmup) / (steps - warmup))
        for name in params:
            m[name] = b1 * m[name] + (1 - b1) * g[name]
            v[name] = b2 * v[name] + (1 - b2) * g[name] ** 2
            m_hat = m[name] / (1 - b1 ** (t + 1)) if corrected else m[name]
            v_hat = v[name] / (1 - b2 ** (t + 1)) if corrected else v[name]
            step = m_hat / (np.sqrt(v_hat) + eps)
            if "bias" not in name and "layer_norm" not in name:
                step = step + wd * params[name]
                if trust:
                    weight, size = np.linalg.norm(params[name]), np.linalg.norm(step)
                    step = step * (weight / size if weight > 0 and size > 0 else 1.0)
            params[name] = params[name] - rate * step
    return params


def flat(nested):
    return dict(zip(jax.tree.leaves(paths(nested)), jax.tree.leaves(nested), strict=True))


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (Lamb(peak_lr=0.02, schedule=Schedule(warmup_steps=5)), {"trust": True}),
        (AdamW(peak_lr=0.02, schedule=Schedule(warmup_steps=5), bias_correction=False), {"trust": False}),
        (AdamW(peak_lr=0.02, schedule=Schedule(warmup_steps=5)), {"trust": False, "corrected": True}),
    ],
    ids=["lamb", "adamw as the original fine-tunes", "adamw"],
)
def test_fifty_steps_equal_the_transcription(config, rule):
    close = 5e-6 if rule.get("corrected") else 1e-6  # 1 - 0.999^t, a float32 in optax, has lost five digits at t = 1
    random = np.random.default_rng(0)
    params, grads = tree(random, 0.5), [tree(random, 0.3) for _ in range(50)]
    got = flat(run(config, 50, params, grads))
    want = transcribed(50, flat(params), [flat(g) for g in grads], peak=0.02, warmup=5, clip=1.0, **rule)
    for name in want:
        moved = np.abs(want[name] - flat(params)[name]).max()
        assert moved > 1e-2
        np.testing.assert_allclose(got[name], want[name], atol=close * max(1.0, np.abs(want[name]).max()), err_msg=name)


def test_lamb_is_not_optax_lamb():
    """Guards the two differences: no bias correction, and biases outside the trust ratio."""
    random = np.random.default_rng(0)
    params, grads = tree(random, 0.5), [tree(random, 0.3) for _ in range(10)]
    ours = flat(run(Lamb(peak_lr=0.02, clip_norm=0), 10, params, grads))
    other = optax.lamb(Schedule().build(0.02, 10), eps=1e-6, weight_decay=0.01, mask=adapts)
    state, theirs = other.init(params), params
    for t in range(10):
        updates, state = other.update(grads[t], state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    assert np.abs(ours["block/bias"] - flat(theirs)["block/bias"]).max() > 0.05


def test_trust_ratio_is_one_where_a_norm_is_zero():
    params = {"kernel": jnp.zeros((3, 2))}
    grads = {"kernel": jnp.ones((3, 2))}
    optimizer = Lamb(peak_lr=1.0, clip_norm=0, weight_decay=0.0).build(10, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    # m / (sqrt(v) + eps) at the first step: 0.1 / (sqrt(0.001) + 1e-6)
    np.testing.assert_allclose(updates["kernel"], -0.1 / (np.sqrt(0.001) + 1e-6), rtol=1e-5)


def test_adapts_by_name():
    found = flat(adapts(tree(np.random.default_rng(0))))
    assert found == {
        "block/attention_layer_norm/bias": False,
        "block/attention_layer_norm/scale": False,
        "block/bias": False,
        "block/kernel": True,
        "word": True,
    }


@pytest.mark.parametrize("step, rate", [(0, 0.0), (1562, 1.76e-3 * 1562 / 3125), (3125, 1.76e-3), (125_000, 0.0)])
def test_schedule_peaks_at_the_end_of_warmup(step, rate):
    schedule = Schedule(warmup_steps=3125).build(1.76e-3, 125_000)
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("step, rate", [(3124, 1.76e-3 * 3124 / 3125), (3125, 1.716e-3), (62_500, 0.88e-3)])
def test_schedule_of_the_original_counts_decay_from_step_zero(step, rate):
    schedule = Schedule(warmup_steps=3125, decay_from="step_zero").build(1.76e-3, 125_000)
    np.testing.assert_allclose(schedule(step), rate, rtol=1e-4)


def test_schedule_power_and_end():
    schedule = Schedule(decay_power=0.5, end_fraction=0.1).build(2.0, 100)
    np.testing.assert_allclose(schedule(75), 2.0 * (0.1 + 0.9 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(schedule(1000), 0.2, rtol=1e-6)


def test_warmup_longer_than_the_run_is_an_error():
    with pytest.raises(AlbertError, match="warmup_steps is 11"):
        Schedule(warmup_steps=11).build(1.0, 10)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.0), (10, 1.0), (60, 1.0), (70, 0.75), (100, 0.0)])
def test_a_stable_share_stays_at_the_peak_after_warmup(step, rate):
    schedule = Schedule(warmup_steps=10, stable_share=0.5).build(1.0, 100)
    assert float(schedule(step)) == pytest.approx(rate)


def test_a_stable_share_that_leaves_no_decay_is_an_error():
    with pytest.raises(AlbertError, match="stable_share 0.9 and the warm-up of 10 steps"):
        Schedule(warmup_steps=10, stable_share=0.9).build(1.0, 100)


def test_muon_turns_encoder_kernels_by_orthogonal_steps_and_the_rest_by_adam():
    shapes = {"albert": {"encoder": {"kernel": (6, 4), "bias": (4,)}, "embeddings": {"word": (9, 4)}}}
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    random = np.random.default_rng(0)
    params, grads = (jax.tree.map(lambda s: random.standard_normal(s), shapes, is_leaf=is_shape) for _ in range(2))
    rule = Muon(peak_lr=0.5, weight_decay=0.0, clip_norm=0.0, schedule=Schedule(end_fraction=1.0), rms=0.2)
    optimizer = rule.build(10, params)
    updates = optimizer.update(grads, optimizer.init(params), params)[0]["albert"]
    kernel, table = np.asarray(updates["encoder"]["kernel"]), grads["albert"]["embeddings"]["word"]
    # The five iterations leave singular values between 0.7 and 1.2; their mean square is the rms asked for.
    values = np.linalg.svd(kernel)[1] / (0.5 * 0.2 * np.sqrt(6))
    assert values.min() > 0.6 and values.max() < 1.3 and np.sum(kernel * grads["albert"]["encoder"]["kernel"]) < 0
    np.testing.assert_allclose(updates["embeddings"]["word"], -0.5 * np.sign(table), rtol=1e-5)
    np.testing.assert_allclose(
        updates["encoder"]["bias"], -0.5 * np.sign(grads["albert"]["encoder"]["bias"]), rtol=1e-5
    )


def test_rates_by_path_multiply_and_freeze():
    params = tree(np.random.default_rng(0))
    link = scale_by_path({"^block/": 0.5, "kernel$": 0.1, "word": 0.0}, params)
    updates, _ = link.update(jax.tree.map(np.ones_like, params), link.init(params), params)
    found = {name: float(x.max()) for name, x in flat(updates).items()}
    assert found["block/kernel"] == pytest.approx(0.05)
    assert found["block/bias"] == 0.5
    assert found["word"] == 0.0


def test_a_rate_that_matches_nothing_is_an_error():
    with pytest.raises(AlbertError, match="'encodr'.*block/kernel"):
        Lamb(rates={"encodr": 0.1}).build(10, tree(np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--optim.peak-lr -1", "optim.peak_lr is -1; give a rate of at least 0"),
        ("--optim.clip-norm -1", "optim.clip_norm is -1; it must not be negative"),
        ("--optim.b1 1.5", r"optim.b1 is 1.5; it must lie in \[0, 1\)"),
        ("--optim.b2 1", r"optim.b2 is 1; it must lie in \[0, 1\)"),
        ("--optim.eps 0", "optim.eps is 0; it must be above 0"),
        ("--optim.weight-decay -0.1", "optim.weight_decay is -0.1; it must not be negative"),
        ("--optim.layer-decay nan", "optim.layer_decay is nan; it must be a finite number"),
        ("--optim.schedule.warmup-steps -1", "optim.schedule.warmup_steps is -1; it must not be negative"),
        ("--optim.schedule.warmup-share 1.5", r"optim.schedule.warmup_share is 1.5; it must lie in \[0, 1\]"),
        ("--optim.schedule.decay-power nan", "optim.schedule.decay_power is nan; it must be above 0"),
        ("--optim.schedule.decay-power 0", "optim.schedule.decay_power is 0; it must be above 0"),
        ("--optim.schedule.end-fraction -0.1", "optim.schedule.end_fraction is -0.1; it must not be negative"),
    ],
)
@pytest.mark.parametrize("kind", [Lamb, AdamW, Muon])
def test_numbers_out_of_range_are_named(kind, words, message):
    default = dataclasses.replace(experiments.example(), optim=kind())
    with pytest.raises(AlbertError, match=message):
        parse(experiments.Experiment, words.split(), prog="test", default=default)


@dataclass(frozen=True)
class Sign(Optimizer):
    """What a user may write in a config file."""

    momentum: float = knob(0.5, at_least=0, below=1)

    def build(self, total_steps, params):
        return self.chain(total_steps, params, momentum=optax.trace(self.momentum), sign=optax.scale_by_sign())


def test_an_optimizer_of_one_s_own_is_one_class():
    """It inherits rate, schedule, clipping, factors by path, and the refusal of numbers out of range."""
    params = tree(np.random.default_rng(0))
    own = Sign(peak_lr=0.1, rates={"^word$": 0.0}, clip_rule="replica", clip_norm=3.0)
    optimizer = own.build(10, params)
    updates, state = optimizer.update(jax.tree.map(np.ones_like, params), optimizer.init(params), params)
    found = {name: np.unique(x).tolist() for name, x in flat(updates).items()}
    assert found.pop("word") == [0.0]
    assert all(values == [pytest.approx(-0.1)] for values in found.values())
    assert list(state) == ["clip", "momentum", "sign", "rates", "rate"] and state["clip"] == optax.EmptyState()
    assert (own.replica_clip, Sign().replica_clip, Sign(clip_rule="replica", clip_norm=0).replica_clip) == (3.0, 0, 0)
    with pytest.raises(AlbertError, match=r"optim.momentum is 1; it must lie in \[0, 1\)"):
        Sign(momentum=1)
