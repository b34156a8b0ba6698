"""Checkpoints by themselves: which are kept, what is refused, what is read without a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from albert_jax.engine.checkpoint import CheckpointConfig, Checkpoints, open_for_reading
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import TrainState
from albert_jax.errors import AlbertError


def state(step: int, shape=(2, 3)) -> TrainState:
    moments = {"moments": {"mean": jnp.full(shape, 0.5 * step)}}
    return TrainState(jnp.int32(step), {"albert": {"kernel": jnp.full(shape, 1.0 * step)}}, moments, jnp.int32(0))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    place = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(place, CheckpointConfig(keep=2, keep_best=1))
    for step, loss in enumerate([3.0, 1.0, 2.0, 5.0, 4.0], start=1):
        checkpoints.save(state(step), {"data": {"next_batch": step}}, {"loss": loss})
    checkpoints.close()
    return place


def template(like):
    """Shapes of a state, whole on all eight devices."""
    whole = NamedSharding(MeshConfig().build(), PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), like)


def test_the_latest_and_the_best_are_kept(workdir):
    found = open_for_reading(workdir)
    assert found.steps == [2, 4, 5]
    assert found.best_step == 2
    assert open_for_reading(workdir, ("loss", True)).best_step == 4


def test_what_was_saved_is_what_comes_back(workdir):
    found = open_for_reading(workdir)
    back = found.restore(4, template(state(0)))
    jax.tree.map(np.testing.assert_array_equal, back, state(4))
    assert back.params["albert"]["kernel"].sharding.device_set == set(jax.devices())
    assert found.metadata(4) == {"data": {"next_batch": 4}}
    np.testing.assert_array_equal(found.params(5)["albert"]["kernel"], np.full((2, 3), 5.0))


def test_another_shape_or_name_is_named(workdir):
    found = open_for_reading(workdir)
    with pytest.raises(AlbertError, match=r"albert/kernel has shape \(2, 3\), the experiment asks for \(4, 3\)"):
        found.restore(4, template(state(0, (4, 3))))
    other = state(0).replace(params={"albert": {"bias": jnp.ones(3)}})
    with pytest.raises(AlbertError, match="has no array albert/bias"):
        found.restore(4, template(other))


def test_a_place_without_checkpoints(tmp_path):
    with pytest.raises(AlbertError, match="holds no checkpoints/"):
        open_for_reading(tmp_path)
    (tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    with pytest.raises(AlbertError, match="holds no finished checkpoint"):
        open_for_reading(tmp_path)
