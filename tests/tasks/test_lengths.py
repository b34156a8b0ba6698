"""Rows by length in training and evaluation, what is said of max_length, and evaluations on a part of a split."""

import dataclasses
import random
import shutil

import numpy as np
import pytest

from albert_jax import experiment as experiments
from albert_jax.data.examples.buckets import steps
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.engine.checkpoint import CheckpointConfig, open_for_reading
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import create, lay_out
from albert_jax.engine.step import make_eval_step
from albert_jax.evaluate import evaluate, score
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW
from albert_jax.tasks import Classification, Tagging
from albert_jax.telemetry.records import read_metrics
from albert_jax.telemetry.run import TelemetryConfig
from albert_jax.train import train
from tests.tasks.test_tagging import write_sentences

WORDS = ["the", "and", "for", "are", "that", "with", "not", "can", "all", "may", "used", "one", "any", "first"]


def write_texts(path, count, longest, seed):
    """Mostly short texts, one in eight long; the class is told by one word."""
    draw = random.Random(seed)
    lines = ["text\tlabel"]
    for number in range(count):
        label = draw.choice(["class", "value"])
        words = draw.choices(WORDS, k=draw.randint(2, 6) if number % 8 else longest)
        lines.append(f"{' '.join([label, *words])}\t{label}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory):
    place = tmp_path_factory.mktemp("lengths")
    for split, count in (("train", 64), ("dev", 61)):
        write_texts(place / f"{split}.tsv", count, 20, count)
        write_sentences(place / f"{split}.conll", count, count)
    Tokenizer.load(corpus / "vocab").save(place / "vocab")
    return place


def experiment(folder, task=Classification, **changes) -> Experiment:
    given = {name: changes.pop(name) for name in ("max_length", "row_lengths", "examples") if name in changes}
    ending = "tsv" if task is Classification else "conll"
    files = {split: (f"{folder}/{split}.{ending}",) for split in ("train", "dev")}
    base = Experiment(
        name="lengths",
        model=albert("tiny", vocab_size=0, hidden_size=32, embedding_size=16, feed_forward_size=64, heads=2,
                     max_positions=64),
        task=task(**files, vocab=f"{folder}/vocab", baselines=False, **{"max_length": 32, **given}),
        optim=AdamW(peak_lr=1e-3),
        steps=8,
        batch_size=8,
        from_scratch=True,
        eval_every=0,
        mesh=MeshConfig(devices=1),
        checkpoint=CheckpointConfig(every=4),
        telemetry=TelemetryConfig(log_every=1, tensorboard=False),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def opened(folder, task=Classification, **changes):
    asked = experiment(folder, task, **changes)
    return asked.task.open(asked.model, 0)


@pytest.mark.parametrize("kind", [Classification, Tagging])
def test_scores_and_predictions_are_those_of_rows_of_one_length(folder, kind):
    by_length, alike = opened(folder, kind, row_lengths=3), opened(folder, kind, row_lengths=1)
    layout = lay_out(alike, MeshConfig(devices=1))
    params = create(alike, AdamW().build(1, {}), 0, layout).params
    several, one = (
        {batch["input_ids"].shape for batch in each.eval_batches("validation", 16)} for each in (by_length, alike)
    )
    assert len(several) > 1 and one == {(16, 32)}
    step = make_eval_step(alike, layout)
    found, expected = (score(each, step, params, layout, "validation", 16) for each in (by_length, alike))
    assert found[0].scores == pytest.approx(expected[0].scores, abs=1e-5)
    assert found[0].confusion == expected[0].confusion and len(found[1]) == len(expected[1])
    for row, other in zip(found[1], expected[1], strict=True):
        for name, values in other.items():
            real = other["tag_weights"] > 0 if kind is Tagging and values.ndim else np.ones(values.shape, bool)
            cut = real[: len(row[name])] if values.ndim else real
            np.testing.assert_allclose(row[name][cut], values[real], atol=1e-5, err_msg=name)
    # Words and texts still stand beside their own answers.
    answers = [list(each.predictions("validation", outputs[1]))
               for each, outputs in ((by_length, found), (alike, expected))]  # fmt: skip
    assert [line["predicted"] for line in answers[0]] == [line["predicted"] for line in answers[1]]


def test_what_short_rows_save_and_a_max_length_that_fits_are_told(folder):
    def notes(**changes):
        task = opened(folder, **changes)
        task.train_batches(8, 0, 0)
        return task.notes

    task = opened(folder)
    sizes = task.split("train").examples.sizes
    assert sizes.max() == np.percentile(sizes, 99, method="higher") > 16
    said = notes(max_length=256)
    assert said[0].startswith("rows of 16, ") and " in the place of 256: " in said[0]
    assert said[0].endswith(f"not {256 / sizes.mean():.2f}; --task.row-lengths 1 pads all alike")
    computed = float(said[0].split("of 256: ")[1].split()[0])
    batches = opened(folder, max_length=256).train_batches(8, 0, 0)
    epoch = [next(batches) for _ in range(64 // 8)]
    rows, real = (sum(batch[name].size if name == "input_ids" else batch[name].sum() for batch in epoch)
                  for name in ("input_ids", "mask"))  # fmt: skip
    assert computed == pytest.approx(rows / real, abs=0.005) and computed < 0.2 * 256 / sizes.mean()
    fits = next(length for length in steps(256) if length >= sizes.max())
    enough = f"99 % of the texts have at most {sizes.max()} pieces: --task.max-length {fits}"
    assert said[1:] == [f"{enough} is enough"]
    assert notes(max_length=256, row_lengths=1) == [f"{enough} costs less"]
    cut = (sizes > 16).sum()
    assert notes(max_length=16) == [
        f"{cut} of 64 training texts are longer than 16 pieces and cut ({100 * cut / 64:.2g} %); --task.max-length "
        f"{fits} reads more of them (99 % have at most {sizes.max()} pieces)"
    ]
    assert "99 % of the sentences have at most" in opened(folder, Tagging, max_length=256).notes[0]


def test_a_part_of_a_split_is_evenly_spaced_and_whole_sentences(folder):
    task = opened(folder)
    part = task.scored_on("validation", 20)
    batches = part.eval_batches("validation", 8)
    assert batches.examples == 20 and task.eval_batches("validation", 8).examples == 61
    whole = task.split("validation").examples
    with pytest.raises(IndexError):  # or a `for` over the examples would never end
        whole[61]
    chosen = [n * 61 // 20 for n in range(20)]
    seen = np.concatenate([batch["input_ids"][:, :12] for batch in batches])[:20][np.argsort(batches.order)]
    np.testing.assert_array_equal(seen, [whole[n]["input_ids"][:12] for n in chosen])
    assert task.scored_on("validation", 61) is task
    # The row lengths are the whole split's: no program is compiled for the part alone.
    assert batches.buckets.row_lengths == task.eval_batches("validation", 8).buckets.row_lengths
    tagging = opened(folder, Tagging, max_length=8)  # long sentences in several windows
    rows = tagging.split("validation").examples
    sentences = [int(row["sentence"]) for row in map(rows.__getitem__, range(len(rows)))]
    chosen = rows.evenly(20)
    kept = {sentences[n] for n in chosen}
    assert len(rows) > 61 and 10 < len(chosen) <= 20
    assert sorted(chosen) == [n for n, sentence in enumerate(sentences) if sentence in kept]


def test_how_many_examples_an_evaluation_may_score(folder):
    asked = experiment(folder, eval_every=4)
    assert asked.eval_examples == 48  # half of 4 steps of 8 rows, each of which costs three
    assert dataclasses.replace(asked, eval_share=0.0).eval_examples is None
    assert dataclasses.replace(asked, eval_every=0).eval_examples is None
    assert dataclasses.replace(asked, eval_share=0.01).eval_examples == 8


def test_a_run_with_short_rows_scores_parts_then_all_and_goes_on_as_it_went(folder, tmp_path, capsys):
    asked = experiment(folder, eval_every=4, eval_share=0.2)
    train(asked, tmp_path / "run")
    said = capsys.readouterr().out
    assert "evaluations before the last score 19 of 61 validation examples, evenly spaced" in said
    assert said.count("pieces are computed for each real one") == 1
    records = read_metrics(tmp_path / "run")
    whole = [record for record in records if record["kind"] == "validation"][-1]
    assert whole["step"] == 8
    last = evaluate(tmp_path / "run", "validation", "latest").scores
    assert {name: whole[name] for name in last} == pytest.approx(last, abs=1e-5)
    best = open_for_reading(tmp_path / "run", ("accuracy", True)).best_step
    assert best == 8 or f"the best checkpoint, of step {best}, on all of validation: accuracy " in said
    # Rows of several lengths, compiled where they are met, are in no figure of speed.
    speeds = [record["tokens_per_second"] for record in records if "tokens_per_second" in record]
    assert 0 < len(speeds) < 8 and min(speeds) > 0
    # From the checkpoint in the middle the same batches come again.
    again = tmp_path / "again"
    (tmp_path / "run").rename(again)
    shutil.rmtree(again / "checkpoints" / "8")
    train(asked, again)
    later = [(r["step"], r["loss"]) for r in read_metrics(again) if r["kind"] == "train"]
    assert later == [(r["step"], r["loss"]) for r in records if r["kind"] == "train"]


def test_a_run_from_before_keeps_rows_of_one_length(folder, tmp_path):
    asked = experiment(folder, eval_every=4)
    stored = experiments.to_dict(asked)
    del stored["task"]["row_lengths"], stored["eval_share"]
    before = experiments.from_dict(Experiment, stored)
    assert (before.task.row_lengths, before.eval_share) == (1, 0.0)
    again = asked.left_open_as(before)
    assert (again.task.row_lengths, again.eval_share) == (1, 0.0) and experiments.differences(before, again) == []
    asked = dataclasses.replace(asked, task=dataclasses.replace(asked.task, row_lengths=2))
    assert experiments.differences(before, asked.left_open_as(before)) == ["task.row_lengths: 1 -> 2"]
