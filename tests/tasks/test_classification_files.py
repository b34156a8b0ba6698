"""Classification and regression on a user's files: reading, encoding, scores of the libraries, warnings, stopping."""

import csv
import dataclasses
import json
import random
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, classification_report, f1_score, log_loss, root_mean_squared_error
from sklearn.utils.class_weight import compute_class_weight

from albert_jax import experiment as experiments
from albert_jax.data.labelled.framed import frame
from albert_jax.data.labelled.tables import Columns, Labelled, read_labelled
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.engine.checkpoint import CheckpointConfig, open_for_reading
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import create, lay_out
from albert_jax.engine.step import make_eval_step
from albert_jax.engine.stopping import Patience, StoppingConfig
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate, score, worst
from albert_jax.experiment import Experiment
from albert_jax.interop import box
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Lamb, Schedule
from albert_jax.tasks import Classification
from albert_jax.tasks.targets import ManyLabels, Number, OneClass
from albert_jax.telemetry.records import read_metrics
from albert_jax.telemetry.run import TelemetryConfig
from albert_jax.telemetry.scores import Score
from albert_jax.train import train

WORDS = ["the", "and", "for", "are", "that", "with", "not", "can", "all", "may", "used", "one", "any", "first"]
MARKS = {"a": "class", "b": "value", "c": "object"}  # the word that tells the class


def rows(count, seed):
    """(text, class) whose class is told by one word of the text."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        label = rng.choice(list(MARKS))
        words = [*rng.choices(WORDS, k=rng.randint(2, 6)), MARKS[label]]
        rng.shuffle(words)
        found.append((" ".join(words), label))
    return found


def write_tsv(path, lines, header=("text", "label")):
    path.write_text("\n".join("\t".join(line) for line in [header, *lines]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def files(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    for name, count, seed in (("train", 160, 1), ("dev", 30, 2), ("test", 37, 3)):
        write_tsv(folder / f"{name}.tsv", rows(count, seed))
    Tokenizer.load(corpus / "vocab").save(folder / "vocab")
    return folder


def tiny(files, task=None, **changes) -> Experiment:
    places = {split: (str(files / f"{split}.tsv"),) for split in ("train", "dev", "test")}
    base = Experiment(
        name="tiny",
        model=albert("tiny", vocab_size=0, hidden_size=32, embedding_size=16, feed_forward_size=64, heads=2,
                     max_positions=16),
        task=Classification(**{**places, "vocab": str(files / "vocab"), "max_length": 16, **(task or {})}),
        optim=AdamW(peak_lr=3e-3, schedule=Schedule(warmup_share=0.1)),
        steps=0,
        epochs=6,
        batch_size=16,
        from_scratch=True,
        eval_every=0,
        mesh=MeshConfig(devices=1),
        checkpoint=CheckpointConfig(every=1000, keep=1),
        telemetry=TelemetryConfig(log_every=20, tensorboard=False),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def opened(files, **task):
    experiment = tiny(files, task)
    return experiment.task.open(experiment.model, 0)


# ---- files


def test_tsv_csv_and_json_lines_say_the_same(tmp_path):
    texts = ['say "hi", then\tgo'.replace("\t", " "), "två; ½", 'an " alone', "x"]
    labels = ["yes", "no", "yes", "1"]
    pairs = list(zip(texts, labels, strict=True))
    write_tsv(tmp_path / "a.tsv", pairs)
    (tmp_path / "crlf.tsv").write_bytes((tmp_path / "a.tsv").read_bytes().replace(b"\n", b"\r\n"))
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("label", "id", "text"), *((label, 7, text) for text, label in pairs)])
    records = [{"text": text, "label": int(label) if label == "1" else label} for text, label in pairs]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, records)))
    for name in ("a.tsv", "crlf.tsv", "a.csv", "a.jsonl"):
        found = read_labelled(str(tmp_path / name), Columns(("text",), "label"))
        assert [(record.texts[0], record.target) for record in found] == pairs, name
    assert found[3].where == f"{tmp_path}/a.jsonl: line 7"


def test_a_quoted_cell_may_hold_lines(tmp_path):
    (tmp_path / "a.csv").write_text('one,two,gold\n"a\nb, c",d,x\n\ne,"f ""g""",y\n')
    found = read_labelled(str(tmp_path / "a.csv"), Columns(("one", "two"), "gold"))
    assert found == [
        Labelled(("a\nb, c", "d"), "x", f"{tmp_path}/a.csv: line 2"),
        Labelled(("e", 'f "g"'), "y", f"{tmp_path}/a.csv: line 5"),
    ]


