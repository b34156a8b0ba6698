"""TFRecord files and the `tf.train.Example`s in them, read without TensorFlow and in any order.

A record is its length (uint64), that length's checksum (uint32), the bytes, and their checksum; all little-endian.
The checksums are masked CRC-32C. An Example is a protobuf message: a map from names to lists of integers (varints),
of float32 or of bytes. Sources: TensorFlow's `core/lib/io/record_writer.cc`, `core/example/example.proto`, and
protobuf's description of its encoding.
"""

import glob
import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from albert_jax.errors import AlbertError

_HEADER = 12  # bytes before a record: length, checksum
_FOOTER = 4  # and after it: checksum


def masked_crc32c(data: bytes | np.ndarray) -> int:
    """The CRC-32C of `data` as TFRecords and checkpoints store it: rotated by 15 bits, a constant added."""
    # A CRC over data that contains CRCs is weak; hence the mask (TensorFlow's core/lib/hash/crc32c.h).
    checksum = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def matching_files(pattern: str) -> list[Path]:
    """The files that a path or a glob pattern names, in order of their names.

    Raises:
        AlbertError: there is none.
    """
    files = (
        [Path(pattern)] if Path(pattern).is_file() else [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
    )
    files = [path for path in files if path.is_file()]
    if not files:
        raise AlbertError(f"{pattern}: there is no such file; give a TFRecord file or a pattern in quotes")
    return files


class TFRecords:
    """The records of several files, one after the other: `len(records)`, `records[i]` is bytes.

    Opening reads the header of every record once (some microseconds each) and keeps where it lies; the files are
    memory-mapped. Picklable: a worker maps the files anew and is sent the index.

    Raises:
        AlbertError: a file that cannot be read, is cut short, or whose checksums do not fit; file and record are named.
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
        """What to call a record in an error: its file and its number there, from 0."""
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
            try:
                with path.open("rb") as handle:
                    if not path.stat().st_size:
                        return b""  # an empty file cannot be mapped
                    mapped = self._maps[file] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError as error:
                raise AlbertError(f"{path}: cannot be read ({error.strerror or error})") from error
        return mapped

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": [None] * len(self.files)}


def _offsets(path: Path, data: mmap.mmap | bytes) -> np.ndarray:
    """Where each record of a file begins: int64 [records]."""
    offsets: list[int] = []
    size, begin = len(data), 0
    while begin < size:
        header = data[begin : begin + _HEADER]
        end = begin + _HEADER + int.from_bytes(header[:8], "little") + _FOOTER
        fits = len(header) == _HEADER and masked_crc32c(header[:8]) == int.from_bytes(header[8:], "little")
        if len(header) == _HEADER and not fits:
            kind = " (it is compressed: unpack it)" if data[:2] == b"\x1f\x8b" else ""
            raise AlbertError(
                f"{path}: record {len(offsets)} has a damaged length, or this is no TFRecord file{kind}; copy it again"
            )
        if not fits or end > size:
            raise AlbertError(f"{path}: record {len(offsets)} is cut short, the file ends inside it; copy it again")
        offsets.append(begin)
        begin = end
    return np.array(offsets, np.int64)


def parse_example(record: bytes) -> dict[str, np.ndarray | list[bytes]]:
    """The features of a serialised `tf.train.Example`: int64 [n], float32 [n] or a list of bytes, by name.

    Raises:
        ValueError: the bytes are no such message.
    """
    features: dict[str, np.ndarray | list[bytes]] = {}
    for _, message in _fields(record, {1: 2}):  # Example.features
        for _, entry in _fields(message, {1: 2}):  # Features.feature, a map
            parts = dict(_fields(entry, {1: 2, 2: 2}))
            name = bytes(parts.get(1, b"")).decode()
            for kind, values in _fields(parts.get(2, b""), {1: 2, 2: 2, 3: 2}):  # Feature.kind
                features[name] = _READERS[kind](values)
    return features


def _bytes_list(message: bytes) -> list[bytes]:
    return [value for _, value in _fields(message, {1: 2})]


def _float_list(message: bytes) -> np.ndarray:
    # Packed: the values in one run. Or, as older writers do, each with a tag of its own.
    return np.frombuffer(b"".join(value for _, value in _fields(message, {1: (2, 5)})), "<f4")


def _int64_list(message: bytes) -> np.ndarray:
    return _varints(np.frombuffer(b"".join(value for _, value in _fields(message, {1: (2, 0)})), np.uint8))


_READERS: dict[int, Callable[[bytes], np.ndarray | list[bytes]]] = {1: _bytes_list, 2: _float_list, 3: _int64_list}


def _fields(message: bytes, wanted: dict[int, int | tuple[int, ...]]) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of the wanted fields of a message; `wanted` tells their wire types. Others are passed over.

    Wire types: 0 varint, 1 eight bytes, 2 a length and as many bytes, 5 four bytes.
    """
    place, size = 0, len(message)
    while place < size:
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, place = _varint(message, place)
        elif kind == 0:
            length = _varint(message, place)[1] - place
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > size:
            raise ValueError("a field longer than its message")
        if number in wanted:
            allowed = wanted[number]
            if kind != allowed and (isinstance(allowed, int) or kind not in allowed):
                raise ValueError(f"field {number} of wire type {kind}")
            yield number, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The number at `place` and the place after it."""
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise ValueError("a number that does not end")
        octet = message[place]
        place += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, place
        shift += 7


def _varints(octets: np.ndarray) -> np.ndarray:
    """Numbers one after the other, as int64 [n]; negative ones take ten bytes."""
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
    for place in range(int(sizes.max())):
        there = np.flatnonzero(sizes > place)
        values[there] |= (octets[begins[there] + place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    return values.view(np.int64)
