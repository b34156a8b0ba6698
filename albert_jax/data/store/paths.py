"""Where things are in a prepared directory, and its one JSON file.

DIR/prepared.json          what it was made from, counts, fingerprint of the vocabulary, finished or not
DIR/vocab/                 vocab.model, vocab.json (data/tokenizer.py)
DIR/documents/             a TFDS dataset in ArrayRecord: splits train, validation, test (data/records.py)
DIR/index/SPLIT.npy        uint16 [documents, 2]: pieces and sentences of each document, in order
DIR/index/unigrams.npy     int64 [V]: how often each piece occurs in the train split
DIR/paragraphs/            labelled paragraphs, for a pydocs corpus only (data/pydocs.py)
DIR/unfinished/            shards finished so far, while `prepare` is under way or was killed
"""

import json
import os
from pathlib import Path
from typing import Any

from albert_jax.data.store.splits import SPLITS
from albert_jax.errors import AlbertError

DATASET = "documents"
MANIFEST = "prepared.json"
LOCK = "lock"  # in unfinished/: held by the `prepare` that is at work
FORMAT = 1
# One record a chunk for random access, compressed: 1.5 bytes a piece instead of 2.4, for 4 microseconds a
# read (`python benchmarks/prepare.py` compares the choices).
ARRAY_RECORD_OPTIONS = "group_size:1,zstd:1"


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
    """TFDS's own naming, so that `tfds.builder_from_directory` finds the files."""
    return documents_dir(directory) / f"{DATASET}-{split}.array_record-{shard:05d}-of-{shards:05d}"


def write_atomically(path: Path, content: bytes | str) -> None:
    """`path` holds all of `content` or what it held before, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def cannot_write(path: Path, error: Exception) -> AlbertError:
    """What to tell when the disk is full or the directory may not be written."""
    reason = getattr(error, "strerror", None) or str(error)
    return AlbertError(
        f"{path}: cannot be written ({reason}); what was finished is kept: make room and run the same command again"
    )


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The content of `prepared.json`, or None where there is none.

    Raises:
        AlbertError: it is unreadable, or of a later format.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        written = manifest["format"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AlbertError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise AlbertError(
            f"{path}: not the manifest of a prepared directory ({error}); prepare into another"
        ) from error
    if written != FORMAT:
        raise AlbertError(f"{path}: format {written}, this version reads format {FORMAT}; prepare it again")
    return manifest


def finished_manifest(directory: Path, split: str | None = None) -> dict[str, Any]:
    """The manifest of a finished directory.

    Raises:
        AlbertError: not prepared, not finished, or `split` is not one of its splits.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise AlbertError(
            f"{directory}: not a prepared directory (no {MANIFEST}); make one with"
            f" `python -m albert_jax prepare --corpus CORPUS --out {directory}`"
        )
    if not manifest["finished"]:
        raise AlbertError(
            f"{directory}: its preparation was not finished; run the same `prepare` command again to continue"
        )
    if split is not None and split not in SPLITS:
        raise AlbertError(f"split {split!r}: the splits are {', '.join(SPLITS)}")
    return manifest
