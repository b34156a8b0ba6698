"""Sorted tables of byte strings in the LevelDB format, which TensorFlow's `.index` files are.

A file is blocks, then an index block that holds the place of each, then a footer of 48 bytes with the place of the
index block. A block holds entries (key, value) in order, keys without the part they share with the key before; it is
followed by one byte that tells its compression and by its masked CRC-32C. Format: LevelDB's `doc/table_format.md`;
Snappy's `format_description.txt` for the compressed blocks.
"""

import struct
from collections.abc import Iterator, Mapping

from albert_jax.data.examples.tfrecords import masked_crc32c
from albert_jax.errors import AlbertError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes
_TRAILER = 5  # bytes after a block: compression, checksum
_PLAIN, _SNAPPY = 0, 1
_BLOCK = 262_144  # bytes of a block before the next begins, TensorFlow's choice
_RESTART = 16  # entries from one whole key to the next


def read_table(data: bytes, source: str) -> dict[bytes, bytes]:
    """All entries, in order.

    Raises AlbertError, naming `source`, for a file that is no such table, is cut short or does not match its checksums.
    """
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise AlbertError(f"{source}: no checkpoint index, or one cut short ({len(data)} bytes); copy it again")
    try:
        position = _handle(data, len(data) - _FOOTER)[2]
        offset, size, _ = _handle(data, position)
        entries: dict[bytes, bytes] = {}
        for _, handle in _entries(_block(data, offset, size, source)):
            block_offset, block_size, _ = _handle(handle, 0)
            entries.update(_entries(_block(data, block_offset, block_size, source)))
    except (IndexError, struct.error, ValueError) as error:
        raise AlbertError(f"{source}: damaged checkpoint index ({error}); copy it again") from error
    return entries


def write_table(entries: Mapping[bytes, bytes]) -> bytes:
    """The file that holds `entries`, blocks plain, byte for byte as TensorFlow writes it without compression."""
    file = bytearray()
    index: list[tuple[bytes, bytes]] = []
    keys = sorted(entries)
    pending: list[tuple[bytes, bytes]] = []
    size = 0
    for number, key in enumerate(keys):
        pending.append((key, entries[key]))
        shared = _shared(pending[-2][0], key) if (len(pending) - 1) % _RESTART else 0
        size += sum(map(len, _entry(shared, *pending[-1])))
        restarts = -(-len(pending) // _RESTART)
        last = number == len(keys) - 1
        if last or size + 4 * restarts + 4 >= _BLOCK:
            between = _successor(key) if last else _separator(key, keys[number + 1])
            index.append((between, _append(file, _make_block(pending, _RESTART))))
            pending, size = [], 0
    meta = _append(file, _make_block([], _RESTART))
    footer = meta + _append(file, _make_block(index, 1))
    return bytes(file + footer.ljust(_FOOTER - 8, b"\0") + struct.pack("<Q", _MAGIC))


# ------------------------------------------------------------------------------------------------------------- reading


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, seven bits a byte, and the position after it. IndexError where the data ends early."""
    number = shift = 0
    while True:
        octet = data[position]
        position += 1
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return offset, size, position


def _block(data: bytes, offset: int, size: int, source: str) -> bytes:
    end = offset + size + 1
    if end + 4 > len(data) - _FOOTER:
        raise AlbertError(f"{source}: damaged checkpoint index (a block reaches past the end); copy it again")
    if masked_crc32c(data[offset:end]) != struct.unpack_from("<I", data, end)[0]:
        raise AlbertError(f"{source}: the block at byte {offset} does not match its checksum; copy the file again")
    body, kind = data[offset : end - 1], data[end - 1]
    if kind not in (_PLAIN, _SNAPPY):
        raise AlbertError(f"{source}: the block at byte {offset} has compression {kind}; plain and Snappy can be read")
    return unsnap(body) if kind == _SNAPPY else body


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
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


def unsnap(data: bytes) -> bytes:
    """What Snappy compressed to `data`. ValueError or IndexError where it is damaged."""
    length, position = varint(data, 0)
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        if tag & 3 == 0:  # bytes that stand here
            size = (tag >> 2) + 1
            if size > 60:
                width = size - 60
                size = int.from_bytes(data[position : position + width], "little") + 1
                position += width
            if position + size > len(data):
                raise ValueError("a Snappy block ends early")
            out += data[position : position + size]
            position += size
            continue
        if tag & 3 == 1:  # a copy of what is `back` bytes before, maybe overlapping itself
            size, back = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[position]
            position += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            size, back = (tag >> 2) + 1, int.from_bytes(data[position : position + width], "little")
            position += width
        if not 0 < back <= len(out):
            raise ValueError("a Snappy block copies from before its beginning")
        for _ in range(size):
            out.append(out[-back])
    if len(out) != length:
        raise ValueError("a Snappy block of another length than it says")
    return bytes(out)


# ------------------------------------------------------------------------------------------------------------- writing


def put_varint(number: int) -> bytes:
    """`number` >= 0, seven bits a byte, the lowest first."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _append(file: bytearray, block: bytes) -> bytes:
    """Appends a block and its trailer; its place, as it stands in an index."""
    handle = put_varint(len(file)) + put_varint(len(block))
    block += bytes([_PLAIN])
    file += block + struct.pack("<I", masked_crc32c(block))
    return handle


def _make_block(entries: list[tuple[bytes, bytes]], restart: int) -> bytes:
    block, restarts, previous = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        if number and number % restart == 0:
            restarts.append(len(block))
        shared = _shared(previous, key) if number % restart else 0
        block += b"".join(_entry(shared, key, value))
        previous = key
    return bytes(block) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _entry(shared: int, key: bytes, value: bytes) -> tuple[bytes, bytes, bytes]:
    head = put_varint(shared) + put_varint(len(key) - shared) + put_varint(len(value))
    return head, key[shared:], value


def _shared(first: bytes, second: bytes) -> int:
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count


def _separator(before: bytes, after: bytes) -> bytes:
    """A short key from `before` on, and below `after`."""
    place = _shared(before, after)
    if place < min(len(before), len(after)) and before[place] < 0xFF and before[place] + 1 < after[place]:
        return before[:place] + bytes([before[place] + 1])
    return before


def _successor(key: bytes) -> bytes:
    """A short key from `key` on."""
    for place, octet in enumerate(key):
        if octet != 0xFF:
            return key[:place] + bytes([octet + 1])
    return key
