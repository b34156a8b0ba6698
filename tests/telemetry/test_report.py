"""The report is one whole file, says what the run's files say, and forgives absent ones."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics import classification_report, confusion_matrix

from albert_jax.errors import AlbertError
from albert_jax.telemetry.charts import draw_confusion, draw_curve, smooth
from albert_jax.telemetry.records import METRICS
from albert_jax.telemetry.report import report_of, write_report
from albert_jax.telemetry.scores import Score, of_name, share, write_scores
from albert_jax.telemetry.tables import confused_pairs

LABELS = ["flax", "jax", "numpy", "<optax> & co"]


class Page(HTMLParser):
    """Text, links and images of a page; balanced tags or an assertion."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.addresses, self.cells = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def write_records(workdir, records):
    (workdir / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))


def pretraining(workdir, steps=60):
    records = []
    for step in range(1, steps + 1):
        records.append(
            {
                "step": step,
                "kind": "train",
                "loss": 8 - step / 10,
                "mlm_loss": 7 - step / 10,
                "mlm_accuracy": step / 200,
                "order_accuracy": 0.5,
                "learning_rate": 1e-3,
                "tokens_per_second": 15_000.0,
                "peak_share": 0.61,
                "seconds": float(step),
            }
        )
    records[10] |= {"loss": None, "nonfinite": {"loss": "nan"}}
    records.append({"step": steps, "kind": "validation", "loss": 2.5, "mlm_accuracy": 0.287, "order_accuracy": 0.75})
    records.append({"step": steps, "kind": "event", "text": "collapse watch: a <sentence>"})
    write_records(workdir, records)
    (workdir / "baselines.json").write_text(json.dumps({"unigram_entropy": 6.43, "unigram_accuracy": 0.047}))
    experiment = {
        "seed": 7,
        "model": {"layers": 4, "dropout": {"hidden": 0.125}},
        "data": {"packages": ["jax", "flax"]},
    }
    (workdir / "experiment.json").write_text(json.dumps(experiment))


def predictions(count=300):
    random = np.random.default_rng(0)
    true = random.choice(4, count, p=[0.1, 0.2, 0.3, 0.4])
    return true, np.where(random.random(count) < 0.6, true, random.choice(4, count))


def evaluation(workdir, report="dict"):
    true, guess = predictions()
    value = {
        "split": "test",
        "step": 200,
        "scores": {"accuracy": float((true == guess).mean()), "f1_macro": 0.6123},
        "labels": LABELS,
        "confusion": confusion_matrix(true, guess).tolist(),
    }
    if report:
        value["report"] = classification_report(true, guess, target_names=LABELS, output_dict=report == "dict")
    (workdir / "evaluation-test.json").write_text(json.dumps(value))
    return value


def test_pretraining_report(tmp_path):
    pretraining(tmp_path)
    path = write_report(tmp_path)
    assert path == tmp_path / "report" / "index.html"
    source = path.read_text()
    page = Page(source)
    text = " ".join(page.text)
    assert "28.7%" in text and "validation; unigram 4.7%" in text and "validation; chance 50.0%" in text
    assert "15.0k" in text and "61% MFU median share of the matmul peak" in text and "in 1:00" in text
    assert "collapse watch: a <sentence>" in text
    assert page.cells[-8:] == [
        "seed",
        "7",
        "layers",
        "4",
        "dropout.hidden",
        "0.125",
        "packages",
        '["jax", "flax"]',
    ]
    pictures = sorted(file.name for file in path.parent.glob("*.png"))
    assert pictures == sorted(
        [
            "loss.png",
            "mlm_loss.png",
            "mlm_accuracy.png",
            "order_accuracy.png",
            "learning_rate.png",
            "throughput.png",
        ]
    )
    assert len(page.addresses) == 6 and "url(" not in source and "@import" not in source
    for address in page.addresses:  # in the page itself, and the same as the file beside it
        head, data = address.split(",", 1)
        assert head == "data:image/png;base64"
        assert base64.b64decode(data) in [file.read_bytes() for file in path.parent.glob("*.png")]


