"""TensorFlow's checkpoints (the second format: `PREFIX.index`, `PREFIX.data-00000-of-00001`) without TensorFlow.

The index is a sorted table from tensor name to a `BundleEntryProto`: dtype, shape, shard, offset in the shard,
checksum. The entry of the empty name is the `BundleHeaderProto`. The messages are TensorFlow's `tensor_bundle.proto`,
whose compiled form only TensorFlow ships; the few fields that matter are read and written here in the wire format of
protocol buffers.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from albert_jax.data.examples.tfrecords import masked_crc32c
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.interop.safetensors import LazyTensors
from albert_jax.interop.sstable import put_varint, read_table, varint, write_table

# By the numbers of TensorFlow's `types.proto`.
_DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 4: np.dtype("u1"), 5: np.dtype("<i2"),
    6: np.dtype("i1"), 9: np.dtype("<i8"), 10: np.dtype("?"), 14: np.dtype(ml_dtypes.bfloat16), 17: np.dtype("<u2"),
    19: np.dtype("<f2"), 22: np.dtype("<u4"), 23: np.dtype("<u8"),
}  # fmt: skip
_STRING = 7
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HEADER = b"\x08%c\x1a\x02\x08\x01"  # num_shards, version { producer: 1 }; little endian is the default


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies."""

    dtype: int  # TensorFlow's number of the type
    shape: tuple[int, ...]  # as stored
    shard: int  # number of the data file
    offset: int  # its first byte there
    size: int  # its bytes
    checksum: int  # masked CRC-32C of them


class Bundle(LazyTensors):
    """The checkpoint at `prefix`, name to tensor, in the order of the names. Raises AlbertError where the index is
    missing or damaged, or lists what cannot be read, where a data file is missing or too short, and, naming file and
    tensor, for data that is damaged."""

    entries: dict[str, Entry]

    def __init__(self, prefix: str | Path):
        self.prefix = prefix
        path = Path(f"{prefix}.index")
        with retold(lambda message: f"{path}: no checkpoint index here ({message}); copy it beside its data", OSError):
            table = read_table(path.read_bytes(), str(path))
        damage = KeyError, IndexError, ValueError, TypeError, struct.error
        with retold(lambda message: f"{path}: not the index of a checkpoint ({message}); copy it again", *damage):
            header: dict[int, Any] = dict(_fields(table.pop(b"")))
            refuse(f"{path}: {flaw}" for flaw in _index_flaws(header, table))
            listed = {name.decode(): _entry(message) for name, message in table.items()}
            self._shards = int(header.get(1, 0))
        # Strings are bookkeeping of newer TensorFlows, never a weight.
        self.entries = {name: entry for name, entry in listed.items() if entry.dtype != _STRING}
        # Every tensor's, though not every one will be read: a copy that lacks a file is not to be trusted.
        with retold(lambda message: f"{prefix}.data-*: cannot be read ({message}); copy them again", OSError):
            refuse(self._gaps())

    def _gaps(self) -> Iterator[str]:
        for name, entry in self.entries.items():
            path, needed = _shard(self.prefix, entry.shard, self._shards), entry.offset + entry.size
            if not path.is_file():
                yield f"{path}: cannot read {name} (No such file); copy every file of {self.prefix}.data-*"
            if (size := path.stat().st_size) < needed:
                yield f"{path}: ends within {name} ({size} bytes, {needed} needed); copy it again"

    def __getitem__(self, name: str) -> np.ndarray:
        entry, dtype = self.entries[name], _DTYPES[self.entries[name].dtype]
        path = _shard(self.prefix, entry.shard, self._shards)
        # Shape and size are told apart in an index, and a damaged one may disagree with itself.
        if entry.size != dtype.itemsize * math.prod(entry.shape):
            raise AlbertError(f"{self.prefix}.index: {name} has shape {entry.shape} but {entry.size} bytes")
        with retold(lambda message: f"{path}: cannot read {name} ({message}); copy it again", OSError):
            octets = np.fromfile(path, np.uint8, entry.size, offset=entry.offset)
        if masked_crc32c(octets) != entry.checksum:
            raise AlbertError(f"{path}: {name} does not match its checksum; copy the file again")
        return octets.view(dtype).reshape(entry.shape)