def test_several_labels_and_numbers(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\nu,"b,  a,b"\nv,\n')
    found = read_labelled(str(tmp_path / "a.csv"), Columns(("text",), "label", "labels"))
    assert [record.target for record in found] == [("b", "a"), ()]
    (tmp_path / "a.jsonl").write_text('{"text": "u", "label": ["b", 3]}\n{"text": "v", "label": []}\n')
    found = read_labelled(str(tmp_path / "a.jsonl"), Columns(("text",), "label", "labels"))
    assert [record.target for record in found] == [("b", "3"), ()]
    write_tsv(tmp_path / "n.tsv", [("u", "-1.5"), ("v", "2e3")])
    found = read_labelled(str(tmp_path / "n.tsv"), Columns(("text",), "label", "number"))
    assert [record.target for record in found] == [-1.5, 2000.0]


def test_a_semicolon_is_told_from_the_header(tmp_path):
    for separator in ";|\t,":
        cells = [("id", "text", "label"), ("1", f"a, b; c{separator}d", "yes"), ("2", 'say "hi"', "no")]
        with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file, delimiter=separator).writerows(cells)
        found = read_labelled(str(tmp_path / "a.csv"), Columns(("text",), "label"))
        assert [(one.texts[0], one.target) for one in found] == [(text, label) for _, text, label in cells[1:]]


def test_columns_by_number_where_there_is_no_header(tmp_path):
    write_tsv(tmp_path / "a.tsv", [("b", "no")], header=("a", "yes"))
    (tmp_path / "a.csv").write_text("yes;0;a\nno;0;b\n")
    for name, texts, label in (("a.tsv", "1", "2"), ("a.csv", "3", "1")):
        assert read_labelled(str(tmp_path / name), Columns((texts,), label)) == [
            Labelled(("a",), "yes", f"{tmp_path}/{name}: line 1"),
            Labelled(("b",), "no", f"{tmp_path}/{name}: line 2"),
        ]
    with pytest.raises(AlbertError, match=r"a\.tsv: line 1: no column '4'; the columns are: 1, 2; name them"):
        read_labelled(str(tmp_path / "a.tsv"), Columns(("1",), "4"))
    (tmp_path / "ragged.tsv").write_text("a\tyes\nb\n")
    with pytest.raises(
        AlbertError, match=r"line 2: 1 columns, the first line has 2 \(1, 2\); a cell cannot hold a tab"
    ):
        read_labelled(str(tmp_path / "ragged.tsv"), Columns(("1",), "2"))
    # A header that has these names is one.
    (tmp_path / "named.tsv").write_text("2\t1\nyes\ta\n")
    assert read_labelled(str(tmp_path / "named.tsv"), Columns(("1",), "2"))[0].texts == ("a",)


def test_arrays_and_lines_in_a_json_file(tmp_path):
    records = [{"text": "a", "label": "x"}, {"text": "b\nc", "label": 3}]
    (tmp_path / "a.json").write_text("\ufeff\n" + json.dumps(records, indent=2))
    (tmp_path / "b.json").write_text("\n".join(map(json.dumps, records)))
    for name, what in (("a.json", "record"), ("b.json", "line")):
        assert read_labelled(str(tmp_path / name), Columns(("text",), "label")) == [
            Labelled(("a",), "x", f"{tmp_path}/{name}: {what} 1"),
            Labelled(("b\nc",), "3", f"{tmp_path}/{name}: {what} 2"),
        ]


