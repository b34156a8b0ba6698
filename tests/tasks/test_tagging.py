"""Tagging: words to pieces and windows, scores of seqeval and scikit-learn, devices, a rule learned, bad input."""

import dataclasses
import json
import random
from itertools import chain
from pathlib import Path

import jax
import numpy as np
import pytest
from seqeval.metrics import classification_report as entity_report
from seqeval.metrics import f1_score, precision_score, recall_score
from sklearn.metrics import classification_report

from albert_jax import experiment as experiments
from albert_jax.commands.seeds import seeds
from albert_jax.data.labelled.conll import read_conll
from albert_jax.data.labelled.framed import Windows, encode_words, windows
from albert_jax.data.pydocs.paragraphs import Paragraph, write_paragraphs
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.engine.checkpoint import CheckpointConfig, open_for_reading
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import abstract_params, lay_out, shardings
from albert_jax.engine.step import make_eval_step
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate, score
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks import Tagging
from albert_jax.tasks.paragraphs import tagged
from albert_jax.telemetry.run import TelemetryConfig
from albert_jax.train import train
from albert_jax.trees import flatten as flat

# Whole pieces of the vocabulary of the corpus fixture.
NAMES = ["function", "class", "value", "object", "statement"]
TOWNS = ["exception", "call", "suite", "clause", "method"]
OTHERS = ["the", "and", "for", "are", "that", "with", "not", "can", "all", "may", "used", "one", "any", "first"]
flatten = chain.from_iterable


def write_sentences(path, count, seed):
    """A rule that can be learned: names are PER, with the word after them if that is key; towns are LOC."""
    rng = random.Random(seed)
    lines = ["-DOCSTART- O", ""]
    for _ in range(count):
        for _ in range(rng.randint(2, 5)):
            draw = rng.random()
            if draw < 0.3:
                lines += [f"{rng.choice(NAMES)} B-PER"] + ["key I-PER"] * (rng.random() < 0.5)
            elif draw < 0.6:
                lines.append(f"{rng.choice(TOWNS)} B-LOC")
            lines += [f"{rng.choice(OTHERS)} O" for _ in range(rng.randint(1, 3))]
        lines.append("")
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture(scope="module")
def files(corpus, tmp_path_factory):
    """train.conll, dev.conll, test.conll, and the corpus' vocabulary as vocab/."""
    folder = tmp_path_factory.mktemp("conll")
    for name, count, seed in (("train", 250, 1), ("dev", 40, 2), ("test", 45, 3)):
        write_sentences(folder / f"{name}.conll", count, seed)
    Tokenizer.load(corpus / "vocab").save(folder / "vocab")
    return folder


