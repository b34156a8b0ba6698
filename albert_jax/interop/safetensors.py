"""The safetensors format: 8 bytes of header length, a JSON header of names, dtypes, shapes and places, then numbers.
Tensors are read when they are asked for, one at a time, so that a file is never in memory twice."""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from albert_jax.errors import AlbertError

_DTYPES = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I64": np.dtype(np.int64), "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8), "BOOL": np.dtype(np.bool_),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def aligned(shape: tuple[int, ...], dtype: np.dtype | type = np.float32) -> np.ndarray:
    """An empty array that begins at a multiple of 64 bytes: JAX takes such a one on the CPU without copying."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    octets = np.empty(size + 64, np.uint8)
    first = -octets.ctypes.data % 64
    return octets[first : first + size].view(dtype).reshape(shape)


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of a `.safetensors` file by name, each read from disk when it is asked for.

    Raises AlbertError at once for a file that is cut short, has bytes too many, or is not of this format.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                start = file.read(8)
                length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
                size = self.path.stat().st_size
                text = file.read(length) if 2 <= length <= size - 8 else b""
            header = json.loads(text, object_pairs_hook=_each_once)
            self._first = 8 + length
            entries = [(name, _entry(value)) for name, value in header.items() if name != "__metadata__"]
        except OSError as error:
            raise AlbertError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AlbertError(f"{path}: not a safetensors file, or one cut short; copy it again") from error
        self._entries = dict(entries)
        end = 0
        for name, (dtype, shape, begin, stop) in sorted(entries, key=lambda entry: entry[1][2:]):
            if begin != end or stop - begin != math.prod(shape) * dtype.itemsize:
                raise AlbertError(
                    f"{path}: the place of {name} in the file is wrong; the file is damaged, copy it again"
                )
            end = stop
        if self._first + end != size:
            raise AlbertError(f"{path}: has {size:,} bytes, its header tells of {self._first + end:,}; copy it again")

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, begin, stop = self._entries[name]
        tensor = aligned(shape, dtype)
        with self.path.open("rb") as file:
            file.seek(self._first + begin)
            if file.readinto(tensor.reshape(-1).view(np.uint8).data) != stop - begin:
                raise AlbertError(f"{self.path}: ends within {name}; copy it again")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name that stands there twice")
    return found


def _entry(value: dict) -> tuple[np.dtype, tuple[int, ...], int, int]:
    begin, stop = value["data_offsets"]
    shape = tuple(value["shape"])
    if not all(isinstance(size, int) and size >= 0 for size in (*shape, begin, stop)):
        raise ValueError
    return _DTYPES[value["dtype"]], shape, begin, stop


def write(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `tensors` in the order of their names, byte for byte as the safetensors library would."""
    ordered = sorted(tensors.items())
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        dtype = _NAMES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in ordered:
            file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
