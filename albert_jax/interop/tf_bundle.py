"""TensorFlow's checkpoints (the second format: `PREFIX.index`, `PREFIX.data-00000-of-00001`) without TensorFlow.

The index is a sorted table from tensor name to a `BundleEntryProto`: dtype, shape, shard, offset in the shard,
checksum. The entry of the empty name is the `BundleHeaderProto`. The messages are TensorFlow's `tensor_bundle.proto`,
whose compiled form only TensorFlow ships; the few fields that matter are read and written here in the wire format of
protocol buffers.

The table has the LevelDB format (`doc/table_format.md`): blocks, then an index block with the offset and size of each,
then a footer of 48 bytes with those of the index block. A block holds entries (key, value) in order, keys without the
part they share with the key before, and ends with the offsets of its restarts, the entries whose keys are whole. One
byte of compression and the masked CRC-32C follow it.
"""

import math
import os
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

# By the numbers of TensorFlow's `types.proto`.
_DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 4: np.dtype("u1"), 5: np.dtype("<i2"),
    6: np.dtype("i1"), 9: np.dtype("<i8"), 10: np.dtype("?"), 14: np.dtype(ml_dtypes.bfloat16), 17: np.dtype("<u2"),
    19: np.dtype("<f2"), 22: np.dtype("<u4"), 23: np.dtype("<u8"),
}  # fmt: skip
_STRING = 7
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HEADER = b"\x08%c\x1a\x02\x08\x01"  # num_shards, version { producer: 1 }; little endian is the default

# Of the table.
_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes
_PLAIN = 0  # compression of a block: none, as TensorFlow 1.15 writes every index, those of Google's releases too
_BLOCK = 262_144  # bytes of a block before the next begins, TensorFlow's choice
_RESTART = 16  # entries from one whole key to the next


@dataclass(frozen=True)
class Entry:
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
            for name, entry in self.entries.items():
                path, needed = _shard(prefix, entry.shard, self._shards), entry.offset + entry.size
                if not path.is_file():
                    raise AlbertError(f"{path}: cannot read {name} (No such file); copy every file of {prefix}.data-*")
                if (size := path.stat().st_size) < needed:
                    raise AlbertError(f"{path}: ends within {name} ({size} bytes, {needed} needed); copy it again")

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


def _shard(prefix: str | Path, number: int, count: int) -> Path:
    return Path(f"{prefix}.data-{number:05d}-of-{count:05d}")


