"""`prepare` from end to end: same bytes by every route, killed and continued, bounded, and clear about bad
input."""

import gzip
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from albert_jax.__main__ import main
from albert_jax.data.corpus import prepare as prepare_module
from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.corpus.shards import divide
from albert_jax.data.store.documents import SPLITS
from albert_jax.data.store.store import DocumentStore
from albert_jax.data.store.summary import inspect
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import load
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError
from tests.data.sample_text import contents, documents, write_corpus


@pytest.fixture(scope="module")
def vocab(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("vocab") / "vocab"
    Tokenizer.train((s for document in documents() for s in document), 700).save(path)
    return str(path)


@pytest.fixture
def config(tmp_path: Path, vocab: str) -> PrepareConfig:
    """Some 230 KB of text in 4 units."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    return PrepareConfig((str(corpus),), str(tmp_path / "out"), vocab=vocab, workers=1, shard_mb=0.05)


def all_documents(directory: str) -> set[tuple[int, ...]]:
    stores = [DocumentStore.open(directory, split) for split in SPLITS]
    return {tuple(store[i][0].tolist()) for store in stores for i in range(len(store))}


# ---- same bytes


def test_one_and_three_workers_write_the_same_bytes(config: PrepareConfig, tmp_path: Path) -> None:
    config = replace(config, vocab=None, vocab_size=600)
    summary = prepare(config)
    other = replace(config, out=str(tmp_path / "three"), workers=3)
    assert prepare(other).splits == summary.splits
    one, three = contents(Path(config.out)), contents(Path(other.out))
    assert one == three
    assert len(summary.splits["train"]["shard_lengths"]) >= 4
    assert {name.split("/")[0] for name in one} == {"documents", "index", "vocab", "prepared.json"}
    assert sum(counts["documents"] for counts in summary.splits.values()) == len(documents())


def test_a_wordpiece_vocabulary_is_learned_whatever_the_workers(config: PrepareConfig, tmp_path: Path) -> None:
    """Of mixed text: the Chinese characters, parts of the English words, nothing unknown; also from a vocab.txt."""
    text = Path(config.corpus[0]).read_text().replace(" the ", " 今天天气 ")
    Path(config.corpus[0]).write_text(text)
    config = replace(config, vocab=None, vocab_size=400, tokenizer="wordpiece", character_coverage=1)
    summary = prepare(config)
    other = replace(config, out=str(tmp_path / "two"), workers=2)
    prepare(other)
    assert contents(Path(config.out)) == contents(Path(other.out))
    tokenizer = load(f"{config.out}/vocab")
    assert isinstance(tokenizer, WordPieceTokenizer) and summary.vocab_size == tokenizer.vocab_size == 400
    assert tokenizer.pieces(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    known = set(tokenizer.pieces(range(400)))
    assert {"今", "天", "气", "##e", "e"} <= known and "##今" not in known
    store = DocumentStore.open(config.out, "train")
    counts = np.bincount(np.concatenate([store[i][0] for i in range(len(store))]), minlength=400)
    assert counts[tokenizer.unk_id] == 0 and counts[tokenizer.encode("天")[0]] > 100
    assert sum(counts) < 0.6 * len(text)  # in parts of words, not in letters
    bare = load(f"{config.out}/vocab/vocab.txt")
    assert bare.fingerprint == tokenizer.fingerprint
    again = prepare(config)
    assert again.already_done
    with pytest.raises(AlbertError, match="tokenizer was wordpiece and is not given"):
        prepare(replace(config, tokenizer="sentencepiece"))


def test_killed_and_continued_gives_the_same_bytes(config: PrepareConfig, tmp_path: Path) -> None:
    """SIGKILL of the whole program while two workers are at it; what they finished is not made again."""
    # 6 MB, so that there is time to kill
    text = Path(config.corpus[0]).read_text()
    Path(config.corpus[0]).write_text("\n\n".join(text.replace(".", f" {n}.") for n in range(20)))
    config = replace(config, shard_mb=0.2, workers=2)
    out = Path(config.out)
    program = f"""
if __name__ == "__main__":
    from albert_jax.data.corpus.prepare import PrepareConfig, prepare
    prepare({config!r})
"""
    script = tmp_path / "run.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(prepare_module.__file__).parents[3])}
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, env=environment)
    deadline = time.monotonic() + 60
    while len(list((out / "unfinished").glob("unit-*.npz"))) < 2:
        assert process.poll() is None, "it finished before it could be killed: give it more text"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert _group_is_gone(process.pid)

    kept = {file: file.stat().st_mtime_ns for file in (out / "unfinished").glob("unit-*.npz")}
    with pytest.raises(AlbertError, match="run the same `prepare` command again"):
        DocumentStore.open(out, "train")
    assert "unfinished" in inspect(out)
    made_again = []
    original = prepare_module.workers.write_unit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            prepare_module.workers,
            "write_unit",
            lambda job, tokenizer, unit, *rest: (
                made_again.append(unit),
                original(job, tokenizer, unit, *rest),
            ),
        )
        summary = prepare(replace(config, workers=1))
    units = len(summary.splits["train"]["shard_lengths"])
    assert 2 <= len(kept) < units == len(kept) + len(made_again)

    whole = replace(config, out=str(tmp_path / "whole"))
    prepare(whole)
    assert contents(out) == contents(Path(whole.out))


def _group_is_gone(group: int) -> bool:
    """Whether the workers of a killed parent have ended by themselves."""
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_killed_during_the_last_step(config: PrepareConfig, tmp_path: Path, monkeypatch) -> None:
    """Whatever of the last step was done, it can be done again."""
    from albert_jax.data.corpus import shards

    whole = replace(config, out=str(tmp_path / "whole"))
    prepare(whole)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    for place in ("_write_tfds_metadata", "_make_shard"):
        with monkeypatch.context() as patch:
            patch.setattr(shards, place, killed)
            with pytest.raises(KeyboardInterrupt):
                prepare(config)
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "remove_unfinished", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(config)
    assert prepare(config).already_done
    assert contents(Path(config.out)) == contents(Path(whole.out))


def test_beam_writes_the_same_bytes(config: PrepareConfig, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam")
    prepare(config)
    other = replace(config, out=str(tmp_path / "beam"), runner="DirectRunner")
    prepare(other)
    assert contents(Path(config.out)) == contents(Path(other.out))


def test_beam_missing_is_told(config: PrepareConfig, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(AlbertError, match=r"pip install -e '\.\[beam\]'"):
        prepare(replace(config, runner="DirectRunner"))


def test_again_says_that_it_is_done(config: PrepareConfig, capsys) -> None:
    first = prepare(config)
    before = contents(Path(config.out))
    again = prepare(replace(config, workers=3))
    assert again.already_done and not first.already_done
    assert again.splits == first.splits
    assert "already prepared, nothing to do" in again.text()
    assert contents(Path(config.out)) == before


def test_formats_with_the_same_text_give_the_same_documents(config: PrepareConfig, tmp_path: Path) -> None:
    prepare(config)
    text = Path(config.corpus[0]).read_bytes()
    zipped = tmp_path / "corpus.txt.gz"
    zipped.write_bytes(gzip.compress(text))
    rows = tmp_path / "corpus.jsonl"
    rows.write_text("".join(json.dumps({"sentences": sentences}) + "\n" for sentences in documents()))
    for name, corpus in (("zipped", zipped), ("rows", rows)):
        other = replace(config, out=str(tmp_path / name), corpus=(str(corpus),))
        prepare(other)
        assert all_documents(other.out) == all_documents(config.out)


# ---- what is stored


def test_size_on_disk(config: PrepareConfig) -> None:
    text = Path(config.corpus[0]).read_text()
    Path(config.corpus[0]).write_text("\n\n".join(text.replace("a", chr(97 + n)) for n in range(8)))
    config = replace(config, shard_mb=0)
    summary = prepare(config)
    out = Path(config.out)
    size = sum(len(content) for name, content in contents(out).items() if not name.startswith("vocab/"))
    pieces = sum(counts["pieces"] for counts in summary.splits.values())
    assert pieces > 500_000
    assert size / pieces <= 2.3
    assert summary.bytes_per_piece == pytest.approx(size / pieces, rel=0.01)


def test_duplicates_share_a_split(config: PrepareConfig) -> None:
    text = Path(config.corpus[0]).read_text()
    Path(config.corpus[0]).write_text(text + "\n" + text)
    prepare(replace(config, validation=0.2, test=0.2))
    found = {}
    for split in SPLITS:
        store = DocumentStore.open(config.out, split)
        assert len(store) > 0
        for index in range(len(store)):
            found.setdefault(tuple(store[index][0].tolist()), []).append(split)
    assert all(len(splits) >= 2 and len(set(splits)) == 1 for splits in found.values())


def test_long_documents_are_divided_without_loss(config: PrepareConfig, tmp_path: Path) -> None:
    prepare(config)
    short = replace(config, out=str(tmp_path / "short"), max_document_pieces=100)
    summary = prepare(short)
    assert summary.divided_documents > 30
    assert any("long documents were divided" in line for line in summary.warnings)
    for split in SPLITS:
        whole, parts = DocumentStore.open(config.out, split), DocumentStore.open(short.out, split)
        assert parts.lengths.max() <= 100
        joined = np.concatenate([parts[i][0] for i in range(len(parts))])
        np.testing.assert_array_equal(joined, np.concatenate([whole[i][0] for i in range(len(whole))]))


def test_divide_by_hand() -> None:
    pieces = np.arange(20)
    parts = list(divide(pieces, np.array([0, 4, 9, 10]), 10))
    assert [part.tolist() for part, _ in parts] == [list(range(10)), list(range(10, 20))]
    assert [starts.tolist() for _, starts in parts] == [[0, 4, 9], [0]]
    parts = list(divide(pieces, np.array([0, 3]), 8))  # the second sentence is longer than a record
    assert [part.tolist() for part, _ in parts] == [
        [0, 1, 2],
        list(range(3, 11)),
        list(range(11, 19)),
        [19],
    ]
    assert [starts.tolist() for _, starts in parts] == [[0], [0], [0], [0]]


def test_sentences_and_documents_without_pieces_are_left_out(config: PrepareConfig, tmp_path: Path) -> None:
    corpus = tmp_path / "marks.txt"
    corpus.write_text("A cat sat.\n\u0301\u0301\nIt slept.\n\n\u0301\n\u0302\n\nA dog ran.\nIt barked.\n")
    summary = prepare(replace(config, corpus=(str(corpus),), validation=0, test=0))
    assert summary.empty_documents == 1
    store = DocumentStore.open(config.out, "train")
    assert store.sentence_counts.tolist() == [2, 2]
    assert store.tokenizer().decode(store[0][0]) == "a cat sat. it slept."


def test_wide_ids(config: PrepareConfig, monkeypatch) -> None:
    """A vocabulary above 65,536 pieces is stored as uint32; the threshold is lowered here, not the code
    path."""
    monkeypatch.setattr("albert_jax.data.text.vocabulary.MAX_NARROW_VOCAB", 500)
    prepare(config)
    store = DocumentStore.open(config.out, "train")
    pieces, _ = store[0]
    assert pieces.dtype == np.uint32
    assert store.tokenizer().decode(pieces).startswith(documents()[0][0].lower()[:20])


# ---- pydocs


def test_pydocs_end_to_end(tmp_path: Path) -> None:
    from albert_jax.data.pydocs.paragraphs import load_paragraphs

    config = PrepareConfig(("pydocs:optax",), str(tmp_path / "a"), vocab_size=600, validation=0.2, test=0.2, workers=1)
    prepare(config)
    other = replace(config, out=str(tmp_path / "b"), workers=2, shard_mb=0.05)
    prepare(other)
    assert all_documents(config.out) == all_documents(other.out)
    modules = {}
    for split in SPLITS:
        store = DocumentStore.open(config.out, split)
        records = [store.record(index) for index in range(len(store))]
        assert {record.label for record in records} == {"optax"}
        modules[split] = {record.name for record in records}
        paragraphs = load_paragraphs(config.out, split)
        assert paragraphs and {paragraph.module for paragraph in paragraphs} <= modules[split]
    assert not modules["train"] & modules["test"]
    assert prepare(config).already_done
    with pytest.raises(AlbertError, match="no-such-package"):
        prepare(replace(config, corpus=("pydocs:no-such-package",), out=str(tmp_path / "c")))


# ---- changed, bad


def test_other_arguments_on_the_same_directory(config: PrepareConfig) -> None:
    prepare(config)
    before = contents(Path(config.out))
    for changes, told in [
        ({"validation": 0.2}, "validation was 0.05 and is 0.2"),
        ({"layout": "paragraphs"}, "layout was auto and is paragraphs"),
        ({"vocab": None}, "vocab was .* and is not given"),
        ({"corpus": (config.corpus[0], config.corpus[0])}, "corpus was"),
    ]:
        with pytest.raises(AlbertError, match=told) as error:
            prepare(replace(config, **changes))
        assert "give another --out" in str(error.value)
    Path(config.corpus[0]).write_text("Something else. Entirely.\nIndeed.\n")
    with pytest.raises(AlbertError, match="the text of the corpus is not what it was"):
        prepare(config)
    assert contents(Path(config.out)) == before


def test_a_moved_corpus_and_a_bare_model(config: PrepareConfig, tmp_path: Path) -> None:
    prepare(config)
    moved = shutil.move(config.corpus[0], tmp_path / "elsewhere.txt")
    os.rename(moved, tmp_path / "corpus.txt")
    relative = os.path.relpath(tmp_path / "corpus.txt")
    assert prepare(replace(config, corpus=(relative,))).already_done
    bare = replace(config, vocab=f"{config.vocab}/vocab.model", lower=False, out=str(tmp_path / "bare"))
    assert prepare(bare).fingerprint != prepare(config).fingerprint
    assert not DocumentStore.open(bare.out, "train").tokenizer().normalization.lower


def test_a_mistake_before_anything_was_made_can_be_corrected(config: PrepareConfig) -> None:
    wrong = replace(config, vocab=None, vocab_size=100_000)
    with pytest.raises(AlbertError, match="vocab_size 100000 is too large") as error:
        prepare(wrong)
    largest = int(str(error.value).split("at most ")[1].split()[0])
    assert prepare(replace(wrong, vocab_size=largest)).vocab_size == largest


def test_a_corrected_mistake_leaves_no_text_behind(tmp_path: Path) -> None:
    """The docstrings read for the first attempt must not become part of the second."""
    wrong = PrepareConfig(("pydocs:optax",), str(tmp_path / "out"), vocab_size=100_000, workers=1)
    with pytest.raises(AlbertError, match="too large"):
        prepare(wrong)
    prepare(replace(wrong, corpus=("pydocs:orbax-checkpoint",), vocab_size=500))
    store = DocumentStore.open(wrong.out, "train")
    assert {store.record(index).label for index in range(len(store))} == {"orbax-checkpoint"}


def test_foreign_directories_are_left_alone(config: PrepareConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    with pytest.raises(AlbertError, match="not a prepared directory and not empty"):
        prepare(replace(config, out=str(tmp_path / "mine")))
    assert contents(tmp_path / "mine") == {"thesis.txt": b"precious"}
    with pytest.raises(AlbertError, match="not a prepared directory and not empty"):
        prepare(replace(config, out=config.corpus[0]))
    with pytest.raises(AlbertError, match=r"cannot be written \(Not a directory\)"):
        prepare(replace(config, out=config.corpus[0] + "/below"))


def test_a_manifest_that_was_half_written_does_not_make_a_directory_foreign(config: PrepareConfig) -> None:
    Path(config.out).mkdir()
    (Path(config.out) / "prepared.json.new").write_text('{"format": 1, "fin')
    prepare(config)
    assert "prepared.json.new" not in contents(Path(config.out))


def test_two_at_once(config: PrepareConfig) -> None:
    with (
        prepare_module._locked(Path(config.out)),
        pytest.raises(AlbertError, match="another `prepare` is at work"),
    ):
        prepare(config)
    assert not prepare(config).already_done


def _prepare_with_little_room(config: PrepareConfig, results: object) -> None:
    """In a process of its own: no file may grow beyond 400 KB, as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    try:
        prepare(config)
        results.put("finished")  # type: ignore[attr-defined]
    except AlbertError as error:
        results.put(str(error))  # type: ignore[attr-defined]


def test_full_disk(config: PrepareConfig, tmp_path: Path) -> None:
    text = Path(config.corpus[0]).read_text()
    Path(config.corpus[0]).write_text(text[:60_000] + "\n\n" + text * 6)
    config = replace(config, shard_mb=0.05)
    # the second unit is one document that grows beyond the room
    big = tmp_path / "corpus2.jsonl"
    big.write_text(json.dumps({"sentences": text.split("\n") * 12}) + "\n")
    config = replace(config, corpus=(*config.corpus, str(big)), max_document_pieces=60_000)
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_prepare_with_little_room, args=(config, results))
    process.start()
    process.join()
    told = results.get()
    assert "cannot be written (" in told and "what was finished is kept" in told
    unfinished = Path(config.out) / "unfinished"
    assert len(list(unfinished.glob("unit-*.npz"))) >= 5
    assert not [file for file in unfinished.glob("*.tmp") if file.stat().st_size]
    prepare(config)
    whole = replace(config, out=str(tmp_path / "whole"))
    prepare(whole)
    assert contents(Path(config.out)) == contents(Path(whole.out))


