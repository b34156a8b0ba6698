"""What albert_jax wrote to disk at commit 6e13823 is read, continued and answered from as by that commit.

The directories and the old answers are in goldens/stored_6e13823, made there by make_6e13823.py. Only the command line
and `albert_jax.load` are used, so that modules may move. Programs compiled otherwise round otherwise: numbers that were
computed anew are compared to within 1e-5, all else exactly.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import albert_jax
from albert_jax.__main__ import main

HERE = Path(__file__).parent
STORED = HERE / "goldens" / "stored_6e13823"
EXPECTED = json.loads((STORED / "expected.json").read_text(encoding="utf-8"))
TIMED = ("second", "share")  # of these are the names of the metrics that a clock makes


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    """A copy of what is stored, with the vocabulary in all its places, as the current directory."""
    place = tmp_path / "stored"
    shutil.copytree(STORED, place)
    for file in EXPECTED["vocabulary"]:
        (place / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(place / "corpus/vocab/vocab.model", place / file)
    (place / "configs").symlink_to(HERE.parent / "configs")
    monkeypatch.chdir(place)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))  # not the user's


def told(capsys, *words):
    """Standard output of a verb that ends well."""
    capsys.readouterr()
    code = main(list(words))
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


# An evaluation now names its baselines by the score that they belong to.
# That of accuracy was the validation split's majority class beside a test score, and is now that of the split itself.
BASELINES = {"unigram_accuracy": "mlm_accuracy", "unigram_entropy": "mlm_loss", "majority_accuracy": None}


def assert_same(found, expected, within=1e-5, where=""):
    """Trees of dicts and lists are equal, their numbers to within `within`, relative to those above 1. A dict that was
    found may have more fields."""
    if isinstance(expected, dict):
        expected = {BASELINES.get(name, name): value for name, value in expected.items()}
        expected.pop(None, None)
        assert set(expected) <= set(found), where
        for name in expected:
            assert_same(found[name], expected[name], within, f"{where}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, within, f"{where}/{number}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=within, abs=within), where
    else:
        assert found == expected, where


def table(text):
    """The words of a printed table, its numbers as numbers."""
    return [float(word) if re.fullmatch(r"-?\d+\.\d+", word) else word for word in text.split()]


def records(file):
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def test_what_is_there_is_told_as_before(capsys):
    """Manifests, experiments, vocabularies, evaluations, checkpoints and converted weights, as `inspect` sees them."""
    found = {place: told(capsys, "inspect", place) for place in EXPECTED["inspect"]}
    for place, text in EXPECTED["inspect"].items():
        assert found[place] == text, place


def test_scores_are_put_into_one_table(capsys):
    workdirs = list(EXPECTED["evaluate"])
    assert told(capsys, "compare", *workdirs) == EXPECTED["compare"]


def test_a_prepared_directory_is_known_as_done(capsys):
    before = {file: file.read_bytes() for file in Path("corpus").rglob("*") if file.is_file()}
    assert told(capsys, *EXPECTED["commands"]["prepare"]) == EXPECTED["prepare"]
    assert {file: file.read_bytes() for file in Path("corpus").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("place", EXPECTED["evaluate"])
def test_a_run_is_scored_as_before(place, capsys):
    """Scores and tables to within 1e-5 and predictions of the best checkpoint, over data that the old version made."""
    known = [Path(place, name) for name in ("evaluation-test.json", "predictions-test.jsonl")]
    known = {file: records(file) if file.suffix == ".jsonl" else json.loads(file.read_text())
             for file in known if file.exists()}  # fmt: skip
    for file in known:
        file.unlink()
    assert "report: " in told(capsys, "evaluate", "--workdir", place, "--split", "test")
    for file, expected in known.items():
        found = records(file) if file.suffix == ".jsonl" else json.loads(file.read_text())
        assert_same(found, expected, where=str(file))
    assert_same(json.loads(Path(place, "evaluation-test.json").read_text())["scores"], EXPECTED["evaluate"][place])


@pytest.mark.parametrize("place", EXPECTED["predict"])
def test_texts_are_answered_as_before(place, capsys):
    """One class, a number, tagged spans, and several labels on a WordPiece vocabulary; without the training data."""
    for folder in Path().glob("*_data"):
        shutil.rmtree(folder)
    expected = EXPECTED["predict"][place]
    told(capsys, "predict", "--workdir", place, "--input", expected["input"], "--output", "answers.jsonl")
    assert_same(records("answers.jsonl"), expected["records"])


@pytest.mark.parametrize("place", EXPECTED["heads"])
def test_a_model_computes_as_before(place):
    """Hidden states, pooled output and logits of `albert_jax.load`, of every format that was written."""
    arrays = np.load(STORED / "expected.npz")
    given = {name.removeprefix("batch."): arrays[name] for name in arrays.files if name.startswith("batch.")}
    head = EXPECTED["heads"][place]
    if head != "pretrain":
        del given["positions"]
    model, tokenizer = albert_jax.load(place, head=head)
    assert tokenizer.vocab_size == model.config.vocab_size
    found = {name: value for name, value in model(**given)._asdict().items() if value is not None}
    expected = {name: arrays[f"{place}.{name}"] for name in found}
    assert {f"{place}.{name}" for name in found} == {name for name in arrays.files if name.startswith(f"{place}.")}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("place", EXPECTED["continued"])
def test_a_run_is_continued_as_it_went_on(place, capsys):
    """Its last checkpoint is taken away; from the one before, the same steps come again: parameters, moments, the
    place in the data, dropout."""
    start, expected = EXPECTED["continued"][place]["from"], EXPECTED["continued"][place]["records"]
    steps = max(record["step"] for record in expected)
    shutil.rmtree(Path(place, "checkpoints", str(steps)))
    assert f"continuing at step {start}" in told(capsys, "train", "--workdir", place)
    later = [record for record in records(Path(place, "metrics.jsonl")) if record["step"] > start]
    found = [{name: value for name, value in record.items() if not any(word in name for word in TIMED)}
             for record in later if record["kind"] != "event"]  # fmt: skip
    assert_same(found, expected)


def test_a_search_goes_on(capsys):
    """A third trial after the two that are stored, with the values that the old version drew for it."""
    pytest.importorskip("optuna")
    expected = EXPECTED["search"]
    lines = told(capsys, *EXPECTED["commands"]["search"]).splitlines()
    assert [line for line in lines if line.startswith("trial ")][:1] == [expected["drawn"]]
    found = [record for record in records("search/trial-002/metrics.jsonl") if record["kind"] == "validation"]
    assert_same(found, expected["validation"])
    assert_same(table(Path("search/search.txt").read_text()), table(expected["table"]), within=1.1e-4)
