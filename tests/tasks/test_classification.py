"""Classification on labelled paragraphs: sampling, blanked names, learning, refusal to start from nothing, scores."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report, f1_score

from albert_jax.commands.seeds import seeds
from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.labelled.framed import frame
from albert_jax.data.pydocs.paragraphs import load_paragraphs
from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.engine.sharding import MeshConfig
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks import Classification
from albert_jax.telemetry.run import TelemetryConfig
from albert_jax.train import train


@pytest.fixture(scope="module")
def pydocs(tmp_path_factory):
    """Docstrings of three packages that the project itself needs."""
    out = tmp_path_factory.mktemp("pydocs") / "corpus"
    prepare(
        PrepareConfig(
            corpus=("pydocs:optax,flax,tyro",), out=str(out), vocab_size=800, workers=1, validation=0.1, test=0.2
        )
    )
    return out


def fine_tune(data, **changes) -> Experiment:
    base = Experiment(
        name="tiny",
        model=albert(
            "tiny", vocab_size=0, hidden_size=32, embedding_size=16, feed_forward_size=64, heads=2, max_positions=32
        ),
        task=Classification(data=str(data), max_length=32, examples=60, min_paragraphs=20, eval_examples=45),
        optim=AdamW(peak_lr=2e-3, schedule=Schedule(warmup_steps=3)),
        steps=20,
        batch_size=16,
        from_scratch=True,
        eval_every=0,
        mesh=MeshConfig(devices=1),
        checkpoint=CheckpointConfig(every=20),
        telemetry=TelemetryConfig(log_every=10, tensorboard=False),
    )
    return dataclasses.replace(base, **changes)


def test_labelled_examples_are_equally_many_of_each_class(pydocs):
    experiment = fine_tune(pydocs)
    task = experiment.task.open(experiment.model, 0)
    assert task.labels == ["flax", "optax", "tyro"]
    labels = [int(example["label"]) for example in task.split("train").examples]
    assert np.bincount(labels).tolist() == [20, 20, 20]
    again = (
        experiment.task.open(experiment.model, 5).split("train").examples
    )  # the draw is the task's, not the run's seed's
    drawn = task.split("train").examples
    assert all(np.array_equal(a["input_ids"], b["input_ids"]) for a, b in zip(drawn, again, strict=True))


def test_a_label_that_no_package_has_is_a_warning(pydocs):
    experiment = fine_tune(pydocs)
    labels = ("flax", "nobody", "optax")
    task = dataclasses.replace(experiment.task, labels=labels).open(experiment.model, 0)
    assert task.notes[-1].startswith("no training example of 'nobody', so it is never learned")
    assert [each.name for each in task.plain("test").fit()] == ["majority class", "TF-IDF + logistic regression"]


def test_names_of_the_classes_are_not_in_the_input(pydocs):
    experiment = fine_tune(pydocs)
    experiment = dataclasses.replace(experiment, task=dataclasses.replace(experiment.task, examples=0))
    task = experiment.task.open(experiment.model, 0)
    raw = " ".join(p.text.lower() for p in load_paragraphs(pydocs, "train"))
    assert "optax" in raw and "flax" in raw
    shown = " ".join(
        task.tokenizer.decode([int(i) for i in e["input_ids"] if i > 4]) for e in task.split("train").examples
    )
    for name in ("optax", "flax", "tyro", "nnx"):
        assert name not in shown


def test_an_example_before_and_after(pydocs):
    tokenizer = fine_tune(pydocs).task.open(fine_tune(pydocs).model, 0).tokenizer
    pieces = tokenizer.encode("the value of the array")
    example = frame(tokenizer, [pieces], len(pieces) + 4)
    assert example["input_ids"].tolist() == [2, *pieces, 3, 0, 0]
    assert example["mask"].tolist() == [True] * (len(pieces) + 2) + [False] * 2
    cut = frame(tokenizer, [pieces], 5)
    assert cut["input_ids"].tolist() == [2, *pieces[:3], 3]


def test_scores_are_scikit_learns_on_every_example_once(pydocs, tmp_path):
    workdirs = seeds(fine_tune(pydocs), tmp_path / "runs", 2)
    for workdir in workdirs:
        record = json.loads((workdir / "evaluation-test.json").read_text())
        lines = [json.loads(line) for line in (workdir / "predictions-test.jsonl").read_text().splitlines()]
        assert len(lines) == record["examples"] == 45
        true, guess = [line["label"] for line in lines], [line["predicted"] for line in lines]
        assert record["scores"]["accuracy"] == pytest.approx(accuracy_score(true, guess), abs=1e-9)
        want = f1_score(true, guess, average="macro", labels=record["labels"], zero_division=0)
        assert record["scores"]["f1_macro"] == pytest.approx(want, abs=1e-9)
        report = classification_report(true, guess, labels=record["labels"], output_dict=True, zero_division=0)
        assert record["report"]["optax"] == report["optax"]
        assert np.sum(record["confusion"]) == 45
    page = (workdirs[0] / "report" / "index.html").read_text()
    assert "confusion" in page.lower()


def test_evaluation_again_gives_the_same(pydocs, tmp_path):
    train(fine_tune(pydocs, steps=5), tmp_path / "run")
    first = evaluate(tmp_path / "run", "validation")
    assert evaluate(tmp_path / "run", "validation", checkpoint="latest") == first
    with pytest.raises(AlbertError, match=r"there is no checkpoint '7'; choose best, latest or one of \[5\]"):
        evaluate(tmp_path / "run", "validation", checkpoint="7")


def test_fine_tuning_from_nothing_must_be_asked_for(pydocs, tmp_path):
    with pytest.raises(AlbertError, match="would start from random parameters; give --init"):
        train(fine_tune(pydocs, from_scratch=False), tmp_path / "run")


def test_too_few_classes_are_an_error(pydocs):
    task = Classification(data=str(pydocs), min_paragraphs=100_000)
    with pytest.raises(AlbertError, match="0 packages with at least 100000 training paragraphs"):
        task.open(albert("tiny", vocab_size=0), 0)
