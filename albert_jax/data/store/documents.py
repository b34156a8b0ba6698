"""A document of a corpus: the split it belongs to, and the bytes it is stored as.

The bytes are a `tf.train.Example` as TensorFlow Datasets reads it, written without either:

    pieces [19, 321, 14, 9], sentence starts [0, 2], name "numpy.linalg", label "numpy"
 -> Example{label: b"numpy", name: b"numpy.linalg", pieces: b"\\x13\\x00...", sentences: b"\\x00\\x00\\x02\\x00"}
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from albert_jax.errors import AlbertError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

SPLITS = ("train", "validation", "test")
MAX_PIECES = 2**16 - 1  # in one record: sentence starts are uint16


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences that were written to be read in this order."""

    sentences: tuple[str, ...]
    name: str = ""  # unique where the corpus has names
    label: str = ""  # what kind of document it is, where the corpus says so (for pydocs, the package)

    @property
    def split_key(self) -> str:
        """What the split is drawn by: documents with one name, or with the same text, share a split."""
        return self.name or " ".join(self.sentences)


def split_of(name: str, validation: float = 0.05, test: float = 0.05) -> str:
    """`name` -> "train", "validation" or "test"; `validation` and `test` are shares of names, in [0, 1].

    Raises AlbertError when a share is negative, or both together exceed 1.
    """
    # A hash, not a draw: a corpus may grow, shrink or be read in any order by any number of workers and no document
    # changes sides. What else is cut from a document (labelled paragraphs for fine-tuning) asks with the same name, so
    # that no text is trained on under one task and tested on under another.
    if not (validation >= 0.0 and test >= 0.0 and validation + test <= 1.0):
        raise AlbertError(
            f"validation share {validation}, test share {test}: give two numbers >= 0 whose sum is at most 1"
        )
    position = unit_interval(name)
    # The test names come first, so that another `validation` never moves a document into or out of the test split.
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"


def unit_interval(name: str) -> float:
    """A number in [0, 1), uniform over names: the first 53 bits of the BLAKE2b hash, which a double holds exactly."""
    # "surrogatepass", because Python spells bytes of a file's name that are not UTF-8 as halves of surrogate pairs.
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


class Record(NamedTuple):
    """A stored document, or a stretch of one that was too long for a record."""

    pieces: np.ndarray  # uint16, or uint32 above 65,536 pieces [n]; read-only
    sentence_starts: np.ndarray  # int32 [m]; sentence k is pieces[starts[k]:starts[k + 1]], the last ends at n
    name: str
    label: str


def features(dtype: np.dtype) -> "tfds.features.FeaturesDict":
    """The TFDS description of a record whose pieces are of `dtype`."""
    import tensorflow_datasets as tfds

    def array(dtype: np.dtype, doc: str) -> "tfds.features.Tensor":
        # Raw little-endian bytes instead of the varints of an int64 list: two bytes a piece, and one copy to read.
        return tfds.features.Tensor(shape=(None,), dtype=dtype, encoding="bytes", doc=doc)

    return tfds.features.FeaturesDict(
        {
            "pieces": array(dtype, "piece ids of the document, without [CLS] and [SEP]"),
            "sentences": array(np.dtype(np.uint16), "index into pieces where each sentence starts"),
            "name": tfds.features.Text(doc="name of the document, empty where the corpus has none"),
            "label": tfds.features.Text(doc="label of the document, empty where the corpus has none"),
        }
    )


# By hand, because the wire format (protobuf's: tag, varint length, payload; tag 0x0A is field 1, 0x12 field 2, both
# length-delimited) is small. That keeps TensorFlow Datasets out of the workers, makes reading a few microseconds, and
# fixes the order of the fields, which protobuf's own maps leave to chance.


def encode_record(pieces: np.ndarray, sentence_starts: np.ndarray, name: str, label: str) -> bytes:
    """The record's bytes; equal documents have equal bytes (fields in the order of their names)."""
    entries = (
        _entry(_LABEL, label.encode())
        + _entry(_NAME, name.encode())
        + _entry(_PIECES, pieces.tobytes())
        + _entry(_SENTENCES, sentence_starts.astype(np.uint16).tobytes())
    )
    return b"\x0a" + _length(len(entries)) + entries


def decode_record(record: bytes, dtype: np.dtype) -> Record:
    """The document in `record`; `dtype` is that of its pieces."""
    fields: dict[bytes, bytes] = {}
    _, position = _varint(record, 1)  # Example.features, the only field
    while position < len(record):
        length, position = _varint(record, position + 1)
        end = position + length
        key_length, start = _varint(record, position + 1)
        key = record[start : start + key_length]
        position = start + key_length
        for _ in range(3):  # the entry's value, Feature.bytes_list, BytesList.value
            length, position = _varint(record, position + 1)
        fields[key] = record[position:end]
        position = end
    return Record(
        np.frombuffer(fields[b"pieces"], dtype),
        np.frombuffer(fields[b"sentences"], np.uint16).astype(np.int32),
        fields[b"name"].decode(),
        fields[b"label"].decode(),
    )


def _entry(key: bytes, value: bytes) -> bytes:
    """A map entry from `key` to Feature{bytes_list{value}}; `key` is already a field."""
    in_list = _length(len(value))
    size = 1 + len(in_list) + len(value)  # of BytesList
    in_feature = _length(size)
    size += 1 + len(in_feature)  # of Feature
    in_entry = _length(size)
    size += 1 + len(in_entry) + len(key)  # of the entry
    return b"".join((b"\x0a", _length(size), key, b"\x12", in_entry, b"\x0a", in_feature, b"\x0a", in_list, value))


def _length(number: int) -> bytes:
    """`number` as a varint."""
    if number < len(_SHORT_LENGTHS):
        return _SHORT_LENGTHS[number]
    return bytes((0x80 | number & 0x7F,)) + _length(number >> 7)


# A table, because four lengths are written for each of four fields of every document.
_SHORT_LENGTHS = [bytes((n,)) if n < 0x80 else bytes((0x80 | n & 0x7F, n >> 7)) for n in range(2**14)]
_LABEL, _NAME, _PIECES, _SENTENCES = (
    b"\x0a" + bytes((len(key),)) + key for key in (b"label", b"name", b"pieces", b"sentences")
)


def _varint(record: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it."""
    value, shift = record[position], 7
    position += 1
    # Most are one byte: the loop alone would make reading a document a sixth slower.
    if value < 0x80:
        return value, position
    value &= 0x7F
    while True:
        byte = record[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
