"""Plain baselines: equal to scikit-learn done by hand, the split's own majority, scripts without spaces, pairs, limits,
what is kept in the workdir, and the verdict."""

import json
import random

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss

from albert_jax.commands.compare import compare, print_evaluation
from albert_jax.data.labelled.conll import Sentence
from albert_jax.data.labelled.tables import Labelled
from albert_jax.errors import AlbertError
from albert_jax.tasks import baselines
from albert_jax.tasks.base import Evaluation
from albert_jax.tasks.baselines import of_tags, of_texts
from albert_jax.tasks.tagging import evaluate_tags
from albert_jax.tasks.targets import ManyLabels, Number, OneClass
from albert_jax.telemetry.baselines import Baseline, Plain, best_of, file_of, fitted, verdict
from albert_jax.telemetry.scores import Score, loss, share

FILLERS = ["it", "is", "what", "they", "had", "then", "and", "now", "or", "so", "far", "when", "we", "were", "there"]
MARKS = {"good": ["fine", "bright", "warm"], "bad": ["dull", "cold"], "odd": ["queer"]}
CLASSES = OneClass(("good", "bad", "odd"), (1.0, 1.0, 1.0))


def labelled(count, seed, odd=0.2):
    """Texts whose class is told by one word, in two of three of them."""
    rng = random.Random(seed)
    found = []
    for n in range(count):
        label = "odd" if rng.random() < odd else rng.choice(["good", "bad"])
        said = label if rng.random() < 0.7 else rng.choice(list(MARKS))
        words = [*rng.choices(FILLERS, k=5), rng.choice(MARKS[said])]
        rng.shuffle(words)
        found.append(Labelled((" ".join(words),), label, f"line {n}"))
    return found


@pytest.fixture(autouse=True)
def fresh():
    """Each test fits its own."""
    baselines._fit_texts.cache_clear()
    baselines._fit_window.cache_clear()


def test_one_class_is_scikit_learns_and_the_majority_is_the_splits():
    train, test = labelled(200, 1, odd=0.1), labelled(90, 2, odd=0.7)
    majority, linear = of_texts(CLASSES, train, test)
    true = [record.target for record in test]
    most = max(set(true), key=true.count)
    assert most == "odd" and majority.name == "majority class"  # of training it is another
    assert majority.scores == pytest.approx(
        {
            "accuracy": true.count("odd") / 90,
            "f1_macro": f1_score(true, ["odd"] * 90, average="macro", zero_division=0, labels=CLASSES.labels),
        }
    )
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\w+")
    model = LogisticRegression(C=10, tol=1e-5).fit(
        vectorizer.fit_transform([record.texts[0] for record in train]), [record.target for record in train]
    )
    features = vectorizer.transform([record.texts[0] for record in test])
    guess, shares = model.predict(features), model.predict_proba(features)
    assert (linear.name, linear.note) == ("TF-IDF + logistic regression", "")
    assert linear.scores["accuracy"] == pytest.approx(accuracy_score(true, guess), abs=1e-6)
    assert linear.scores["f1_macro"] == pytest.approx(f1_score(true, guess, average="macro"), abs=1e-6)
    assert linear.scores["loss"] == pytest.approx(log_loss(true, shares, labels=model.classes_), rel=0.01)


def test_two_classes_weights_and_a_class_that_training_lacks():
    train = [record for record in labelled(200, 1) if record.target != "odd"]
    test = [record for record in labelled(90, 2) if record.target != "odd"]
    _, two = of_texts(OneClass(("good", "bad"), (1.0, 1.0)), train, test)
    _, three = of_texts(CLASSES, train, test)
    assert two.scores["accuracy"] == pytest.approx(three.scores["accuracy"]) and two.scores["accuracy"] > 0.7
    assert two.scores["loss"] == pytest.approx(three.scores["loss"], rel=1e-5)  # the third has no probability
    _, heavy = of_texts(OneClass(("good", "bad"), (100.0, 0.01)), train, test)
    # Nearly all is called by the class whose errors cost 10,000 times as much.
    assert heavy.scores["accuracy"] == pytest.approx(sum(r.target == "good" for r in test) / len(test), abs=0.2)
    assert heavy.scores["accuracy"] < two.scores["accuracy"]


def test_stochastic_gradient_descent_stands_in_for_large_data(monkeypatch):
    train, test = labelled(2000, 1), labelled(300, 2)
    _, exact = of_texts(CLASSES, train, test)
    monkeypatch.setattr(baselines, "_EXACT", 0)
    baselines._fit_texts.cache_clear()
    _, approached = of_texts(CLASSES, train, test)
    assert approached.scores != exact.scores
    assert approached.scores["accuracy"] == pytest.approx(exact.scores["accuracy"], abs=0.03)
    assert approached.scores["loss"] == pytest.approx(exact.scores["loss"], abs=0.2)  # one class against the rest


