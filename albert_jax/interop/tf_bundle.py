"""TensorFlow's checkpoints (the second format: `PREFIX.index`, `PREFIX.data-00000-of-00001`) without TensorFlow.

The index is a sorted table from tensor name to a `BundleEntryProto`: dtype, shape, shard, place in the shard,
checksum. The entry of the empty name is the `BundleHeaderProto`. The messages are TensorFlow's `tensor_bundle.proto`;
the few fields that matter are read and written here by hand, in the wire format of protocol buffers.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from albert_jax.data.examples.tfrecords import masked_crc32c
from albert_jax.errors import AlbertError
from albert_jax.interop.sstable import put_varint, read_table, varint, write_table

_DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    14: np.dtype(ml_dtypes.bfloat16),
    17: np.dtype("<u2"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}
_STRING = 7
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HEADER = b"\x08%c\x1a\x02\x08\x01"  # num_shards, version { producer: 1 }; little endian is the default


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies.

    Attributes:
      dtype: TensorFlow's number of the type
      shape: as stored
      shard: number of the data file
      offset: its first byte there
      size: its bytes
      checksum: masked CRC-32C of them
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int


class Bundle(Mapping[str, np.ndarray]):
    """The checkpoint at `prefix`, name to tensor, in the order of the names. A tensor is read and verified when it is
    asked for, and not kept. Strings (bookkeeping of newer TensorFlows, never a weight) are left out.

    Attributes:
      prefix: as given
      entries: name to Entry

    Raises AlbertError where the index is missing or damaged, or lists what cannot be read; and, naming file and tensor,
    for data that is missing, short or damaged.
    """

    def __init__(self, prefix: str | Path):
        self.prefix = prefix
        path = Path(f"{prefix}.index")
        try:
            table = read_table(path.read_bytes(), str(path))
        except OSError as error:
            raise AlbertError(
                f"{path}: no checkpoint index here ({error.strerror}); copy it beside its data"
            ) from error
        try:
            header = dict(_fields(table.pop(b"")))
            listed = {key.decode(): _entry(value, f"{path}: {key.decode()}") for key, value in table.items()}
            self._shards = int(header.get(1, 0))
        except (KeyError, IndexError, ValueError, struct.error) as error:
            raise AlbertError(f"{path}: not the index of a checkpoint ({error!r}); copy it again") from error
        if header.get(2, 0):
            raise AlbertError(f"{path}: written on a big-endian machine; write it again on another")
        self.entries = {name: entry for name, entry in listed.items() if entry.dtype != _STRING}

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        path = _shard(self.prefix, entry.shard, self._shards)
        dtype = _DTYPES[entry.dtype]
        if entry.size != dtype.itemsize * math.prod(entry.shape):
            raise AlbertError(f"{self.prefix}.index: {name} has shape {entry.shape} but {entry.size} bytes")
        try:
            if path.stat().st_size < entry.offset + entry.size:
                raise AlbertError(
                    f"{path}: ends within {name} ({path.stat().st_size} bytes, {entry.offset + entry.size} needed); "
                    "copy it again"
                )
            octets = np.fromfile(path, np.uint8, entry.size, offset=entry.offset)
        except OSError as error:
            raise AlbertError(
                f"{path}: cannot read {name} ({error.strerror}); copy every file of {self.prefix}.data-*"
            ) from error
        if masked_crc32c(octets) != entry.checksum:
            raise AlbertError(f"{path}: {name} does not match its checksum; copy the file again")
        return octets.view(dtype).reshape(entry.shape)


def read(prefix: str | Path) -> dict[str, np.ndarray]:
    """All tensors at `prefix`; see Bundle."""
    return dict(Bundle(prefix))


def write(prefix: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `tensors` to `PREFIX.index` and one data file, as `tf.train.Saver` does; missing directories are made.

    Raises AlbertError for a dtype that TensorFlow has no number for, or where the files cannot be written; what stood
    at `prefix` is replaced only by a complete file, the index last.
    """
    numbers = {dtype: number for number, dtype in _DTYPES.items()}
    table = {b"": _HEADER % 1}
    data_path, index_path = _shard(prefix, 0, 1), Path(f"{prefix}.index")
    partial = [Path(f"{path}.partial") for path in (data_path, index_path)]
    try:
        data_path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial[0], "wb") as file:
            for name in sorted(tensors, key=str.encode):
                tensor = np.asarray(tensors[name])
                dtype = tensor.dtype.newbyteorder("<")
                if dtype not in numbers:
                    raise AlbertError(f"{name}: {tensor.dtype} cannot stand in a checkpoint of TensorFlow; cast it")
                octets = np.ascontiguousarray(tensor, dtype).reshape(-1).view(np.uint8)
                place = file.tell()
                file.write(octets.data)
                entry = Entry(numbers[dtype], tensor.shape, 0, place, octets.size, masked_crc32c(octets))
                table[name.encode()] = _message(entry)
        partial[1].write_bytes(write_table(table))
        partial[0].replace(data_path)
        partial[1].replace(index_path)
    except OSError as error:
        raise AlbertError(f"{prefix}: cannot write a checkpoint here ({error.strerror})") from error
    finally:
        for path in partial:
            path.unlink(missing_ok=True)


def _shard(prefix: str | Path, number: int, count: int) -> Path:
    return Path(f"{prefix}.data-{number:05d}-of-{count:05d}")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an integer, or the bytes of a nested message."""
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        kind = tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, position = varint(message, position)
        else:
            if kind == _BYTES:
                size, position = varint(message, position)
            elif kind in (_FIXED32, _FIXED64):
                size = 4 if kind == _FIXED32 else 8
            else:
                raise ValueError(f"a field of kind {kind}")
            value = message[position : position + size]
            if len(value) != size:
                raise ValueError("a field that ends early")
            position += size
        yield tag >> 3, value


def _entry(message: bytes, where: str) -> Entry:
    dtype = shard = offset = size = checksum = 0
    shape: tuple[int, ...] = ()
    for number, value in _fields(message):
        if isinstance(value, int):
            if number == 1:
                dtype = value
            elif number == 3:
                shard = value
            elif number == 4:
                offset = value
            elif number == 5:
                size = value
        elif number == 2:
            shape = tuple(_dimension(dim) for field, dim in _fields(value) if field == 2 and isinstance(dim, bytes))
        elif number == 6:
            (checksum,) = struct.unpack("<I", value)
        elif number == 7:
            raise AlbertError(f"{where} is stored in slices; save it again with an unpartitioned variable")
    if dtype not in _DTYPES and dtype != _STRING:
        raise AlbertError(f"{where} has TensorFlow's type {dtype}, which cannot be read; save it again as float32")
    return Entry(dtype, shape, shard, offset, size, checksum)


def _dimension(message: bytes) -> int:
    return next((value for number, value in _fields(message) if number == 1 and isinstance(value, int)), 0)


def _message(entry: Entry) -> bytes:
    dims = b"".join(_nested(2, _number(1, size)) for size in entry.shape)
    places = _number(3, entry.shard) + _number(4, entry.offset) + _number(5, entry.size)
    return _number(1, entry.dtype) + _nested(2, dims) + places + b"\x35" + struct.pack("<I", entry.checksum)


def _number(field: int, value: int) -> bytes:
    return put_varint(field << 3) + put_varint(value) if value else b""  # zero is the default and is not written


def _nested(field: int, message: bytes) -> bytes:
    return put_varint(field << 3 | _BYTES) + put_varint(len(message)) + message