def row(page, name):
    at = page.cells.index(name)
    return page.cells[at + 1 : at + 5]


@pytest.mark.parametrize("report", ["dict", "text", None])
def test_classification_report(tmp_path, report):
    value = evaluation(tmp_path, report)
    page = Page(write_report(tmp_path).read_text())
    assert "Evaluation on test, step 200" in page.text
    assert (tmp_path / "report" / "confusion-test.png").exists()
    if report == "text":
        assert value["report"] in "".join(page.text)
        return
    true, guess = predictions()
    expected = classification_report(true, guess, target_names=LABELS, output_dict=True)
    for name in [*LABELS, "macro avg", "weighted avg"]:
        numbers = [f"{expected[name][key]:.3f}" for key in ("precision", "recall", "f1-score")]
        assert row(page, name) == [*numbers, str(int(expected[name]["support"]))]
    assert row(page, "micro avg (= accuracy)") == [f"{expected['accuracy']:.3f}"] * 3 + ["300"]
    assert row(page, "accuracy")[0] == f"{value['scores']['accuracy']:.4f}"


def test_micro_average_of_a_subset_of_labels(tmp_path):
    """With some labels left out scikit-learn gives "micro avg" and no "accuracy"."""
    true, guess = predictions()
    report = classification_report(true, guess, labels=[0, 1], target_names=LABELS[:2], output_dict=True)
    (tmp_path / "evaluation-test.json").write_text(json.dumps({"split": "test", "scores": {}, "report": report}))
    page = Page(write_report(tmp_path).read_text())
    assert row(page, "micro avg")[0] == f"{report['micro avg']['precision']:.3f}"
    assert "micro avg (= accuracy)" not in page.cells


def test_a_table_of_no_entities_is_left_out(tmp_path):
    true, guess = predictions()
    report = classification_report(true, guess, target_names=LABELS, output_dict=True)
    value = {"split": "test", "scores": {}, "report": report, "entities": {}}
    (tmp_path / "evaluation-test.json").write_text(json.dumps(value))
    page = Page(write_report(tmp_path).read_text())
    assert "class" in page.cells and "entity" not in page.cells


def test_report_from_the_confusion_matrix_is_scikit_learns():
    true, guess = predictions()
    guess[guess == 0] = 1  # a class that is never predicted
    expected = classification_report(true, guess, target_names=LABELS, output_dict=True, zero_division=0)
    found = report_of(LABELS, confusion_matrix(true, guess))
    assert found.keys() == expected.keys()
    for name, row_ in expected.items():
        assert found[name] == pytest.approx(row_), name


def test_a_score_of_ones_own_has_tile_and_curve(tmp_path):
    own = Score("within_one", "within 1 <star>", ".2f", baseline=0.25, against="always 3", headline=True)
    write_scores(tmp_path, [own, Score("quiet")])
    scores = {"within_one": 0.5, "quiet": 0.7, "accuracy": 0.9}
    write_records(tmp_path, [{"step": step, "kind": "train"} | scores for step in (1, 2)])
    page = Page(write_report(tmp_path).read_text())
    assert "0.50 within 1 <star> training; always 3 0.25" in " ".join(text for text in page.text if text.strip())
    assert not {"quiet", "accuracy"} & set(page.text)
    assert [path.name for path in (tmp_path / "report").glob("*.png")] == ["within_1_star_.png"]
    value = {"split": "test", "scores": {"within_one": 0.75}, "baselines": {"within_one": 0.5}}
    (tmp_path / "evaluation-test.json").write_text(json.dumps(value))
    assert "test; always 3 0.50" in Page(write_report(tmp_path).read_text()).text


