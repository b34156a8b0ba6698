"""A score is declared once: line, report and workdirs of every age read the same value."""

import json

import numpy as np
import pytest

from albert_jax.errors import AlbertError
from albert_jax.telemetry.scores import FILE, KNOWN, MEASURES, Score, loss, of_name, read_scores, share, write_scores

WITHIN_ONE = share("within_one", headline=True).with_baseline(np.float32(0.25), "always 3 stars")


def test_scores_come_back_from_the_workdir(tmp_path):
    scores = (loss(headline=True), WITHIN_ONE, Score("rmse", "RMSE", higher_is_better=False))
    write_scores(tmp_path, scores)
    assert tuple(read_scores(tmp_path).values()) == scores
    assert json.loads((tmp_path / FILE).read_text())[1]["baseline"] == 0.25


def test_an_older_workdir_has_the_scores_of_its_time(tmp_path):
    assert read_scores(tmp_path) == KNOWN
    (tmp_path / "baselines.json").write_text(json.dumps({"unigram_entropy": 6.43, "unigram_accuracy": 0.047}))
    scores = read_scores(tmp_path)
    assert [scores[name].baseline for name in ("mlm_loss", "mlm_accuracy", "order_accuracy", "accuracy")] == [
        6.43,
        0.047,
        0.5,
        None,
    ]


@pytest.mark.parametrize("text", ['[{"name"', "[1]", '{"name": 1}', '[{"name": "f1", "form": ".3f"}]', "[{}]"])
def test_damaged_scores_are_one_line(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(AlbertError, match=r"scores\.json is damaged \(.*\); run train again"):
        read_scores(tmp_path)


def test_a_wrong_format_is_refused_where_it_is_declared():
    with pytest.raises(AlbertError, match=r"score 'within_one': .*; give a format such as \.3f"):
        Score("within_one", format=".1q")


def test_numbers_and_labels():
    assert WITHIN_ONE.on_line(0.5) == "within one 50.0%"
    assert (WITHIN_ONE.chart_title, WITHIN_ONE.baseline_text) == ("Within one", "always 3 stars 25.0%")
    assert [of_name(name).on_line(0.5) for name in ("loss", "mlm_accuracy", "accuracy", "f1")] == [
        "loss 0.5000",
        "MLM 50.0%",
        "accuracy 50.0%",
        "entity F1 0.500",
    ]
    assert [score.on_line(3.1e12) for score in MEASURES[1:3]] == ["3.1T tokens/s", "3.1TFLOP/s"]
    assert [of_name(name).chart_title for name in ("loss", "mlm_loss", "f1_macro")] == [
        "Loss (nats)",
        "MLM loss (nats)",
        "F1, mean over classes",
    ]


def test_a_baseline_is_found_under_either_name():
    assert of_name("accuracy", {"majority_accuracy": 0.3}).baseline == 0.3
    assert of_name("accuracy", {"accuracy": 0.4, "majority_accuracy": 0.3}).baseline == 0.4
    assert of_name("within_one", {"within_one": 0.2}).baseline == 0.2