def test_parquet(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = arrow.table({"text": ["a", "b", None], "label": [1, 0, 1], "tags": [["x", "y"], [], None]})
    path = str(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(table.slice(0, 2), path)
    assert read_labelled(path, Columns(("text",), "label"))[1] == Labelled(("b",), "0", f"{path}: row 2")
    assert read_labelled(path, Columns(("text",), "tags", "labels"))[0].target == ("x", "y")
    with pytest.raises(AlbertError, match=r"a\.parquet: no column 'gold'; the columns are: text, label, tags"):
        read_labelled(path, Columns(("text",), "gold"))
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(AlbertError, match=r"a\.parquet: row 3: 'text' is no text but null"):
        read_labelled(path, Columns(("text",), "label"))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)  # as where it is not installed
    with pytest.raises(AlbertError, match=r"a\.parquet: reading Parquet needs pyarrow; pip install pyarrow, or write"):
        read_labelled(path, Columns(("text",), "label"))


def test_other_encodings_are_told(tmp_path):
    cases = [
        ("é", "utf-16", "iconv -f utf-16 -t utf-8"),
        ("é", "utf-16-le", "iconv -f utf-16le -t utf-8"),
        ("é", "utf-16-be", "iconv -f utf-16be -t utf-8"),
        ("e", "utf-16-le", r"no plain text; save it as UTF-8 \(it may be UTF-16\)"),
        ("é", "latin-1", r"not UTF-8 at byte .* line 2\); .* `iconv -f latin1"),
    ]
    for letter, encoding, said in cases:
        (tmp_path / "a.csv").write_bytes(f"text;label\nCaf{letter};x\n".encode(encoding))
        with pytest.raises(AlbertError, match=said) as caught:
            read_labelled(str(tmp_path / "a.csv"), Columns(("text",), "label"))
        assert "\n" not in str(caught.value)


BAD = {
    (
        "a.tsv",
        "words\tlabel\nx\ty\n",
        "class",
    ): "line 1: no column 'text'; the columns are: words, label; name them with",
    (
        "a.csv",
        "text,gold,id\nx,y,1\n",
        "class",
    ): "line 1: no column 'label'; the columns are: text, gold, id; name them",
    ("a.jsonl", '{"text": "x", "class": "y"}\n', "class"): "line 1: no column 'label'; the columns are: text, class",
    (
        "a.tsv",
        "text\tlabel\nx\n",
        "class",
    ): r"line 2: 1 columns, the header has 2 \(text, label\); a cell cannot hold a",
    ("a.csv", "text,label\nx, y,z\n", "class"): "line 2: 3 columns, the header has 2.*quote cells that hold a comma",
    ("a.tsv", "text\tlabel\nx\ty\n \ty\n", "class"): "line 3: the text in 'text' is empty",
    ("a.jsonl", '{"text": "", "label": "y"}\n', "class"): "line 1: the text in 'text' is empty",
    ("a.tsv", "text\tlabel\nx\t \n", "class"): "line 2: the label in 'label' is missing",
    ("a.jsonl", '{"text": "x", "label": null}\n', "class"): "line 1: 'label' is no class but null",
    ("a.jsonl", '{"text": 3, "label": "y"}\n', "class"): "line 1: 'text' is no text but 3",
    (
        "a.jsonl",
        '["x", "y"]\n',
        "class",
    ): r"line 1: a JSON object is needed, this is a list; name .* one array \*\.json",
    ("a.xlsx", "PK", "class"): "labelled texts are read from .*; save the sheet as CSV",
    (
        "a.tsv",
        "well made\tgood\n",
        "class",
    ): r"no column 'text'; .*--task\.label-column, or by number \(1, 2, \.\.\.\) if",
    ("a.csv", "text;label\nx\n", "class"): r"line 2: 1 columns, the header has 2.*; quote cells that hold a semicolon",
    ("a.json", '[{"text": "x"}]\n', "class"): "record 1: no column 'label'; the columns are: text",
    ("a.json", '[{"text": "x", "label": "y"}, 3]\n', "class"): "record 2: a JSON object is needed, this is a int",
    ("a.json", '[{"text": "x"\n', "class"): "a.json: not JSON .*; give an array of objects, or an object a line",
    ("a.json", "[]\n", "class"): "no rows in it",
    ("a.parquet", "PAR1", "class"): "a.parquet: not Parquet .*; copy it again",
    ("a.jsonl", '{"text": "x"\n', "class"): "line 1: not JSON",
    (
        "a.tsv",
        "text\tlabel\n" + "x" * 1_000_000 + "\ty\n",
        "class",
    ): "line 2: .* has 1,000,000 characters, more than 200,000",
    ("a.csv", 'text,label\nu,v\n"' + "x y\n" * 250_000, "class"): "line 3: not CSV .*close the quotes",
    ("a.csv", 'text,label\nu,v\n"' + "x" * 1_000_000 + '",y\n', "class"): "line 3: .* has 1,000,000 characters",
    ("a.tsv", "text\tlabel\nx\thigh\n", "number"): "line 2: the target in 'label' is no number: \"high\"",
    ("a.tsv", "text\tlabel\nx\tnan\n", "number"): "line 2: the target in 'label' is no number",
    ("a.jsonl", '{"text": "x", "label": 3}\n', "labels"): "line 1: 'label' is no list of labels",
    ("a.tsv", "text\tlabel\nx\t1_000\n", "number"): "line 2: the target in 'label' is no number: \"1_000\"",
    ("a.tsv", "text\tlabel\nx\t-1e31\n", "number"): r"line 2: the target in 'label' is -1e\+31; scale targets",
    ("a.jsonl", '{"text": "x", "label": ' + "9" * 400 + "}\n", "number"): "line 1: the target in 'label' is no number",
    ("a.jsonl", '{"text": "x", "label": NaN}\n', "class"): "line 1: the label in 'label' is missing",
    ("a.jsonl", "[" * 100_000 + "\n", "class"): "line 1: not JSON .*recursion",
    ("a.jsonl", '{"text": "x\\ud800", "label": "y"}\n', "class"): r"line 1: in 'text', character 1 is half of a surrog",
    ("a.jsonl", '{"text": "x", "label": "y\\ud800"}\n', "class"): r"line 1: the label in 'label' is 'y\\ud800', with",
    ("a.jsonl", '{"te\\nxt": "x", "label": "y"}\n', "class"): r"line 1: no column 'text'; the columns are: 'te\\nxt',",
    ("a.csv", 'text,label\nu,"v\nw"\n', "class"): r"line 2: the label in 'label' is 'v\\nw', with a line end",
    ("a.tsv", "text\tlabel\nx\ty\nu\0\tv\n", "class"): "line 3: character 1 is NUL, so this is no plain text",
    ("b.tsv", "text\tlabel\ttext\nx\ty\tz\n", "class"): "line 1: two columns are called 'text'; rename one",
    (
        "b.tsv",
        "text\tlabel\rx\ty\r",
        "class",
    ): r"line 1: no column 'label'; the columns are: text, 'label\\rx', y; name",
    ("a.tsv", "text\tlabel\n", "class"): "no rows in it",
    ("a.txt", "x\ty\n", "class"): "labelled texts are read from .tsv, .csv, .jsonl, .json and .parquet files",
}


@pytest.mark.parametrize("case", BAD, ids=[f"{name} {number}" for number, (name, *_) in enumerate(BAD)])
def test_bad_files_are_named_by_line(tmp_path, case):
    name, text, target = case
    (tmp_path / name).write_text(text)
    with pytest.raises(AlbertError, match=BAD[case]) as told:
        read_labelled(str(tmp_path / name), Columns(("text",), "label", target))
    assert str(told.value).startswith(f"{tmp_path}/{name}") and "\n" not in str(told.value)


def test_bad_tasks_are_told(files, tmp_path):
    other = write_tsv(tmp_path / "other.tsv", [("the", "a"), ("and", "d")])
    one = write_tsv(tmp_path / "one.tsv", [("the", "a"), ("and", "a")])
    numbers = write_tsv(tmp_path / "n.tsv", [("the", "1"), ("and", "2")])
    same = write_tsv(tmp_path / "same.tsv", [("the", "7"), ("and", "7")])
    cases = [
        (dict(dev=(other,)), r"other.tsv: line 3: the label 'd' is not among those of the training data \(a, b, c\)"),
        (dict(test=(other,)), "other.tsv: line 3: the label 'd' is not among"),
        (dict(dev=(other,), eval_examples=1), "other.tsv: line 3: the label 'd' is not among"),
        (dict(labels=("a", "b")), "train.tsv: line .* the label 'c' is not among"),
        (dict(train=(one,)), r"the training data has one class only \(a\)"),
        (dict(class_weights={"z": 2.0}), "task.class_weights names 'z'; the classes are a, b, c"),
        (
            dict(target="number", train=(numbers,), balance=True),
            "a number: it has no classes to name, weigh or balance",
        ),
        (dict(text_columns=("a", "b", "c")), "task.text_columns names 3 columns; one or two"),
        (dict(dev=()), "there are no validation examples: give --task.dev FILE; the best checkpoint"),
        (dict(train=(other, "")), "task.train holds an empty name; give --task.train FILE"),
        (dict(labels=("a", "b", "c", "a")), "task.labels names a class twice: a, b, c, a"),
        (dict(class_weights={"a": -2.0}), "task.class_weights gives 'a' -2; give factors of at least 0"),
        (dict(class_weights={"a": float("nan")}), "task.class_weights gives 'a' nan"),
        (dict(class_weights={"a": float("inf")}), "task.class_weights gives 'a' inf"),
        (dict(target="labels", label_separator=""), "task.label_separator is empty"),
        (dict(target="number", train=(same,)), "every target of the training data is 7; two values are needed"),
        (dict(target="number", train=(numbers,), standard=(1.0, 0.0)), r"task.standard is \(1.0, 0.0\); give a mean"),
        (dict(text_columns=("text", "label")), r"task.label_column \(label\) name a column twice"),
        (dict(examples=-1), "task.examples is -1; give how many, or 0 for all"),
        (dict(eval_examples=-1), "task.eval_examples is -1"),
        (dict(vocab=""), "labelled files come without a vocabulary"),
        (dict(data="somewhere"), "task.data and task.train are both given"),
    ]
    for changes, message in cases:
        with pytest.raises(AlbertError, match=message) as told:
            task = opened(files, **changes)
            task.train_batches(4, 0, 0)
            task.eval_batches("test", 4)
        assert "\n" not in str(told.value)


# ---- texts to examples


def test_two_texts_are_framed_as_the_original_cuts_them(files):
    tokenizer = Tokenizer.load(files / "vocab")
    rng = random.Random(0)
    for _ in range(2000):
        first, second = [7] * rng.randint(0, 20), [9] * rng.randint(0, 20)
        length = rng.randint(8, 24)
        kept = [list(first), list(second)]
        while len(kept[0]) + len(kept[1]) > length - 3:  # one piece at a time off the longer, as the original does
            kept[0 if len(kept[0]) > len(kept[1]) else 1].pop()
        row = frame(tokenizer, [first, second], length)
        want = [2, *kept[0], 3, *kept[1], 3]
        assert row["input_ids"].tolist() == want + [0] * (length - len(want))
        assert row["segment_ids"].tolist() == [0] * (len(kept[0]) + 2) + [1] * (len(kept[1]) + 1) + [0] * (
            length - len(want)
        )
        assert row["mask"].sum() == len(want)


def test_labels_are_those_of_the_training_data_and_long_texts_are_told(files, tmp_path):
    long = write_tsv(tmp_path / "long.tsv", [("the " * 50, "a"), ("and", "b"), *[("for", "a")] * 20])
    task = opened(files, train=(long, str(files / "train.tsv")))
    assert task.labels == ["a", "b", "c"] and len(task.split("train").examples) == 182
    assert task.resolved.labels == ("a", "b", "c")
    assert "1 of 182 training texts are longer than 16 pieces and cut" in task.notes[0]
    only = opened(files, train=(long,), dev=(long,))
    assert only.notes[1].startswith("class imbalance: 'a' has 21 of 22 training examples, 'b' 1;")
    assert len(opened(files, train=(long,), dev=(long,), balance=True).notes) == 1
    drawn, all_of_them, again = (opened(files, **few).split("train").examples for few in (dict(examples=9), {}, {}))
    assert np.bincount([int(row["label"]) for row in drawn]).tolist() == [3, 3, 3]
    assert drawn.fingerprint != all_of_them.fingerprint == again.fingerprint


@pytest.mark.parametrize("target", ["class", "labels"])
def test_a_class_without_an_example_is_a_warning(files, target):
    task = opened(files, labels=("a", "b", "c", "d"), target=target, balance=True)
    task.train_batches(4, 0, 0)
    (said,) = task.notes
    assert said == (
        "no training example of 'd', so it is never learned; add examples, correct the name, or leave it out of "
        "task.labels"
    )
    assert np.isfinite(list(task.resolved.class_weights.values())).all()
    plain = task.plain("test").fit()
    assert [each.scores["accuracy"] for each in plain][1] == 1.0
    few = opened(files, labels=tuple("abcdefghijk"), target=target).notes
    assert few[0].startswith("no training example of 'd', 'e', 'f', 'g', 'h' and 3 more, so") and len(few) == 1


# ---- losses and scores


def test_losses_are_the_libraries(files):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
    real = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0], np.float32)

    labels = rng.integers(0, 3, 9)
    target = OneClass(("a", "b", "c"), (1.0, 0.5, 4.0))
    sums, rows = target.sums(logits, {"label": jnp.asarray(labels), "example_weight": jnp.asarray(real)})
    factors = np.array(target.weights)[labels] * real
    shares = np.asarray(rows["probabilities"], np.float64)
    want = log_loss(labels, shares / shares.sum(1, keepdims=True), sample_weight=factors, labels=range(3))
    assert float(sums["loss"][0]) == pytest.approx(want * factors.sum(), rel=1e-5)
    assert float(sums["accuracy"][0]) == ((np.asarray(logits).argmax(1) == labels) * real).sum()

    many = (rng.random((9, 3)) < 0.4).astype(np.float32)
    target = ManyLabels(("a", "b", "c"), (1.0, 2.0, 3.0))
    sums, rows = target.sums(logits, {"label": jnp.asarray(many), "example_weight": jnp.asarray(real)})
    shares = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    losses = -(many * np.array([1, 2, 3]) * np.log(shares) + (1 - many) * np.log(1 - shares))
    assert float(sums["loss"][0]) == pytest.approx((losses.mean(1) * real).sum(), rel=1e-5)

    target = Number(3.0, 2.0)
    values = target.array([Labelled(("x",), float(value), "") for value in range(9)])
    sums, rows = target.sums(logits[:, :1], {"label": jnp.asarray(values), "example_weight": jnp.asarray(real)})
    guess = np.asarray(logits, np.float64)[:, 0] * 2 + 3
    assert float(sums["loss"][0]) == pytest.approx((((guess - np.arange(9)) / 2) ** 2 * real).sum(), rel=1e-5)


