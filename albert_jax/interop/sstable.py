"""Sorted tables of byte strings in the LevelDB format, which TensorFlow's `.index` files are.

A file is blocks, then an index block with the offset and size of each, then a footer of 48 bytes with those of the
index block. A block holds entries (key, value) in order, keys without the part they share with the key before, and
ends with the offsets of its restarts, the entries whose keys are whole. One byte of compression and the masked CRC-32C
follow it. Format: LevelDB's `doc/table_format.md`.
"""

import struct
from collections.abc import Iterator, Mapping

from albert_jax.data.examples.tfrecords import masked_crc32c
from albert_jax.errors import AlbertError, refuse, retold

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes
_PLAIN = 0  # compression of a block: none, as TensorFlow 1.15 writes every index, those of Google's releases too
_BLOCK = 262_144  # bytes of a block before the next begins, TensorFlow's choice
_RESTART = 16  # entries from one whole key to the next


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


# ---- reading


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
    refuse(f"{source}: {flaw}" for flaw in _block_flaws(data, offset, offset + size))
    return data[offset : offset + size]


def _block_flaws(data: bytes, offset: int, end: int) -> Iterator[str]:
    if end + 5 > len(data) - _FOOTER:
        yield "damaged checkpoint index (a block reaches past the end); copy it again"
    if masked_crc32c(data[offset : end + 1]) != struct.unpack_from("<I", data, end + 1)[0]:
        yield f"the block at byte {offset} does not match its checksum; copy the file again"
    if data[end] != _PLAIN:
        yield f"the block at byte {offset} has compression {data[end]}; save the checkpoint again with TensorFlow 1.15"


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


# ---- writing


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
    pairs = zip(first, second, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _between(key: bytes, after: bytes | None) -> bytes:
    """The key by which an index finds the block that ends with `key`, `after` beginning the next. LevelDB takes a short
    one, and by its rules to the byte."""
    if after is None:
        at = next((at for at, octet in enumerate(key) if octet != 0xFF), len(key))
        return key[:at] + bytes([key[at] + 1]) if at < len(key) else key
    at = _shared(key, after)
    short = at < min(len(key), len(after)) and key[at] < 0xFF and key[at] + 1 < after[at]
    return key[:at] + bytes([key[at] + 1]) if short else key