def read(prefix: str | Path) -> dict[str, np.ndarray]:
    """All tensors at `prefix`; see Bundle."""
    return dict(Bundle(prefix))


def _shard(prefix: str | Path, number: int, count: int) -> Path:
    return Path(f"{prefix}.data-{number:05d}-of-{count:05d}")


# ---- writing


def write(prefix: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `tensors` to `PREFIX.index` and one data file, as `tf.train.Saver` does; missing directories are made, and
    what stood there is replaced only by complete files. Raises AlbertError for a dtype that TensorFlow has no number
    for, and where the files cannot be written."""
    refuse(_unwritable(tensors))
    numbers = {dtype: number for number, dtype in _DTYPES.items()}
    table = {b"": _HEADER % 1}
    data_path, index_path = _shard(prefix, 0, 1), Path(f"{prefix}.index")
    partial = [Path(f"{path}.partial") for path in (data_path, index_path)]
    try:
        with retold(lambda message: f"{prefix}: cannot write a checkpoint here ({message})", OSError):
            data_path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial[0], "wb") as file:
                # TensorFlow's order, or the files would not be its own byte for byte.
                for name in sorted(tensors, key=str.encode):
                    tensor = np.asarray(tensors[name])
                    dtype = tensor.dtype.newbyteorder("<")
                    octets = np.ascontiguousarray(tensor, dtype).reshape(-1).view(np.uint8)
                    offset = file.tell()
                    file.write(octets.data)
                    entry = Entry(numbers[dtype], tensor.shape, 0, offset, octets.size, masked_crc32c(octets))
                    table[name.encode()] = _message(entry)
            # The index last, so that a checkpoint with an index has its data.
            partial[1].write_bytes(write_table(table))
            partial[0].replace(data_path)
            partial[1].replace(index_path)
    finally:
        for path in partial:
            path.unlink(missing_ok=True)


def _unwritable(tensors: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name, tensor in tensors.items():
        if np.asarray(tensor).dtype.newbyteorder("<") not in _DTYPES.values():
            yield f"{name}: {np.asarray(tensor).dtype} cannot stand in a checkpoint of TensorFlow; cast it"


# ---- messages


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an integer, or the bytes of a nested message."""
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = varint(message, position)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, position = varint(message, position)
        else:
            size = {_FIXED32: 4, _FIXED64: 8}[kind]
        if position + size > len(message):
            raise ValueError("a field that ends early")
        yield tag >> 3, message[position : position + size]
        position += size


def _index_flaws(header: Mapping[int, Any], table: Mapping[bytes, bytes]) -> Iterator[str]:
    if header.get(2, 0):
        yield "written on a big-endian machine; write it again on another"
    for name, message in table.items():
        fields = dict(_fields(message))
        if 7 in fields:
            yield f"{name.decode()} is stored in slices; save it again with an unpartitioned variable"
        if (dtype := fields.get(1, 0)) not in (*_DTYPES, _STRING):
            yield f"{name.decode()} has TensorFlow's type {dtype!r}, which cannot be read; save it again as float32"


def _entry(message: bytes) -> Entry:
    fields: dict[int, Any] = dict(_fields(message))
    dimensions: list[Any] = [value for field, value in _fields(fields.get(2, b"")) if field == 2]
    shape = tuple(int(dict(_fields(dimension)).get(1, 0)) for dimension in dimensions)
    shard, offset, size = (int(fields.get(number, 0)) for number in (3, 4, 5))
    (checksum,) = struct.unpack("<I", fields.get(6, bytes(4)))
    return Entry(fields.get(1, 0), shape, shard, offset, size, checksum)


def _message(entry: Entry) -> bytes:
    dimensions = b"".join(_nested(2, _number(1, size)) for size in entry.shape)
    position = _number(3, entry.shard) + _number(4, entry.offset) + _number(5, entry.size)
    return _number(1, entry.dtype) + _nested(2, dimensions) + position + b"\x35" + struct.pack("<I", entry.checksum)


def _number(field: int, value: int) -> bytes:
    return put_varint(field << 3) + put_varint(value) if value else b""  # zero is the default and is not written


def _nested(field: int, message: bytes) -> bytes:
    return put_varint(field << 3 | _BYTES) + put_varint(len(message)) + message