def test_balanced_weights_are_scikit_learns(files, tmp_path):
    lines = [("the", "a")] * 12 + [("and", "b")] * 3 + [("for", "c")]
    place = (write_tsv(tmp_path / "t.tsv", lines),)
    settled = opened(files, train=place, dev=place, balance=True).resolved
    want = compute_class_weight("balanced", classes=np.array(list("abc")), y=[label for _, label in lines])
    assert list(settled.class_weights.values()) == pytest.approx(want.tolist())
    named = opened(files, train=place, dev=place, balance=True, class_weights={"c": 9.0}).resolved
    assert named.class_weights == pytest.approx({"a": want[0], "b": want[1], "c": 9.0})
    many = opened(files, train=place, dev=place, target="labels", balance=True).resolved
    assert many.class_weights == pytest.approx({"a": 4 / 12, "b": 13 / 3, "c": 15.0})


def test_scores_are_the_libraries_on_200_random_cases():
    rng = np.random.default_rng(1)
    options = dict(output_dict=True, zero_division=0)
    for case in range(200):
        size, classes = int(rng.integers(2, 40)), int(rng.integers(2, 6))
        names = tuple(f"n{i}" for i in range(classes))

        true = rng.integers(0, classes, size)
        shares = rng.random((size, classes)) + 0.7 * np.eye(classes)[true]
        outputs = [{"label": label, "probabilities": row} for label, row in zip(true, shares, strict=True)]
        guess = shares.argmax(1)
        found = OneClass(names, (1.0,) * classes).evaluation({"accuracy": accuracy_score(true, guess)}, outputs)
        known = dict(labels=range(classes))
        want = classification_report(true, guess, **known, target_names=names, **options)
        assert {k: pytest.approx(v, abs=1e-9) for k, v in want.items()} == found.report, case
        f1 = f1_score(true, guess, **known, average="macro", zero_division=0)
        assert found.scores["f1_macro"] == pytest.approx(f1, abs=1e-9)
        assert found.degenerate == (len(set(guess)) == 1 and len(set(true)) > 1)
        assert np.sum(found.confusion) == size and np.trace(found.confusion) == (true == guess).sum()

        many = rng.random((size, classes)) < 0.3
        shares = np.clip(0.8 * rng.random((size, classes)) + 0.3 * many, 0, 1)
        outputs = [{"label": label, "probabilities": row} for label, row in zip(many, shares, strict=True)]
        found = ManyLabels(names, (1.0,) * classes).evaluation({}, outputs)
        guess = shares > 0.5
        want = classification_report(many, guess, target_names=names, **options)
        assert {k: pytest.approx(v, abs=1e-9) for k, v in want.items()} == found.report, case
        assert found.scores["accuracy"] == pytest.approx(accuracy_score(many, guess), abs=1e-9)
        for average in ("micro", "macro"):
            f1 = f1_score(many, guess, average=average, zero_division=0)
            assert found.scores[f"f1_{average}"] == pytest.approx(f1, abs=1e-9)

        real = rng.normal(40, 7, size)
        target = Number(40.0, 7.0)
        values = target.array([Labelled(("x",), value, "") for value in real])
        noisy = (values + rng.normal(0, 1, size)).astype(np.float32)
        outputs = [{"label": label, "value": value} for label, value in zip(values, noisy, strict=True)]
        found = target.evaluation({}, outputs).scores
        seen, guess = values.astype(np.float64) * 7 + 40, noisy.astype(np.float64) * 7 + 40
        assert seen == pytest.approx(real, rel=1e-6)
        assert found["pearson"] == pytest.approx(pearsonr(seen, guess).statistic, abs=1e-9)
        assert found["spearman"] == pytest.approx(spearmanr(seen, guess).statistic, abs=1e-9)
        shown = target.prediction(outputs[0])
        assert (shown["target"], shown["predicted"]) == pytest.approx((seen[0], guess[0]), abs=1e-5)
        assert found["rmse"] == pytest.approx(root_mean_squared_error(seen, guess), abs=1e-9)


