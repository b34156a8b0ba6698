"""Predict: offsets into the user's text, batches that change nothing, streams in order and promptly, bad lines."""

import dataclasses
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import optax
import pytest

import albert_jax
from albert_jax import experiment as experiments
from albert_jax import predict as predict_module
from albert_jax.__main__ import main
from albert_jax.data.labelled.requests import MAX_LINE_BYTES, read_items, word_spans
from albert_jax.data.labelled.tables import MAX_CHARACTERS
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.engine.checkpoint import Checkpoints
from albert_jax.engine.state import create, lay_out
from albert_jax.errors import AlbertError
from albert_jax.evaluate import evaluate
from albert_jax.experiment import Experiment
from albert_jax.predict import Predictor
from albert_jax.tasks.texts import OpenTextTask
from albert_jax.train import train, write_run_files
from tests import tiny
from tests.tasks import test_classification_files as labelled
from tests.tasks import test_tagging as tagging

ROOT = Path(__file__).parents[1]
WORDS = [*tagging.NAMES, *["key"] * 4, *tagging.TOWNS, *tagging.OTHERS]


def longer(experiment: Experiment, steps: int, **task) -> Experiment:
    """Rows of up to 64 pieces, so that there are five lengths."""
    return dataclasses.replace(
        experiment,
        model=dataclasses.replace(experiment.model, max_positions=64),
        task=dataclasses.replace(experiment.task, max_length=64, **task),
        steps=steps,
        epochs=0.0,
        batch_size=16,
    )


@pytest.fixture(scope="module")
def vocab(corpus):
    return Tokenizer.load(corpus / "vocab")


@pytest.fixture(scope="module")
def tagger(vocab, tmp_path_factory):
    """The workdir of a tagging run whose data is gone."""
    folder = tmp_path_factory.mktemp("tagger")
    for name, count, seed in (("train", 250, 1), ("dev", 40, 2), ("test", 2, 3)):
        tagging.write_sentences(folder / f"{name}.conll", count, seed)
    vocab.save(folder / "vocab")
    train(longer(tagging.tiny(folder), 60), folder / "run")
    for name in ("train", "dev", "test"):
        (folder / f"{name}.conll").unlink()
    shutil.rmtree(folder / "vocab")
    return folder / "run"


def untrained(folder, vocab, lines, header=("text", "label"), **task):
    """The workdir of a classification run that has taken no step."""
    folder.mkdir()
    for name in ("train", "dev"):
        labelled.write_tsv(folder / f"{name}.tsv", lines, header)
    vocab.save(folder / "vocab")
    experiment = longer(labelled.tiny(folder), 1, **task)
    opened = experiment.task.open(experiment.model, 0)
    settled = dataclasses.replace(experiment, model=opened.config, task=opened.resolved)
    write_run_files(folder / "run", settled, opened)
    state = create(opened, optax.identity(), 0, lay_out(opened, experiment.mesh))
    checkpoints = Checkpoints(folder / "run", writing=True)
    checkpoints.save(state, {"vocabulary": vocab.fingerprint})
    checkpoints.close()
    return folder / "run"


@pytest.fixture(scope="module")
def classifier(vocab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    for name, count, seed in (("train", 160, 1), ("dev", 30, 2), ("test", 37, 3)):
        labelled.write_tsv(folder / f"{name}.tsv", labelled.rows(count, seed))
    vocab.save(folder / "vocab")
    # Of eight seeds three stay at two of the three classes; this one learns all.
    train(dataclasses.replace(longer(labelled.tiny(folder), 200), seed=4), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def tag(tagger):
    return Predictor(tagger)


@pytest.fixture(scope="module")
def classify(classifier):
    return Predictor(classifier)


def texts(count, seed, longest=80):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.choice([1, 3, 8, 20, rng.randint(1, longest)]))) for _ in range(count)]