def test_one_sentence_documents(config: PrepareConfig, tmp_path: Path) -> None:
    corpus = tmp_path / "single.txt"
    corpus.write_text("\n\n".join(f"This is number {n}." for n in range(50)))
    single = replace(config, corpus=(str(corpus),), layout="sentences")
    with pytest.raises(AlbertError, match=r"each of 50 documents has one sentence.*--allow-single-sentences"):
        prepare(single)
    summary = prepare(replace(single, allow_single_sentences=True))
    assert summary.single_sentence_documents == 50
    corpus.write_text(corpus.read_text() + "\nAnother sentence.\n")
    summary = prepare(replace(single, out=str(tmp_path / "some")))
    assert any("49 of 50 documents have one sentence" in line for line in summary.warnings)


def test_one_sentence_documents_are_noticed_before_the_work(config: PrepareConfig, tmp_path: Path) -> None:
    corpus = tmp_path / "single.txt"
    corpus.write_text("\n\n".join(f"This is number {n}." for n in range(3000)))
    with pytest.raises(AlbertError, match=r"each of \d,\d+ documents has one sentence"):
        prepare(replace(config, corpus=(str(corpus),), vocab=None, layout="sentences"))
    assert not list(Path(config.out).glob("unfinished/unit-*"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"corpus": ()}, "no corpus"),
        ({"corpus": ("nowhere.txt",)}, r"nowhere\.txt: no such file"),
        ({"validation": 0.7, "test": 0.7}, "sum is at most 1"),
        ({"validation": 0.0, "test": 1.0}, "fell into validation and test"),
        ({"max_document_pieces": 70_000}, r"max_document_pieces is 70000; it must lie in \[1, 65535\]"),
        ({"workers": -1}, "workers is -1; it must not be negative"),
        ({"vocab_sample_mb": 0.0, "vocab": None}, "vocab_sample_mb is 0; it must be above 0"),
        ({"character_coverage": 0.5}, r"character_coverage is 0\.5; it must lie in \[0\.9, 1\]"),
        ({"layout": "rows"}, "layout is 'rows'; choose one of 'auto', 'sentences', 'paragraphs'"),
        ({"vocab": "no-vocab"}, "no-vocab: cannot read a vocabulary"),
        ({"tokenizer": "wordpiece"}, "is no WordPiece vocabulary; leave out --tokenizer"),
        ({"tokenizer": "bpe"}, "tokenizer is 'bpe'; choose one of 'sentencepiece', 'wordpiece'"),
        (
            {"tokenizer": "wordpiece", "vocab": None, "keep_accents": True},
            "keeps accents where it keeps case; give --no-l",
        ),
        ({"tokenizer": "wordpiece", "vocab": None, "word_rule": "google"}, "marks its words itself; leave it out"),
        (
            {"tokenizer": "wordpiece", "vocab": None, "vocab_size": 20},
            "characters alone need [0-9]+ pieces; use --vocab",
        ),
        ({"lower": False}, "leave those flags out"),
        ({"word_rule": "google"}, "leave those flags out"),
    ],
)
def test_arguments_that_make_no_sense(config: PrepareConfig, changes: dict, told: str) -> None:
    with pytest.raises(AlbertError, match=told):
        prepare(replace(config, **changes))