def test_one_and_the_same_prediction_is_told(files):
    flat = [{"label": np.int32(i % 3), "probabilities": np.array([0.2, 0.5, 0.3])} for i in range(6)]
    found = OneClass(("a", "b", "c"), (1.0,) * 3).evaluation({}, flat)
    assert found.degenerate and found.notes[0].startswith("all 6 predictions are b; a run that ends so is degenerate")
    flat = [{"label": np.array([i % 2, 0]), "probabilities": np.array([0.2, 0.4])} for i in range(4)]
    found = ManyLabels(("a", "b"), (1.0,) * 2).evaluation({}, flat)
    assert found.degenerate and "all 4 predictions are no label" in found.notes[0]
    flat = [{"label": np.float32(i), "value": np.float32(0.5)} for i in range(4)]
    found = Number(10.0, 4.0).evaluation({}, flat)
    assert found.degenerate and "all 4 predictions are 12" in found.notes[0] and np.isnan(found.scores["pearson"])


# ---- runs


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    train(tiny(files, stopping=StoppingConfig(score="f1_macro"), epochs=20.0, optim=AdamW(peak_lr=1e-2)), workdir)
    return workdir


def test_a_rule_is_learned_and_the_best_evaluation_kept(files, trained, tmp_path):
    evaluation = evaluate(trained, "test")
    assert evaluation.scores["accuracy"] > 0.95
    records = [record for record in read_metrics(trained) if record["kind"] == "validation"]
    assert [record["step"] for record in records] == list(range(10, 201, 10))  # 160 examples in batches of 16
    best = max(records, key=lambda record: record["f1_macro"])
    kept = open_for_reading(trained, ("f1_macro", True))
    scored = {record["step"]: record["f1_macro"] for record in records}
    assert scored[kept.best_step] == best["f1_macro"]
    again = evaluate(trained, "test", data=str(files / "dev.tsv"))
    assert again.scores["f1_macro"] == pytest.approx(best["f1_macro"], abs=1e-6)
    with pytest.raises(AlbertError, match="other.tsv: cannot be read"):
        evaluate(trained, "test", data=str(tmp_path / "other.tsv"))
    lines = (trained / "predictions-test.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [text for text, _ in rows(30, 2)]


def test_a_run_keeps_its_plain_baselines_and_its_surest_mistakes(files, trained, monkeypatch):
    """After training those of validation, after an evaluation those of its split, which then needs no training file."""
    kept = json.loads((trained / "baselines-validation.json").read_text())
    assert [each["name"] for each in kept["baselines"]] == ["majority class", "TF-IDF + logistic regression"]
    dev = [label for _, label in rows(30, 2)]
    assert kept["baselines"][0]["scores"]["accuracy"] == pytest.approx(max(map(dev.count, dev)) / 30)
    said = [record["text"] for record in read_metrics(trained) if record["kind"] == "event"]
    # One word tells the class, which a bag of words learns at once: the run does not beat 1.0, and says so.
    assert kept["baselines"][1]["scores"]["f1_macro"] == 1.0
    line = "macro F1 does not beat TF-IDF + logistic regression: "
    assert sum(text.startswith(f"validation: {line}") for text in said) == 1

    first = evaluate(trained, "test")
    record = json.loads((trained / "evaluation-test.json").read_text())
    test = [label for _, label in rows(37, 3)]
    assert first.plain[0].scores["accuracy"] == pytest.approx(max(map(test.count, test)) / 37)
    assert record["baselines"]["accuracy"] == first.plain[1].scores["accuracy"] == 1.0
    assert record["against"]["accuracy"] == "TF-IDF + logistic regression" and record["ranking"] == ["f1_macro", True]
    (said_again,) = record["verdicts"]
    assert said_again.startswith(line) and first.verdicts == [said_again]
    lines = [json.loads(each) for each in (trained / "predictions-test.jsonl").read_text().splitlines()]
    wrong = [each for each in lines if each["label"] != each["predicted"]]
    found = [
        {"text": each["text"], "gold": each["label"], "predicted": each["predicted"],
         "probability": each["probabilities"][each["predicted"]]} for each in wrong
    ]  # fmt: skip
    assert record["mistakes"] == first.mistakes == sorted(found, key=lambda each: -each["probability"])

    def gone(*_):
        raise AlbertError("train.tsv: cannot be read")

    monkeypatch.setattr("albert_jax.tasks.classification.of_texts", gone)
    assert evaluate(trained, "test").plain == first.plain
    other = evaluate(trained, "test", data=str(files / "dev.tsv"))
    assert other.plain == [] and "no plain baselines beside these scores (train.tsv: cannot be read)" in other.verdicts
    assert opened(files, baselines=False).plain("test") is None
    scores = json.loads((trained / "scores.json").read_text())
    assert [score["name"] for score in scores if score["ranks"]] == ["f1_macro"]


def test_mistakes_of_every_target():
    one = OneClass(("a", "b"), (1.0, 1.0))
    assert one.mistake({"probabilities": np.array([0.2, 0.8]), "label": 1}) == {}
    assert one.mistake({"probabilities": np.array([0.2, 0.8]), "label": 0}) == {
        "gold": "a", "predicted": "b", "probability": 0.8
    }  # fmt: skip
    many = ManyLabels(("a", "b", "c"), (1.0, 1.0, 1.0))
    row = {"probabilities": np.array([0.6, 0.1, 0.99]), "label": np.array([0.0, 1.0, 1.0])}
    assert many.mistake(row) == {"gold": "b, c", "predicted": "a, c", "probability": 0.9}  # that b does not apply
    assert many.mistake({**row, "probabilities": np.zeros(3)})["predicted"] == "no label"
    assert many.mistake({**row, "label": np.array([1.0, 0.0, 1.0])}) == {}
    number = Number(10.0, 2.0).mistake({"value": np.float32(1.0), "label": np.float32(-0.5)})
    assert number == {"gold": "9", "predicted": "12", "error": 3.0}
    found = worst([{"text": "x" * 600, "error": error} for error in range(60)])
    assert [each["error"] for each in found] == list(range(59, 9, -1)) and len(found[0]["text"]) == 500


def test_every_example_counts_once_on_1_3_and_8_devices(files):
    """37 examples in batches of 24, the last with 13: of a random model, for all three targets."""
    experiment = tiny(files)
    for target in ("class", "labels"):
        task = opened(files, target=target)
        found = {}
        for devices in (1, 3, 8):
            layout = lay_out(task, MeshConfig(devices=devices))
            params = create(task, experiment.optim.build(1, {}), 0, layout).params
            found[devices], outputs = score(task, make_eval_step(task, layout), params, layout, "test", 24)
            assert len(outputs) == 37
            lines = list(task.predictions("test", outputs))
            named = [line["label" if target == "class" else "labels"] for line in lines]
            want = rows(37, 3)
            assert [(line["text"], name) for line, name in zip(lines, named, strict=True)] == [
                (text, label if target == "class" else [label]) for text, label in want
            ]
            guess = [line["predicted"] for line in lines]
            hits = sum(g == n for g, n in zip(guess, named, strict=True))
            assert found[devices].scores["accuracy"] == pytest.approx(hits / 37, abs=1e-6)
        for devices in (3, 8):
            assert found[devices].scores == pytest.approx(found[1].scores, abs=1e-5)


def test_a_loss_that_is_no_number_is_not_told_as_0(files):
    task, experiment = opened(files), tiny(files)
    layout = lay_out(task, MeshConfig(devices=1))
    params = create(task, experiment.optim.build(1, {}), 0, layout).params
    broken = jax.tree.map(lambda array: array * float("nan"), params)
    evaluation, _ = score(task, make_eval_step(task, layout), broken, layout, "test", 37)
    assert np.isnan(evaluation.scores["loss"])


def test_early_stopping_ends_keeps_the_best_and_stays_ended(files, tmp_path, capsys):
    """The validation labels are shifted by one, so the better the rule is learned, the worse they are predicted."""
    shifted = [(text, "abc"["abc".index(label) - 1]) for text, label in rows(30, 2)]
    place = write_tsv(tmp_path / "dev.tsv", shifted)
    stopping = StoppingConfig(score="loss", patience=2)
    worse = tiny(files, {"dev": (place,)}, stopping=stopping, optim=AdamW(peak_lr=1e-2), epochs=50.0)
    train(worse, tmp_path / "run")
    told = capsys.readouterr().out
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "run") if r["kind"] == "validation"}
    best, last = min(losses, key=lambda step: losses[step]), max(losses)
    assert last == best + 20 < 500
    assert f"stopped early: loss has not improved for 2 evaluations (best {losses[best]:.4f} at step {best})" in told
    kept = open_for_reading(tmp_path / "run", ("loss", False))
    assert (kept.best_step, kept.steps) == (best, [best, last])
    assert evaluate(tmp_path / "run", "validation").scores["loss"] == pytest.approx(losses[best], abs=1e-6)
    capsys.readouterr()
    train(worse, tmp_path / "run")
    told = capsys.readouterr().out
    assert f"is done: {last} of 500 steps; stopped early: loss" in told and "validation" not in told


