"""A .deb file to its files, read in memory: nothing is installed, and nothing is written to disk.

A .deb is an `ar` archive of three members (deb(5)): `debian-binary`, `control.tar.*` and `data.tar.*`.
"""

import io
import lzma
import shutil
import subprocess
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from albert_jax.errors import retold

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60  # of a member: name 16, time 12, owner 6, group 6, mode 8, size 10, end 2
MAX_FILE_BYTES = 2**27  # of one file in a package; a larger one holds no text to read
REMEDY = "remove it and run the same command again, which downloads it anew"
_DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error)


@dataclass(frozen=True)
class Member:
    """One regular file of a package."""

    path: str  # "usr/share/doc/anarchism/html/intro.html"
    content: bytes


@dataclass(frozen=True)
class Package:
    """What a .deb holds. `links` are symbolic links: path -> target, as written."""

    name: str
    version: str
    files: tuple[Member, ...]  # sorted by path
    links: dict[str, str]


def read(path: Path) -> Package:
    """The content of a .deb file. Raises AlbertError, which names the file and says what to do, for a damaged one."""
    damaged = retold(lambda said: f"{path}: broken package ({said}); {REMEDY}", *_DAMAGE)
    with damaged:
        content = path.read_bytes()
        control = {entry.path: entry.content for entry in _tar(path, content, "control")[0]}
        fields = _fields(control.get("control", b"").decode("utf-8", "replace"))
        if "Package" not in fields or "Version" not in fields:
            raise ValueError("no name and version in its control file")
        files, links = _tar(path, content, "data")
    return Package(fields["Package"], fields["Version"], tuple(sorted(files, key=lambda file: file.path)), links)


def _fields(control: str) -> dict[str, str]:
    lines = (line for line in control.splitlines() if ":" in line and not line[0].isspace())
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def _tar(path: Path, content: bytes, part: str) -> tuple[list[Member], dict[str, str]]:
    name, packed = _part(content, part)
    if name.endswith(".zst"):
        packed = _unpack_zstd(path, part)
    files: list[Member] = []
    links: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:*") as archive:
        for entry in archive:
            where = entry.name.removeprefix("./")
            if entry.issym():
                links[where] = entry.linkname
            elif entry.isfile() and entry.size <= MAX_FILE_BYTES and (file := archive.extractfile(entry)):
                files.append(Member(where, file.read()))
    return files, links


def _part(content: bytes, part: str) -> tuple[str, bytes]:
    """The name and the bytes of the member `part`.tar.* of an ar archive."""
    if not content.startswith(_MAGIC):
        raise ValueError("no ar archive")
    position = len(_MAGIC)
    while position + _HEADER_BYTES <= len(content):
        header = content[position : position + _HEADER_BYTES]
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        start = position + _HEADER_BYTES
        if name.startswith(f"{part}.tar"):
            if start + size > len(content):
                raise ValueError("it ends too early")
            return name, content[start : start + size]
        position = start + size + size % 2  # members start at even bytes
    raise ValueError(f"no {part}.tar in it")


def _unpack_zstd(path: Path, part: str) -> bytes:
    # Ubuntu's packages; Python has no zstd before 3.14.
    if not shutil.which("dpkg-deb"):
        raise ValueError("compressed with zstd, and there is no dpkg-deb")
    flag = "--ctrl-tarfile" if part == "control" else "--fsys-tarfile"
    unpacked = subprocess.run(["dpkg-deb", flag, str(path)], capture_output=True, check=False)
    if unpacked.returncode:
        raise ValueError(unpacked.stderr.decode("utf-8", "replace").strip())
    return unpacked.stdout
