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
BILOU = [["B-PER", "L-PER", "U-PER", "O", "U-LOC"], ["O", "U-LOC", "U-PER"], ["O", "O"]]


def write(path, sentences, columns="{word} NN {tag}", end="\n"):
    lines = []
    for number, tags in enumerate(sentences):
        lines += [columns.format(word=f"w{number}{place}", tag=tag) for place, tag in enumerate(tags)] + [""]
    path.write_bytes(end.join(lines).encode())
    return str(path)


SCHEMES = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": BIOES, "BILOU": BILOU}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("columns", ["{word} NN {tag}", "{word}\t{tag}", "{word}  x  {tag}  "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_scheme_is_read_as_iob2(tmp_path, scheme, columns, end):
    found = read_conll(write(tmp_path / "a.conll", SCHEMES[scheme], columns, end))
    assert {sentence.scheme for sentence in found} == {scheme}
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

    def with_ends(tags, single, end, inside="I"):
        ends = [n[0] != "I" for n in [*tags[1:], "O"]]
        swap = {("B", True): single, ("I", True): end, ("I", False): inside}
        return [swap.get((t[0], e), t[0]) + t[1:] for t, e in zip(tags, ends, strict=True)]

    def bioes(tags):
        return with_ends(tags, "S", "E")

    def bilou(tags):
        return with_ends(tags, "U", "L")

    def bmes(tags):
        return with_ends(tags, "S", "E", "M")

    for change in (list, iob1, bioes, bilou, bmes):
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
    "EU ORG\nwe B-PER\n": "line 1: 'ORG' is no tag of an entity, and B-PER in line 2 is one; give O, or B-",
    "EU NN\nwe S-PER\n": "line 1: 'NN' is no tag of an entity, and S-PER in line 2",
    "EU B-\n": "line 1: 'B-' is no tag; give O, B-, I-, E- or S- and a type, or a plain tag without these",
    "EU _\nwe _\n": "every tag is '_'; name the file .conllu if it is CoNLL-U, or give task.tag_column",
    "".join(f"w{n} {n}\n" for n in range(1001)): "1,001 different tags, such as '0'; give task.tag_column",
    "a U-ORG\nb B-PER\nc O\n": r"line 2: B-PER of 'b' is not ended by L-PER.*of BILOU: schemes are mixed",
    "a U-ORG\nb S-PER\n": "line 2: S-PER of 'b' is of another scheme, but other tags of the file are of BILOU",
    "a B-X\nb M-X\nc E-X\nd B-X\ne I-X\nf E-X\n": "line 5: I-X of 'e' is of another scheme, .* of BMES: schemes",
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


# ---- plain tags and CoNLL-U


def test_plain_tags_and_the_column_they_stand_in(tmp_path):
    """Parts of speech are no entities, positional ones that look like them included; a column may be chosen."""
    path = tmp_path / "a.conll"
    path.write_text("The DT S----3MS1- B-X\ndog NN O I-X\n\nO -LRB- -- O\n")
    tags = {column: [list(each.tags) for each in read_conll(str(path), column)] for column in ("2", "3", "4", "")}
    assert tags["2"] == [["DT", "NN"], ["-LRB-"]]
    assert tags["3"] == [["S----3MS1-", "O"], ["--"]]
    assert tags["4"] == tags[""] == [["B-X", "I-X"], ["O"]]
    assert {column: read_conll(str(path), column)[1].scheme for column in tags} == {
        "2": "plain", "3": "plain", "4": "IOB2", "": "IOB2"
    }  # fmt: skip
    for column, message in (
        ("5", "line 1: no column 5 but 4"),
        ("1", "from 2 on"),
        ("XPOS", "names are those of CoNLL"),
    ):
        with pytest.raises(AlbertError, match=message):
            read_conll(str(path), column)


UNIVERSAL = """\
# sent_id = 1
# text = Don't go 10 000 #
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
1\tDo\tdo\tAUX\tVB\tMood=Imp\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\tMood=Imp\t0\troot\t_\t_
4\t10 000\t10000\tNUM\tCD\t_\t3\tobl\t_\t_
4.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t3:conj\t_
5\t#\t#\tSYM\tSYM\t_\t3\tpunct\t_\t_

# sent_id = 2
1\t_\t_\tPUNCT\t.\t_\t0\troot\t_\t_
"""


@pytest.mark.parametrize("name", ["a.conllu", "a.conllu.gz"])
def test_conllu_is_read(tmp_path, name):
    """Comments, words that are written as one and empty nodes are none of its words; a form may hold a space."""
    data = UNIVERSAL.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    first, second = read_conll(str(tmp_path / name))
    assert first.words == ("Do", "n't", "go", "10 000", "#") and second.words == ("_",)
    assert first.tags == ("AUX", "PART", "VERB", "NUM", "SYM") and second.tags == ("PUNCT",)
    assert first.scheme == "plain" and first.where.endswith("line 4") and second.where.endswith("line 12")
    assert read_conll(str(tmp_path / name), "xpos")[0].tags == ("VB", "RB", "VB", "CD", "SYM")
    with pytest.raises(AlbertError, match=r"line 5: FEATS of \"n't\" is empty; give a file that has it, or another"):
        read_conll(str(tmp_path / name), "FEATS")
    with pytest.raises(AlbertError, match="CoNLL-U has no tags in 'POS'; give task.tag_column LEMMA, UPOS, XPOS"):
        read_conll(str(tmp_path / name), "POS")


BAD_UNIVERSAL = {
    "1\tA\ta\tDET\n": r"line 1: 4 columns \('1\\tA\\ta\\tDET'\); CoNLL-U has ten, with tabs between them",
    UNIVERSAL.replace("3\tgo", "4\tgo"): "line 6: the ID '4' where 3 is due; number the words of each sentence from 1",
    UNIVERSAL.replace("\n\n", "\n"): "line 11: the ID '1' where 6 is due",
    "# nothing\n\n": "no sentences in it",
}


@pytest.mark.parametrize("text", BAD_UNIVERSAL, ids=["columns", "id", "no blank line", "empty"])
def test_bad_conllu_is_named(tmp_path, text):
    (tmp_path / "a.conllu").write_text(text)
    with pytest.raises(AlbertError, match=BAD_UNIVERSAL[text]):
        read_conll(str(tmp_path / "a.conllu"))


def test_a_file_that_is_not_there():
    with pytest.raises(AlbertError, match="nowhere.conll: cannot be read"):
        read_conll("nowhere.conll")
