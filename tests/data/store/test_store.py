"""Records and the document store, written by `prepare`, read by us and by TensorFlow Datasets."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.store.documents import SPLITS, decode_record, encode_record, features, split_of
from albert_jax.data.store.store import DocumentStore
from albert_jax.errors import AlbertError
from tests.data.sample_text import documents, write_corpus


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    corpus = write_corpus(directory / "corpus.txt")
    out = directory / "prepared"
    config = PrepareConfig(
        corpus=(str(corpus),), out=str(out), vocab_size=700, workers=1, shard_mb=0.1, validation=0.1, test=0.1
    )
    prepare(config)
    return out


def run_python(program: str) -> str:
    """What `program` prints, run by itself."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


# ---- records


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("size", [1, 60, 63, 64, 127, 128, 8_100, 8_192, 40_000])
def test_records_both_ways_with_tfds(size: int, dtype: type) -> None:
    pieces = (np.arange(size) * 37 % 60_000).astype(dtype)
    starts = np.arange(0, size, 50)
    name = "módulo/" + "x" * (size % 300)
    ours = encode_record(pieces, starts, name, "label")
    theirs = features(np.dtype(dtype))
    read = theirs.deserialize_example_np(ours)
    np.testing.assert_array_equal(read["pieces"], pieces)
    np.testing.assert_array_equal(read["sentences"], starts)
    assert read["pieces"].dtype == dtype and read["sentences"].dtype == np.uint16
    assert (read["name"].decode(), read["label"]) == (name, b"label")
    written = theirs.serialize_example(
        {"pieces": pieces, "sentences": starts.astype(np.uint16), "name": name, "label": "label"}
    )
    assert len(written) == len(ours)  # the same fields; their order is chance in theirs
    for record in (ours, written):
        back = decode_record(record, np.dtype(dtype))
        np.testing.assert_array_equal(back.pieces, pieces)
        np.testing.assert_array_equal(back.sentence_starts, starts)
        assert back.sentence_starts.dtype == np.int32
        assert (back.name, back.label) == (name, "label")


# ---- the store


def test_store_holds_the_corpus(prepared: Path) -> None:
    expected: dict[str, list[tuple[str, ...]]] = {split: [] for split in SPLITS}
    for sentences in documents():
        expected[split_of(" ".join(sentences), 0.1, 0.1)].append(sentences)
    for split in SPLITS:
        store = DocumentStore.open(prepared, split)
        tokenizer = store.tokenizer()
        assert len(store) == len(expected[split]) > 0
        assert store.vocab_size == 700 and store.fingerprint == tokenizer.fingerprint
        for index, sentences in enumerate(expected[split]):
            pieces, starts = store[index]
            assert pieces.dtype == np.uint16 and starts.dtype == np.int32
            ends = [*starts[1:], len(pieces)]
            found = [pieces[s:e].tolist() for s, e in zip(starts, ends, strict=True)]
            assert found == [tokenizer.encode(sentence) for sentence in sentences]
            assert store.lengths[index] == len(pieces)
            assert store.sentence_counts[index] == len(starts)


def test_unigrams_are_those_of_the_train_split(prepared: Path) -> None:
    train = DocumentStore.open(prepared, "train")
    counts = np.bincount(np.concatenate([train[i][0] for i in range(len(train))]), minlength=700)
    for split in SPLITS:
        store = DocumentStore.open(prepared, split)
        np.testing.assert_array_equal(store.unigram_counts, counts)
    shares = counts[counts > 0] / counts.sum()
    assert train.unigram_entropy == pytest.approx(-np.sum(shares * np.log(shares)))
    assert train.unigram_accuracy == counts[5:].max() / counts.sum()
    assert 0.02 < train.unigram_accuracy < 0.2 and 4 < train.unigram_entropy < np.log(700)


def test_tfds_reads_it_without_tensorflow(prepared: Path) -> None:
    program = f"""
import sys
import tensorflow_datasets as tfds
source = tfds.builder_from_directory({str(prepared / "documents")!r}).as_data_source()
row = source["train"][3]
print(sorted(source), len(source["train"]), row["pieces"].dtype, row["pieces"].tolist())
print(row["sentences"].tolist(), row["name"], row["label"], "tensorflow" in sys.modules)
"""
    output = run_python(program)
    store = DocumentStore.open(prepared, "train")
    pieces, starts = store[3]
    head, tail = output.strip().split("\n")
    assert head == f"['test', 'train', 'validation'] {len(store)} uint16 {pieces.tolist()}"
    assert tail == f"{starts.tolist()} b'' b'' False"


def test_reading_needs_no_jax_and_no_tfds(prepared: Path) -> None:
    program = f"""
import sys
from albert_jax.data.store.store import DocumentStore
DocumentStore.open({str(prepared)!r}, "train")[0]
print([name for name in ("jax", "tensorflow_datasets", "tensorflow", "flax") if name in sys.modules])
"""
    output = run_python(program)
    assert output == "[]\n"


def test_a_store_travels_to_a_worker(prepared: Path) -> None:
    store = DocumentStore.open(prepared, "train")
    before = store[2]
    other = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(other[2][0], before[0])
    assert len(other) == len(store)


def test_index_out_of_range(prepared: Path) -> None:
    store = DocumentStore.open(prepared, "validation")
    with pytest.raises(IndexError):
        store[len(store)]
    with pytest.raises(IndexError):
        store[-1]


# ---- bad directories


def test_what_is_no_store_says_so(prepared: Path, tmp_path) -> None:
    with pytest.raises(AlbertError, match=r"not a prepared directory.*prepare --corpus"):
        DocumentStore.open(tmp_path / "none", "train")
    with pytest.raises(AlbertError, match="the splits are train, validation, test"):
        DocumentStore.open(prepared, "dev")

    unfinished = shutil.copytree(prepared, tmp_path / "unfinished")
    manifest = json.loads((unfinished / "prepared.json").read_text())
    (unfinished / "prepared.json").write_text(json.dumps(manifest | {"finished": False}))
    with pytest.raises(AlbertError, match="run the same `prepare` command again"):
        DocumentStore.open(unfinished, "train")
    (unfinished / "prepared.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(AlbertError, match="format 99, this version reads format 1"):
        DocumentStore.open(unfinished, "train")
    (unfinished / "prepared.json").write_text("{")
    with pytest.raises(AlbertError, match="not the manifest"):
        DocumentStore.open(unfinished, "train")


def test_missing_and_damaged_shards_are_named(prepared: Path, tmp_path) -> None:
    damaged = shutil.copytree(prepared, tmp_path / "damaged")
    shard = damaged / "documents/documents-train.array_record-00000-of-00003"
    whole = shard.read_bytes()
    for content, told in [
        (whole[:70_000], "00000-of-00003: holds 0 documents, not 18"),
        (b"noise" * 30_000, "00000-of-00003: (not readable as ArrayRecord|holds 0 documents)"),
        (whole[:2_000] + b"noise" * 100 + whole[2_500:], r"00000-of-00003: document \d+ is damaged"),
    ]:
        shard.write_bytes(content)
        store = DocumentStore.open(damaged, "train")
        with pytest.raises(AlbertError, match=told):
            for index in range(18):
                store[index]
    other = shard.with_name(shard.name.replace("00000", "00001"))
    shutil.copy(other, shard)
    store = DocumentStore.open(damaged, "train")
    with pytest.raises(AlbertError, match=r"holds \d+ documents, not \d+"):
        store[0]
    shard.unlink()
    with pytest.raises(AlbertError, match="00000-of-00003: missing"):
        DocumentStore.open(damaged, "train")
