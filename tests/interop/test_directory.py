"""A run's checkpoint as a model: read as Orbax reads it, and refused in one line where it is damaged."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import albert_jax
from albert_jax import experiment as experiments
from albert_jax.engine.checkpoint import Checkpoints
from albert_jax.engine.state import TrainState
from albert_jax.interop import safetensors
from albert_jax.interop.convert import convert
from albert_jax.interop.directory import best_params
from albert_jax.interop.load import open_source
from albert_jax.tasks import Classification
from tests.interop.hf_goldens import opened
from tests.interop.test_bad_sources import refused


def tree(params):
    return traverse_util.unflatten_dict({tuple(path.split("/")): jnp.asarray(x) for path, x in params.items()})


def write(place, experiment, checkpoints):
    """A workdir with those checkpoints: step -> (parameters, scores)."""
    place.mkdir()
    (place / experiments.FILE).write_text(json.dumps(experiments.to_dict(experiment)))
    writer = Checkpoints(place, best=("accuracy", True), writing=True)
    for step, (params, scores) in checkpoints.items():
        moments = {"mu": jax.tree.map(jnp.zeros_like, tree(params))}
        state = TrainState(jnp.int32(step), tree(params), moments, jnp.int32(0))
        writer.save(state, {"ranking": ["accuracy", True]}, scores)
    writer.close()
    return place


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    source = opened("one_group")
    experiment = dataclasses.replace(experiments.example(), model=source.config)
    return write(tmp_path_factory.mktemp("runs") / "run", experiment, {3: (source.params, None)})


def test_the_best_is_taken_by_the_score_that_the_run_ranked_by(tmp_path):
    """Not by the loss, not the latest."""
    source = opened("one_group")
    scored = {
        1: {"accuracy": 0.1, "loss": 1.0},
        2: {"accuracy": 0.9, "loss": 3.0},
        3: {"accuracy": 0.5, "loss": 2.0},
    }
    written = {step: ({path: x + step for path, x in source.params.items()}, scores) for step, scores in scored.items()}
    experiment = dataclasses.replace(experiments.example(), model=source.config)
    found = open_source(write(tmp_path / "run", experiment, written)).params
    for path, array in written[2][0].items():
        assert found[path].tobytes() == array.tobytes(), path


@pytest.mark.parametrize(
    ("target", "problem"), [("class", ""), ("labels", "multi_label_classification"), ("number", "regression")]
)
def test_what_a_classification_was_trained_for_is_told(target, problem, tmp_path):
    source = opened("classification")
    labels = () if target == "number" else ("a", "b", "c")
    task = Classification(target=target, labels=labels)
    experiment = dataclasses.replace(experiments.example(), model=source.config, task=task)
    found = open_source(write(tmp_path / "run", experiment, {1: (source.params, None)}))
    assert (found.head, found.labels, found.problem) == ("classification", labels, problem)


def test_parts_of_a_users_own_task_stand_beside_the_encoder(tmp_path, capsys):
    """They are loaded with a workdir, left out of what it is converted to, and refused in a converted directory."""
    source = opened("one_group")
    own = {"counter/kernel": np.ones((16, 7), np.float32), "counter/bias": np.full(7, np.inf, np.float32)}
    experiment = dataclasses.replace(experiments.example(), model=source.config)
    place = write(tmp_path / "run", experiment, {1: (source.params | own, None)})
    found = open_source(place).params
    assert set(found) == {*source.params, *own}
    assert found["counter/kernel"].tobytes() == own["counter/kernel"].tobytes()
    assert np.isfinite(albert_jax.load(place)[0]([[5, 6]]).hidden).all()
    convert(place, tmp_path / "converted")
    assert "left out, since no format has a name for it: counter/bias, counter/kernel\n" in capsys.readouterr().out
    assert set(open_source(tmp_path / "converted").params) == set(source.params)
    safetensors.write(tmp_path / "converted" / "weights.safetensors", source.params | own)
    assert "no place in this model for counter/" in refused(capsys, tmp_path, tmp_path / "converted")
    place = write(tmp_path / "other", experiment, {1: (source.params | {"albert/extra": own["counter/kernel"]}, None)})
    assert "no place in this model for albert/extra" in refused(capsys, tmp_path, place)


def test_a_checkpoint_is_read_as_orbax_reads_it(workdir):
    found, wanted = best_params(workdir), opened("one_group").params
    assert list(found) == sorted(wanted)
    stored = Checkpoints(workdir).params(3)
    for path, array in traverse_util.flatten_dict(stored, sep="/").items():
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
