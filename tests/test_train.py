"""A run from start to end on a small corpus: killed and continued, claimed, started from another, evaluated."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from albert_jax import experiment as experiments
from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.engine.checkpoint import FOLDER, Checkpoints, open_for_reading
from albert_jax.engine.sharding import MeshConfig
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate
from albert_jax.optim import Schedule
from albert_jax.telemetry.records import read_metrics
from albert_jax.train import train
from albert_jax.trees import flatten
from tests import tiny
from tests.data.sample_text import write_corpus

LAST = 40  # steps of the runs here
TIMINGS = {"tokens_per_second", "peak_share", "data_wait_share", "seconds", "seconds_per_step"}
TIMINGS |= {"model_flops_per_second"}


def everything(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, parameters and optimizer."""
    checkpoints = Checkpoints(workdir)
    stored = checkpoints._checkpointer.checkpointables_metadata(step).metadata
    abstract = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), stored)
    found = checkpoints._checkpointer.load_checkpointables(step, abstract)
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(found)}


def records(workdir: Path) -> list[dict]:
    return [{k: v for k, v in r.items() if k not in TIMINGS} for r in read_metrics(workdir) if r["kind"] != "event"]


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """An uninterrupted run of 40 steps, dropout on."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(dropping(corpus), workdir)
    return workdir


def dropping(corpus, **changes):
    base = tiny.experiment(corpus, **{"steps": LAST, **changes})
    return dataclasses.replace(base, model=dataclasses.replace(base.model, hidden_dropout=0.1, attention_dropout=0.1))


def run_command(workdir: Path, corpus: Path, **popen):
    code = (
        "import sys; from pathlib import Path; from tests.test_train import dropping; "
        "from albert_jax.train import train; "
        f"train(dropping(Path({str(corpus)!r})), {str(workdir)!r})"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1], **popen)


def wait_for(done, process: subprocess.Popen, seconds: float = 120) -> None:
    """Until `done()`, while the process runs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None and not done():
        time.sleep(0.005)


def test_killed_and_continued_is_the_uninterrupted_run_bit_for_bit(whole, corpus, tmp_path):
    workdir = tmp_path / "run"
    process = run_command(workdir, corpus)
    wait_for((workdir / FOLDER / "4").exists, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 4 <= Checkpoints(workdir).steps[-1] < LAST
    train(dropping(corpus), workdir)
    want, got = everything(whole, LAST), everything(workdir, LAST)
    assert want.keys() == got.keys() and len(want) > 60
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
    assert records(workdir) == records(whole)


def test_a_signal_saves_and_leaves_and_the_run_goes_on(whole, corpus, tmp_path):
    workdir = tmp_path / "run"
    process = run_command(workdir, corpus)
    wait_for((workdir / "metrics.jsonl").exists, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert Checkpoints(workdir).steps
    train(dropping(corpus), workdir)
    for name, value in everything(whole, LAST).items():
        np.testing.assert_array_equal(everything(workdir, LAST)[name], value, err_msg=name)


def test_a_finished_run_says_so_and_changes_nothing(whole, corpus, capsys):
    before = (whole / "metrics.jsonl").read_bytes()
    train(dropping(corpus), whole)
    assert "is done: 40 of 40 steps" in capsys.readouterr().out
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_a_run_leaves_what_a_reader_needs(whole):
    assert (whole / "report" / "index.html").exists()
    assert json.loads((whole / "experiment.json").read_text())["model"]["vocab_size"] == 300
    last = [r for r in read_metrics(whole) if r["kind"] == "validation"][-1]
    assert last["step"] == LAST and 0 < last["mlm_loss"] < 6 and last["order_loss"] > 0
    assert [r["step"] for r in read_metrics(whole) if r["kind"] == "train"] == list(range(1, LAST + 1))


def test_a_workdir_of_another_experiment_is_refused_with_the_fields(whole, corpus):
    other = dropping(corpus, batch_size=16, optim=dataclasses.replace(tiny.experiment(corpus).optim, peak_lr=0.5))
    with pytest.raises(AlbertError, match=r"batch_size: 8 -> 16; optim.peak_lr: 0.001 -> 0.5"):
        train(other, whole)


def test_a_half_written_checkpoint_is_passed_over(whole, corpus, tmp_path):
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)  # and a finished one restores where it was copied to
    shutil.copytree(workdir / FOLDER / "40", workdir / FOLDER / "44.orbax-checkpoint-tmp")
    assert Checkpoints(workdir).steps[-1] == LAST
    assert everything(workdir, LAST).keys() == everything(whole, LAST).keys()


def test_restored_on_eight_devices_it_goes_on_as_on_one(whole, corpus, tmp_path):
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / FOLDER / "40")
    assert Checkpoints(workdir).steps[-1] == 36
    train(dropping(corpus, mesh=MeshConfig()), workdir)
    for name, value in everything(whole, LAST).items():
        np.testing.assert_allclose(everything(workdir, LAST)[name], value, atol=1e-5, err_msg=name)


