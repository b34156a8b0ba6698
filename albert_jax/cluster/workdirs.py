"""Workdirs in a bucket: `--workdir gs://BUCKET/RUN`.

Orbax writes checkpoints straight there. The other files are small, and one of them grows by appending, which a bucket
cannot do: they live in a local directory of this process, fetched at the start and stored whenever a checkpoint is
written and when a run or an evaluation ends. So what a killed run loses of them is what it repeats anyway.
"""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etils import epath

from albert_jax.errors import AlbertError

_FETCHED = ("*", "vocab/*")  # files of a workdir that a run or an evaluation reads; the rest is only stored


class _Mirror:
    """A local directory and the bucket's directory that it stands for."""

    def __init__(self, url: str, local: Path):
        # file:// is for trying all this without a bucket
        self.remote, self.local = epath.Path(url.removeprefix("file://")), local
        self._stored: dict[str, tuple[int, int]] = {}  # name -> local time (ns) and size when both sides were equal

    def fetch(self) -> None:
        with _told(self.remote):
            for pattern in _FETCHED:
                for file in self.remote.glob(pattern):
                    name = str(file.relative_to(self.remote))
                    if name not in self._stored and not file.is_dir():
                        (self.local / name).parent.mkdir(parents=True, exist_ok=True)
                        (self.local / name).write_bytes(file.read_bytes())
                        self._stored[name] = _stamp(self.local / name)

    def store(self) -> None:
        with _told(self.remote):
            for file in sorted(self.local.rglob("*")):
                name = str(file.relative_to(self.local))
                if file.is_file() and self._stored.get(name) != (stamp := _stamp(file)):
                    (self.remote / name).parent.mkdir(parents=True, exist_ok=True)
                    (self.remote / name).write_bytes(file.read_bytes())
                    self._stored[name] = stamp


_MIRRORS: dict[str, _Mirror] = {}  # by url and by local directory


def local(workdir: str | Path) -> Path:
    """The directory to work in: `workdir` itself, or for a URL this process's copy of what is there.

    Raises AlbertError when a bucket cannot be read.
    """
    if "://" not in str(workdir):
        return Path(workdir)
    url = str(workdir).rstrip("/")
    if url not in _MIRRORS:
        scratch = tempfile.mkdtemp(prefix="albert_jax-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        place = Path(scratch) / url.rpartition("/")[2]
        _MIRRORS[url] = _MIRRORS[str(place)] = _Mirror(url, place)
        _MIRRORS[url].fetch()
    return _MIRRORS[url].local


def shared(workdir: str | Path) -> epath.Path:
    """Where all processes find `workdir`, as `local` gave it: the bucket's directory, or itself."""
    mirror = _MIRRORS.get(str(workdir))
    return epath.Path(Path(workdir).resolve()) if mirror is None else mirror.remote


def address(path: str | Path) -> str:
    """What a user calls `path`, a file or directory of a workdir: within the bucket, should it have a mirror there."""
    path = Path(path)
    for place in (path, *path.parents):
        if (mirror := _MIRRORS.get(str(place))) is not None:
            return str(mirror.remote / path.relative_to(place)).rstrip("/")
    return str(path)


def fetch(workdir: str | Path) -> None:
    """Copies what a bucket has and the local directory that stands for it lacks; nothing for others."""
    if str(workdir) in _MIRRORS:
        _MIRRORS[str(workdir)].fetch()


def store(workdir: str | Path) -> None:
    """Copies what changed in a local directory to the bucket that it stands for; nothing for others."""
    if str(workdir) in _MIRRORS:
        _MIRRORS[str(workdir)].store()


@contextmanager
def stored(workdir: str | Path) -> Iterator[None]:
    """`store` at the end, also after an error."""
    try:
        yield
    finally:
        store(workdir)


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@contextmanager
def _told(remote: epath.Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise AlbertError(f"{remote}: buckets need one more package ({error}); pip install albert_jax[gcs]") from error
    except Exception as error:  # whatever a bucket's client raises: no such bucket, no rights, no network
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise AlbertError(f"{remote} cannot be reached ({said[0][:200]}); check its name and your rights") from error
