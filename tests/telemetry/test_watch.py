"""The collapse watch fires on flat runs, once, and keeps quiet on healthy ones, noise or not."""

import math

import numpy as np
import pytest

from albert_jax.telemetry.watch import LN2, CollapseWatch, WatchConfig

ENTROPY = 6.43
CONFIG = WatchConfig(grace_steps=1000, order_grace_steps=1500)
STEPS = range(10, 6001, 10)


def run(mlm, order, seed=0, noise=0.0, config=CONFIG, entropy=ENTROPY):
    """Sentences of a run whose losses at a step are `mlm(step)` and `order(step)`, as (step, text)."""
    random = np.random.default_rng(seed)
    watch = CollapseWatch(config, entropy)
    reported = []
    for step in STEPS:
        a, b = (
            mlm(step) + 3 * noise * random.standard_normal(),
            order(step) + noise * random.standard_normal(),
        )
        reported += [(step, text) for text in watch.observe(step, {"loss": a + b, "mlm_loss": a, "order_loss": b})]
    return reported


def healthy_mlm(step):
    return 3.5 + 5.0 * math.exp(-step / 500)


def healthy_order(step):
    return 0.35 + 0.34 * math.exp(-max(step - 700, 0) / 400)


def flat(value):
    return lambda step: value


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.08])
@pytest.mark.parametrize("seed", range(10))
def test_silent_on_a_healthy_run(noise, seed):
    assert run(healthy_mlm, healthy_order, seed, noise) == []


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.08])
@pytest.mark.parametrize("seed", range(10))
def test_fires_once_for_each_condition(noise, seed):
    reported = run(flat(ENTROPY), flat(LN2), seed, noise)
    assert len(reported) == 2
    (mlm_step, mlm), (order_step, order) = reported
    assert "sits at the corpus' unigram entropy 6.43" in mlm and "learning rate not scaled" in mlm
    assert "ln 2 = 0.693" in order and "Likely causes" in order
    # Grace, then a full window of 20 records; noise may only delay the word.
    assert mlm_step == 1200 if noise == 0 else 1200 <= mlm_step <= 3000
    assert order_step == 1700 if noise == 0 else 1700 <= order_step <= 3500


def test_conditions_are_independent():
    assert [text for _, text in run(healthy_mlm, flat(LN2))] == [run(flat(ENTROPY), flat(LN2))[1][1]]
    (only,) = run(flat(ENTROPY), healthy_order)
    assert "MLM" in only[1]


def test_worse_than_unigrams_is_told_differently():
    (only,) = run(flat(math.log(30_000)), healthy_order)
    assert "worse than always guessing by piece frequency" in only[1]


def test_a_run_that_falls_back_is_noticed():
    (only,) = run(lambda step: healthy_mlm(step) if step < 3000 else ENTROPY + 0.02, healthy_order)
    assert 3100 < only[0] <= 3200


def test_slow_but_learning_is_not_collapsed():
    assert run(flat(ENTROPY - 0.2), flat(LN2 - 0.02)) == []


def test_not_a_number_is_told_once():
    reported = run(lambda step: math.nan if step > 500 else healthy_mlm(step), healthy_order)
    assert [step for step, _ in reported] == [510]
    assert "loss is nan" in reported[0][1]


def test_grace_is_counted_in_steps():
    patient = WatchConfig(grace_steps=5900, order_grace_steps=5900)
    assert run(flat(ENTROPY), flat(LN2), config=patient) == []


def test_unknown_entropy_and_absent_losses():
    assert [text for _, text in run(flat(9.0), healthy_order, entropy=None)] == []
    watch = CollapseWatch(CONFIG, ENTROPY)
    assert all(watch.observe(step, {"loss": 2.0, "accuracy": 0.1}) == [] for step in STEPS)
