"""TFRecord files and the `tf.train.Example`s in them, read without TensorFlow and in any order.

A record is its length (uint64), that length's checksum (uint32), the bytes, and their checksum; all little-endian.
The checksums are masked CRC-32C. An Example is a protobuf message: a map from names to lists of integers (varints),
of float32 or of bytes.
"""

# Sources: TensorFlow's `core/lib/io/record_writer.cc`, `core/example/example.proto`, and protobuf's description of its
# encoding. Example's three messages are read by hand, so that a worker need not import TensorFlow Datasets for its
# generated classes.

import glob
import mmap
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from albert_jax.errors import AlbertError, retold

_HEADER = 12  # bytes before a record: length, checksum
_FOOTER = 4  # and after it: checksum


def masked_crc32c(data: bytes | np.ndarray) -> int:
    """The CRC-32C of `data` as TFRecords and checkpoints store it: rotated by 15 bits, a constant added."""
    # A CRC over data that contains CRCs is weak; hence the mask (TensorFlow's core/lib/hash/crc32c.h).
    checksum = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def matching_files(pattern: str) -> list[Path]:
    """The files that a path or a glob pattern names, by name. Raises AlbertError where there is none."""
    # A file whose name looks like a pattern ("a[1].tfrecord") is that file.
    names = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern, recursive=True))
    files = [path for path in map(Path, names) if path.is_file()]
    if not files:
        raise AlbertError(f"{pattern}: there is no such file; give a TFRecord file or a pattern in quotes")
    return files


class TFRecords:
    """The records of several files, one after the other: `len(records)`, `records[i]` is bytes.

    Opening reads the header of every record once (some microseconds each) and keeps where it lies; the files are
    memory-mapped. Picklable.

    Raises AlbertError, naming file and record: a file that cannot be read, is cut short, or whose checksums do not fit.
    """

    def __init__(self, files: Sequence[str | Path]) -> None:
        self.files = [Path(file) for file in files]
        self._maps: list[mmap.mmap | None] = [None] * len(self.files)
        self._offsets = [_offsets(path, self._map(number)) for number, path in enumerate(self.files)]
        self._ends = np.cumsum([len(offsets) for offsets in self._offsets]).tolist()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> bytes:
        file, number = self._where(index)
        begin = int(self._offsets[file][number])
        data = self._map(file)
        length = int.from_bytes(data[begin : begin + 8], "little")
        begin += _HEADER
        record = data[begin : begin + length]
        footer = data[begin + length : begin + length + _FOOTER]
        if len(footer) < _FOOTER or masked_crc32c(record) != int.from_bytes(footer, "little"):
            raise AlbertError(f"{self.name(index)} is damaged: its checksum does not fit; copy the file again")
        return record

    def name(self, index: int) -> str:
        """What to call a record in an error: its file and its number in it, from 0."""
        file, number = self._where(index)
        return f"{self.files[file]}: record {number}"

    def _where(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        file = bisect_right(self._ends, index)
        return file, index - (self._ends[file - 1] if file else 0)

    def _map(self, file: int) -> mmap.mmap | bytes:
        mapped = self._maps[file]
        if mapped is None:
            path = self.files[file]
            with retold(lambda message: f"{path}: cannot be read ({message})", OSError), path.open("rb") as handle:
                if not path.stat().st_size:
                    return b""  # an empty file cannot be mapped
                mapped = self._maps[file] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        return mapped

    def __getstate__(self) -> dict[str, Any]:
        # A worker is sent the index, and maps the files anew.
        return {**self.__dict__, "_maps": [None] * len(self.files)}


def _offsets(path: Path, data: mmap.mmap | bytes) -> np.ndarray:
    """Where each record of a file begins: int64 [records]."""
    offsets: list[int] = []
    size, begin = len(data), 0
    while begin < size:
        header = data[begin : begin + _HEADER]
        end = begin + _HEADER + int.from_bytes(header[:8], "little") + _FOOTER
        whole = len(header) == _HEADER
        # Before `end` is believed: a damaged length would look like a file that is cut short.
        if whole and masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
            kind = " (it is compressed: unpack it)" if data[:2] == b"\x1f\x8b" else ""
            raise AlbertError(
                f"{path}: record {len(offsets)} has a damaged length, or this is no TFRecord file{kind}; copy it again"
            )
        if not whole or end > size:
            raise AlbertError(f"{path}: record {len(offsets)} is cut short, the file ends inside it; copy it again")
        offsets.append(begin)
        begin = end
    return np.array(offsets, np.int64)


def parse_example(record: bytes) -> dict[str, np.ndarray | list[bytes]]:
    """The features of a serialised `tf.train.Example`: int64 [n], float32 [n] or a list of bytes, by name.

    Raises ValueError for bytes that are no such message.
    """
    features: dict[str, np.ndarray | list[bytes]] = {}
    for _, message in _fields(record, {1: (2,)}):  # Example.features
        for _, entry in _fields(message, {1: (2,)}):  # Features.feature, a map
            parts = dict(_fields(entry, {1: (2,), 2: (2,)}))
            name = bytes(parts.get(1, b"")).decode()
            for kind, values in _fields(parts.get(2, b""), dict.fromkeys(_LISTS, (2,))):  # Feature.kind
                features[name] = _values(kind, values)
    return features


_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # kinds of Feature
_LISTS = {_BYTES: (2,), _FLOATS: (2, 5), _INTEGERS: (2, 0)}  # wire types of their values


def _values(kind: int, message: bytes) -> np.ndarray | list[bytes]:
    # Numbers are packed in one run or, as older writers have them, each with a tag of its own.
    values = [value for _, value in _fields(message, {1: _LISTS[kind]})]
    if kind == _BYTES:
        return values
    run = b"".join(values)
    return np.frombuffer(run, "<f4") if kind == _FLOATS else _varints(np.frombuffer(run, np.uint8))


def _fields(message: bytes, wanted: Mapping[int, tuple[int, ...]]) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the fields of a message whose wire types are in `wanted`; other fields are skipped.

    Wire types: 0 varint, 1 eight bytes, 2 a length and as many bytes, 5 four bytes.
    """
    at, size = 0, len(message)
    while at < size:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, at = _varint(message, at)
        elif kind == 0:
            length = _varint(message, at)[1] - at
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > size:
            raise ValueError("a field longer than its message")
        if number in wanted:
            if kind not in wanted[number]:
                raise ValueError(f"field {number} of wire type {kind}")
            yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at byte `at`, and the byte after it."""
    value = 0
    for shift, octet in zip(range(0, 64, 7), message[at : at + 10], strict=False):
        value |= (octet & 0x7F) << shift
        at += 1
        if octet < 0x80:
            return value, at
    raise ValueError("a number that does not end")


def _varints(octets: np.ndarray) -> np.ndarray:
    """Numbers one after the other, as int64 [n]; negative ones take ten bytes."""
    # Byte k of all numbers at once: an example has hundreds of numbers, and most have one or two bytes.
    ends = np.flatnonzero(octets < 0x80)
    if len(ends) == len(octets):
        return octets.astype(np.int64)
    if not len(ends) or ends[-1] != len(octets) - 1:
        raise ValueError("a number that does not end")
    begins = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - begins + 1
    if sizes.max() > 10:
        raise ValueError("a number of more than ten bytes")
    values = np.zeros(len(ends), np.uint64)
    for byte in range(int(sizes.max())):
        rows = np.flatnonzero(sizes > byte)
        values[rows] |= (octets[begins[rows] + byte] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * byte)
    return values.view(np.int64)
