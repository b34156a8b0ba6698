"""Label smoothing of the masked pieces' loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from albert_jax.data.examples.pairs import PairConfig
from albert_jax.errors import AlbertError
from albert_jax.fields import check
from albert_jax.model.config import albert
from albert_jax.tasks import Pretrain

CONFIG = albert("tiny", vocab_size=11)
PLAIN = Pretrain(pairs=PairConfig(16))
SMOOTHED = dataclasses.replace(PLAIN, label_smoothing=0.1)


def test_smoothing_is_the_cross_entropy_to_a_smoothed_target_and_leaves_mlm_loss_plain() -> None:
    random = np.random.default_rng(0)
    logits = jnp.asarray(3 * random.normal(size=(2, 3, 11)), jnp.float32)
    order = jnp.asarray(random.normal(size=(2, 2)), jnp.float32)
    batch = SMOOTHED.objective(CONFIG).example_batch(2) | {
        "masked_ids": random.integers(0, 11, (2, 3)).astype(np.int32),
        "masked_weights": np.array([[1, 1, 0], [1, 0, 1]], np.float32),
    }
    plain, smoothed = (
        task.objective(CONFIG).sums(lambda *_: (logits, order), batch, None)[0] for task in (PLAIN, SMOOTHED)
    )
    assert set(smoothed) - set(plain) == {"smoothing"}
    assert all(plain[name][0] == smoothed[name][0] for name in plain)
    target = 0.9 * jax.nn.one_hot(batch["masked_ids"], 11) + 0.1 / 11
    wanted = -((target * jax.nn.log_softmax(logits)).sum(-1) * batch["masked_weights"]).sum()
    np.testing.assert_allclose(smoothed["mlm_loss"][0] + smoothed["smoothing"][0], wanted, rtol=1e-6)
    assert smoothed["smoothing"][1] == smoothed["mlm_loss"][1] == "masked"  # divided by the same weight


def test_the_loss_is_what_is_smoothed() -> None:
    assert PLAIN.objective(CONFIG).losses == ("mlm_loss", "order_loss")
    assert SMOOTHED.objective(CONFIG).losses == ("mlm_loss", "order_loss", "smoothing")
    off = dataclasses.replace(SMOOTHED, pairs=PairConfig(16, order="off"))
    assert off.objective(CONFIG).losses == ("mlm_loss", "smoothing")
    with pytest.raises(AlbertError, match="label_smoothing"):
        check(Pretrain(label_smoothing=1.0), "task")
