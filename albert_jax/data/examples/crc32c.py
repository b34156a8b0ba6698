"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, in NumPy.

A remainder is linear: that of a block is the exclusive or of what each of its bytes contributes at its distance from
the block's end. So a block costs one gather from a table [BLOCK, 256] and one reduction. Polynomial and test vectors:
RFC 3720, appendix B.4; the mask: TensorFlow's `core/lib/hash/crc32c.h`.
"""

from functools import cache

import numpy as np

POLYNOMIAL = 0x82F63B78  # reflected
BLOCK = 1024  # bytes that are gathered at once; the table takes 1 MiB
_ROWS = 512  # blocks held as indices at once: 2 MiB
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | bytearray | memoryview | np.ndarray) -> int:
    """The checksum of the bytes of `data` (any contiguous buffer): 0 .. 2**32 - 1.

    `crc32c(b"123456789") == 0xE3069283`.
    """
    octets = np.frombuffer(data, np.uint8)
    contributions, first = _tables()
    state = 0xFFFFFFFF
    whole = len(octets) - len(octets) % BLOCK
    for begin in range(0, whole, BLOCK * _ROWS):
        rows = octets[begin : min(whole, begin + BLOCK * _ROWS)].reshape(-1, BLOCK)
        indices = rows + np.arange(0, BLOCK * 256, 256, dtype=np.int32)
        for block in np.bitwise_xor.reduce(contributions[indices], axis=1).tolist():
            # The state of before enters as if it were added to the block's first four bytes.
            state = (
                block
                ^ first[0][state & 0xFF]
                ^ first[1][state >> 8 & 0xFF]
                ^ first[2][state >> 16 & 0xFF]
                ^ first[3][state >> 24]
            )
    rest = octets[whole:]
    if len(rest) >= 16:
        entered = rest.copy()
        entered[:4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
        indices = entered + np.arange((BLOCK - len(rest)) * 256, BLOCK * 256, 256, dtype=np.int32)
        state = int(np.bitwise_xor.reduce(contributions[indices]))
    else:
        for octet in rest.tolist():
            state = (state >> 8) ^ first[4][(state ^ octet) & 0xFF]
    return state ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview | np.ndarray) -> int:
    """`crc32c(data)` as TFRecord and checkpoint files store it: rotated by 15 bits, a constant added."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF


@cache
def _tables() -> tuple[np.ndarray, list[list[int]]]:
    """Contributions uint32 [BLOCK * 256] by place in the block; as lists, its first four places and the last."""
    single = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        single = single >> np.uint32(1) ^ np.where(single & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    table = np.empty((BLOCK, 256), np.uint32)
    table[BLOCK - 1] = single
    for place in range(BLOCK - 2, -1, -1):
        after = table[place + 1]
        table[place] = after >> np.uint32(8) ^ single[after & np.uint32(0xFF)]
    return table.reshape(-1), table[[0, 1, 2, 3, -1]].tolist()