def strip_numbers(record):
    """A record without its probabilities, and these in order."""
    numbers: list[float] = []

    def walk(value, key=""):
        if isinstance(value, dict):
            return {k: walk(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v) for v in value]
        if isinstance(value, float):
            numbers.append(value)
            return None
        return value

    return walk(record), numbers


# ---- answers


def test_a_learned_rule_is_found_in_the_users_own_text(tag):
    text = "  The Function,key may call\tthe statement: any METHOD!"
    record = tag([text])[0]
    assert record["text"] == text
    found = [(span["type"], span["text"]) for span in record["spans"]]
    assert ("LOC", "call") in found and ("PER", "statement") in found and ("LOC", "METHOD") in found
    assert [word["text"] for word in record["words"]] == [
        *("The", "Function", ",", "key", "may", "call", "the", "statement", ":", "any", "METHOD", "!")
    ]
    for part in [*record["words"], *record["spans"]]:
        assert text[part["start"] : part["end"]] == part["text"]
        assert 0.2 < part["probability"] <= 1.0


def test_spans_are_those_of_the_tags_and_as_likely_as_their_least_word(tag):
    seen = several = 0
    for record in tag(texts(60, 4)):
        tags = [word["tag"] for word in record["words"]]
        for span in record["spans"]:
            inside = [w for w in record["words"] if span["start"] <= w["start"] and w["end"] <= span["end"]]
            assert {w["tag"][2:] for w in inside} == {span["type"]}
            assert span["probability"] == min(w["probability"] for w in inside)
            seen += len(inside)
            several += len({w["probability"] for w in inside}) > 1
        assert sum(tag != "O" for tag in tags) == sum(
            w["tag"] != "O" for s in record["spans"] for w in record["words"] if s["start"] <= w["start"] < s["end"]
        )
    assert seen > 50 and several


def test_words_of_a_plain_text():
    cases = {
        "It's np.sum(x)": ["It", "'", "s", "np", ".", "sum", "(", "x", ")"],
        "cafe\u0301, naïve_1": ["cafe\u0301", ",", "naïve_1"],
        "हिन्दी में": ["हिन्दी", "में"],
        "می\u200cروم ❤\ufe0f 日本": ["می\u200cروم", "❤\ufe0f", "日", "本"],
        "\u0301 a": ["\u0301", "a"],
        "a\u00a0b\u3000c\x1cd": ["a", "b", "c", "d"],
    }
    for text, words in cases.items():
        assert [text[start:end] for start, end in word_spans(text)] == words


def test_answers_are_those_of_evaluate(vocab, tagger, classifier, tag, classify, tmp_path):
    """Same model, same texts: once as a scored file, once as a user's lines."""
    tagging.write_sentences(tmp_path / "new.conll", 60, 9)
    long = random.Random(5).choices([*WORDS, "\u0301", "firstexceptionstatement", "x" * 300], k=400)  # many windows
    with (tmp_path / "new.conll").open("a") as file:
        file.write("\n" + "".join(f"{word} O\n" for word in long))
    evaluate(tagger, "test", data=str(tmp_path / "new.conll"))
    want = [json.loads(line) for line in (tagger / "predictions-test.jsonl").read_text().splitlines()]
    got = tag([{"words": line["words"]} for line in want])
    assert [[word["tag"] for word in record["words"]] for record in got] == [line["predicted"] for line in want]
    assert got[-1]["text"] == " ".join(long) and [word["text"] for word in got[-1]["words"]] == long
    evaluate(classifier, "test")
    want = [json.loads(line) for line in (classifier / "predictions-test.jsonl").read_text().splitlines()]
    got = classify([line["text"] for line in want])
    assert [record["label"] for record in got] == [line["predicted"] for line in want]
    assert len({record["label"] for record in got}) == 3
    for record, line in zip(got, want, strict=True):
        assert list(record["probabilities"].items())[:1] == [(record["label"], max(record["probabilities"].values()))]
        assert record["probabilities"] == pytest.approx(line["probabilities"], abs=1e-5)
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("which", ["tagger", "classifier"])
def test_a_batch_of_1_and_one_of_64_answer_the_same(which, request):
    workdir = request.getfixturevalue(which)
    asked = texts(90, 6)
    one, many = Predictor(workdir, batch_size=1), Predictor(workdir, batch_size=64)
    for a, b in zip(one(asked), many(asked), strict=True):
        (told_a, numbers_a), (told_b, numbers_b) = strip_numbers(a), strip_numbers(b)
        assert told_a == told_b
        assert numbers_a == pytest.approx(numbers_b, abs=1e-5)
    assert sorted(one.compiled) == [16, 24, 32, 40, 48, 56, 64] == many.lengths
    assert many.tally.texts == 90 and one.tally.tokens == many.tally.tokens