def test_baselines_of_their_own_split_best_step_and_title(tmp_path, monkeypatch):
    """The curve has validation's baseline, the tile that of the split whose score it shows."""
    accuracy = share("accuracy", against="majority class", headline=True, ranks=True)
    write_scores(tmp_path, [accuracy.with_baseline(0.2), Score("precision")])
    values = {100: 0.3, 200: 0.5, 300: 0.4}
    write_records(tmp_path, [{"step": step, "kind": "validation", "accuracy": v} for step, v in values.items()])
    (tmp_path / "experiment.json").write_text('{"name": "stars, small", "seed": 1}')
    page = Page(write_report(tmp_path).read_text())
    assert "validation; majority class 20.0%" in page.text
    plain = [{"name": "window", "scores": {"accuracy": 0.45, "precision": 0.4}, "note": "trained on 3 of 4"}]
    (tmp_path / "baselines-validation.json").write_text(json.dumps({"key": "", "baselines": plain}))
    page = Page(write_report(tmp_path).read_text())
    assert page.text.count("stars, small") == 3  # head, heading, configuration
    assert "validation; window 45.0%" in page.text
    assert [path.name for path in (tmp_path / "report").glob("*.png")] == ["accuracy.png"]
    drawn = []
    monkeypatch.setattr("albert_jax.telemetry.charts.draw_curve", lambda *given: drawn.append(given))
    for split, reached, against in (("test", 0.6, 0.7), ("validation", 0.5, 0.45)):
        words = [{"name": "words", "scores": {"accuracy": against}, "note": ""}, *plain]
        more = {"baselines": {"accuracy": against}, "against": {"accuracy": "words"}, "plain": words}
        more["mistakes"] = [{"text": "some <b>", "gold": "1", "predicted": "5", "probability": 0.9}]
        value = {"split": split, "scores": {"accuracy": reached, "loss": 1.0}, **more}
        (tmp_path / f"evaluation-{split}.json").write_text(json.dumps(value))
        page = Page(write_report(tmp_path).read_text())
        score, _, _, best = drawn[-3]  # before rate and throughput
        assert (score.baseline, best) == (0.45, 200)
    page = Page(write_report(tmp_path).read_text())
    text = " ".join(text for text in page.text if text.strip())
    assert "60.0% accuracy test; words 70.0%" in text and "window: trained on 3 of 4" in text
    assert row(page, "accuracy")[:3] == ["0.6000", "0.7000", "0.4500"] and row(page, "loss")[:3] == ["1.0000", "-", "-"]
    assert row(page, "some <b>")[:3] == ["1", "5", "0.9"]
    (tmp_path / "evaluation-test.json").write_text('{"scores": {}, "plain": [{"name": "words"}]}')
    with pytest.raises(AlbertError, match=r"evaluation-test\.json is damaged"):
        write_report(tmp_path)


def test_the_best_step_is_marked(tmp_path):
    from albert_jax.telemetry.charts import COLORS

    records = [{"step": step, "kind": "validation", "loss": 1 / step} for step in (1, 2, 3)]
    for name, best in (("without", None), ("with", 2), ("elsewhere", 7)):
        assert draw_curve(of_name("loss"), records, tmp_path / f"{name}.png", best)
    seen = {name: pixels(tmp_path / f"{name}.png", COLORS["validation"]) for name in ("with", "without", "elsewhere")}
    assert seen["with"] > seen["without"] + 100 and seen["elsewhere"] == seen["without"]


def test_many_classes_are_drawn_by_those_that_are_confused(tmp_path):
    names = [f"c{number}" for number in range(40)]
    confusion = np.diag(np.full(40, 9))
    confusion[30, 7] = 3
    confusion[2, 39] = 1
    assert draw_confusion(names[:2], confusion[:2, :2], tmp_path / "few.png") == ""
    said = "The 25 of 40 classes that are confused most; colours are shares of all examples of the true class."
    assert confused_pairs(names, confusion, 10) == [("c30", "c7", 3, 0.25), ("c2", "c39", 1, 0.1)]
    value = {"split": "test", "scores": {}, "labels": names, "confusion": confusion.tolist(), "report": "text"}
    (tmp_path / "evaluation-test.json").write_text(json.dumps(value))
    page = Page(write_report(tmp_path).read_text())
    assert said in page.text and row(page, "c30")[:3] == ["c7", "3", "25.0%"]