def tiny(files, **changes) -> Experiment:
    base = Experiment(
        name="tiny",
        model=albert("tiny", vocab_size=0, hidden_size=32, embedding_size=16, feed_forward_size=64, heads=2,
                     max_positions=16, classifier_dropout=0.0),
        task=Tagging(
            train=(str(files / "train.conll"),), dev=(str(files / "dev.conll"),), test=(str(files / "test.conll"),),
            vocab=str(files / "vocab"), max_length=16,
        ),
        optim=AdamW(peak_lr=5e-3, schedule=Schedule(warmup_share=0.1)),
        steps=0,
        epochs=8,
        batch_size=32,
        from_scratch=True,
        eval_every=0,
        mesh=MeshConfig(devices=1),
        checkpoint=CheckpointConfig(every=1000, keep=1),
        telemetry=TelemetryConfig(log_every=20, tensorboard=False),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    train(tiny(files), workdir)
    return workdir


def test_the_share_of_the_most_frequent_tag_is_what_a_run_is_compared_with(files, trained):
    tags = [line.split()[1] for line in (files / "dev.conll").read_text().splitlines()[2:] if line]
    assert set(tags) == {"B-PER", "I-PER", "B-LOC", "O"}
    stored = {score["name"]: score["baseline"] for score in json.loads((trained / "scores.json").read_text())}
    assert {name: value for name, value in stored.items() if value} == {"accuracy": tags.count("O") / len(tags)}
    assert tags.count("O") / len(tags) > 0.5


# ---- words to examples


def test_an_example_before_and_after(files):
    tokenizer = Tokenizer.load(files / "vocab")
    words = ("Class", "key", "\u0301", "", "(Suite)", "firstexception")
    pieces = encode_words(tokenizer, words)
    assert [p.tolist() for p in pieces] == [tokenizer.encode(w) or [tokenizer.unk_id] for w in words]
    assert [len(p) for p in pieces][2:4] == [1, 1] and pieces[2][0] == tokenizer.unk_id  # nothing left of these two
    assert len(pieces[5]) > 1
    row = Windows(tokenizer, [words], [[1, 2, 0, 3, 4, 5]], 40, "")[0]
    flat_pieces = [i for p in pieces for i in p.tolist()]
    end = len(flat_pieces) + 2
    assert row["input_ids"].tolist() == [2, *flat_pieces, 3] + [0] * (40 - end)
    starts = np.cumsum([1] + [len(p) for p in pieces])[:-1]
    assert np.flatnonzero(row["tag_weights"]).tolist() == starts.tolist()
    assert row["tags"][starts].tolist() == [1, 2, 0, 3, 4, 5]
    assert row["mask"].tolist() == [True] * end + [False] * (40 - end)


def test_a_word_is_tagged_at_the_first_piece_that_is_not_a_bare_mark(files):
    """A character that no piece holds together with its space is cut into a bare "▁" and itself; a word whose first
    piece is more than the mark is tagged there, as in runs from before there was a choice."""
    tokenizer = Tokenizer.load(files / "vocab")
    words, numbers = ("class", "(", "今", "天天", "key"), [1, 2, 3, 4, 5]
    pieces = [tokenizer.pieces(tokenizer.encode(word)) for word in words]
    assert pieces == [["▁class"], ["▁", "("], ["▁", "<unk>"], ["▁", "<unk>"], ["▁key"]]
    found = {}
    for mark in (tokenizer.bare_mark, None):
        row = Windows(tokenizer, [words], [numbers], 16, "", mark)[0]
        at = np.flatnonzero(row["tag_weights"])
        assert row["tags"][at].tolist() == numbers
        found[mark] = at.tolist()
    assert found == {tokenizer.bare_mark: [1, 3, 5, 7, 8], None: [1, 2, 4, 6, 8]}
    alone = Windows(tokenizer, [["class"]], [[1]], 16, "", tokenizer.encode("class")[0])[0]  # nothing but marks
    assert np.flatnonzero(alone["tag_weights"]).tolist() == [1]


def test_runs_from_before_the_choice_read_tags_where_they_learned_them(files):
    task = tiny(files).task
    stored = experiments.to_dict(task)
    assert task.tagged_piece == "visible" and experiments.from_dict(Tagging, stored) == task
    del stored["tagged_piece"]
    assert experiments.from_dict(Tagging, stored) == dataclasses.replace(task, tagged_piece="first")
    for piece, positions in (("visible", [1, 3]), ("first", [1, 2])):
        opened = dataclasses.replace(task, tagged_piece=piece).open(tiny(files).model, 0)
        ((row,),) = opened.rows([opened.read("class (")])
        assert row.positions.tolist() == positions


def test_every_word_is_tagged_once_with_context_around_it():
    rng = random.Random(0)
    for _ in range(3000):
        room = rng.randint(6, 60)
        sizes = [rng.randint(1, max(1, min(room // 8, 4))) for _ in range(rng.randint(1, 200))]
        owned = []
        for begin, end, own, own_end in windows(sizes, room):
            assert sum(sizes[begin:end]) <= room and begin <= own < own_end <= end
            owned += range(own, own_end)
            margin = room // 4 - 2 * max(sizes)  # a quarter of the window, but for the words that cuts fall in
            assert begin == 0 or sum(sizes[begin:own]) >= margin
            assert end == len(sizes) or sum(sizes[own_end:end]) >= margin
        assert owned == list(range(len(sizes)))


def test_a_long_sentence_is_read_in_windows_and_scored_once(files, tmp_path):
    """Entities across cuts, words that vanish, words longer than a window: what comes out is what went in."""
    rng = random.Random(1)
    words = [rng.choice([*NAMES, *OTHERS, "\u0301", "x" * 300]) for _ in range(400)]
    tags = [rng.choice(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]) for _ in words]
    tags = [t if t[0] != "I" or b[2:] == t[2:] else "B" + t[1:] for b, t in zip(["O", *tags], tags, strict=False)]
    (tmp_path / "long.conll").write_text("\n".join(f"{w} {t}" for w, t in zip(words, tags, strict=True)))
    base = tiny(files)
    experiment = dataclasses.replace(
        base.task, train=(str(tmp_path / "long.conll"),), dev=(str(tmp_path / "long.conll"),)
    )
    task = experiment.open(base.model, 0)
    rows = list(task.split("train").examples)
    assert len(rows) > 50 and sum(row["tag_weights"].sum() for row in rows) == 400
    outputs = [row | {"predicted": row["tags"]} for row in rows]
    evaluation = task.evaluation({}, outputs)
    assert evaluation.scores["f1"] == evaluation.scores["accuracy"] == 1.0
    assert evaluation.report["weighted avg"]["support"] == 400
    assert task._by_sentence(outputs, "tags") == [tags]
    assert "1 of 1 training sentences are longer than 16 pieces" in task.notes[0]


def test_code_mentions_are_tagged_where_they_overlap():
    text = "Call np.sum(x) or `sums` it."
    words, tags = tagged(text, [(5, 14), (19, 22)])
    assert words == ("Call", "np", ".", "sum", "(", "x", ")", "or", "`", "sums", "`", "it", ".")
    assert tags == ("O", "B-CODE", *["I-CODE"] * 5, "O", "O", "B-CODE", "O", "O", "O")
    assert tagged("ab", [(0, 1), (1, 2)]) == (("ab",), ("B-CODE",))
    assert tagged("a b", [(0, 1), (2, 3)])[1] == ("B-CODE", "B-CODE")


def test_pydocs_paragraphs_with_mentions_are_a_task(files, tmp_path):
    paragraphs = [Paragraph(f"Use f{i} now.", "p", f"p/{i}.py", ((4, 4 + len(f"f{i}")),)) for i in range(60)]
    paragraphs += [Paragraph("No code here.", "p", f"p/no{i}.py") for i in range(60)]
    write_paragraphs(tmp_path, paragraphs, 0.2, 0.2)
    Tokenizer.load(files / "vocab").save(tmp_path / "vocab")
    task = Tagging(data=str(tmp_path), max_length=16, examples=10).open(tiny(files).model, 0)
    sentences = task.split("train").records
    assert task.labels == ["O", "B-CODE", "I-CODE"] and len(sentences) == 10
    assert {sentence.tags for sentence in sentences} == {("O", "B-CODE", "O", "O")}
    again = Tagging(data=str(tmp_path), max_length=16, examples=10).open(tiny(files).model, 9)
    assert again.split("train").records == sentences


# ---- scores


def test_scores_are_seqevals_and_scikit_learns_on_200_random_cases(files):
    """From the model's output rows, windows and all, to the report; the truth and the guess go straight to the
    libraries."""
    base = tiny(files)
    task = dataclasses.replace(base.task, labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-X", "I-X")).open(
        base.model, 0
    )
    rng = random.Random(2)
    for case in range(200):
        weights = [rng.choice([1, 5, 30]), *[rng.random() for _ in task.labels[1:]]]
        sizes = [rng.randint(1, 30) for _ in range(rng.randint(1, 6))]
        true = [rng.choices(range(7), weights, k=size) for size in sizes]
        guess = [[t if rng.random() < 0.6 else rng.choices(range(7), weights)[0] for t in tags] for tags in true]
        words = [[rng.choice([*OTHERS, "\u0301", "unseenword"]) for _ in range(size)] for size in sizes]
        rows = list(Windows(task.tokenizer, words, true, 16, ""))
        predicted = list(Windows(task.tokenizer, words, guess, 16, ""))
        outputs = [row | {"predicted": other["tags"]} for row, other in zip(rows, predicted, strict=True)]
        found = task.evaluation({}, outputs)
        y_true, y_guess = ([[task.labels[i] for i in tags] for tags in side] for side in (true, guess))
        options = dict(output_dict=True, zero_division=0)
        want_tags = classification_report([*flatten(y_true)], [*flatten(y_guess)], **options)
        assert set(found.report) == set(want_tags), case
        for name, row in want_tags.items():
            assert found.report[name] == pytest.approx(row, abs=1e-9), (case, name)
        if any(tag != "O" for tags in y_true + y_guess for tag in tags):
            for name, row in entity_report(y_true, y_guess, **options).items():
                assert found.entities[name] == pytest.approx({k: float(v) for k, v in row.items()}, abs=1e-9)
            for name, rule in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
                assert found.scores[name] == pytest.approx(rule(y_true, y_guess, zero_division=0), abs=1e-9)
            macro = f1_score(y_true, y_guess, average="macro", zero_division=0)
            assert found.scores["f1_macro"] == pytest.approx(macro, abs=1e-9)
        assert np.sum(found.confusion) == (sum(sizes) if len(found.labels) > 1 else 0)


def test_nothing_but_outside_has_scores_and_is_degenerate(files):
    base = tiny(files)
    task = base.task.open(base.model, 0)

    def judge(true, guess):
        rows = list(Windows(task.tokenizer, [["the"] * len(true)], [true], 16, ""))
        others = list(Windows(task.tokenizer, [["the"] * len(true)], [guess], 16, ""))
        return task.evaluation({}, [r | {"predicted": o["tags"]} for r, o in zip(rows, others, strict=True)])

    assert task.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    flat_run = judge([0, 1, 0], [0, 0, 0])
    assert flat_run.degenerate and flat_run.scores["f1"] == 0.0
    assert "all 3 predictions are O" in flat_run.notes[0]
    empty = judge([0, 0], [0, 0])
    assert not empty.degenerate and empty.scores["f1"] == 0.0 and empty.entities == {} and empty.notes == []
    assert judge([0, 1], [0, 1]).notes == []


UNIVERSAL = """\
1\tthe\t_\tDET\tA\t_\t2\t_\t_\t_
2-3\tclasss\t_\t_\t_\t_\t_\t_\t_\t_
2\tclass\t_\tNOUN\tB\t_\t3\t_\t_\t_
3\tis\t_\tVERB\tC\t_\t0\t_\t_\t_

1\tcall\t_\tVERB\tC\t_\t0\t_\t_\t_
2\tsuite\t_\tNOUN\tB\t_\t1\t_\t_\t_
"""


def test_plain_tags_are_scored_by_word_in_one_table(files, tmp_path):
    """Parts of speech from CoNLL-U: labels, scores and report are scikit-learn's, and there are no spans."""
    (tmp_path / "pos.conllu").write_text(UNIVERSAL)
    paths = dict.fromkeys(("train", "dev"), (str(tmp_path / "pos.conllu"),))
    base = tiny(files)
    task = dataclasses.replace(base.task, **paths).open(base.model, 0)
    assert task.labels == ["DET", "NOUN", "VERB"] and task.resolved.labels == ("DET", "NOUN", "VERB")
    assert [score.name for score in task.scores] == ["loss", "accuracy", "f1_macro"] and task.best == "accuracy"
    assert task.baselines("validation") == {"accuracy": 2 / 5} and task.notes == []
    rows = list(task.split("train").examples)
    guess = [row["tags"].copy() for row in rows]
    guess[0][guess[0] == 2] = 1  # a verb taken for a noun
    evaluation = task.evaluation({}, [row | {"predicted": other} for row, other in zip(rows, guess, strict=True)])
    true = ["DET", "NOUN", "VERB", "VERB", "NOUN"]
    expected = classification_report(true, ["DET", "NOUN", "NOUN", "VERB", "NOUN"], output_dict=True)
    assert evaluation.report == expected and evaluation.entities == {}
    assert evaluation.scores == {"accuracy": 4 / 5, "f1_macro": pytest.approx(expected["macro avg"]["f1-score"])}
    answers = task.resolved.for_inference(base.model, task.tokenizer)
    request = answers.read("the class")
    ((row,),) = answers.rows([request])
    output = {"predicted": np.array([0, 0, 1, 0]), "probability": np.full(4, 0.5)}
    assert answers.record(request, [row], [output]) == {
        "text": "the class",
        "words": [
            {"text": "the", "start": 0, "end": 3, "tag": "DET", "probability": 0.5},
            {"text": "class", "start": 4, "end": 9, "tag": "NOUN", "probability": 0.5},
        ],
    }
    xpos = dataclasses.replace(base.task, **paths, tag_column="XPOS").open(base.model, 0)
    assert xpos.labels == ["A", "B", "C"]


def test_other_schemes_are_reported_as_read(files, tmp_path):
    (tmp_path / "a.conll").write_text("the O\nclass U-X\n\ncall B-X\nsuite L-X\n")
    (tmp_path / "b.conll").write_text("the O\nclass I-X\n")
    base = tiny(files)
    task = dataclasses.replace(base.task, train=(str(tmp_path / "a.conll"), str(tmp_path / "b.conll")))
    opened = task.open(base.model, 0)
    assert opened.labels == ["O", "B-X", "I-X"]
    assert opened.notes == ["tags of the training data are BILOU and IOB1, read and reported as IOB2"]


# ---- runs


def test_a_rule_is_learned(trained):
    evaluation = evaluate(trained, "test")
    assert evaluation.scores["f1"] > 0.99
    assert set(evaluation.entities) == {"LOC", "PER", "micro avg", "macro avg", "weighted avg"}
    record = json.loads((trained / "evaluation-test.json").read_text())
    assert record["examples"] == 45 and record["entities"] == evaluation.entities
    stored = experiments.read(trained)
    assert stored.task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert (
        stored.epochs == 0
        and stored.steps == 8 * len(stored.task.open(stored.model, 0).split("train").examples) // 32 + 1
    )
    page = (trained / "report" / "index.html").read_text()
    assert "entity F1" in page


def test_every_word_counts_once_on_1_3_and_8_devices(files, trained):
    """45 test sentences in batches of 24: the last one is ragged, with more filling than examples on eight devices."""
    experiment = experiments.read(trained)
    found = {}
    for devices in (1, 3, 8):
        task = experiment.task.open(experiment.model, 0)
        layout = lay_out(task, MeshConfig(devices=devices))
        checkpoints = open_for_reading(trained, task.best)
        params = checkpoints.params(checkpoints.best_step, shardings(abstract_params(task), layout))
        evaluation, outputs = score(task, make_eval_step(task, layout), params, layout, "test", 24)
        found[devices] = evaluation
        assert len(outputs) == len(task.split("test").examples) and len(outputs) % 24
        lines = list(task.predictions("test", outputs))
        sentences = read_conll(str(files / "test.conll"))
        assert [(tuple(line["words"]), tuple(line["tags"])) for line in lines] == [(s.words, s.tags) for s in sentences]
        assert evaluation.report["weighted avg"]["support"] == sum(len(s.words) for s in sentences)
    for devices in (3, 8):
        assert found[devices].scores == pytest.approx(found[1].scores, abs=1e-6)
        assert found[devices].report == found[1].report


def test_a_linear_probe_leaves_the_encoder_as_it_was(files, trained, tmp_path):
    before = open_for_reading(trained)  # as `initialise` does, the least loss
    probe = tiny(files, init=str(trained), from_scratch=False, steps=3, epochs=0.0, model_of_init=True,
                 model=albert("base", vocab_size=0), optim=AdamW(peak_lr=1e-2, rates={"^albert/": 0.0}))  # fmt: skip
    probe = dataclasses.replace(probe, task=dataclasses.replace(probe.task, vocab=""))
    train(probe, tmp_path / "probe")
    after = open_for_reading(tmp_path / "probe", ("f1", True))
    old, new = (flat(c.params(c.best_step)) for c in (before, after))
    assert set(old) == set(new)
    for name in old:
        assert np.array_equal(old[name], new[name]) == name.startswith("albert/"), name
    stored = experiments.read(tmp_path / "probe")
    assert stored.model.hidden_size == 32 and stored.task.vocab == f"{trained}/vocab"


def test_seeds_tells_degenerate_runs_and_from_scratch_takes_no_parameters(files, trained, tmp_path, capsys):
    """`trained` beside --from-scratch gives its shape and vocabulary; the values, all nearly 0, are of this run."""
    still = tiny(files, steps=1, epochs=0.0, optim=AdamW(peak_lr=0.0), init=str(trained), from_scratch=True,
                 model=albert("base", vocab_size=0, initializer_range=1e-9))  # fmt: skip
    still = dataclasses.replace(still, task=dataclasses.replace(still.task, vocab=""))
    seeds(still, tmp_path, 1)
    told = capsys.readouterr().out
    assert "predictions are O; a run that ends so is degenerate" in told
    row = next(line for line in told.splitlines() if " f1 " in line)
    assert row.split()[:8] == ["tiny", "f1", "0.0000", "0.0000", "0.0000", "1", "1", "1.0000"]
    assert row.rstrip().endswith("most frequent tag per word")
    assert "tiny: entity F1 does not beat most frequent tag per word: 0.000 against 1.000" in told.splitlines()

    assert f"from scratch: shape and vocabulary of {trained}, random values" in told
    source, made = (open_for_reading(place, ("f1", True)) for place in (trained, tmp_path / "seed-0"))
    source, made = (flat(each.params(max(each.steps))) for each in (source, made))
    assert {name: array.shape for name, array in made.items()} == {name: array.shape for name, array in source.items()}
    kernels = [name for name in made if name.endswith("kernel")]
    assert len(kernels) > 4
    for name in kernels:
        assert np.abs(made[name]).max() < 1e-7 and np.abs(source[name]).max() > 0.01, name
    # It goes on although the config's own shape is another, and the model may be gone by then.
    train(dataclasses.replace(still, init=str(tmp_path / "gone")), tmp_path / "seed-0")
    assert "is done: 1 of 1 steps" in capsys.readouterr().out


def test_seeds_asks_for_its_split_before_it_trains(files, tmp_path):
    for split, task, message in (
        ("tset", {}, "there is no split 'tset'; choose train, validation, test"),
        ("test", {"test": ()}, "there are no test examples: give --task.test FILE"),
        ("test", {"test": ("gone.conll",)}, "gone.conll: cannot be read"),
    ):
        base = tiny(files)
        with pytest.raises(AlbertError, match=message):
            seeds(dataclasses.replace(base, task=dataclasses.replace(base.task, **task)), tmp_path / "runs", 2, split)
    assert not (tmp_path / "runs").exists()


# ---- bad input


def opened(files, **changes):
    base = tiny(files)
    task = dataclasses.replace(base.task, **changes).open(base.model, 0)
    return task.train_batches(4, 0, 0), task.eval_batches("test", 4)


def test_bad_input_is_one_line(files, tmp_path):
    odd = tmp_path / "odd.conll"
    odd.write_text("call B-LOC\n\nacme B-ORG\n")
    plain = tmp_path / "plain.conll"
    plain.write_text("call O\n")
    cases = [
        (dict(dev=(str(odd),)), r"odd.conll: line 3: this sentence has the tag B-ORG, .*not among .*\(O, B-LOC, I-LOC"),
        (dict(test=(str(odd),)), r"odd.conll: line 3: this sentence has the tag B-ORG"),
        (dict(labels=("O", "B-PER", "I-PER")), r"train.conll: line \d+: this sentence has the tag B-LOC"),
        (dict(labels=("B-PER", "I-PER")), "task.labels has no 'O': B-PER, I-PER"),
        (dict(labels=("O",)), "task.labels has no entity: O"),
        (dict(labels=("O", "B-PER", "B-PER")), "task.labels has a tag twice: O, B-PER, B-PER"),
        (
            dict(labels=("O", "B-PER", "PER")),
            "task.labels has 'PER', which is no tag: O, B-PER, PER; give O, and B- and",
        ),
        (dict(labels=("NN", "VB", "NN")), "task.labels has a tag twice: NN, VB, NN; give each once"),
        (dict(labels=("NN",)), "nothing to tell apart: every tag of .*train.conll is NN; give task.tag_column"),
        (dict(tag_column="3"), "train.conll: line 3: no column 3 but 2"),
        (dict(examples=-1), "task.examples is -1; give how many, or 0 for all"),
        (dict(train=(str(plain),)), "the training data has no entity: every tag of .*plain.conll is O"),
        (dict(train=()), "there are no training examples: give --task.train FILE"),
        (dict(dev=()), "there are no validation examples: give --task.dev FILE; the best checkpoint"),
        (dict(test=()), "there are no test examples: give --task.test FILE to train, or --data FILE to evaluate"),
        (dict(vocab=""), "labelled files come without a vocabulary: give --init WORKDIR"),
        (dict(data="corpus"), "task.data and task.train are both given"),
        (dict(max_length=5), "task.max_length is 5; it must be at least 8"),
        (dict(train=("tfds:no_such_dataset_of_ours",)), "tfds:no_such_dataset_of_ours: TFDS cannot give this dataset"),
    ]
    for changes, message in cases:
        with pytest.raises(AlbertError, match=message) as told:
            opened(files, **changes)
        assert "\n" not in str(told.value), message
    assert jax.device_count() == 8


def test_a_workdir_of_other_tags_is_not_continued(files, trained, tmp_path):
    write_sentences(tmp_path / "train.conll", 250, 1)
    text = (tmp_path / "train.conll").read_text().replace("LOC", "GPE")
    (tmp_path / "train.conll").write_text(text)
    base = tiny(files)
    dev = tmp_path / "dev.conll"
    dev.write_text(text)
    task = dataclasses.replace(base.task, train=(str(tmp_path / "train.conll"),), dev=(str(dev),))
    with pytest.raises(AlbertError, match=r"belongs to another experiment \(task.labels"):
        train(dataclasses.replace(base, task=task), trained)


def test_conll2003_of_tfds(files, tmp_path, monkeypatch):
    """TFDS's own builder of the data set, without TensorFlow; only the archive that it downloads is written here."""
    import tensorflow_datasets as tfds
    from etils import epath

    source = epath.Path(tmp_path / "archive")
    source.mkdir()
    sentence = "-DOCSTART- -X- -X- O\n\nAnna NNP I-NP B-PER\nKey NNP I-NP I-PER\n. . O O\n\n"
    for name in ("train", "valid", "test"):
        (source / f"{name}.txt").write_text(sentence + f"{name} NNP B-NP B-MISC\n\n")
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, url: source)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    config = Path(__file__).parents[2] / "configs" / "finetune_conll2003.py"
    conll2003 = experiments.load_config(config).task
    task = dataclasses.replace(conll2003, vocab=str(files / "vocab")).open(tiny(files).model, 0)
    assert task.labels == list(conll2003.labels) and len(task.labels) == 9
    for split, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        found = {s.words: s.tags for s in task.split(split).records}
        assert found == {("Anna", "Key", "."): ("B-PER", "I-PER", "O"), (name,): ("B-MISC",)}
    pos = dataclasses.replace(conll2003, vocab=str(files / "vocab"), labels=(), tag_column="pos")
    opened = pos.open(tiny(files).model, 0)
    assert opened.labels == [".", "NNP"]
    assert {s.words: s.tags for s in opened.split("test").records}["Anna", "Key", "."] == ("NNP", "NNP", ".")
    with pytest.raises(AlbertError, match=r"has no split 'nope' \(it has: .*dev.*\); name one as tfds:conll2003:SPLIT"):
        dataclasses.replace(conll2003, train=("tfds:conll2003:nope",), vocab=str(files / "vocab")).open(
            tiny(files).model, 0
        ).split("train")