def test_one_program_a_length_and_rows_no_longer_than_they_must(classifier):
    predictor = Predictor(classifier, batch_size=8)
    predictor(["the and"] * 3)
    assert list(predictor.compiled) == [16]
    assert predictor.tally.positions == 8 * 16 and predictor.tally.tokens == 3 * 4
    first = predictor.compiled[16]
    predictor.tally.positions = 0
    predictor([" ".join(["and"] * (length - 2)) for length in predictor.lengths for _ in range(8)])
    assert list(predictor.compiled) == [16, 24, 32, 40, 48, 56, 64] and predictor.compiled[16] is first
    assert predictor.tally.positions == 8 * sum(predictor.lengths)


def test_room_in_the_last_batch_is_filled_up_with_shorter_rows(classifier):
    predictor = Predictor(classifier, batch_size=8)
    answers = predictor(["the", "and " * 60, "the and", "and " * 20, "can"])
    assert list(predictor.compiled) == [64] and predictor.tally.positions == 8 * 64
    alone = Predictor(classifier, batch_size=1)(["the", "and " * 60, "the and", "and " * 20, "can"])
    for a, b in zip(answers, alone, strict=True):
        assert a["text"] == b["text"] and a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5)


def test_pairs_numbers_and_several_labels(vocab, tmp_path):
    marks = labelled.MARKS
    rows = labelled.rows(64, 3)
    lines = [(text, other, label) for (text, label), (other, _) in zip(rows, rows[::-1], strict=True)]
    columns = ("premise", "claim")
    pairs = Predictor(untrained(tmp_path / "pairs", vocab, lines, (*columns, "label"), text_columns=columns))
    same = pairs(["the\tcan all", ("the", "can all"), {"text": "the", "text_b": "can all"},
                  {"premise": "the", "claim": "can all", "id": 7}])  # fmt: skip
    assert same[0]["text"] == "the" and same[0]["text_b"] == "can all" and same == [same[0]] * 4
    assert pairs(["can all\tthe"])[0]["probabilities"] != same[0]["probabilities"]
    errors = [record["error"] for record in pairs(["the", "a\tb\tc", {"text": "the"}, ["a", "b", "c"], "a\t "])]
    assert errors == [
        "text 1: 1 text, and this model reads pairs; give premise and claim with a tab between them",
        "text 2: 3 texts, and this model reads pairs; give premise and claim with a tab between them",
        "text 3: no field 'text_b' but 'text'; give 'text' and 'text_b'",
        "text 4: 3 texts, and this model reads pairs; give premise and claim with a tab between them",
        "text 5: the text is empty; fill it or leave it out",
    ]

    values = [(text, str(1000.0 + 10 * "abc".index(label))) for text, label in rows]
    record = Predictor(untrained(tmp_path / "numbers", vocab, values, target="number"))(["the and"])[0]
    assert set(record) == {"text", "value"} and 900 < record["value"] < 1120

    several = [(text, f"{label},{'odd' if len(text) % 2 else 'even'}") for text, label in rows]
    record = Predictor(untrained(tmp_path / "labels", vocab, several, target="labels"))([rows[0][0]])[0]
    assert set(record["probabilities"]) == {*marks, "odd", "even"}
    assert record["labels"] == [name for name, share in record["probabilities"].items() if share > 0.5]


