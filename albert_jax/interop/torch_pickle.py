"""`pytorch_model.bin` without torch: the pickle is read by an unpickler that knows tensors and dictionaries only, so
that no code in a file is ever run. Both layouts: the zip archive (torch 1.6 and later) and the plain one before it."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from albert_jax.errors import AlbertError

_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a file in the plain layout
_STORAGES = {
    "DoubleStorage": np.dtype(np.float64), "FloatStorage": np.dtype(np.float32), "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16), "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32), "ShortStorage": np.dtype(np.int16), "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8), "BoolStorage": np.dtype(np.bool_),
}  # fmt: skip


class _Sealed:
    """What a pickle cannot change once it is made: Python's BUILD would write past a frozen dataclass."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a pickle that changes what was read")


@dataclass(frozen=True)
class _Storage(_Sealed):
    """Numbers in the file that one or several tensors are views of."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class _View(_Sealed):
    """A tensor: sizes and strides, in elements, over a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Known(_Sealed):
    """A name in a pickle, and what it stands for: a function that may be called, or a storage's dtype."""

    meaning: Callable[..., Any] | np.dtype

    def __call__(self, *args: Any) -> Any:
        if isinstance(self.meaning, np.dtype):
            raise pickle.UnpicklingError("a storage without numbers")
        return self.meaning(*args)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _View:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor with strides that are none")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise pickle.UnpicklingError("a tensor that is longer than its storage")
    return _View(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *rest: Any) -> Any:
    return data


class _Foreign(Exception):
    """A name in a pickle that is none of a tensor file."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Known(OrderedDict)
        if module == "torch" and name in _STORAGES:
            return _Known(_STORAGES[name])
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _Known(_tensor if name == "_rebuild_tensor_v2" else _parameter)
        raise _Foreign(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        word, kind, key, _, count = pid[:5]
        dtype = getattr(kind, "meaning", None)
        if word != "storage" or not isinstance(dtype, np.dtype) or (len(pid) > 5 and pid[5] is not None):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return _Storage(str(key), dtype, int(count))


class TorchFile(Mapping[str, np.ndarray]):
    """The tensors of a `pytorch_model.bin` by name, each read from disk when it is asked for.

    Raises AlbertError for a pickle with anything but tensors in it, and for a damaged file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._places: dict[str, int] = {}  # plain layout: storage -> where its numbers start
        self._archive: zipfile.ZipFile | None = None
        try:
            with self.path.open("rb") as file:
                if file.read(2) == b"PK":
                    self._archive = zipfile.ZipFile(self.path)
                    (self._folder,) = (
                        n[: -len("data.pkl")] for n in self._archive.namelist() if n.endswith("/data.pkl")
                    )
                    self._check_byte_order(self._archive)
                    with self._archive.open(self._folder + "data.pkl") as pickled:
                        found = _Unpickler(pickled).load()
                else:
                    file.seek(0)
                    found = self._plain(file)
        except OSError as error:
            raise AlbertError(f"{path}: cannot be read ({error.strerror or error})") from error
        except _Foreign as error:
            raise AlbertError(
                f"{path}: the pickle asks for {error}, which is no tensor: it may run code when torch opens it, and is "
                "not read; get the weights as model.safetensors"
            ) from error
        except Exception as error:  # a damaged pickle can raise anything
            raise self._damaged() from error
        if not isinstance(found, dict) or not all(
            isinstance(name, str) and isinstance(value, _View) for name, value in found.items()
        ):
            raise AlbertError(f"{path}: holds something else than tensors by name; save the model's state_dict()")
        self._views: dict[str, _View] = dict(found)

    def _check_byte_order(self, archive: zipfile.ZipFile) -> None:
        name = self._folder + "byteorder"
        if name in archive.namelist() and archive.read(name) != b"little":
            raise pickle.UnpicklingError("big-endian numbers")

    def _plain(self, file: IO[bytes]) -> Any:
        """The layout before torch 1.6: three pickles about the file, the tensors, the storages' keys, the numbers."""
        magic, _, system = (_Unpickler(file).load() for _ in range(3))
        if magic != _MAGIC or not system.get("little_endian"):
            raise pickle.UnpicklingError("not a torch file")
        found = _Unpickler(file).load()
        storages = {view.storage.key: view.storage for view in found.values() if isinstance(view, _View)}
        for key in _Unpickler(file).load():
            (count,) = struct.unpack("<q", file.read(8))
            self._places[str(key)] = file.tell()
            if count != storages[key].count:
                raise pickle.UnpicklingError("a storage of another length")
            file.seek(count * storages[key].dtype.itemsize, 1)
        if file.tell() > self.path.stat().st_size:
            raise EOFError
        return found

    def __getitem__(self, name: str) -> np.ndarray:
        view = self._views[name]
        storage = view.storage
        try:
            if self._archive is None:
                flat = np.fromfile(self.path, storage.dtype, storage.count, offset=self._places[storage.key])
            else:
                flat = np.frombuffer(self._archive.read(f"{self._folder}data/{storage.key}"), storage.dtype)
            if flat.size < storage.count:
                raise EOFError
        except Exception as error:  # as above: missing, short, badly deflated, encrypted, of an unknown compression
            raise self._damaged() from error
        strides = [stride * storage.dtype.itemsize for stride in view.strides]
        return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides, writeable=False)

    def _damaged(self) -> AlbertError:
        return AlbertError(f"{self.path}: not a file of torch.save, or a damaged one; copy it again")

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)
