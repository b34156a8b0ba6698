"""Texts in an R package's data: character vectors of its lazy-load database (`data/Rdata.rdb`).

The file is a row of zlib streams, each after its unpacked size (big-endian uint32); a stream is a value in R's XDR
serialization ("R Internals", section 1.8). Of the values only plain character vectors are read.
"""

import struct
import zlib
from collections.abc import Iterator

_CHARACTER_VECTOR = 16  # STRSXP
_HEADER = {2: 14, 3: 14}  # bytes before the first item, by version; version 3 has its encoding's name in addition


def texts(database: bytes) -> Iterator[str]:
    """The character vectors of the database in order, their elements joined by line ends."""
    position = 0
    while position + 4 < len(database):
        unpacker = zlib.decompressobj()
        try:
            value = unpacker.decompress(database[position + 4 :])
        except zlib.error:
            return
        position = len(database) - len(unpacker.unused_data)
        if (lines := _character_vector(value)) is not None:
            yield "\n".join(lines)


def _character_vector(value: bytes) -> list[str] | None:
    if value[:2] != b"X\n":
        return None
    (version,) = struct.unpack_from(">i", value, 2)
    at = 14
    if version == 3:
        (length,) = struct.unpack_from(">i", value, at)
        at += 4 + length
    flags, count = struct.unpack_from(">ii", value, at)
    if flags & 0xFF != _CHARACTER_VECTOR:
        return None
    at += 8
    lines = []
    for _ in range(count):
        _, length = struct.unpack_from(">ii", value, at)
        at += 8
        lines.append(value[at : at + max(0, length)].decode("utf-8", "replace"))
        at += max(0, length)
    return lines
