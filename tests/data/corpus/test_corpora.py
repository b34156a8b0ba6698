"""Corpora: layouts, formats, how they are cut, and what is said about bad ones."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from albert_jax.data.corpus.corpora import Document, gather, pack, read
from albert_jax.data.store import tfds as tfds_corpus
from albert_jax.data.text import lines
from albert_jax.data.text.lines import MAX_DOCUMENT_CHARACTERS, detect_layout, text_sentences
from albert_jax.errors import AlbertError
from tests.data.sample_text import documents, write_corpus

WRAPPED = """A paragraph that was wrapped by hand, as
books are. It has two sentences.

Another one stands here. It ends
too.


A second document. It is short.
"""
WRAPPED_DOCUMENTS = [
    (
        "A paragraph that was wrapped by hand, as books are.",
        "It has two sentences.",
        "Another one stands here.",
        "It ends too.",
    ),
    ("A second document.", "It is short."),
]


def read_all(*corpora: object, layout: str = "auto", unit_bytes: int = 2**30) -> list[Document]:
    segments, _ = gather([str(corpus) for corpus in corpora], layout)  # type: ignore[arg-type]
    return [document for unit in pack(segments, unit_bytes) for segment in unit for document in read(segment)]


def sentences_of(found: list[Document]) -> list[tuple[str, ...]]:
    return [document.sentences for document in found]


# ---- layouts


def test_one_sentence_a_line(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf\n\nOne.\r\nTwo.\r\n \t\r\nThree.\n\n\n\nFour.\nFive.")
    assert sentences_of(read_all(path)) == [("One.", "Two."), ("Three.",), ("Four.", "Five.")]


def test_paragraphs(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(WRAPPED)
    assert sentences_of(read_all(path)) == WRAPPED_DOCUMENTS
    assert sentences_of(read_all(path, layout="paragraphs")) == WRAPPED_DOCUMENTS
    assert len(read_all(path, layout="sentences")[0].sentences) == 2


def test_lines_longer_than_wrapped_ones_are_paragraphs_of_their_own(tmp_path) -> None:
    long = "This is a sentence of a paragraph that was never wrapped. " * 3
    path = tmp_path / "a.txt"
    path.write_text(f"A heading\n{long.strip()}\n")
    (document,) = read_all(path, layout="paragraphs")
    assert document.sentences[0] == "A heading"
    assert len(document.sentences) == 4


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("One sentence here.\nAnother one there.\n\nA third one.\n", "sentences"),
        ("no stops at all\nin this corpus\nof lines\n\nnone\nhere\n", "sentences"),
        ("wrapped lines of a text. It\ngoes on like that until\nit is over.\n", "paragraphs"),
        ("Two sentences. On one line.\n\nAnd two more. On another.\n", "paragraphs"),
        (WRAPPED, "paragraphs"),
        ("", "sentences"),
        ("Numbers like 3.5 or e.g. this are no ends.\nFine, it is.\n", "sentences"),
    ],
)
def test_layout_detection(text: str, layout: str) -> None:
    assert detect_layout(text.split("\n")) == layout


def test_the_text_of_one_document() -> None:
    assert text_sentences("A b. C d.\n\n\nE f.", "auto") == ("A b.", "C d.", "E f.")
    assert text_sentences("A b. C d.\n\nE f.", "sentences") == ("A b. C d.", "E f.")


def test_documents_without_blank_lines_are_divided_without_loss(tmp_path) -> None:
    sentences = [f"This is sentence number {n}." for n in range(9000)]
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences))
    found = read_all(path)
    assert [s for document in found for s in document.sentences] == sentences
    sizes = [sum(map(len, document.sentences)) for document in found]
    assert len(found) == 4
    assert all(MAX_DOCUMENT_CHARACTERS <= size < MAX_DOCUMENT_CHARACTERS + 40 for size in sizes[:-1])


# ---- formats


def test_gzip_directory_glob_and_several(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("A one.\nA two.\n")
    (tmp_path / "sub/b.txt.gz").write_bytes(gzip.compress(b"B one.\nB two.\n"))
    (tmp_path / "notes.md").write_text("Not read.\nNot at all.\n")
    a, b = ("A one.", "A two."), ("B one.", "B two.")
    assert sentences_of(read_all(tmp_path)) == [a, b]
    assert sentences_of(read_all(tmp_path / "*.txt")) == [a]
    assert sentences_of(read_all(tmp_path / "**/*.gz", tmp_path / "a.txt")) == [b, a]
    assert sentences_of(read_all(tmp_path / "notes.md")) == [("Not read.", "Not at all.")]


def test_json_lines(tmp_path) -> None:
    rows = [
        {"text": "First. Second.\n\nThird."},
        {"text": "Named. Labelled.", "name": "n", "label": "l", "other": 3},
        {"sentences": ["As they. Are.", " ", "Kept."], "name": "s"},
        {"text": "  "},
        {"text": "Half a pair \ud800. End."},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_all(path) == [
        Document(("First.", "Second.", "Third.")),
        Document(("Named.", "Labelled."), "n", "l"),
        Document(("As they. Are.", "Kept."), "s"),
        Document(("Half a pair ?.", "End.")),
    ]
    zipped = tmp_path / "b.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert read_all(zipped) == read_all(path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A TFDS dataset with two text features, one of them nested, written by TFDS's own means."""
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module

    directory = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict(
        {"text": tfds.features.Text(), "meta": {"title": tfds.features.Text()}, "id": np.int64}
    )
    infos = []
    for split, count in (("test", 2), ("train", 7)):
        writer = array_record_module.ArrayRecordWriter(
            str(directory / f"toy-{split}.array_record-00000-of-00001"), "group_size:1"
        )
        for n in range(count):
            text = f"Example {n} of {split}. It has a café."
            row = {"text": text, "meta": {"title": f"T {n}. U."}, "id": n}
            writer.write(features.serialize_example(row))
        writer.close()
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=100 * count))
    tfds.folder_dataset.write_metadata(data_dir=directory, features=features, split_infos=infos, check_data=False)
    return directory


