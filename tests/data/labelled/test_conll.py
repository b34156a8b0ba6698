"""CoNLL columns: schemes, separators, marks, and every bad line by file and number."""

import gzip
import random

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from albert_jax.data.labelled.conll import read_conll, spans
from albert_jax.errors import AlbertError

IOB2 = [["B-PER", "I-PER", "B-PER", "O", "B-LOC"], ["O", "B-LOC", "B-PER"], ["O", "O"]]
IOB1 = [["I-PER", "I-PER", "B-PER", "O", "I-LOC"], ["O", "I-LOC", "I-PER"], ["O", "O"]]
BIOES = [["B-PER", "E-PER", "S-PER", "O", "S-LOC"], ["O", "S-LOC", "S-PER"], ["O", "O"]]


def write(path, sentences, columns="{word} NN {tag}", end="\n"):
    lines = []
    for number, tags in enumerate(sentences):
        lines += [columns.format(word=f"w{number}{place}", tag=tag) for place, tag in enumerate(tags)] + [""]
    path.write_bytes(end.join(lines).encode())
    return str(path)


@pytest.mark.parametrize("tags", [IOB1, IOB2, BIOES], ids=["IOB1", "IOB2", "BIOES"])
@pytest.mark.parametrize("columns", ["{word} NN {tag}", "{word}\t{tag}", "{word}  x  {tag}  "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_scheme_is_read_as_iob2(tmp_path, tags, columns, end):
    found = read_conll(write(tmp_path / "a.conll", tags, columns, end))
    assert [list(sentence.tags) for sentence in found] == IOB2
    assert [sentence.words for sentence in found] == [
        ("w00", "w01", "w02", "w03", "w04"), ("w10", "w11", "w12"), ("w20", "w21")
    ]  # fmt: skip
    assert [sentence.where for sentence in found] == [f"{tmp_path}/a.conll: line {n}" for n in (1, 7, 11)]


def test_random_tags_survive_every_scheme(tmp_path):
    """From spans to each scheme by rules written here, and back to the same spans."""
    rng = random.Random(0)
    sentences = []
    for _ in range(300):
        tags: list[str] = []
        while len(tags) < 12:
            size, kind = rng.randint(1, 3), rng.choice(["A", "B-X", "C"])  # a type may hold a hyphen
            tags += ["O"] * size if rng.random() < 0.4 else [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
        sentences.append(tags)

    def iob1(tags):
        pairs = zip(["O", *tags], tags, strict=False)
        return [t if t[0] != "B" or (b != "O" and b[2:] == t[2:]) else "I" + t[1:] for b, t in pairs]

    def bioes(tags):
        ends = [n[0] != "I" for n in [*tags[1:], "O"]]
        swap = {("B", True): "S", ("I", True): "E"}
        return [swap.get((t[0], e), t[0]) + t[1:] for t, e in zip(tags, ends, strict=True)]

    for change in (list, iob1, bioes):
        found = read_conll(write(tmp_path / "a.conll", [change(tags) for tags in sentences]))
        assert [list(sentence.tags) for sentence in found] == sentences, change
    for tags in sentences:
        assert spans(tags) == [(kind, start, end + 1) for kind, start, end in get_entities(tags)]


def test_marks_spaces_unicode_and_gzip(tmp_path):
    text = "\ufeff-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\n. . O O\n \t \n"
    text += "-DOCSTART- -X- O O\nBonn\u00a0am\u2028Rhein X X B-LOC\n"
    (tmp_path / "a.gz").write_bytes(gzip.compress(text.encode()))
    found = read_conll(str(tmp_path / "a.gz"))
    assert [sentence.words for sentence in found] == [("EU", "."), ("Bonn\u00a0am\u2028Rhein",)]
    assert found[1].where.endswith("a.gz: line 7")


BAD = {
    "EU\n": r"line 1: one column \('EU'\); a word and its tag are needed",
    "EU NNP B-ORG\n\nrejects O\n": r"line 3: too few columns, 2 where line 1 has 3 \('rejects O'\)",
    "EU NNP B-ORG\nNew York NNP O\n": "line 2: too many columns, 4 where line 1 has 3",
    "EU B-ORG\nwe O\ncalls I-PER\n": r"line 3: I-PER of 'calls' continues nothing \(I- after O .*line 1 .* B-ORG",
    "EU I-ORG\nwe O\ncalls B-PER\n": r"line 1: I-ORG of 'EU' continues nothing .*line 3 begins .* B-PER: IOB1",
    "EU B-ORG\nwe I-PER\n": r"line 2: I-PER of 'we' continues nothing",
    "a S-ORG\nb B-PER\nc O\n": r"line 2: B-PER of 'b' is not ended by E-PER.*schemes are mixed",
    "a S-ORG\nb O\nc I-PER\nd E-PER\n": r"line 3: I-PER of 'c' continues nothing \(after O\).*schemes are mixed",
    "a S-ORG\nb B-PER\nc E-ORG\n": r"line 2: B-PER of 'b' is not ended",
    "EU ORG\n": "line 1: 'ORG' is no tag; the last column must be O, or B-, I-, E- or S- and a type",
    "EU B-\n": "line 1: 'B-' is no tag",
    "a O\n" + "x" * 10_001 + " O\n": "line 2: a word of 10,001 characters, more than 10,000",
    "-DOCSTART- O\n\n": "no sentences in it",
    "": "no sentences in it",
    "caf\xe9 O\n": r"not UTF-8 at byte 3 \(0xe9, line 1\); convert it, for example with `iconv -f latin1",
    "\xff\xfea\0 \0O\0\n\0": r"not UTF-8 at byte 0 \(0xff, line 1\); convert it, for example with `iconv -f utf-16",
    "a O\n\nb\0 O\n": "line 3: character 1 is NUL, so this is no plain text; save it as UTF-8",
    "a O\rb B-X\r": r"line 1: 'B-X\\r' is no tag",
}


@pytest.mark.parametrize("text", BAD, ids=[f"case {number}" for number in range(len(BAD))])
def test_bad_lines_are_named(tmp_path, text):
    path = tmp_path / "bad.conll"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(AlbertError, match=BAD[text]) as told:
        read_conll(str(path))
    assert str(told.value).startswith(str(path)) and "\n" not in str(told.value)


def test_a_file_that_is_not_there():
    with pytest.raises(AlbertError, match="nowhere.conll: cannot be read"):
        read_conll("nowhere.conll")
