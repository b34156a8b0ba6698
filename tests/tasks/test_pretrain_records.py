"""Pretraining on the records of the original's data tool: trained, evaluated, continued, and what is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from albert_jax.data.corpus.config import given_vocabulary
from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.examples.masking import MaskConfig
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.data.examples.tfrecords import TFRecords
from albert_jax.data.store.store import DocumentStore
from albert_jax.data.text.tokenizers import load
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate
from albert_jax.tasks import Pretrain
from albert_jax.train import train
from tests import tiny

GOLDENS = Path(__file__).parents[1] / "goldens"
RECORDS = GOLDENS / "google_data"
TASK = Pretrain(
    data=str(RECORDS / "*.tfrecord"),
    eval_data=str(RECORDS / "examples.tfrecord"),
    vocab=str(RECORDS / "spiece.model"),
    pairs=PairConfig(max_length=128),
    eval_examples=16,
)


@pytest.fixture(scope="module")
def experiment():
    base = tiny.experiment(Path("unused"), task=TASK, steps=4, eval_every=0)
    return dataclasses.replace(base, model=dataclasses.replace(base.model, max_positions=128))


def test_train_and_evaluate_on_records(experiment, tmp_path) -> None:
    scores = train(experiment, tmp_path)
    assert np.isfinite(scores["loss"]) and 0 <= scores["order_accuracy"] <= 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any("mlm_loss" in json.dumps(line) for line in lines)
    evaluation = evaluate(tmp_path, "test")
    assert evaluation.scores["loss"] == pytest.approx(scores["loss"], rel=1e-6)
    assert json.loads((tmp_path / "evaluation-test.json").read_text())["examples"] == 16
    baselines = json.loads((tmp_path / "evaluation-test.json").read_text())["baselines"]
    assert 3 < baselines["mlm_loss"] < np.log(700) and 0 < baselines["mlm_accuracy"] < 0.2
    assert load(tmp_path / "vocab").fingerprint == load(TASK.vocab).fingerprint


def test_batches_are_the_records(experiment, tmp_path) -> None:
    records = TFRecords([RECORDS / "examples.tfrecord"])
    (tmp_path / "held-out").write_bytes(records.files[0].read_bytes()[: sum(len(records[i]) + 16 for i in range(3))])
    task = dataclasses.replace(TASK, eval_data=str(tmp_path / "held-out")).open(experiment.model, 0)
    assert (task.predictions_per_example, task.tokens_per_example, task.config.vocab_size) == (20, 128, 700)
    assert task.losses == ("mlm_loss", "order_loss")
    batch = next(task.eval_batches("train", 40))
    expected = json.loads((RECORDS / "examples.json").read_text())
    assert np.array_equal(batch["input_ids"][:16], np.array(expected["input_ids"])[np.arange(16) * 40 // 16])
    assert batch["example_weight"].sum() == 16
    for split in ("validation", "test"):
        held_out = next(task.eval_batches(split, 4))
        assert held_out["example_weight"].tolist() == [1, 1, 1, 0]
        assert np.array_equal(held_out["input_ids"][:3], expected["input_ids"][:3])
    one, other = next(task.train_batches(8, 1, 0)), next(task.train_batches(8, 1, 0, rows=range(4, 8)))
    assert np.array_equal(one["masked_ids"][4:], other["masked_ids"])


def test_records_that_cannot_be_opened_are_refused(experiment, tmp_path) -> None:
    for changes, told in (
        ({"vocab": ""}, "come without the vocabulary: give task.vocab"),
        ({"eval_data": ""}, "come without the held-out records: give task.eval_data"),
        (
            {"pairs": PairConfig(max_length=64)},
            "examples of 128 pieces, but task.pairs.max_length is 64; set it to 128",
        ),
        (
            {"masks": MaskConfig(end_rate=0.1, end_examples=9)},
            "set task.pairs.first_length and task.masks.end_rate to 0, or prepare the text",
        ),
        ({"initial": "corpus"}, "set it to 'random', or prepare the text"),
        ({"data": str(tmp_path / "*.tfrecord")}, r"\*\.tfrecord: there is no such file"),
        ({"vocab": str(tmp_path / "none.model")}, r"none\.model: cannot read a vocabulary here"),
        ({"data": str(tmp_path / "missing"), "vocab": "", "eval_data": ""}, "missing: not a prepared directory"),
        ({"data": str(tmp_path)}, "task.vocab and task.eval_data go with TFRecord files"),
        ({"vocab": str(GOLDENS / "tokenizer" / "lower.model")}, "input_ids goes from .* is this the vocabulary"),
    ):
        with pytest.raises(AlbertError, match=told):
            dataclasses.replace(TASK, **changes).open(experiment.model, 0)
    with pytest.raises(AlbertError, match="model.vocab_size is 30000 but the vocabulary"):
        TASK.open(dataclasses.replace(experiment.model, vocab_size=30000), 0)
    with pytest.raises(AlbertError, match="there is no such file"):
        dataclasses.replace(TASK, eval_data=str(tmp_path / "gone")).open(experiment.model, 0)


def test_a_wordpiece_corpus_is_prepared_and_opened(experiment, tmp_path) -> None:
    text = "今天天气很好。\n中文 the value of a name!\n\n日本語 the words, 12,345.\nжж жж the last жж жж one жж\n\n"
    (tmp_path / "zh.txt").write_text(text * 30, encoding="utf-8")
    config = PrepareConfig(
        corpus=(str(tmp_path / "zh.txt"),), out=str(tmp_path / "out"), vocab=str(GOLDENS / "tokenizer/vocab.txt"),
        workers=1, layout="sentences",
    )  # fmt: skip
    prepare(config)
    store = DocumentStore.open(tmp_path / "out", "train")
    tokenizer = load(GOLDENS / "tokenizer/vocab.txt")
    assert store.fingerprint == tokenizer.fingerprint == store.tokenizer().fingerprint
    sentences = {tuple(tokenizer.encode(line)) for line in text.split("\n")}
    for index in range(len(store)):
        pieces, starts = store[index]
        assert {tuple(part.tolist()) for part in np.split(pieces, starts[1:])} <= sentences
    task = Pretrain(data=str(tmp_path / "out"), pairs=PairConfig(max_length=32)).open(experiment.model, 0)
    batch = next(task.train_batches(16, 0, 0))
    assert (batch["input_ids"][:, 0] == tokenizer.cls_id).all() and (batch["input_ids"] == tokenizer.mask_id).any()
    assert (batch["input_ids"][~batch["mask"]] == tokenizer.pad_id).all()
    counts = store.unigram_counts
    assert counts.argmax() == tokenizer.unk_id
    assert task.baselines("validation")["mlm_accuracy"] == np.sort(counts)[-2] / counts.sum()
    prepare(config)  # again: nothing to do
    cased = given_vocabulary(dataclasses.replace(config, lower=False))
    assert cased is not None and cased.fingerprint == load(GOLDENS / "tokenizer/vocab.txt", lower=False).fingerprint
    with pytest.raises(AlbertError, match="was made with other choices"):
        given_vocabulary(dataclasses.replace(config, keep_accents=True))