def test_empty_workdir_still_gives_a_page(tmp_path):
    page = Page(write_report(tmp_path).read_text())
    assert any("No curves" in text for text in page.text)


def test_stale_pictures_go(tmp_path):
    pretraining(tmp_path)
    write_report(tmp_path)
    (tmp_path / METRICS).unlink()
    write_report(tmp_path)
    assert list((tmp_path / "report").glob("*.png")) == []


def test_missing_workdir_and_broken_file(tmp_path):
    with pytest.raises(AlbertError, match="no such workdir"):
        write_report(tmp_path / "absent")
    (tmp_path / "experiment.json").write_text("{")
    with pytest.raises(AlbertError, match=r"experiment\.json: not valid JSON"):
        write_report(tmp_path)


def pixels(path, color):
    """Number of opaque pixels of this colour."""
    picture = imread(path)
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return int(((np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.02) & (picture[..., 3] > 0.99)).sum())


def test_baseline_is_drawn_across_the_picture(tmp_path):
    from albert_jax.telemetry.charts import COLORS

    records = [{"step": step, "kind": "train", "mlm_accuracy": step / 100} for step in range(1, 41)]
    assert draw_curve(of_name("mlm_accuracy", {"unigram_accuracy": 0.047}), records, tmp_path / "with.png")
    assert draw_curve(of_name("mlm_accuracy"), records, tmp_path / "without.png")
    assert pixels(tmp_path / "with.png", COLORS["baseline"]) > 500
    assert pixels(tmp_path / "without.png", COLORS["baseline"]) == 0
    assert pixels(tmp_path / "with.png", COLORS["train"]) > 500
    assert pixels(tmp_path / "with.png", COLORS["validation"]) == 0
    corner = imread(tmp_path / "with.png")[0, 0]
    assert corner[3] == 0.0  # transparent: fits a dark page as well


def test_training_and_validation_share_the_axes(tmp_path):
    from albert_jax.telemetry.charts import COLORS

    records = [{"step": step, "kind": kind, "loss": 1.0} for step in (1, 2) for kind in ("train", "validation")]
    assert draw_curve(of_name("loss"), records, tmp_path / "a.png")
    assert pixels(tmp_path / "a.png", COLORS["validation"]) > 50
    records = [{"step": 1, "kind": "train", "loss": float("nan")}, {"step": 2, "kind": "event", "text": ""}]
    assert not draw_curve(of_name("loss"), records, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_issue_curves_are_all_there(tmp_path):
    names = ["loss", "mlm_accuracy", "order_accuracy", "learning_rate", "tokens_per_second", "accuracy"]
    write_records(tmp_path, [{"step": 1, "kind": "train"} | dict.fromkeys(names, 0.5)])
    files = {path.stem for path in write_report(tmp_path).parent.glob("*.png")}
    assert files == {*names} - {"tokens_per_second"} | {"throughput"}
    assert of_name("mlm_accuracy", {"unigram_accuracy": 0.047}).baseline == 0.047
    assert of_name("order_accuracy").baseline == 0.5


def test_smoothing():
    assert smooth(np.arange(100.0))[:50] == pytest.approx(np.arange(50.0))  # a straight line stays
    noisy = 1.0 + 0.5 * np.random.default_rng(0).standard_normal(1000)
    assert smooth(noisy)[50:].std() < 0.12
    gap = np.array([1.0, np.nan, 1.0, 1.0])
    assert smooth(gap) == pytest.approx([1.0, 1.0, 1.0, 1.0])


def test_many_classes(tmp_path):
    labels = [f"a rather long class name {number}" for number in range(30)]
    value = {"split": "test", "scores": {}, "labels": labels, "confusion": np.eye(30, dtype=int).tolist()}
    (tmp_path / "evaluation-test.json").write_text(json.dumps(value))
    source = write_report(tmp_path).read_text()
    assert re.search(r"a rather long class name 29", source)
    picture = imread(tmp_path / "report" / "confusion-test.png")
    assert picture.shape[0] < 2600 and picture.shape[1] < 2600
