"""`pytorch_model.bin` without torch: the pickle is read by an unpickler that knows tensors and dictionaries only, so
that no code in a file is ever run. Both layouts: the zip archive (torch 1.6 and later) and the plain one before it."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from albert_jax.errors import AlbertError, first_line, retold
from albert_jax.interop.safetensors import LazyTensors

_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a file in the plain layout
_STORAGES = {
    "DoubleStorage": np.dtype(np.float64), "FloatStorage": np.dtype(np.float32), "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16), "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32), "ShortStorage": np.dtype(np.int16), "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8), "BoolStorage": np.dtype(np.bool_),
}  # fmt: skip


# ---- what a pickle may make


# NamedTuples, since nothing can change one once it is made: Python's BUILD, by which a pickle sets attributes, would
# write past a frozen dataclass.


class _Storage(NamedTuple):
    """Numbers in the file that one or several tensors are views of."""

    key: str
    dtype: np.dtype
    length: int


class _View(NamedTuple):
    """A tensor: sizes and strides, in elements, over a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Known(NamedTuple):
    """A name in a pickle, and its meaning: a function to call, or a storage's dtype, which raises TypeError then."""

    meaning: Any

    def __call__(self, *args: Any) -> Any:
        return self.meaning(*args)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _View:
    # as_strided would read wherever offset and strides lead, so they are checked before there is a view.
    numbers = (offset, *shape, *strides)
    sound = isinstance(storage, _Storage) and all(type(n) is int and n >= 0 for n in numbers)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if sound else 0
    if not sound or (0 not in shape and last >= storage.length):
        raise pickle.UnpicklingError("a tensor that is none, or reaches past its storage")
    return _View(storage, offset, tuple(shape), tuple(strides))


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *rest: data,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Foreign(Exception):
    """A name in a pickle that is none of a tensor file."""


class _Unpickler(pickle.Unpickler):
    # By what is allowed, never by what is forbidden: any other function in a pickle could run code.
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _Foreign(f"{module}.{name}")
        return _Known(_NAMES[module, name])

    def persistent_load(self, pid: Any) -> _Storage:
        word, kind, key, _, count = pid[:5]
        dtype = getattr(kind, "meaning", None)
        # The fourth is the device that the tensor was on, which does not matter here.
        # A sixth item, in very old files, makes it a part of another storage.
        if word != "storage" or not isinstance(dtype, np.dtype) or (len(pid) > 5 and pid[5] is not None):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return _Storage(str(key), dtype, int(count))


class TorchFile(LazyTensors):
    """The tensors of a `pytorch_model.bin`. Raises AlbertError for a pickle with anything but tensors in it, and for a
    damaged file."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        self._folder = ""  # of the zip archive
        self._offsets: dict[str, int] = {}  # plain layout: storage -> offset of its numbers
        self._damaged = f"{path}: not a file of torch.save, or a damaged one; copy it again"
        try:
            with self.path.open("rb") as file:
                found = self._zipped() if file.read(2) == b"PK" else self._plain(file)
        except OSError as error:
            raise AlbertError(f"{path}: cannot be read ({first_line(error)})") from error
        except _Foreign as error:
            raise AlbertError(
                f"{path}: the pickle asks for {error}, which is no tensor: it may run code when torch opens it, and is "
                "not read; get the weights as model.safetensors"
            ) from error
        except Exception as error:  # a damaged pickle can raise anything
            raise AlbertError(self._damaged) from error
        items = found.items() if isinstance(found, dict) else [(None, found)]
        views = [(name, view) for name, view in items if isinstance(name, str) and isinstance(view, _View)]
        if len(views) < len(items):
            raise AlbertError(f"{path}: holds something else than tensors by name; save the model's state_dict()")
        self.entries: dict[str, _View] = dict(views)

    def _zipped(self) -> Any:
        self._archive = zipfile.ZipFile(self.path)
        names = self._archive.namelist()
        (self._folder,) = (name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl"))
        order = self._folder + "byteorder"
        if order in names and self._archive.read(order) != b"little":
            raise pickle.UnpicklingError("big-endian numbers")
        with self._archive.open(self._folder + "data.pkl") as pickled:
            return _Unpickler(pickled).load()

    def _plain(self, file: IO[bytes]) -> Any:
        """The layout before torch 1.6: three pickles about the file, the tensors, the storages' keys, the numbers."""
        file.seek(0)
        magic, _, system = (_Unpickler(file).load() for _ in range(3))
        if magic != _MAGIC or not system.get("little_endian"):
            raise pickle.UnpicklingError("not a torch file")
        found = _Unpickler(file).load()
        storages = {view.storage.key: view.storage for view in found.values() if isinstance(view, _View)}
        sound = True
        for key in _Unpickler(file).load():
            (count,) = struct.unpack("<q", file.read(8))
            self._offsets[str(key)] = file.tell()
            sound &= count == storages[key].length
            file.seek(storages[key].length * storages[key].dtype.itemsize, 1)
        if not sound or file.tell() > self.path.stat().st_size:
            raise EOFError
        return found

    def __getitem__(self, name: str) -> np.ndarray:
        view = self.entries[name]
        storage = view.storage
        # Exception: missing, short, badly deflated, encrypted, of an unknown compression.
        with retold(lambda _: self._damaged, Exception):
            if self._archive is None:
                flat = np.fromfile(self.path, storage.dtype, storage.length, offset=self._offsets[storage.key])
            else:
                flat = np.frombuffer(self._archive.read(f"{self._folder}data/{storage.key}"), storage.dtype)
            strides = [stride * storage.dtype.itemsize for stride in view.strides]
            whole = flat[: storage.length].reshape(storage.length)  # ValueError where the file has fewer
        return np.lib.stride_tricks.as_strided(whole[view.offset :], view.shape, strides, writeable=False)