def test_steps_in_a_row_that_are_not_finite_stop_the_run(corpus, tmp_path):
    bad = tiny.experiment(corpus, max_skipped=2, steps=6)
    bad = dataclasses.replace(
        bad, optim=dataclasses.replace(bad.optim, peak_lr=1e38, schedule=Schedule(), clip_norm=0.0)
    )
    with pytest.raises(
        AlbertError, match="2 steps in a row had a gradient that is not finite.*; nothing was saved yet:"
    ):
        train(bad, tmp_path / "run")


@pytest.mark.parametrize(("devices", "batch"), [(1, 7), (3, 9), (8, 16)])
def test_every_example_is_counted_once_on_any_number_of_devices(whole, devices, batch, tmp_path):
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    stored = experiments.read(workdir)
    changed = dataclasses.replace(stored, mesh=MeshConfig(devices=devices), eval_batch_size=batch)
    (workdir / "experiment.json").write_text(json.dumps(experiments.to_dict(changed)))
    scores = evaluate(workdir, "validation").scores
    want = [r for r in read_metrics(whole) if r["kind"] == "validation"]
    best = min(want, key=lambda r: r["loss"])
    for name in ("mlm_loss", "order_loss", "mlm_accuracy", "order_accuracy"):
        assert scores[name] == pytest.approx(best[name], rel=1e-5), name


def test_starting_from_another_run_takes_its_parameters_and_lists_the_rest(whole, corpus, tmp_path, capsys):
    start = tiny.experiment(corpus, init=str(whole), steps=1)
    start = dataclasses.replace(
        start,
        model=dataclasses.replace(start.model, max_positions=32),
        optim=dataclasses.replace(start.optim, schedule=Schedule(warmup_steps=1)),  # a first rate of 0
        checkpoint=dataclasses.replace(start.checkpoint, every=1),
    )
    train(start, tmp_path / "run")
    assert "not found there and fresh: nothing" in capsys.readouterr().out
    source = open_for_reading(whole)
    want, got = source.params(source.best_step), open_for_reading(tmp_path / "run").params(1)
    jax.tree.map(np.testing.assert_array_equal, want, got)


def test_initial_values_of_the_corpus_are_what_the_first_step_sees(corpus, tmp_path, capsys):
    base = tiny.experiment(corpus, steps=1, seed=3)
    task = dataclasses.replace(base.task, initial="corpus")
    still = dataclasses.replace(base.optim, schedule=Schedule(warmup_steps=1))  # a first rate of 0
    train(dataclasses.replace(base, task=task, optim=still), tmp_path / "run")
    assert "initial values from the data: albert/embeddings/position, " in capsys.readouterr().out
    found = flatten(open_for_reading(tmp_path / "run").params(1))
    expected = task.open(base.model, 3).initial_values(3)
    assert len(expected) == 11
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value)


def test_starting_from_a_model_of_another_shape_names_the_array(whole, corpus, tmp_path):
    other = tiny.experiment(corpus, init=str(whole))
    other = dataclasses.replace(other, model=dataclasses.replace(other.model, hidden_size=64))
    with pytest.raises(AlbertError, match=r"albert/encoder.* has shape .* there and .* here"):
        train(other, tmp_path / "run")


def test_data_of_another_vocabulary_is_refused(whole, corpus, tmp_path):
    text = write_corpus(tmp_path / "text.txt", 20)
    other = tmp_path / "other"
    prepare(PrepareConfig(corpus=(str(text),), out=str(other), vocab_size=310, workers=1, validation=0.1, test=0.1))
    with pytest.raises(AlbertError, match="model.vocab_size is 300 but the vocabulary of .* has 310"):
        evaluate(whole, "validation", data=str(other))
    with pytest.raises(AlbertError, match="vocabularies differ"):
        train(tiny.experiment(other, init=str(whole)), tmp_path / "run")


def test_bad_input_names_the_thing_and_the_remedy(corpus, tmp_path):
    long = tiny.experiment(corpus)
    long = dataclasses.replace(long, model=dataclasses.replace(long.model, max_positions=16))
    with pytest.raises(AlbertError, match="32 pieces are longer than the position table: model.max_positions is 16"):
        train(long, tmp_path / "a")
    with pytest.raises(
        AlbertError, match=r"batch_size 12 does not divide over 8 parts \(data 8\) x 1 micro-batches; make it 8 or 16"
    ):
        train(tiny.experiment(corpus, batch_size=12, mesh=MeshConfig()), tmp_path / "b")
    with pytest.raises(AlbertError, match="there is no split 'dev'"):
        evaluate(tmp_path, "dev")
    with pytest.raises(AlbertError, match="is not a workdir"):
        evaluate(tmp_path, "test")
    (tmp_path / "file").write_text("")
    with pytest.raises(AlbertError, match="cannot write to"):
        train(tiny.experiment(corpus), tmp_path / "file" / "run")


def test_the_environment_of_a_subprocess_is_this_one():
    """The kill tests compare bits with a subprocess: both must compile with the same flags."""
    assert "xla_backend_optimization_level=0" in os.environ["XLA_FLAGS"]
