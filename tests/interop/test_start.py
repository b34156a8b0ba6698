"""Runs that start from a model of any format: the same parameters, the same scores before the first step."""

import dataclasses
import json
import shutil
import tarfile

import jax
import numpy as np
import pytest

from albert_jax import experiment as experiments
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import load as load_tokenizer
from albert_jax.engine.checkpoint import open_for_reading
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import create, lay_out
from albert_jax.errors import AlbertError
from albert_jax.interop import directory, google, hf
from albert_jax.interop.convert import convert, grow
from albert_jax.interop.load import load, open_source
from albert_jax.interop.start import check_vocabulary, inherit, initialise
from albert_jax.tasks import Classification
from albert_jax.telemetry.records import read_metrics
from albert_jax.train import train
from albert_jax.trees import flatten as flat
from tests import tiny
from tests.interop.hf_goldens import opened


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.prepared(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def sources(corpus, tmp_path_factory):
    """One model in each format, with the vocabulary of the corpus."""
    folder = tmp_path_factory.mktemp("sources")
    source = opened("one_group")
    params, config = grow(source.params, source.config, vocab_size=tiny.VOCAB_SIZE, max_positions=32)
    model = dataclasses.replace(source, params=params, config=config, tokenizer=Tokenizer.load(corpus / "vocab"))
    (folder / "hf").mkdir()
    hf.write(folder / "hf", model)
    (folder / "tf1").mkdir()
    google.write(folder / "tf1", model)
    with tarfile.open(folder / "mine.tar.gz", "w:gz") as archive:
        archive.add(folder / "tf1", "mine")
    convert(folder / "hf", folder / "converted")
    return folder


FORMATS = ["converted", "hf", "tf1", "tf1/model.ckpt-best", "mine.tar.gz"]


@pytest.mark.parametrize("name", ["converted", "hf", "mine.tar.gz"])
def test_the_evaluation_at_step_0_is_the_models(name, sources, corpus, tmp_path):
    """What `train --init` logs before its first step, against losses from the loaded model's logits."""
    experiment = tiny.experiment(corpus, init=str(sources / name), model_of_init=True, steps=3)
    train(experiment, tmp_path / "run")
    (logged,) = [r for r in read_metrics(tmp_path / "run") if r["step"] == 0]
    assert logged["kind"] == "validation"

    model, _ = load(sources / name, head="pretrain")
    task = experiment.task.open(dataclasses.replace(model.config), 0)
    sums = np.zeros(4)
    for batch in task.eval_batches("validation", 8):
        out = model(batch["input_ids"], batch["segment_ids"], batch["mask"], batch["masked_positions"])
        for place, logits, labels, weights in [
            (0, out.mlm_logits, batch["masked_ids"], batch["masked_weights"]),
            (2, out.order_logits, batch["order_label"], batch["order_weight"]),
        ]:
            log = np.asarray(jax.nn.log_softmax(logits), np.float64)
            losses = -np.take_along_axis(log, labels[..., None].astype(int), -1)[..., 0]
            sums[place : place + 2] += (losses * weights).sum(), weights.sum()
    assert logged["mlm_loss"] == pytest.approx(sums[0] / sums[1], abs=2e-5)
    assert logged["order_loss"] == pytest.approx(sums[2] / sums[3], abs=2e-5)


def test_a_fresh_head_is_not_scored_before_it_is_trained(sources, corpus, tmp_path):
    text = "text\tlabel\n" + "".join(f"The word number {n} is here\t{'ab'[n % 2]}\n" for n in range(16))
    (tmp_path / "train.tsv").write_text(text)
    task = Classification(train=(str(tmp_path / "train.tsv"),), dev=(str(tmp_path / "train.tsv"),), max_length=32)
    given = tiny.experiment(corpus, task=task, init=str(sources / "mine.tar.gz"), model_of_init=True, steps=3)
    train(given, tmp_path / "run")
    assert [r["step"] for r in read_metrics(tmp_path / "run") if r["kind"] == "validation"] == [3]
    vocabularies = [load_tokenizer(place).fingerprint for place in (tmp_path / "run" / "vocab", corpus / "vocab")]
    assert vocabularies[0] == vocabularies[1]

    # A run that goes on with the same classes takes the classifier along, one with others does not.
    again = dataclasses.replace(given, init=str(tmp_path / "run"), seed=1)
    train(again, tmp_path / "again")
    assert [r["step"] for r in read_metrics(tmp_path / "again") if r["kind"] == "validation"] == [0, 3]
    (tmp_path / "train.tsv").write_text(text.replace("\tb", "\tc"))
    train(again, tmp_path / "other")
    assert [r["step"] for r in read_metrics(tmp_path / "other") if r["kind"] == "validation"] == [3]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_shape_vocabulary_and_parameters(name, sources, corpus, tmp_path):
    place = str(sources / name)
    experiment = inherit(tiny.experiment(corpus, init=place, model_of_init=True), tmp_path / "run")
    model = open_source(sources / "hf")
    wanted = {"layers": 3, "heads": 4, "hidden_size": 16, "embedding_size": 8, "max_positions": 32, "vocab_size": 300}
    assert {field: getattr(experiment.model, field) for field in wanted} == wanted
    task = experiment.task.open(experiment.model, 0)
    check_vocabulary(place, task)
    layout = lay_out(task, MeshConfig(devices=1))
    state = create(task, experiment.optim.build(experiment.steps, {}), 0, layout)
    params, fresh, unused = initialise(state.params, place, task)
    assert (fresh, unused) == ([], [])
    found = flat(params)
    assert set(found) == set(model.params)
    for path, array in model.params.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


@pytest.mark.parametrize("name", FORMATS)
def test_labelled_files_are_read_with_the_models_vocabulary(name, sources, tmp_path):
    (tmp_path / "train.tsv").write_text("text\tlabel\nOne word\ta\nTwo words\tb\n")
    task = Classification(train=(str(tmp_path / "train.tsv"),))
    experiment = tiny.experiment(tmp_path, task=task, init=str(sources / name), model_of_init=True)
    vocab = inherit(experiment, tmp_path / "run").task.vocab
    assert load_tokenizer(vocab).fingerprint == load_tokenizer(sources / "converted" / "vocab").fingerprint


def test_case_goes_with_the_model(sources, tmp_path):
    """A cased Hugging Face model is cased here, however its vocabulary is opened."""
    model = open_source(sources / "hf")
    assert model.tokenizer is not None
    cased = model.tokenizer.with_choices(dataclasses.replace(model.tokenizer.normalization, lower=False), "original")
    (tmp_path / "hf").mkdir()
    hf.write(tmp_path / "hf", dataclasses.replace(model, tokenizer=cased))
    assert load_tokenizer(tmp_path / "hf").normalize("A Word") == "A Word"
    assert load_tokenizer(sources / "hf").normalize("A Word") == "a word"


def test_another_vocabulary_is_refused_before_anything_is_written(sources, corpus, tmp_path):
    (tmp_path / "text").mkdir()
    other = tiny.prepared(tmp_path / "text")
    changed = Tokenizer.load(other / "vocab")
    changed.with_choices(dataclasses.replace(changed.normalization, lower=False), "original").save(tmp_path / "cased")
    place = tmp_path / "hf"
    place.mkdir()
    hf.write(place, dataclasses.replace(open_source(sources / "hf"), tokenizer=load_tokenizer(tmp_path / "cased")))
    experiment = tiny.experiment(corpus, init=str(place), model_of_init=True)
    with pytest.raises(AlbertError, match=r"vocabularies differ: .*hf was trained with"):
        train(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["hf", "tf1"])
def test_a_model_without_a_vocabulary_is_refused_before_anything_is_written(name, sources, corpus, tmp_path):
    place = tmp_path / name
    shutil.copytree(sources / name, place)
    for file in {"hf": ("spiece.model", "tokenizer.json"), "tf1": ("30k-clean.model",)}[name]:
        (place / file).unlink()
    with pytest.raises(AlbertError, match=f"{name} has no vocabulary, .*put the spiece.model or vocab.txt"):
        train(tiny.experiment(corpus, init=str(place), model_of_init=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_field_of_the_shape_is_taken(sources, corpus, tmp_path):
    shutil.copytree(sources / "converted", tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    stored = json.loads(file.read_text())
    changed = {"max_positions": 40, "layer_norm_eps": 1e-6, "activation": "relu", "groups": 3, "inner_groups": 2}
    changed |= {"segment_types": 3, "feed_forward_size": 20, "heads": 8}
    file.write_text(json.dumps(stored | {"model": stored["model"] | changed | {"hidden_dropout": 0.5}}))
    given = tiny.experiment(corpus, init=str(tmp_path / "model"), model_of_init=True)
    model = inherit(given, tmp_path / "run").model
    assert {name: getattr(model, name) for name in changed} == changed
    assert model.hidden_dropout == given.model.hidden_dropout  # how it is trained is the experiment's


def test_what_no_weight_shows_must_agree(sources, corpus, tmp_path):
    config = open_source(sources / "converted").config
    for change, message in [
        (dict(heads=2), "model.heads 4 and this experiment has 2; give --model.heads 4"),
        (dict(activation="relu"), "model.activation gelu_tanh and this experiment has relu"),
        (dict(layer_norm_eps=1e-6), "model.layer_norm_eps 1e-12 and this experiment has 1e-06"),
    ]:
        other = tiny.experiment(corpus, init=str(sources / "converted"), model=dataclasses.replace(config, **change))
        with pytest.raises(AlbertError, match=message):
            inherit(other, tmp_path / "run")


def test_the_models_shape_needs_a_model(corpus, tmp_path):
    with pytest.raises(AlbertError, match="fine-tuning would start from random parameters; give --init"):
        inherit(tiny.experiment(corpus, model_of_init=True), tmp_path / "run")


def test_a_workdir_that_has_begun_answers_for_itself(sources, tmp_path):
    """And of a vocabulary that was given by name, the name stays."""
    (tmp_path / "train.tsv").write_text("text\tlabel\nOne word\ta\nTwo words\tb\n")
    task = Classification(train=(str(tmp_path / "train.tsv"),))
    given = tiny.experiment(tmp_path, task=task, init=str(sources / "hf"), model_of_init=True)
    run = tmp_path / "run"
    run.mkdir()
    begun = inherit(given, run)
    stored = dataclasses.replace(begun, model=dataclasses.replace(begun.model, layers=5))
    (run / experiments.FILE).write_text(json.dumps(experiments.to_dict(stored)))
    gone = dataclasses.replace(given, init=str(tmp_path / "gone"))
    again = inherit(gone, run)
    assert (again.model.layers, again.task.vocab) == (5, str(run / "vocab"))
    assert inherit(dataclasses.replace(gone, task=begun.task), run).task.vocab == str(run / "vocab")
    other = dataclasses.replace(gone, task=dataclasses.replace(task, vocab=str(sources / "converted" / "vocab")))
    assert inherit(other, run).task.vocab == str(sources / "converted" / "vocab")


def test_a_classifier_of_another_task_is_not_taken(sources, tmp_path):
    """A tagger's has the shape of a classification's, and names no classes here."""
    model = open_source(sources / "hf")
    params = {path: x for path, x in model.params.items() if path.startswith("albert/")}
    params |= {"classifier/kernel": np.ones((16, 2), np.float32), "classifier/bias": np.ones(2, np.float32)}
    (tmp_path / "train.tsv").write_text("text\tlabel\nOne word\ta\nTwo words\tb\n")
    for head, lacking in (("tagging", ["classifier/bias", "classifier/kernel"]), ("classification", [])):
        place = tmp_path / head
        place.mkdir()
        directory.write(place, dataclasses.replace(model, params=params, head=head))
        task = Classification(train=(str(tmp_path / "train.tsv"),), vocab=str(place / "vocab"), max_length=32)
        experiment = inherit(
            tiny.experiment(tmp_path, task=task, init=str(place), model_of_init=True), tmp_path / "run"
        )
        opened_task = experiment.task.open(experiment.model, 0)
        layout = lay_out(opened_task, MeshConfig(devices=1))
        state = create(opened_task, experiment.optim.build(3, {}), 0, layout)
        filled, fresh, unused = initialise(state.params, place, opened_task)
        assert fresh == unused == lacking
        assert np.array_equal(flat(filled)["classifier/bias"], np.full(2, float(head == "classification")))


def test_a_refused_run_leaves_its_workdir_to_the_corrected_one(sources, corpus, tmp_path):
    config = dataclasses.replace(open_source(sources / "hf").config, vocab_size=0)
    wrong = dataclasses.replace(config, feed_forward_size=2 * config.feed_forward_size)
    given = tiny.experiment(corpus, init=str(sources / "hf"), model=wrong, steps=3)
    with pytest.raises(AlbertError, match="has shape .* there and .* here"):
        train(given, tmp_path / "run")
    train(dataclasses.replace(given, model=config), tmp_path / "run")

    # Goes on only with the examples that it began with, and says so before it writes anything.
    text = "text\tlabel\nOne word\ta\nTwo words\tb\n"
    (tmp_path / "train.tsv").write_text(text)
    task = Classification(train=(str(tmp_path / "train.tsv"),), dev=(str(tmp_path / "train.tsv"),), max_length=32)
    given = tiny.experiment(corpus, task=task, init=str(sources / "hf"), model_of_init=True, steps=3)
    train(given, tmp_path / "labelled")
    before = (tmp_path / "labelled" / "experiment.json").read_bytes()
    (tmp_path / "more.tsv").write_text(text + "Three words\tb\n")
    more = dataclasses.replace(given, task=dataclasses.replace(task, train=(str(tmp_path / "more.tsv"),)))
    with pytest.raises(AlbertError, match="the training examples changed from '.*' to '.*'; set that back"):
        train(more, tmp_path / "labelled")
    assert (tmp_path / "labelled" / "experiment.json").read_bytes() == before


def test_the_best_checkpoint_of_a_workdir_is_the_best_by_its_own_score(corpus, tmp_path):
    """`load`, `convert` and --init choose the checkpoint that `evaluate` chooses."""
    experiment = tiny.experiment(corpus, steps=4, eval_every=1)
    experiment = dataclasses.replace(
        experiment, stopping=dataclasses.replace(experiment.stopping, score="order_accuracy"),
        checkpoint=dataclasses.replace(experiment.checkpoint, every=1, keep=4),
    )  # fmt: skip
    train(experiment, tmp_path / "run")
    scores = {r["step"]: r["order_accuracy"] for r in read_metrics(tmp_path / "run") if r["kind"] == "validation"}
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "run") if r["kind"] == "validation"}
    checkpoints = open_for_reading(tmp_path / "run")
    assert scores[checkpoints.best_step] == max(scores.values())
    by_loss = open_for_reading(tmp_path / "run", best=("loss", False)).best_step
    assert losses[by_loss] == min(losses.values())
