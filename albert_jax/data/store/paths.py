"""Where things are in a prepared directory, and the manifest that says what is in it.

DIR/prepared.json          what it was made from, counts, fingerprint of the vocabulary, finished or not
DIR/vocab/                 the vocabulary (data/text/vocabulary.py)
DIR/documents/             a TFDS dataset in ArrayRecord: splits train, validation, test (documents.py)
DIR/index/SPLIT.npy        uint16 [documents, 2]: pieces and sentences of each document, in order
DIR/index/unigrams.npy     int64 [V]: how often each piece occurs in the train split
DIR/paragraphs/            labelled paragraphs, for a pydocs corpus only (data/pydocs/paragraphs.py)
DIR/sources.tsv            packages, versions, digests and licences, for a debian corpus only (data/packages/fetch.py)
DIR/unfinished/            shards finished so far, while `prepare` is under way or was killed
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from albert_jax.data.store.documents import SPLITS
from albert_jax.errors import AlbertError, refuse
from albert_jax.files import read_object, reading

DATASET = "documents"
MANIFEST = "prepared.json"
SOURCES = "sources.tsv"
LOCK = "lock"  # in unfinished/: held by the `prepare` that is at work
FORMAT = 1
# One record a chunk for random access, compressed: 1.5 bytes a piece instead of 2.4, for 4 microseconds a read
# (`python benchmarks/prepare.py` compares the choices).
ARRAY_RECORD_OPTIONS = "group_size:1,zstd:1"
# What to do when the disk is full or the directory may not be written.
WRITE_ADVICE = "what was finished is kept: free space and run the same command again"


def vocab_dir(directory: Path) -> Path:
    return directory / "vocab"


def documents_dir(directory: Path) -> Path:
    return directory / DATASET


def paragraphs_dir(directory: Path) -> Path:
    return directory / "paragraphs"


def unfinished_dir(directory: Path) -> Path:
    return directory / "unfinished"


def index_path(directory: Path, split: str) -> Path:
    return directory / "index" / f"{split}.npy"


def unigrams_path(directory: Path) -> Path:
    return directory / "index" / "unigrams.npy"


def shard_path(directory: Path, split: str, shard: int, shards: int) -> Path:
    # TFDS's own naming, so that `tfds.builder_from_directory` finds the files.
    return documents_dir(directory) / f"{DATASET}-{split}.array_record-{shard:05d}-of-{shards:05d}"


def read_manifest(directory: Path) -> dict[str, Any]:
    """The content of `prepared.json`, empty where there is none. Raises AlbertError for one that is not ours."""
    path = directory / MANIFEST
    advice = "not the manifest of a prepared directory; prepare into another"
    with reading(path, advice):
        if not path.exists():
            return {}
    manifest = read_object(path, advice)
    if (written := manifest.get("format")) != FORMAT:
        raise AlbertError(f"{path}: format {written}, this version reads format {FORMAT}; prepare it again")
    return manifest


def finished_manifest(directory: Path, split: str) -> dict[str, Any]:
    """The manifest of a finished directory. Raises AlbertError when it is none, or for a `split` that none has."""
    manifest = read_manifest(directory)
    refuse(_not_finished(directory, split, manifest))
    return manifest


def _not_finished(directory: Path, split: str, manifest: dict[str, Any]) -> Iterator[str]:
    if not manifest:
        yield (
            f"{directory}: not a prepared directory (no {MANIFEST}); make one with"
            f" `python -m albert_jax prepare --corpus CORPUS --out {directory}`"
        )
    if not manifest["finished"]:
        yield f"{directory}: its preparation was not finished; run the same `prepare` command again to continue"
    if split not in SPLITS:
        yield f"split {split!r}: the splits are {', '.join(SPLITS)}"