def test_tfds_directory(dataset: Path) -> None:
    expected = [(f"Example {n} of train.", "It has a café.") for n in range(7)]
    assert sentences_of(read_all(f"tfds:{dataset}")) == expected
    assert sentences_of(read_all(f"tfds:{dataset}:text", unit_bytes=250)) == expected
    assert sentences_of(read_all(f"tfds:{dataset}:meta/title"))[6] == ("T 6.", "U.")
    segments, _ = gather([f"tfds:{dataset}"], "auto")
    assert [(s.start, s.stop) for (s,) in pack(segments, 250)] == [(0, 2), (2, 4), (4, 6), (6, 7)]


def test_tfds_complaints(dataset: Path) -> None:
    with pytest.raises(AlbertError, match=r"'id' is no text feature.*meta/title, text"):
        gather([f"tfds:{dataset}:id"], "auto")
    with pytest.raises(AlbertError, match=r"no_such_dataset_here.*TFDS cannot give this dataset"):
        gather(["tfds:no_such_dataset_here"], "auto")
    with pytest.raises(AlbertError, match="give tfds:NAME"):
        tfds_corpus.find("tfds:")


# ---- cutting


@pytest.mark.parametrize("unit_bytes", [1, 300, 5_000, 60_000])
def test_byte_ranges_give_the_same_documents(tmp_path, unit_bytes: int) -> None:
    path = write_corpus(tmp_path / "a.txt", 20)
    segments, _ = gather([str(path)], "sentences")
    units = pack(segments, unit_bytes)
    found = [document for unit in units for segment in unit for document in read(segment)]
    assert found == [Document(sentences) for sentences in documents(20)]
    assert sum(segment.size for unit in units for segment in unit) == path.stat().st_size
    if unit_bytes == 1:
        assert len(units) == 20  # a document each, and never less


def test_byte_ranges_of_paragraphs_and_json(tmp_path) -> None:
    text = tmp_path / "a.txt"
    text.write_text((WRAPPED + "\n\n") * 20)
    for unit_bytes in (50, 200, 1000):
        assert sentences_of(read_all(text, unit_bytes=unit_bytes)) == WRAPPED_DOCUMENTS * 20
    rows = tmp_path / "a.jsonl"
    rows.write_text("".join(json.dumps({"text": f"Line {n}. End."}) + "\n" for n in range(50)))
    assert [d.sentences[0] for d in read_all(rows, unit_bytes=64)] == [f"Line {n}." for n in range(50)]


