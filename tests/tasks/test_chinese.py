"""Chinese from raw text to tagged spans: a vocabulary learned, a rule learned, names found at their characters; and
what is said of a text that the vocabulary does not know."""

import dataclasses
import io
import json
import random
import sys

import numpy as np
import pytest

from albert_jax.__main__ import main
from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.labelled.framed import Unknown
from albert_jax.data.text import scripts
from albert_jax.data.text.tokenizers import load
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.predict import Predictor
from albert_jax.tasks import Classification
from albert_jax.train import train
from tests.tasks.test_tagging import tiny

SURNAMES, GIVEN = "王李张刘陈", "伟芳娜敏静丽强磊军洋"
OTHERS = "我在北京见到了今天很高兴和说好的人去看书吃饭喝水"


def sentence(rng: random.Random) -> tuple[str, list[str]]:
    """Text and a tag for each character: a surname and the one or two characters after it are a name."""
    text, tags = "", []
    for _ in range(rng.randint(1, 2)):
        other = "".join(rng.choices(OTHERS, k=rng.randint(1, 4)))
        name = rng.choice(SURNAMES) + "".join(rng.choices(GIVEN, k=rng.randint(1, 2)))
        text += other + name
        tags += ["O"] * len(other) + ["B-PER"] + ["I-PER"] * (len(name) - 1)
    return text + "。", [*tags, "O"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """text.txt, prepared/ with its vocabulary, train.conll and dev.conll with a character a line."""
    folder, rng = tmp_path_factory.mktemp("chinese"), random.Random(0)
    drawn = [sentence(rng) for _ in range(300)]
    texts = ["\n".join(text for text, _ in drawn[n : n + 5]) + "\n" for n in range(0, 300, 5)]
    (folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    prepare(
        PrepareConfig(
            (str(folder / "text.txt"),), str(folder / "prepared"), tokenizer="wordpiece", character_coverage=1,
            layout="sentences", workers=1,
        )
    )  # fmt: skip
    for name, part in (("train", drawn[:260]), ("dev", drawn[260:])):
        lines = ["\n".join(map(" ".join, zip(text, tags, strict=True))) + "\n" for text, tags in part]
        (folder / f"{name}.conll").write_text("\n".join(lines), encoding="utf-8")
    return folder


def experiment(folder, vocab):
    base = tiny(folder)
    return dataclasses.replace(
        base, task=dataclasses.replace(base.task, vocab=str(vocab), test=(), max_length=16), epochs=3
    )


def test_from_raw_text_to_spans(folder, capsys, monkeypatch):
    tokenizer = load(folder / "prepared" / "vocab")
    assert isinstance(tokenizer, WordPieceTokenizer)
    assert {*SURNAMES, *GIVEN, *OTHERS, "。"} == set(tokenizer.pieces(range(5, tokenizer.vocab_size)))
    scores = train(experiment(folder, folder / "prepared" / "vocab"), folder / "run")
    assert scores["f1"] > 0.95
    predictor = Predictor(folder / "run")
    text = "  今天见到了 李娜,和陈伟军。"
    record = predictor([text])[0]
    assert [(span["text"], span["start"], span["end"], span["type"]) for span in record["spans"]] == [
        ("李娜", 8, 10, "PER"), ("陈伟军", 12, 15, "PER")
    ]  # fmt: skip
    assert [text[word["start"] : word["end"]] for word in record["words"]] == [*"今天见到了李娜,和陈伟军。"]
    assert predictor.tally.unknown.unknown == 1 and predictor.tally.warnings == []  # the comma
    monkeypatch.setattr(scripts, "segmenter", lambda script: None)
    thai = predictor(["ฉันกิน 我", "ฉัน", "我"])
    assert ["warning" in record for record in thai] == [True, True, False]
    assert predictor.tally.warnings == [thai[0]["warning"]] and "pip install pythainlp" in thai[0]["warning"]
    # A text that the vocabulary does not know is answered, and the command says what that is worth.
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Ann went home\n我见到王芳\n".encode())))
    assert main(["predict", "--workdir", str(folder / "run")]) == 0
    answered, said = capsys.readouterr()
    assert [span["text"] for span in json.loads(answered.splitlines()[-1])["spans"]] == ["王芳"]
    assert "38% of the pieces of the texts are unknown to the vocabulary" in said.splitlines()[-1]


def test_a_vocabulary_that_does_not_know_the_script_is_told_at_the_start(folder, corpus, tmp_path):
    """Nearly all characters are unknown to the vocabulary of an English text; its own vocabulary has nothing to say."""
    task = experiment(folder, corpus / "vocab").task.open(tiny(folder).model, 0)
    note = next(note for note in task.notes if "unknown" in note)
    assert note.startswith(
        "100% of the pieces of the training data are unknown to the vocabulary, which was not made for"
    )
    assert "prepare --tokenizer wordpiece" in note and "\n" not in note
    own = experiment(folder, folder / "prepared" / "vocab").task.open(tiny(folder).model, 0)
    assert not any("unknown" in note for note in own.notes) and own.split("train").examples.unknown.unknown == 0
    lines = "".join(f"{'我在北京' if n % 2 else 'the function'}\t{n % 2}\n" for n in range(20))
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + lines)
    texts = Classification(
        train=(str(tmp_path / "a.tsv"),), dev=(str(tmp_path / "a.tsv"),), vocab=str(corpus / "vocab"), max_length=16
    ).open(tiny(folder).model, 0)
    assert any(note.startswith("33% of the pieces of the training data are unknown") for note in texts.notes)


def test_longer_words_than_predict_cuts_are_told(folder, tmp_path):
    """Word by word, as treebanks have it; a file of single characters is what predict expects."""
    (tmp_path / "a.conll").write_text("我 PN\n在 P\n北京 NR\n看书 VV\n见到 VV\nok FW\n")
    both = dict.fromkeys(("train", "dev"), (str(tmp_path / "a.conll"),))
    task = dataclasses.replace(experiment(folder, folder / "prepared" / "vocab").task, **both)
    told = [note for note in task.open(tiny(folder).model, 0).notes if "several characters" in note]
    assert told == [
        "words of the training data have several characters, such as 北京, but predict cuts raw text into single ones: "
        'give it the words as {"words": [...]}, or train on a character a line'
    ]
    own = experiment(folder, folder / "prepared" / "vocab").task.open(tiny(folder).model, 0)
    assert not any("several" in note for note in own.notes)


def test_few_unknown_pieces_are_no_news(corpus):
    tokenizer, found = load(corpus / "vocab"), Unknown()
    mark, known = tokenizer.bare_mark, tokenizer.encode("class")[0]
    found.count(tokenizer, np.array([mark] * 900 + [known] * 98 + [tokenizer.unk_id] * 2))
    assert (found.pieces, found.unknown) == (100, 2) and found.notes("the text") == []
    found.count(tokenizer, np.array([tokenizer.unk_id] * 2))
    assert found.notes("the text")[0].startswith("4% of the pieces of the text are unknown")
    assert Unknown().notes("no text") == []
