"""The last step of `prepare`: the finished units become one TFDS dataset with its index."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.corpus.shards import done_file, unit_file
from albert_jax.data.store import paths
from albert_jax.data.store.documents import SPLITS, features
from albert_jax.errors import retold

_SHARD_PIECES = 2**24  # of a held-out shard, at least: some 25 MB


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