def test_files_without_document_ends_are_cut_at_lines(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("albert_jax.data.corpus.corpora._CUT_REACH", 100)
    path = tmp_path / "a.txt"
    sentences = [f"This is sentence number {n}." for n in range(200)]
    path.write_text("\n".join(sentences))
    segments, _ = gather([str(path)], "sentences")
    units = pack(segments, 1000)
    assert len(units) == 6
    assert [s for unit in units for part in unit for d in read(part) for s in d.sentences] == sentences


def test_small_files_share_a_unit(tmp_path) -> None:
    for n in range(10):
        (tmp_path / f"{n}.txt").write_text(f"File {n}.\nEnd.\n")
    segments, _ = gather([str(tmp_path)], "auto")
    assert [len(unit) for unit in pack(segments, 50)] == [3, 3, 3, 1]


def test_digest_sees_changes_but_no_places(tmp_path) -> None:
    def digest(directory: Path) -> str:
        return gather([str(directory)], "auto")[1]

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("A one.\nA two.\n")
    first = digest(tmp_path / "one")
    assert digest(tmp_path / "two") == first
    (tmp_path / "two/a.txt").write_text("A one.\nB two.\n")
    assert digest(tmp_path / "two") != first
    (tmp_path / "one/b.txt").write_text("More.\n")
    assert digest(tmp_path / "one") != first


# ---- bad input


def test_missing_and_empty_corpora(tmp_path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder").mkdir()
    for corpus, told in [
        ("missing.txt", "no such file"),
        ("*.nothing", "no such file"),
        ("empty.txt", "the corpus is empty"),
        ("folder", "no .txt"),
    ]:
        with pytest.raises(AlbertError, match=told) as error:
            gather([str(tmp_path / corpus)], "auto")
        assert corpus in str(error.value)
    with pytest.raises(AlbertError, match="no corpus"):
        gather([], "auto")
    with pytest.raises(AlbertError, match="the layouts are auto, sentences, paragraphs"):
        gather([str(tmp_path)], "columns")  # type: ignore[arg-type]


def test_not_utf8_names_file_byte_and_line(tmp_path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"Fine.\n" * 5 + b"Caf\xe9.\n")
    with pytest.raises(AlbertError, match=r"latin\.txt: not UTF-8 at byte 33 \(0xe9, line 6\)"):
        read_all(path)
    # in the middle of a range, counted from the start of the file
    with pytest.raises(AlbertError, match=r"byte 33 \(0xe9, line 6\)"):
        list(lines.read_lines(str(path), 12, 37))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(AlbertError, match=r"byte 33 \(0xe9, line 6\)"):
        list(lines.read_lines(str(path.rename(tmp_path / "latin.txt.gz"))))


def test_damaged_gzip(tmp_path) -> None:
    whole = gzip.compress(b"Some text.\n" * 1000)
    for name, content in [("cut.txt.gz", whole[:-20]), ("noise.txt.gz", b"noise")]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AlbertError, match=rf"{name}: damaged gzip file"):
            read_all(tmp_path / name, layout="sentences")


@pytest.mark.parametrize("end", ["", "\n", "\nafter\n"])
def test_a_line_that_is_too_long_is_named(tmp_path, end: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("short\n" * 3 + "x" * 3_000_000 + end)
    with pytest.raises(AlbertError, match=r"a\.txt: line 4 is longer than 1,048,576 bytes"):
        read_all(path, layout="sentences")
    path.write_text("short\n" * 3 + "x" * 1_000_000 + "\n")
    assert len(read_all(path, layout="sentences")[0].sentences) == 4


def test_json_complaints_name_the_line(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps({"text": "Fine. Good."}) + "\n"
    for bad, told in [
        ("{broken", "line 3: not JSON"),
        ("[1]", "line 3: not a JSON object"),
        ('{"body": "x", "id": 1}', r"line 3: no `text` field that is a string \(fields: body, id\)"),
    ]:
        path.write_text(good * 2 + bad + "\n")
        with pytest.raises(AlbertError, match=told):
            read_all(path)
    # counted from the start of the file when the bad line is in a later range
    path.write_text(good * 50 + "{broken\n")
    with pytest.raises(AlbertError, match="line 51"):
        read_all(path, unit_bytes=100)
