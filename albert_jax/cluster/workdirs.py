"""Workdirs in a bucket: `--workdir gs://BUCKET/RUN`.

Orbax writes checkpoints straight to the bucket. All other files are written to a local directory of this process, which
is downloaded at the start and uploaded whenever a checkpoint is written and when a run or an evaluation ends.
"""

# Not straight to the bucket, since one of these files grows by appending, which a bucket cannot do. What a killed run
# loses of them is what it repeats anyway.

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etils import epath

from albert_jax.errors import extra, retold

_DOWNLOADED = ("*", "vocab/*")  # what a run or an evaluation reads; the rest is only uploaded


class _Mirror:
    """A local directory and the bucket's directory that it stands for."""

    def __init__(self, url: str, local: Path):
        # file:// is for trying all this without a bucket
        self.remote, self.local = epath.Path(url.removeprefix("file://")), local
        self._synced: dict[str, tuple[int, int]] = {}  # name -> local time (ns) and size when both sides were equal

    def download(self) -> None:
        with _reaching(self.remote):
            for pattern in _DOWNLOADED:
                for file in self.remote.glob(pattern):
                    name = str(file.relative_to(self.remote))
                    if name not in self._synced and not file.is_dir():
                        _copy(file, self.local / name)
                        self._synced[name] = _stamp(self.local / name)

    def upload(self) -> None:
        with _reaching(self.remote):
            for file in sorted(self.local.rglob("*")):
                name = str(file.relative_to(self.local))
                if file.is_file() and self._synced.get(name) != (stamp := _stamp(file)):
                    _copy(file, self.remote / name)
                    # The stamp from before the copy: what was appended meanwhile is uploaded the next time.
                    self._synced[name] = stamp


def _copy(source: Path | epath.Path, target: Path | epath.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


# By URL and by local directory, for the life of the process: the verbs pass either of the two around.
_MIRRORS: dict[str, _Mirror] = {}


def local_dir(workdir: str | Path) -> Path:
    """The directory to work in: `workdir` itself, or this process's local copy of a URL.

    Raises AlbertError when a bucket cannot be read.
    """
    if "://" not in str(workdir):
        return Path(workdir)
    url = str(workdir).rstrip("/")
    if url not in _MIRRORS:
        scratch = tempfile.mkdtemp(prefix="albert_jax-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        directory = Path(scratch) / url.rpartition("/")[2]  # of the run's name, which reports and messages show
        _MIRRORS[url] = _MIRRORS[str(directory)] = _Mirror(url, directory)
        _MIRRORS[url].download()
    return _MIRRORS[url].local


def shared_dir(workdir: str | Path) -> epath.Path:
    """Where all processes find `workdir`, as `local_dir` gave it: the bucket's directory, or itself."""
    mirror = _MIRRORS.get(str(workdir))
    return epath.Path(Path(workdir).resolve()) if mirror is None else mirror.remote


def display_path(path: str | Path) -> str:
    """`path`, a file or directory of a workdir, as its user knows it: in the bucket when it is the copy of one."""
    path = Path(path)
    for parent in (path, *path.parents):
        if (mirror := _MIRRORS.get(str(parent))) is not None:
            return str(mirror.remote / path.relative_to(parent)).rstrip("/")
    return str(path)


def download(workdir: str | Path) -> None:
    """Copies what a bucket has and its local directory lacks; nothing for other workdirs."""
    if str(workdir) in _MIRRORS:
        _MIRRORS[str(workdir)].download()


def upload(workdir: str | Path) -> None:
    """Copies what changed in a bucket's local directory to the bucket; nothing for other workdirs."""
    if str(workdir) in _MIRRORS:
        _MIRRORS[str(workdir)].upload()


@contextmanager
def upload_at_end(workdir: str | Path) -> Iterator[None]:
    """`upload` at the end, also after an error."""
    try:
        yield
    finally:
        upload(workdir)


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


@contextmanager
def _reaching(remote: epath.Path) -> Iterator[None]:
    """Within it, whatever a bucket's client raises becomes one line: no such bucket, no rights, no network."""
    missing, refused = f"{remote}: buckets need one more package", f"{remote} cannot be reached"
    with (
        retold(lambda reason: f"{refused} ({reason[:200]}); check its name and your rights", Exception),
        retold(lambda reason: f"{missing} ({reason}); {extra('gcs')}", ImportError),
    ):
        yield