@pytest.mark.parametrize("text", ["", " \n\n \n", "\u0301\n\u0301\n"])
def test_empty_corpora(config: PrepareConfig, text: str) -> None:
    Path(config.corpus[0]).write_text(text)
    for vocabulary in (None, config.vocab):
        with pytest.raises(AlbertError, match="the corpus is empty"):
            prepare(replace(config, vocab=vocabulary))
        shutil.rmtree(config.out, ignore_errors=True)


def test_workers_report_bad_text(config: PrepareConfig) -> None:
    with open(config.corpus[0], "ab") as file:
        file.write(b"\nCaf\xe9\n")
    with pytest.raises(AlbertError, match=r"corpus\.txt: not UTF-8 at byte"):
        prepare(replace(config, workers=2))


# ---- command line


def test_command_line(config: PrepareConfig, capsys) -> None:
    arguments = ["--corpus", *config.corpus, "--out", config.out, "--vocab-size", "500", "--workers", "1"]
    assert main(["prepare", *arguments]) == 0
    output = capsys.readouterr().out
    assert "prepared" in output and "500 pieces" in output
    assert main(["prepare", *arguments]) == 0
    assert "nothing to do" in capsys.readouterr().out
    page = inspect(config.out)
    assert "entropy" in page and "bytes a piece" in page and documents()[0][0].lower()[:15] in page
    assert "word rule" in inspect(Path(config.out) / "vocab")
    with pytest.raises(AlbertError, match="neither a prepared directory"):
        inspect(config.corpus[0])


def test_help_shows_every_field(capsys) -> None:
    with pytest.raises(SystemExit) as status:
        main(["prepare", "--help"])
    assert status.value.code == 0
    page = " ".join(capsys.readouterr().out.split())
    for flag in ("--corpus", "--out", "--vocab-size INT", "--vocab-sample-mb FLOAT", "--workers INT"):
        assert flag in page
    assert "(default: 8000)" in page
