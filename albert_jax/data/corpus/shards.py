"""A unit of a corpus to one shard of each split, the work of a `prepare` worker; then all units to one TFDS dataset.

    Document(sentences=("A cat.", "It sat."), name="cats")
 -> split "train", record pieces [23, 871, 9, 64, 2050, 9], sentence starts [0, 3]

A unit's files get their names only when they are complete, and `unit-K.npz`, written last, says that unit K is done. So
a run that was killed continues with the units that have no such file, and since a unit's bytes depend on its text
alone, the result is the same for any number of workers, kills and runners.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.corpus import corpora
from albert_jax.data.corpus.config import PrepareConfig
from albert_jax.data.store import paths
from albert_jax.data.store.documents import SPLITS, Document, encode_record, features, split_of
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError, first_line, retold

_BATCH_CHARACTERS = 2**18  # of text for each call into SentencePiece
_SHARD_PIECES = 2**24  # of a held-out shard, at least: some 25 MB

# What a worker reports while it works: documents, pieces and characters since its last report.
Report = Callable[[int, int, int], None]


@dataclass
class _Shard:
    """One split of one unit while it is written; without a document it has no file."""

    temporary: Path
    final: Path
    index: list[tuple[int, int]] = field(default_factory=list)  # pieces and sentences of each record
    writer: Any = None

    def write(self, record: bytes, pieces: int, sentences: int) -> None:
        if self.writer is None:
            from array_record.python import array_record_module

            self.writer = array_record_module.ArrayRecordWriter(str(self.temporary), paths.ARRAY_RECORD_OPTIONS)
        self.writer.write(record)
        self.index.append((pieces, sentences))

    def finish(self) -> None:
        """Completes the file and gives it its name."""
        if self.writer is not None:
            self.writer.close()
            os.replace(self.temporary, self.final)

    def abandon(self) -> None:
        """Drops what was written, to free the disk."""
        self.writer = None
        self.temporary.unlink(missing_ok=True)


def unit_file(directory: Path, unit: int, split: str) -> Path:
    return paths.unfinished_dir(directory) / f"unit-{unit:05d}-{split}.array_record"


def done_file(directory: Path, unit: int) -> Path:
    return paths.unfinished_dir(directory) / f"unit-{unit:05d}.npz"


def write_unit(
    config: PrepareConfig, tokenizer: AnyTokenizer, unit: int, segments: corpora.Unit, report: Report
) -> None:
    """Reads, cuts and writes the documents of `segments` as unit number `unit`.

    Raises AlbertError when a document cannot be read, or the disk is full; finished units are untouched.
    """
    directory = Path(config.out)
    unfinished = paths.unfinished_dir(directory)
    shards = {}
    for split in SPLITS:
        final = unit_file(directory, unit, split)
        # The process id, because Beam may run one unit twice at the same time, on a machine that seems slow.
        shards[split] = _Shard(unfinished / f"{final.name}.{os.getpid()}.tmp", final)
    unigrams = np.zeros(tokenizer.vocab_size, np.int64)
    tally = {"single": 0, "empty": 0, "divided": 0}  # in the order in which they are stored
    documents = (document for segment in segments for document in corpora.read(segment))
    try:
        for batch in _batches(documents):
            pieces = _write_batch(config, tokenizer, batch, shards, unigrams, tally)
            report(len(batch), pieces, sum(len(s) for document in batch for s in document.sentences))
        for shard in shards.values():
            shard.finish()
        # uint16 holds them, since a record has at most MAX_PIECES pieces.
        arrays: dict[str, Any] = {split: np.array(s.index, np.uint16).reshape(-1, 2) for split, s in shards.items()}
        arrays |= {"unigrams": unigrams, "tally": np.array(list(tally.values()))}
        done = done_file(directory, unit)
        temporary = done.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, done)
    except (OSError, RuntimeError) as error:  # ArrayRecord reports a full disk by a RuntimeError
        for shard in shards.values():
            shard.abandon()
        raise AlbertError(f"{unfinished}: cannot be written ({first_line(error)}); {paths.WRITE_ADVICE}") from error


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    # By characters, not by documents, whose sizes differ a thousandfold.
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += sum(map(len, document.sentences))
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch = []
            characters = 0
    if batch:
        yield batch


def _write_batch(
    config: PrepareConfig,
    tokenizer: AnyTokenizer,
    documents: list[Document],
    shards: dict[str, _Shard],
    unigrams: np.ndarray,
    tally: dict[str, int],
) -> int:
    """Writes `documents`, adds the train split's pieces to `unigrams`, and returns the number of pieces."""
    # One call for the sentences of many documents: SentencePiece costs more to call than to cut one sentence.
    ids, lengths = tokenizer.encode_batch([s for document in documents for s in document.sentences])
    sentence_ends = np.cumsum(lengths, dtype=np.int64)
    sentence_starts = sentence_ends - lengths
    some_empty = bool((lengths == 0).any())
    held_out = []
    sentence = start = 0
    for document in documents:
        first, sentence = sentence, sentence + len(document.sentences)
        starts = sentence_starts[first:sentence] - start
        if some_empty:  # sentences of combining marks alone, say; nothing could be predicted in them
            starts = starts[lengths[first:sentence] > 0]
        if len(starts) == 0:
            tally["empty"] += 1
            continue
        pieces = ids[start : (end := int(sentence_ends[sentence - 1]))]
        start = end
        tally["single"] += len(starts) == 1
        split = split_of(document.split_key, config.validation, config.test)
        if split != "train":
            held_out.append(pieces)
        whole = len(pieces) <= config.max_document_pieces
        tally["divided"] += not whole
        for part, part_starts in [(pieces, starts)] if whole else divide(pieces, starts, config.max_document_pieces):
            record = encode_record(part, part_starts, document.name, document.label)
            shards[split].write(record, len(part), len(part_starts))
    # All pieces less the held-out ones: they are few, so this is cheaper than to gather those of the train split.
    unigrams += np.bincount(ids, minlength=unigrams.size)
    if held_out:
        unigrams -= np.bincount(np.concatenate(held_out), minlength=unigrams.size)
    return ids.size