def write(prefix: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `tensors` to `PREFIX.index` and one data file, as `tf.train.Saver` does; missing directories are made, and
    what stood there is replaced only by complete files. Raises AlbertError for a dtype that TensorFlow has no number
    for, and where the files cannot be written."""
    unknown = {name: x.dtype for name, x in tensors.items() if x.dtype.newbyteorder("<") not in _DTYPES.values()}
    refuse(f"{name}: {dtype} cannot stand in a checkpoint of TensorFlow; cast it" for name, dtype in unknown.items())
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
                    tensor = tensors[name]
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


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, seven bits a byte, lowest first, and the position after it. Raises IndexError where the
    data ends early, ValueError for a number of more than 64 bits."""
    number = shift = 0
    while True:
        octet = data[position]
        position += 1
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number, position
        shift += 7
        if shift > 63:  # or a damaged file of 0xFF would be read as one number
            raise ValueError("a number of more than 64 bits")


def put_varint(number: int) -> bytes:
    """`number` >= 0 as `varint` reads it."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


# ---- the table of an index


def read_table(data: bytes, source: str) -> dict[bytes, bytes]:
    """All entries, in order. Raises AlbertError, naming `source`, for a file that is no such table, is cut short, has
    compressed blocks, or does not match its checksums."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise AlbertError(f"{source}: no checkpoint index, or one cut short ({len(data)} bytes); copy it again")
    damage = IndexError, struct.error, ValueError
    with retold(lambda message: f"{source}: damaged checkpoint index ({message}); copy it again", *damage):
        # First in the footer is a block of metadata, which TensorFlow leaves empty.
        *_, position = _handle(data, len(data) - _FOOTER)
        offset, size, _ = _handle(data, position)
        entries: dict[bytes, bytes] = {}
        for _, handle in _entries(_block(data, offset, size, source)):
            block_offset, block_size, _ = _handle(handle, 0)
            entries.update(_entries(_block(data, block_offset, block_size, source)))
    return entries


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Offset and size of a block, and the position after them."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return offset, size, position


def _block(data: bytes, offset: int, size: int, source: str) -> bytes:
    end, block = offset + size, f"{source}: the block at byte {offset}"
    if end + 5 > len(data) - _FOOTER:
        raise ValueError("a block reaches past the end")
    if masked_crc32c(data[offset : end + 1]) != struct.unpack_from("<I", data, end + 1)[0]:
        raise AlbertError(f"{block} does not match its checksum; copy the file again")
    if data[end] != _PLAIN:
        raise AlbertError(f"{block} has compression {data[end]}; save the checkpoint again with TensorFlow 1.15")
    return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    # Restarts are for searching by key; whoever reads every entry needs their number only, to know where entries end.
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 - 4 * restarts
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or position + fresh + length > end:
            raise ValueError("an entry reaches past its block")
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def write_table(entries: Mapping[bytes, bytes]) -> bytes:
    """The file that holds `entries`, byte for byte as TensorFlow writes it."""
    file, block, index = bytearray(), _Block(_RESTART), _Block(1)
    keys = sorted(entries)
    for key, after in zip(keys, [*keys[1:], None], strict=True):
        block.add(key, entries[key])
        if after is None or block.size >= _BLOCK:
            index.add(_between(key, after), _append(file, block))
            block = _Block(_RESTART)
    footer = _append(file, _Block(_RESTART)) + _append(file, index)
    return bytes(file + footer.ljust(_FOOTER - 8, b"\0") + struct.pack("<Q", _MAGIC))


class _Block:
    """A block in the making, with a whole key every `restart` entries."""

    def __init__(self, restart: int):
        self._restart, self._count, self._last = restart, 0, b""
        self._content, self._restarts = bytearray(), [0]

    def add(self, key: bytes, value: bytes) -> None:
        shared = _shared(self._last, key)
        if self._count % self._restart == 0:
            shared = 0
            self._restarts += [len(self._content)] if self._count else []
        self._content += put_varint(shared) + put_varint(len(key) - shared) + put_varint(len(value))
        self._content += key[shared:] + value
        self._count, self._last = self._count + 1, key

    @property
    def size(self) -> int:
        return len(self._content) + 4 * len(self._restarts) + 4

    def __bytes__(self) -> bytes:
        return bytes(self._content) + struct.pack(f"<{len(self._restarts) + 1}I", *self._restarts, len(self._restarts))


def _append(file: bytearray, block: _Block) -> bytes:
    """Appends a block, its compression and its checksum; returns its offset and size as an index holds them."""
    content = bytes(block) + bytes([_PLAIN])
    handle = put_varint(len(file)) + put_varint(len(content) - 1)
    file += content + struct.pack("<I", masked_crc32c(content))
    return handle


def _shared(first: bytes, second: bytes) -> int:
    """Bytes that both begin with."""
    return len(os.path.commonprefix([first, second]))  # noqa: RUF071 -- of bytes, not of paths


def _between(key: bytes, after: bytes | None) -> bytes:
    """The key by which an index finds the block that ends with `key`, `after` beginning the next. LevelDB takes a short
    one, and by its rules to the byte."""
    if after is None:
        at = len(key) - len(key.lstrip(b"\xff"))
        short = at < len(key)
    else:
        at = _shared(key, after)
        short = at < min(len(key), len(after)) and key[at] < 0xFF and key[at] + 1 < after[at]
    return key[:at] + bytes([key[at] + 1]) if short else key
