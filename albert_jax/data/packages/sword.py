"""Modules of the SWORD project (Bible texts and commentaries): compressed blocks and an index of verses.

Read as in the project's public description of zText and zCom: `.?zs` lists blocks (offset, compressed size, size: three
little-endian uint32), `.?zv` lists verses (block, offset in it, length: uint32, uint32, uint16, or uint32 in the newer
drivers whose names end in 4), `.?zz` holds the blocks.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

_SIZE = struct.calcsize("<III")


def blocks(index: bytes, verses: bytes, content: bytes, wide: bool) -> Iterator[str]:
    """The text of each block (a book or a chapter): its verses in order, each once."""
    of_block: dict[int, dict[tuple[int, int], None]] = {}
    layout = struct.Struct("<III" if wide else "<IIH")
    for block, start, length in layout.iter_unpack(verses[: len(verses) // layout.size * layout.size]):
        if length:
            of_block.setdefault(block, {})[start, length] = None
    for number in range(len(index) // _SIZE):
        offset, packed, _ = struct.unpack_from("<III", index, number * _SIZE)
        if packed:
            text = zlib.decompress(content[offset : offset + packed])
            spans = _apart(of_block.get(number, {}))
            yield " ".join(text[start:stop].decode("utf-8", "replace") for start, stop in spans)


def _apart(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Start and stop of the (start, length) that do not overlap: a comment on several verses is listed at each."""
    end = 0
    for start, length in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start >= end:
            end = start + length
            yield start, end