def test_patience_counts_from_the_best():
    watch = Patience(StoppingConfig(patience=2, least_gain=0.1), ("loss", False))
    assert [watch.observe(step, {"loss": loss}) for step, loss in enumerate([3.0, 2.95, 2.0, float("nan")])] == [
        True, False, True, False
    ]  # fmt: skip
    assert not watch.over
    copy = Patience(StoppingConfig(patience=2, least_gain=0.1), ("loss", False), json.loads(json.dumps(watch.state)))
    assert not copy.observe(4, {"loss": 1.95}) and copy.over
    assert copy.reason == "stopped early: loss has not improved for 2 evaluations (best 2.0000 at step 2)"
    scores = (Score("loss", higher_is_better=False), Score("f1"))
    assert StoppingConfig(score="loss").rank_by("f1", scores) == Score("loss", higher_is_better=False)
    assert StoppingConfig(score="f1").rank_by("loss", scores) == Score("f1", higher_is_better=True)
    assert StoppingConfig().rank_by("f1", scores) == Score("f1", higher_is_better=True)
    forever = Patience(StoppingConfig(), ("loss", False))
    assert [forever.observe(step, {"loss": 1.0}) for step in range(9)][1:] == [False] * 8 and not forever.over


def test_fields_that_cannot_be(files, tmp_path, monkeypatch):
    monkeypatch.setattr(box, "BOX", tmp_path / "no box")  # from which a run would start
    with pytest.raises(AlbertError, match="stopping.score is 'f1'; the task's scores are loss, accuracy, f1_macro"):
        train(tiny(files, stopping=StoppingConfig(score="f1")), tmp_path / "run")
    with pytest.raises(AlbertError, match="steps is 5 and epochs 6; give one of them"):
        tiny(files, steps=5).check()
    with pytest.raises(AlbertError, match="steps is 0; it must be at least 1"):
        tiny(files, epochs=0.0).check()
    for optimizer in (AdamW, Lamb):
        with pytest.raises(AlbertError, match=r"one shared block at every depth.*--optim.rates"):
            optimizer(layer_decay=0.9)
    with pytest.raises(AlbertError, match="warmup_share is 0.1 and warmup_steps 5"):
        Schedule(warmup_steps=5, warmup_share=0.1).build(1.0, 100)
    for field, value in (("eval_every", -1), ("eval_batch_size", -3), ("data_workers", -1)):
        with pytest.raises(AlbertError, match=f"{field} is {value}; it must not be negative"):
            tiny(files, **{field: value}).check()
    for epochs in (float("nan"), float("inf")):
        with pytest.raises(AlbertError, match="give one of them"):
            tiny(files, epochs=epochs).check()
    with pytest.raises(AlbertError, match="would start from random parameters; give --init WORKDIR"):
        train(tiny(files, model_of_init=True, from_scratch=False), tmp_path / "run")
    rates = [({"^nothing/": 0.0}, "matches no parameter"), ({"alb(": 0.0}, r"'alb\(', which is no regular expression"),
             ({"^albert/": -1.0}, "'^albert/' -1; give a factor")]  # fmt: skip
    for rate, message in rates:
        with pytest.raises(AlbertError, match=message.replace("^", r"\^")):
            train(tiny(files, optim=AdamW(peak_lr=1.0, rates=rate)), tmp_path / "run")
    for peak in (-1.0, float("nan")):
        with pytest.raises(AlbertError, match=f"optim.peak_lr is {peak:g}; give a rate of at least 0"):
            train(tiny(files, optim=AdamW(peak_lr=peak)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_epochs_become_steps(files):
    experiment = tiny(files, epochs=2.5)
    settled = experiment.in_steps(150)
    assert (settled.steps, settled.epochs, settled.eval_every) == (24, 0.0, 10)  # 2.5 x 150 / 16, and a 2.5th of it
    assert dataclasses.replace(experiment, eval_every=7).in_steps(150).eval_every == 7
    assert settled.in_steps(150) == settled
    rate = Schedule(warmup_share=0.25).build(1.0, 24)
    assert [float(rate(step)) for step in (0, 3, 6, 24)] == [0.0, 0.5, 1.0, 0.0]


def test_a_real_target_is_learned(files, tmp_path):
    """The number of times that a word stands in the text, far from 0 and wide: the head need not move there."""
    rng = random.Random(0)
    for name, count in (("train", 200), ("dev", 40)):
        lines = []
        for _ in range(count):
            many = rng.randint(0, 4)
            words = [*["class"] * many, *rng.choices(WORDS, k=6)]
            rng.shuffle(words)
            lines.append((" ".join(words), str(1000 + 100 * many)))
        write_tsv(tmp_path / f"{name}.tsv", lines)
    places = {name: (str(tmp_path / f"{name}.tsv"),) for name in ("train", "dev")}
    experiment = tiny(files, {**places, "target": "number"}, optim=AdamW(peak_lr=3e-3), epochs=8.0, batch_size=20)
    train(experiment, tmp_path / "run")
    found = evaluate(tmp_path / "run", "validation")
    assert found.scores["pearson"] > 0.9 and found.scores["rmse"] < 80  # the targets' own deviation is 141
    stored = experiments.read(tmp_path / "run")
    assert 1150 < stored.task.standard[0] < 1250 and 120 < stored.task.standard[1] < 160
    assert jax.device_count() == 8
