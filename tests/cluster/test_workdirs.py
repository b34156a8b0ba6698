"""A workdir that is no local directory. A file:// URL goes the way of gs://, but for the bucket's client."""

import pytest

from albert_jax.cluster import workdirs
from albert_jax.commands.inspect import describe
from albert_jax.engine.checkpoint import FOLDER
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate
from albert_jax.telemetry.records import read_metrics
from albert_jax.train import train
from benchmarks.mesh_equality import ONE
from tests import tiny


@pytest.fixture
def forget(monkeypatch):
    """As another process would see it: nothing fetched yet."""
    return lambda: monkeypatch.setattr(workdirs, "_MIRRORS", {})


def test_a_run_in_a_bucket_is_stored_and_continued(corpus, tmp_path, forget, capsys):
    url, remote = f"file://{tmp_path}/bucket/run", tmp_path / "bucket" / "run"
    experiment = tiny.experiment(corpus, steps=8, eval_every=4, mesh=ONE)

    def pull_the_plug(step, scores):
        raise RuntimeError("pulled")

    forget()
    with pytest.raises(RuntimeError, match="pulled"):
        train(experiment, url, pull_the_plug)
    assert [path.name for path in (remote / FOLDER).iterdir()] == ["4"]
    assert [r["step"] for r in read_metrics(remote) if r["kind"] == "train"] == [1, 2, 3, 4]
    assert (remote / "vocab" / "vocab.json").exists()

    forget()
    scores = train(experiment, url)
    assert [r["step"] for r in read_metrics(remote) if r["kind"] == "train"] == list(range(1, 9))
    assert (remote / "report" / "index.html").exists()
    assert f"report: {remote}/report/index.html\n" in capsys.readouterr().out  # not the local copy, which will be gone
    forget()
    told = describe(url)
    assert told.startswith(f"{remote}: a run of") and "step 8: " in told and "albert/embeddings/word" in told
    train(experiment, url)
    assert f"{remote} is done: 8 of 8 steps" in capsys.readouterr().out

    forget()
    place = workdirs.local_dir(url)
    assert place != remote and place.name == "run" and (place / "experiment.json").exists()
    assert evaluate(url, "validation", "latest").scores["loss"] == pytest.approx(scores["loss"], rel=1e-6)
    assert not (remote / "evaluation-validation.json").exists()
    workdirs.upload(place)
    assert (remote / "evaluation-validation.json").exists()


def test_a_bucket_that_cannot_be_read_is_one_line(forget):
    forget()
    with pytest.raises(AlbertError, match=r"gs://nobody-s-bucket/run.*pip install -e '\.\[gcs\]'"):
        workdirs.local_dir("gs://nobody-s-bucket/run")
    assert workdirs.local_dir("runs/mine").name == "mine"