def test_texts_that_are_cut_say_so_and_those_that_are_refused_lose_nothing(classify, tag):
    long = " ".join(["the"] * 500)
    records = classify([long, "the", "x " * (MAX_CHARACTERS // 2 + 1), "", None, {"words": ["a"]}, "\ud800", "class"])
    assert records[0]["warning"].startswith("cut: 62 of 500 pieces were read")
    assert "warning" not in records[1] and "error" not in records[1]
    assert [record.get("error", "")[:40] for record in records[2:7]] == [
        "text 3: a text of 200,002 characters, mo",
        "text 4: the text is empty; fill it or le",
        "text 5: no text but None; give a text, a",
        "text 6: no field 'text' but 'words'; giv",
        "text 7: character 0 is half of a surroga",
    ]
    assert records[7]["label"] == classify(["class"])[0]["label"]
    assert tag([[], ["a", 1], {"text": "a b", "words": ["b", "a"]}])[2]["error"] == (
        "text 3: the word 'a' does not follow in 'text'; mend it or leave out 'text'"
    )
    spaced = tag([{"text": "a  b\tb", "words": ["a", "b", "b"]}])[0]
    assert [(w["start"], w["end"]) for w in spaced["words"]] == [(0, 1), (3, 4), (5, 6)]
    with pytest.raises(AlbertError, match="give a list of texts"):
        classify("the and")


def test_a_million_characters(tag, classify):
    many = tag([f"{'the call ' * 3000} end", "call"])
    assert len(many[0]["words"]) == 6001 and many[0]["words"][-1]["text"] == "end" and len(many[1]["words"]) == 1
    whole = tag(["x" * 1_000_000])[0]
    assert [(word["start"], word["end"]) for word in whole["words"]] == [(0, 1_000_000)]
    assert "1,000,000 characters, more than" in classify(["x" * 1_000_000])[0]["error"]


# ---- streams


def test_a_stream_answers_what_there_is_before_more_comes(classify):
    """Whoever sends a text and waits for its answer before the next one gets it."""
    answered = threading.Event()

    def sent():
        for text in ("the class", "value and", "object"):
            answered.clear()
            yield text
            assert answered.wait(60)

    got = []
    for record in classify.stream(sent()):
        got.append(record["text"])
        answered.set()
    assert got == ["the class", "value and", "object"]


def test_a_stream_keeps_its_order_and_reads_only_a_bounded_piece_ahead(classifier):
    predictor = Predictor(classifier, batch_size=8)
    batch = predictor._rows
    read = [0]
    asked = texts(3000, 8)
    asked[0] = " ".join(["the"] * 60)  # alone in its length for long

    def source():
        for text in asked:
            read[0] += 1
            yield text

    most, answered = 0, 0
    for number, record in enumerate(predictor.stream(source())):
        assert record["text"] == asked[number]
        most = max(most, read[0] - number)
        answered += 1
    assert answered == 3000 and read[0] == 3000
    assert most <= (predict_module.AHEAD + 4) * batch < 1000


def test_a_stream_that_breaks_hands_out_what_came_before(classify):
    def source():
        yield "the class"
        raise OSError("the wire is cut")

    got = []
    with pytest.raises(OSError, match="the wire is cut"):
        for record in classify.stream(source()):
            got.append(record["label"])
    assert len(got) == 1
    endless = classify.stream("the" for _ in iter(int, 1))
    next(endless)
    endless.close()
    deadline = time.monotonic() + 10
    while any(thread.name == "albert_jax arrivals" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- the verb


def test_lines_of_a_file(classifier, classify, tmp_path, capsys):
    lines = [b"\xef\xbb\xbfthe class\r\n", b"\n", b'{"text": "value and"}\n', b"caf\xe9\n", b'{"text": "x"\n',
             b"{a: set}\n", b'{"text": 3}\n', b'["the"]\n', b"a\0b\n", b"any \xe2\x80\xa8 object"]  # fmt: skip
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_bytes(b"".join(lines))
    words = ["predict", "--workdir", str(classifier), "--input", str(source), "--output", str(out)]
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == "" and "10 texts, " in told.err and " tokens/s" in told.err
    assert "error: 5 of 10 lines have no answer but an error in their record; the first: " in told.err
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    good = {0: "the class", 2: "value and", 5: "{a: set}", 7: '["the"]', 9: "any \u2028 object"}
    assert {n: record["text"] for n, record in enumerate(records) if "text" in record} == good
    expected = classify(list(good.values()))
    for record, want in zip([records[n] for n in good], expected, strict=True):
        assert record["probabilities"] == pytest.approx(want["probabilities"], abs=1e-5)
    assert [records[n]["error"].removeprefix(str(source))[:36] for n in (1, 3, 4, 6, 8)] == [
        ": line 2: the text is empty; fill it",
        ": line 4: not UTF-8 at byte 3 (0xe9)",
        ": line 5: not JSON (Expecting ',' de",
        ": line 7: 'text' is no text but 3; p",
        ": line 9: character 1 is NUL, so thi",
    ]
    assert not list(tmp_path.glob("*.part"))
    source.write_bytes(lines[0])
    assert main(words[:5]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["text"] == "the class" and "1 texts, 4 tokens" in told.err


def test_a_line_without_end_is_refused_in_bounded_memory():
    long = b"x" * (3 * MAX_LINE_BYTES + 5)
    found = list(read_items(io.BytesIO(b"a\n" + long + b"\nb\n" + b"y" * MAX_LINE_BYTES + b"\nc")))
    assert [len(line) for line in found] == [2, MAX_LINE_BYTES + 1, 2, MAX_LINE_BYTES + 1, 1]
    with pytest.raises(AlbertError, match="a line of more than 4,194,304 bytes"):
        OpenTextTask.read(_Asked(), found[1])  # type: ignore[arg-type]


class _Asked:
    class task:
        columns = ("text",)


def test_a_pipe_gets_an_answer_to_each_line_before_it_sends_the_next(tagger):
    command = [sys.executable, "-m", "albert_jax", "predict", "--workdir", str(tagger), "--batch-size", "4"]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for text in ("the call", "any statement key"):
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.stdin.close()
        assert process.stdout.read() == b"" and process.wait(30) == 0
        assert b"2 texts, " in process.stderr.read()


def test_closed_streams_and_ctrl_c_are_told(tagger, tmp_path):
    """An interrupted file keeps whole records, as many as are told."""
    command = [sys.executable, "-m", "albert_jax", "predict", "--workdir", str(tagger)]
    for closed in ("standard input", "standard output"):
        shut = "<&-" if closed == "standard input" else "</dev/null >&-"
        done = subprocess.run(["bash", "-c", f'"$@" {shut}', "-", *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith(f"error: {closed} is closed; give --"), done.stderr
    out = tmp_path / "out.jsonl"
    with subprocess.Popen(
        [*command, "--output", str(out)], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b"the call\n" * 3000)
        process.stdin.flush()
        part = tmp_path / "out.jsonl.part"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130 and told.startswith("stopped after ") and f"are in {part}, the same" in told, told
    assert told.count("\n") == 1 and not out.exists()
    records = len([json.loads(line) for line in part.read_text().splitlines()])
    assert records - int(told.split()[2].replace(",", "")) in (0, 1)  # the signal may come between writing and counting


# ---- bad input


def test_a_workdir_that_cannot_answer_says_why_and_what_to_do(tagger, corpus, vocab, tmp_path):
    def copied(name):
        shutil.copytree(tagger, tmp_path / name)
        return tmp_path / name

    with pytest.raises(AlbertError, match="is not a workdir: it has no experiment.json"):
        Predictor(tmp_path)
    empty = copied("empty")
    shutil.rmtree(empty / "checkpoints")
    with pytest.raises(AlbertError, match="holds no checkpoints/; give the --workdir of a train run"):
        Predictor(empty)
    (empty / "checkpoints").mkdir()
    with pytest.raises(AlbertError, match="holds no finished checkpoint; run train first"):
        Predictor(empty)
    for text in ("", "[]", '{"kind": "Experiment"}', (tagger / "experiment.json").read_text()[:-20]):
        (empty / "experiment.json").write_text(text)
        with pytest.raises(AlbertError, match=r"experiment.json is damaged \(.*restore it from a copy") as told:
            Predictor(empty)
        assert "\n" not in str(told.value)
        with pytest.raises(AlbertError, match=r"experiment.json is damaged \("):
            evaluate(empty)
    text = (tagger / "experiment.json").read_text()
    (empty / "experiment.json").write_text(text.replace('"max_length": 64', '"max_length": "64"'))
    with pytest.raises(AlbertError, match=r"experiment.json is damaged \('64' where int is needed\)"):
        Predictor(empty)
    (empty / "experiment.json").write_bytes(b"\xff")
    with pytest.raises(AlbertError, match=r"experiment.json cannot be read \(.*restore it from a copy"):
        Predictor(empty)
    half = copied("half")
    for file in (half / "checkpoints" / "60" / "params" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AlbertError, match=r"checkpoints/60, params: no array can be read; it is damaged") as told:
        Predictor(half)
    assert "\n" not in str(told.value)
    for file in (half / "checkpoints" / "60").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    for answer in (Predictor, evaluate):
        with pytest.raises(AlbertError, match="checkpoint 'best' cannot be read .*; choose another with --checkpoint"):
            answer(half)
    with pytest.raises(AlbertError, match=r"there is no checkpoint '7'; choose best, latest or one of \[60\]"):
        Predictor(tagger, "7")
    with pytest.raises(AlbertError, match="batch_size is 0"):
        Predictor(tagger, batch_size=0)
    other, conll = copied("other"), tmp_path / "some.conll"
    tagging.write_sentences(conll, 2, 0)
    vocab.with_choices(dataclasses.replace(vocab.normalization, lower=False), vocab.word_rule).save(other / "vocab")
    for answer in (Predictor, lambda workdir: evaluate(workdir, "train", data=str(conll))):
        with pytest.raises(AlbertError, match="checkpoint 60 was trained with the vocabulary .* put back the vocab"):
            answer(other)
    shutil.rmtree(other / "vocab")
    with pytest.raises(AlbertError, match="cannot read a vocabulary here"):
        Predictor(other)
    pretrained = dataclasses.replace(tiny.experiment(corpus), task=tiny.experiment(corpus).task)
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "experiment.json").write_text(json.dumps(experiments.to_dict(pretrained)))
    with pytest.raises(AlbertError, match="is a pretraining run, which has no labels to give; fine-tune it: .* --init"):
        Predictor(tmp_path / "pretrained")


def test_files_that_cannot_be_read_or_written(tagger, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("the call\n")
    cases = [
        (["--input", str(tmp_path / "gone.txt")], "gone.txt: cannot be read (No such file or directory); give --input"),
        (["--input", str(tmp_path)], "cannot be read (Is a directory)"),
        (["--input", "a.gz"], "a.gz is compressed; give its lines on standard input: gzip -dc a.gz |"),
        (["--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "in.txt")], "is the input; choose another"),
        (["--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "no" / "x")], "cannot be written (No such"),
        (["--inputs", "x"], "there is no field --inputs; nearest: --input"),
    ]
    for words, line in cases:
        assert main(["predict", "--workdir", str(tagger), *words]) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1, error
    assert (tmp_path / "in.txt").read_text() == "the call\n"


def test_the_package_offers_the_predictor_without_importing_it():
    assert albert_jax.Predictor is Predictor
    code = "import sys, albert_jax; print('jax' in sys.modules, albert_jax.Predictor.__name__, 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout.split() == ["False", "Predictor", "True"]
    assert jax.device_count() == 8