def test_several_labels():
    sets = {"a": ("x",), "b": ("x", "y"), "c": (), "d": ("y", "z")}
    rng = random.Random(0)
    train = [Labelled((f"{k} {rng.choice(FILLERS)}",), sets[k], "") for k in rng.choices("abcd", k=120)]
    test = [Labelled((f"{k} {FILLERS[0]}",), sets[k], "") for k in "abcdbb"]
    target = ManyLabels(("x", "y", "z", "never"), (1.0, 2.0, 1.0, 1.0))
    majority, linear = of_texts(target, train, test)
    assert majority.name == "most frequent set of labels" and majority.scores["accuracy"] == 0.5
    # x and y of all six: 8 of the 12 are right, of 9 true ones 8.
    assert majority.scores["f1_micro"] == pytest.approx(2 * 8 / (12 + 9))
    assert linear.scores["accuracy"] == 1.0 and linear.scores["f1_micro"] == 1.0


def test_numbers():
    rng = random.Random(0)
    train = [Labelled((f"{n} of them {rng.choice(FILLERS)}",), float(n), "") for n in rng.choices(range(10), k=200)]
    test = [Labelled((f"{n} of them",), float(n), "") for n in range(10)]
    values = np.array([record.target for record in train])
    mean, ridge = of_texts(Number(float(values.mean()), float(values.std())), train, test)
    wrong = np.arange(10) - values.mean()
    assert mean.name == "mean of training"
    assert mean.scores["rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-5)
    assert "pearson" not in mean.scores  # a constant has none
    assert ridge.name == "TF-IDF + ridge" and ridge.scores["pearson"] > 0.98 and ridge.scores["rmse"] < 0.8


def test_text_without_spaces_is_counted_by_characters():
    letters = "天地玄黄宇宙洪荒日月盈昃辰宿列张"
    rng = random.Random(0)

    def texts(count):
        for _ in range(count):
            label = rng.choice(["good", "bad"])
            at = rng.randint(0, 8)
            filler = "".join(rng.choices(letters, k=8))
            yield Labelled((filler[:at] + {"good": "甲乙", "bad": "乙甲"}[label] + filler[at:],), label, "")

    _, linear = of_texts(OneClass(("good", "bad"), (1.0, 1.0)), list(texts(150)), list(texts(50)))
    # Only the order of two characters tells the classes apart.
    assert linear.scores["accuracy"] > 0.95
    kinds = {
        text: baselines._ngrams([text]).get("analyzer")
        for text in ("ภาษาไทย", "ひらがな 3", "한국어 띄어쓰기", "one 天")
    }
    assert list(kinds.values()) == ["char", "char", None, None]


def test_the_texts_of_a_pair_have_features_of_their_own():
    rng = random.Random(0)
    words = ["red", "blue"]

    def pairs(count):
        for first in rng.choices(words, k=count):
            yield Labelled((first, words[1 - words.index(first)]), "good" if first == "red" else "bad", "")

    # Both words stand in every pair: only which text has which tells the class.
    _, linear = of_texts(OneClass(("good", "bad"), (1.0, 1.0)), list(pairs(60)), list(pairs(20)))
    assert linear.scores["accuracy"] == 1.0


def test_what_is_left_out_is_told(monkeypatch):
    train, test = labelled(100, 1), labelled(30, 2)
    monkeypatch.setattr(baselines, "_CHARACTERS", sum(len(record.texts[0]) for record in train) // 2)
    _, half = of_texts(CLASSES, train, test)
    count = int(half.note.split()[2])
    assert half.note == f"trained on {count} of 100 texts, to take seconds" and 45 <= count <= 55
    monkeypatch.setattr(baselines, "_FEATURES", 7)
    baselines._fit_texts.cache_clear()
    assert of_texts(CLASSES, train, test)[1].note.endswith("; the 7 most frequent n-grams")
    assert [each.name for each in of_texts(CLASSES, train[:1], test)] == ["majority class"]
    silent = [Labelled(("...",), record.target, "") for record in train]
    assert [each.name for each in of_texts(CLASSES, silent, test)] == ["majority class"]


def sentences(count, seed):
    """Names are told by the word before, towns by their end; "May" is a name or none."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        words, tags = [], []
        for _ in range(4):
            kind = rng.choice(["name", "town", "none"])
            words += {"name": ["Mr", rng.choice(["May", "Bly", f"N{rng.random():.6f}"])],
                      "town": [f"{rng.choice('ABCDEFG')}{rng.randint(0, 999)}ton"],
                      "none": [rng.choice(["May", "May", "it"])]}[kind]  # fmt: skip
            tags += {"name": ["O", "B-PER"], "town": ["B-LOC"], "none": ["O"]}[kind]
        found.append(Sentence(tuple(words), tuple(tags), ""))
    return found


def test_tags_of_words_and_of_windows(monkeypatch):
    train, test = sentences(300, 1), sentences(60, 2)

    def score(true, guess):
        return evaluate_tags({}, true, guess).scores

    majority, words, window = of_tags(train, test, score)
    assert [each.name for each in (majority, words, window)] == [
        "most frequent tag",
        "most frequent tag per word",
        "window + logistic regression",
    ]
    true = [tag for sentence in test for tag in sentence.tags]
    assert majority.scores["accuracy"] == true.count("O") / len(true) and majority.scores["f1"] == 0.0
    seen = [(word, tag) for sentence in train for word, tag in zip(sentence.words, sentence.tags, strict=True)]
    most = {word: "B-PER" if seen.count((word, "B-PER")) > seen.count((word, "O")) else "O" for word in ("May", "Bly")}
    assert most == {"May": "O", "Bly": "B-PER"}
    known = {word: tag for word, tag in seen} | most
    guess = [[known.get(word, "O") for word in sentence.words] for sentence in test]
    assert words.scores == score([list(sentence.tags) for sentence in test], guess)
    # Unseen names and towns, and May by the word before it.
    assert words.scores["f1"] < 0.7 and window.scores["f1"] > 0.95 and window.note == ""
    monkeypatch.setattr(baselines, "_WORDS", 100)
    baselines._fit_window.cache_clear()
    assert of_tags(train, test, score)[2].note.endswith(" of 300 sentences, to take seconds")
    nothing = [Sentence(("a", "b"), ("O", "O"), "")]
    assert [each.scores["accuracy"] for each in of_tags(nothing, nothing, score)] == [1.0, 1.0]


# ---- what is kept, and what is said


def test_a_workdir_keeps_them_until_the_data_changes(tmp_path):
    calls = []

    def plain(key, reached=0.5):
        return Plain(key, lambda: calls.append(key) or [Baseline("plain", {"accuracy": reached}, "few")])

    assert fitted(tmp_path, "test", None) == ([], []) and not file_of(tmp_path, "test").exists()
    first, notes = fitted(tmp_path, "test", plain("a"))
    assert (first, notes) == ([Baseline("plain", {"accuracy": 0.5}, "few")], [])
    assert fitted(tmp_path, "test", plain("a", 0.9)) == (first, []) and calls == ["a"]
    assert fitted(tmp_path, "test", plain("b", 0.9))[0][0].scores == {"accuracy": 0.9} and calls == ["a", "b"]
    file_of(tmp_path, "test").write_text('{"key": "b"')
    assert fitted(tmp_path, "test", plain("b"))[0] == first  # damaged: anew

    def gone():
        raise AlbertError("train.tsv: no such file")

    found, notes = fitted(tmp_path, "validation", Plain("c", gone))
    assert found == [] and notes == ["no plain baselines beside these scores (train.tsv: no such file)"]


def test_the_verdict_is_by_the_best_baseline():
    accuracy, rmse = share("accuracy", against="majority class"), Score("rmse", "RMSE", higher_is_better=False)
    plain = [
        Baseline("words", {"accuracy": 0.4, "rmse": 2.0}),
        Baseline("window", {"accuracy": 0.799, "rmse": 3.0, "f1": 0.1}),
    ]
    best = best_of([accuracy, rmse, loss()], {"accuracy": 0.3}, plain)
    assert {name: (score.baseline, score.against) for name, score in best.items()} == {
        "accuracy": (0.799, "window"),
        "rmse": (2.0, "words"),
    }
    line = "accuracy does not beat window: 0.766 against 0.799"
    assert verdict(best["accuracy"], 0.766) == line
    assert verdict(best["accuracy"], 0.799).endswith("0.799 against 0.799") and verdict(best["accuracy"], 0.8) == ""
    assert (
        verdict(best["rmse"], 1.9) == ""
        and verdict(best["rmse"], 2.1) == "RMSE does not beat words: 2.100 against 2.000"
    )
    assert verdict(best["rmse"], None).endswith("no number against 2.000") and verdict(accuracy, 0.1) == ""
    declared = best_of([accuracy], {"accuracy": 0.3}, [])["accuracy"]
    assert verdict(declared, 0.2) == "accuracy does not beat majority class: 0.200 against 0.300"


def test_tables_show_them_and_name_the_best(tmp_path, capsys):
    for seed, accuracy in enumerate((0.5, 0.9, 0.6)):
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "evaluation-test.json").write_text(
            json.dumps(
                {
                    "scores": {"accuracy": accuracy, "loss": 1.0},
                    "experiment": "ours",
                    "baselines": {"accuracy": 0.7},
                    "against": {"accuracy": "window"},
                    "ranking": ["accuracy", True],
                }
            )
        )
    rows = compare([tmp_path / str(seed) for seed in range(3)])
    assert rows[0] == ("ours", "accuracy", 0.6, 0.5, 0.9, 3, None, 0.7)
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[-2:] == ["baseline", "which"] and printed[3].split()[-2:] == ["0.7000", "window"]
    assert printed[-1] == "ours: accuracy does not beat window: 0.600 against 0.700"
    plain = [Baseline("words", {"accuracy": 0.4}), Baseline("window", {"accuracy": 0.7}, "trained on 3 of 4 texts")]
    print_evaluation("test", Evaluation({"accuracy": 0.6, "loss": 1.0}, plain=plain))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["accuracy", "0.6000", "0.4000", "0.7000"] in lines and ["loss", "1.0000", "-", "-"] in lines
    assert ["window:", "trained", "on", "3", "of", "4", "texts"] in lines
