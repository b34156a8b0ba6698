"""The prepared documents: random access to the pieces of any document of a split.

    store = DocumentStore.open("data/prepared", "train")
    pieces, sentence_starts = store[7]

Files and shapes are listed in `paths.py`; `data/corpus/prepare.py` writes them. Any other reader of TFDS datasets sees
the same: `tfds.builder_from_directory("data/prepared/documents").as_data_source()`.
"""

import bisect
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.store import paths
from albert_jax.data.store.documents import Record, decode_record
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.tokenizers import load as load_tokenizer
from albert_jax.errors import AlbertError, refuse, retold

_READER_OPTIONS = "readahead_buffer_size:0"  # random access: what follows a record is not wanted
_DAMAGE = (OSError, RuntimeError, ValueError)  # what ArrayRecord and NumPy raise for a file that is not as written


class DocumentStore:
    """D documents of one split. Picklable, and safe to read from threads."""

    def __init__(self, directory: Path, split: str, manifest: dict[str, Any]):
        """Use `DocumentStore.open`."""
        self.directory = directory
        self.split = split
        self.manifest = manifest
        self.vocab_size: int = manifest["vocab_size"]
        self.fingerprint: str = manifest["fingerprint"]
        self.dtype = np.dtype(manifest["dtype"])
        shard_lengths = manifest["splits"][split]["shard_lengths"]
        self._shard_ends = list(accumulate(shard_lengths))
        self._shard_starts = [end - n for end, n in zip(self._shard_ends, shard_lengths, strict=True)]
        self._readers: list[Any] = [None] * len(shard_lengths)

    @classmethod
    def open(cls, directory: str | Path, split: str) -> "DocumentStore":
        """The "train", "validation" or "test" split of a prepared directory; it may hold no documents.

        Raises AlbertError when the directory is not prepared, not finished or lacks a file, and for another split.
        """
        directory = Path(directory)
        store = cls(directory, split, paths.finished_manifest(directory, split))
        # Now, because a shard that is missing would otherwise be noticed hours later, when a document of it is drawn.
        missing = (path for path in map(store._shard_path, range(len(store._readers))) if not path.is_file())
        refuse(f"{path}: missing; copy the whole prepared directory, or prepare it again" for path in missing)
        return store

    def __len__(self) -> int:
        return self._shard_ends[-1] if self._shard_ends else 0

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pieces `dtype` [n], read-only, and sentence starts int32 [m] of a document.

        Sentence k is pieces[starts[k]:starts[k + 1]]; the last one ends at n.
        """
        record = self.record(index)
        return record.pieces, record.sentence_starts

    def record(self, index: int) -> Record:
        """Document `index` with its name and label. Raises AlbertError when its file cannot be read."""
        index = int(index)
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        shard = bisect.bisect_right(self._shard_ends, index)
        # Opened when first needed: a corpus may have more shards than a process may open files.
        reader = self._readers[shard] or self._reader(shard)
        # No `retold` here: it costs a microsecond, and a record is read in some ten.
        try:
            record = reader.read([index - self._shard_starts[shard]])[0]
        except _DAMAGE as error:
            path = self._shard_path(shard)
            raise AlbertError(f"{path}: document {index} is damaged ({error}); prepare it again") from error
        return decode_record(record, self.dtype)

    # int64, because sums of uint16 overflow.
    @cached_property
    def lengths(self) -> np.ndarray:
        """Pieces in each document: int64 [D]."""
        return self._index[:, 0].astype(np.int64)

    @cached_property
    def sentence_counts(self) -> np.ndarray:
        """Sentences in each document: int64 [D]."""
        return self._index[:, 1].astype(np.int64)

    @cached_property
    def unigram_counts(self) -> np.ndarray:
        """How often each piece occurs in the train split, whatever split this is: int64 [V]."""
        return _load(paths.unigrams_path(self.directory))

    @cached_property
    def unigram_entropy(self) -> float:
        """Entropy of the train split's pieces in nats: the masked-word loss of a model that knows only them."""
        shares = self.unigram_counts[self.unigram_counts > 0] / self.unigram_counts.sum()
        return float(-(shares * np.log(shares)).sum())

    @cached_property
    def unigram_accuracy(self) -> float:
        """Share of the most frequent piece that is not special: the accuracy of always guessing it."""
        counts = self.unigram_counts.copy()
        counts[self.tokenizer().unk_id] = 0  # the one special piece that occurs in text
        return float(counts.max() / self.unigram_counts.sum())

    def tokenizer(self) -> AnyTokenizer:
        """The vocabulary that the documents were cut with, from the prepared directory."""
        return load_tokenizer(paths.vocab_dir(self.directory))

    def __reduce__(self) -> tuple[type["DocumentStore"], tuple[Path, str, dict[str, Any]]]:
        # ArrayRecord's readers cannot be pickled: a worker opens the files anew.
        return type(self), (self.directory, self.split, self.manifest)

    @cached_property
    def _index(self) -> np.ndarray:
        return _load(paths.index_path(self.directory, self.split)).reshape(-1, 2)

    def _shard_path(self, shard: int) -> Path:
        return paths.shard_path(self.directory, self.split, shard, len(self._readers))

    def _reader(self, shard: int) -> Any:
        from array_record.python import array_record_module

        path = self._shard_path(shard)
        with retold(lambda said: f"{path}: not readable as ArrayRecord ({said}); prepare it again", *_DAMAGE):
            reader = array_record_module.ArrayRecordReader(str(path), _READER_OPTIONS)
            stored = reader.num_records()
        # ArrayRecord opens a file that was cut off as one with fewer records, so their number is checked.
        expected = self._shard_ends[shard] - self._shard_starts[shard]
        if stored != expected:
            raise AlbertError(f"{path}: holds {stored} documents, not {expected}; prepare it again")
        self._readers[shard] = reader
        return reader


def _load(path: Path) -> np.ndarray:
    with retold(lambda said: f"{path}: cannot be read ({said}); prepare the directory again", *_DAMAGE):
        return np.load(path)
