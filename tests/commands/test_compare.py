"""compare, and whoever else reads evaluation-SPLIT.json: medians by name, scores without a value, damaged files."""

import json

import pytest

from albert_jax import experiment as experiments
from albert_jax.commands.compare import compare
from albert_jax.commands.inspect import describe
from albert_jax.errors import AlbertError
from albert_jax.telemetry.report import write_report


def evaluated(workdir, name, scores, **more):
    """A workdir that has been evaluated on the test split."""
    workdir.mkdir()
    record = {"split": "test", "step": 3, "scores": scores, "experiment": name, "degenerate": False, "baselines": {}}
    (workdir / "evaluation-test.json").write_text(json.dumps(record | more))
    return workdir


def test_median_least_and_greatest_of_the_runs_of_a_name(tmp_path, capsys):
    known = {"baselines": {"majority_accuracy": 0.25}}
    runs = [
        evaluated(tmp_path / "a", "ours", {"accuracy": 0.5, "loss": 2.0}, **known),
        evaluated(tmp_path / "b", "ours", {"accuracy": 0.9, "loss": None}, degenerate=True, **known),
        evaluated(tmp_path / "c", "theirs", {"accuracy": 0.1}, degenerate=None),
        evaluated(tmp_path / "d", "ours", {"accuracy": 0.6, "loss": 1.0}, **known),
        evaluated(tmp_path / "e", "nothing", {"pearson": None}),
    ]
    assert compare(runs) == [
        ("ours", "accuracy", 0.6, 0.5, 0.9, 3, 1, 0.25),
        ("ours", "loss", 1.5, 1.0, 2.0, 3, 1, None),
        ("theirs", "accuracy", 0.1, 0.1, 0.1, 1, None, None),
        ("nothing", "pearson", None, None, None, 1, 0, None),
    ]
    printed = capsys.readouterr().out
    assert "test split, median over the runs of an experiment" in printed


def test_baselines_by_score_and_by_their_older_names(tmp_path):
    runs = [
        evaluated(
            tmp_path / "a", "new", {"accuracy": 0.5, "within_one": 0.7}, baselines={"accuracy": 0.3, "within_one": 0.6}
        ),
        evaluated(tmp_path / "b", "old", {"mlm_loss": 2.0, "order_accuracy": 0.9}, baselines={"unigram_entropy": 6.4}),
    ]
    assert [row[-1] for row in compare(runs)] == [0.3, 0.6, 6.4, 0.5]


def test_one_name_for_two_tasks_is_refused(tmp_path):
    runs = [evaluated(tmp_path / "a", "one", {"accuracy": 0.5}), evaluated(tmp_path / "b", "one", {"pearson": 0.5})]
    with pytest.raises(AlbertError, match=r"b has the name 'one' of another run, and other scores \(pearson; not acc"):
        compare(runs)


def test_inspect_tells_a_score_that_has_no_value(tmp_path):
    workdir = evaluated(tmp_path / "a", "one", {"pearson": None, "loss": 0.5})
    (workdir / experiments.FILE).write_text(json.dumps(experiments.to_dict(experiments.example())))
    assert "test split at step 3: pearson none, loss 0.5000" in describe(workdir)


@pytest.mark.parametrize(
    "text",
    ['{"cut', "[]", '{"split": "test"}', '{"scores": [1]}', '{"scores": {"f1": "a"}}', "\x00", "[" * 10**5,
     '{"scores": {}, "baselines": [1]}', '{"scores": {}, "baselines": {"f1": "a"}}'],
)  # fmt: skip
def test_a_damaged_evaluation_is_reported(text, tmp_path):
    workdir = evaluated(tmp_path / "a", "one", {"accuracy": 0.5})
    (workdir / "evaluation-test.json").write_text(text)
    for read in (lambda: compare([workdir]), lambda: write_report(workdir)):
        with pytest.raises(AlbertError, match=r"evaluation-test\.json is damaged .*; run albert_jax evaluate"):
            read()