def divide(pieces: np.ndarray, starts: np.ndarray, max_pieces: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A long document in parts of at most `max_pieces`, cut where sentences end; nothing is lost.

    A single sentence longer than that is cut at piece `max_pieces`, the rest counting as further sentences.
    """
    ends = [*starts[1:].tolist(), len(pieces)]
    edges: list[int] = []  # sentence starts, with those added that cut over-long sentences
    for start, end in zip(starts.tolist(), ends, strict=True):
        edges.extend(range(start, end, max_pieces))
    edges.append(len(pieces))
    first = 0
    while first < len(edges) - 1:
        last = first + 1
        while last < len(edges) - 1 and edges[last + 1] - edges[first] <= max_pieces:
            last += 1
        yield pieces[edges[first] : edges[last]], np.array(edges[first:last]) - edges[first]
        first = last


# ---- all units to one dataset


@dataclass(frozen=True)
class Totals:
    """What all units together hold."""

    splits: dict[str, dict[str, Any]]  # split -> documents, sentences, pieces, shard_lengths
    single: int  # documents of one sentence, for which sentence order is undefined
    empty: int  # documents without a piece, left out
    divided: int  # documents stored in several records
    indices: dict[str, np.ndarray]  # split -> uint16 [documents, 2]: pieces and sentences
    unigrams: np.ndarray  # int64 [V]: of the train split
    groups: dict[str, list[list[int]]]  # split -> the units whose files make each shard


def count_units(directory: Path, units: int) -> Totals:
    """Adds up what `units` finished units have counted, and decides which of them share a shard."""
    indices: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    unigrams: Any = 0
    tally: Any = 0
    for unit in range(units):
        with np.load(done_file(directory, unit)) as done:
            for split in SPLITS:
                indices[split].append(done[split])
            unigrams = unigrams + done["unigrams"]
            tally = tally + done["tally"]
    splits: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[list[int]]] = {}
    for split in SPLITS:
        pieces = [int(index[:, 0].sum(dtype=np.int64)) for index in indices[split]]
        # A unit's train file becomes a shard as it is, without being read again. The held-out files are small, and
        # ArrayRecord pads a file by some 100 KB, so they are put together.
        groups[split] = _groups(pieces, 0 if split == "train" else _SHARD_PIECES)
        splits[split] = {
            "documents": sum(map(len, indices[split])),
            "sentences": sum(int(index[:, 1].sum(dtype=np.int64)) for index in indices[split]),
            "pieces": sum(pieces),
            "shard_lengths": [sum(len(indices[split][unit]) for unit in group) for group in groups[split]],
        }
    single, empty, divided = tally.tolist()
    whole = {split: np.concatenate(parts) for split, parts in indices.items()}
    return Totals(splits, single, empty, divided, whole, unigrams, groups)


def _groups(sizes: Sequence[int], wanted: int) -> list[list[int]]:
    """Units that share a shard of at least `wanted` pieces, in order; `sizes` are theirs. Empty units are left out."""
    groups: list[list[int]] = []
    filled = wanted
    for unit, size in enumerate(sizes):
        if size:
            if filled >= wanted:
                groups.append([])
                filled = 0
            groups[-1].append(unit)
            filled += size
    return groups


def join_units(directory: Path, totals: Totals, dtype: np.dtype) -> None:
    """Makes DIR/documents and DIR/index of the finished units' files. May be repeated after a kill at any point.

    Raises AlbertError when the disk is full.
    """
    paths.documents_dir(directory).mkdir(exist_ok=True)
    paths.unigrams_path(directory).parent.mkdir(exist_ok=True)
    np.save(paths.unigrams_path(directory), totals.unigrams)
    for split, groups in totals.groups.items():
        np.save(paths.index_path(directory, split), totals.indices[split])
        for shard, units in enumerate(groups):
            _make_shard(directory, split, units, paths.shard_path(directory, split, shard, len(groups)))
    _write_tfds_metadata(directory, totals.splits, dtype)


def _make_shard(directory: Path, split: str, units: Sequence[int], final: Path) -> None:
    sources = [unit_file(directory, unit, split) for unit in units]
    if len(sources) == 1:
        if sources[0].exists():  # else an earlier attempt has already moved it
            os.replace(sources[0], final)
        return
    from array_record.python import array_record_module

    temporary = paths.unfinished_dir(directory) / f"{final.name}.tmp"
    # ArrayRecord reports a full disk by a RuntimeError.
    with retold(lambda said: f"{directory}: cannot be written ({said}); {paths.WRITE_ADVICE}", RuntimeError):
        writer = array_record_module.ArrayRecordWriter(str(temporary), paths.ARRAY_RECORD_OPTIONS)
        for source in sources:
            for record in array_record_module.ArrayRecordReader(str(source)).read_all():
                writer.write(record)
        writer.close()
    os.replace(temporary, final)


def _write_tfds_metadata(directory: Path, splits: dict[str, dict[str, Any]], dtype: np.dtype) -> None:
    """`dataset_info.json` and `features.json`, by TFDS's own writer."""
    import tensorflow_datasets as tfds

    infos = []
    for split, counts in splits.items():
        lengths = counts["shard_lengths"]
        files = [paths.shard_path(directory, split, shard, len(lengths)) for shard in range(len(lengths))]
        if files:  # TFDS has no empty splits
            size = sum(file.stat().st_size for file in files)
            infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=size))
    tfds.folder_dataset.write_metadata(
        data_dir=paths.documents_dir(directory),
        features=features(dtype),
        split_infos=infos,
        check_data=False,
        description="Documents as SentencePiece ids, prepared by albert_jax.",
    )


def remove_unfinished(directory: Path) -> None:
    """Drops the working files, once everything in them has been moved or counted."""
    shutil.rmtree(paths.unfinished_dir(directory), ignore_errors=True)


def clear_unfinished(directory: Path) -> None:
    """Drops what an earlier run, begun differently, left in the working files; not the lock, which is held."""
    for file in paths.unfinished_dir(directory).iterdir():
        if file.is_dir():
            shutil.rmtree(file)
        elif file.name != paths.LOCK:
            file.unlink()
