"""A run's checkpoint as a model: read as Orbax reads it, and refused in one line where it is damaged."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from albert_jax import experiment as experiments
from albert_jax.checkpoint import Checkpoints
from albert_jax.interop.load import open_source
from albert_jax.interop.workdir import best_params
from albert_jax.state import TrainState
from tests.interop.hf_goldens import opened
from tests.interop.test_bad_sources import refused


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "run"
    place.mkdir()
    source = opened("one_group")
    tree = traverse_util.unflatten_dict({tuple(path.split("/")): jnp.asarray(x) for path, x in source.params.items()})
    stored = experiments.to_dict(dataclasses.replace(experiments.example(), model=source.config))
    (place / experiments.FILE).write_text(json.dumps(stored))
    moments = {"mu": jax.tree.map(jnp.zeros_like, tree)}
    checkpoints = Checkpoints(place, writing=True)
    checkpoints.save(TrainState(jnp.int32(3), tree, moments, jnp.int32(0)), {"ranking": ["loss", False]})
    checkpoints.close()
    return place


def test_a_checkpoint_is_read_as_orbax_reads_it(workdir):
    found, wanted = best_params(workdir), opened("one_group").params
    assert list(found) == sorted(wanted)
    tree = Checkpoints(workdir).params(3)
    for path, array in traverse_util.flatten_dict(tree, sep="/").items():
        assert found[path].tobytes() == array.tobytes() == wanted[path].tobytes(), path
        assert found[path].dtype == np.float32 and found[path].ctypes.data % 64 == 0
    assert open_source(workdir).head == "pretrain"


def test_a_damaged_checkpoint(workdir, tmp_path, capsys):
    place = tmp_path / "run"
    shutil.copytree(workdir, place)
    params = place / "checkpoints" / "3" / "params"
    for data in params.glob("ocdbt.process_0/d/*"):
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    said = refused(capsys, tmp_path, place)
    assert "DIR/run/checkpoints/3/params: albert/" in said
    assert "restore the checkpoint from a copy, or remove it" in said
    shutil.rmtree(params)
    assert "DIR/run/checkpoints/3/params: " in refused(capsys, tmp_path, place)


def test_a_checkpoint_of_another_experiment(workdir, tmp_path, capsys):
    place = tmp_path / "run"
    shutil.copytree(workdir, place)
    stored = json.loads((place / "experiment.json").read_text())
    stored["model"]["hidden_size"] = 32
    (place / "experiment.json").write_text(json.dumps(stored))
    assert "attention/key/bias has shape (16,), the configuration says (32)" in refused(capsys, tmp_path, place)
