"""Package names to .deb files in a cache, with `apt-get download`: nothing is installed, and root is not needed.

debian:anarchism,dict-gcide            what this system's package lists offer
debian:configs/pretrain_small.tsv      pinned: exactly these versions, these bytes
"""

import difflib
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from albert_jax.data.packages.archive import REMEDY
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.files import write_atomically

PREFIX = "debian:"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")  # Debian policy, 5.6.7
_URI = re.compile(r"^'[^']*' (\S+_\S+\.deb) \d+ (?:SHA256:)?(\S*)$", re.MULTILINE)
_UNKNOWN = re.compile(r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate")
_NO_VERSION = re.compile(r"Version '.*' for '(.*)' was not found")
_RENEW = "write the table anew with `python -m benchmarks.debian --renew {}`"


@dataclass(frozen=True)
class Pin:
    """A row of a table of pinned packages."""

    package: str
    version: str
    sha256: str  # of the .deb file
    licence: str = ""
    characters: int = 0  # of text that it gave


@dataclass(frozen=True)
class Package:
    """A .deb file at hand."""

    name: str
    version: str
    sha256: str
    path: Path


def cache_dir() -> Path:
    """Where downloaded packages are kept: $XDG_CACHE_HOME/albert_jax/debian."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base if base else Path.home() / ".cache") / "albert_jax" / "debian"


def is_pinned(wanted: str) -> bool:
    """Whether what follows `debian:` names a table of pins rather than packages."""
    return wanted.endswith(".tsv") or "/" in wanted


def fetch(wanted: str, cache: Path | None = None) -> list[Package]:
    """The packages of `wanted`, names with commas between or a table of pins, sorted by name and downloaded if need be.

    Raises AlbertError in one line for a name that is not there (with the nearest), a version or digest other than
    pinned, and a system without apt where a package is not in the cache yet.
    """
    folder = cache or cache_dir()
    pins = read_pins(Path(wanted)) if is_pinned(wanted) else None
    names = sorted({name.strip() for name in wanted.split(",") if name.strip()}) if pins is None else sorted(pins)
    refuse(_name_flaws(wanted, names))
    if pins is None:
        return _offered(names, folder)
    return _pinned(wanted, [pins[name] for name in names], folder)


def _name_flaws(wanted: str, names: Sequence[str]) -> Iterator[str]:
    if not names:
        yield f"{PREFIX}{wanted}: no package named; give {PREFIX}NAME[,NAME...] or {PREFIX}TABLE.tsv"
    for name in names:
        if not _NAME.fullmatch(name):
            yield f"{PREFIX}{wanted}: {name!r} is no name of a package (small letters, digits, + - .)"


# ---- by name


def _offered(names: Sequence[str], folder: Path) -> list[Package]:
    try:
        offers = _offers(names)
    except FileNotFoundError:
        # Without apt, what was put into the cache by hand is taken as it is.
        offers = dict.fromkeys(names, ("*", ""))
        refuse(_no_apt([name for name in names if _cached(folder, name, "*", "") is None], folder))
    _download([name for name in names if _cached(folder, name, *offers[name]) is None], folder)
    found = {name: _cached(folder, name, *offers[name]) for name in names}
    refuse(
        f"{PREFIX}{name}: apt-get downloaded another file than it offers; run `apt-get update` first"
        for name, package in found.items()
        if package is None
    )
    return [package for package in found.values() if package]


def _offers(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Version and SHA-256 of each package that apt would download. Raises FileNotFoundError where there is no apt."""
    answer = _apt("apt-get", "download", "--print-uris", *names)
    refuse(_unknown(answer.stderr))
    offers = {}
    for file, digest in _URI.findall(answer.stdout):
        name, version, _ = file.split("_", 2)
        offers[name] = (_unquoted(version), digest)
    missing = [name for name in names if name not in offers]
    refuse(f"{name}: apt-get cannot download it ({_last_line(answer.stderr)})" for name in missing)
    return offers


def _unknown(stderr: str) -> Iterator[str]:
    for first, second in _UNKNOWN.findall(stderr):
        known = _apt("apt-cache", "pkgnames").stdout.split()
        near = difflib.get_close_matches(first or second, known, n=3, cutoff=0.7)
        advice = f"nearest: {', '.join(near)}" if near else "run `apt-get update` first, or leave it out"
        yield f"{PREFIX}{first or second}: no such package in this system's lists; {advice}"


# ---- pinned


def _pinned(table: str, pins: Sequence[Pin], folder: Path) -> list[Package]:
    missing = [pin for pin in pins if _cached(folder, pin.package, pin.version, pin.sha256) is None]
    if missing:
        exact = [f"{pin.package}={pin.version}" for pin in missing]
        try:
            refuse(_not_offered(table, missing, _apt("apt-get", "download", "--print-uris", *exact).stderr, folder))
            _download(exact, folder)
        except FileNotFoundError:
            refuse(_no_apt([pin.package for pin in missing], folder))
    refuse(_other_digests(table, missing, folder))
    found = (_cached(folder, pin.package, pin.version, pin.sha256) for pin in pins)
    return [package for package in found if package]


def _not_offered(table: str, pins: Sequence[Pin], stderr: str, folder: Path) -> Iterator[str]:
    versions = {pin.package: pin.version for pin in pins}
    for name in _NO_VERSION.findall(stderr):
        yield (
            f"{table}: {name} is pinned at {versions.get(name)}, and this system offers {_offers([name])[name][0]}; put"
            f" the pinned file into {folder}, or {_RENEW.format(table)}"
        )
    yield from _unknown(stderr)


def _other_digests(table: str, pins: Sequence[Pin], folder: Path) -> Iterator[str]:
    for pin in pins:
        if _cached(folder, pin.package, pin.version, pin.sha256) is None:
            other = _cached(folder, pin.package, pin.version, "")
            file, digest = (other.path, f"has {other.sha256[:12]}...") if other else (folder, "has no such file")
            yield (
                f"{table}: {pin.package} {pin.version} is pinned with SHA-256 {pin.sha256[:12]}..., and {file} {digest}"
                f"; {REMEDY}, or {_RENEW.format(table)}"
            )


def read_pins(path: Path) -> dict[str, Pin]:
    """The table at `path` by package: tab-separated, with the fields of `Pin` as its first line."""
    with retold(
        lambda said: f"{path}: cannot be read ({said}); a table of pinned packages is needed", OSError, ValueError
    ):
        lines = path.read_text(encoding="utf-8").splitlines()
    refuse(_table_flaws(path, lines))
    rows = (line.split("\t") for line in lines[1:] if line.strip())
    pins = (Pin(name, version, digest, licence, int(count)) for name, version, digest, licence, count in rows)
    return {pin.package: pin for pin in pins}


def _table_flaws(path: Path, lines: Sequence[str]) -> Iterator[str]:
    header = [field.name for field in fields(Pin)]
    if not lines or lines[0].split("\t") != header:
        yield f"{path}: line 1: the columns are {', '.join(header)}, with tabs between"
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if line.strip() and (len(cells) != len(header) or not re.fullmatch("[0-9a-f]{64}", cells[2])):
            yield f"{path}: line {number}: not a package, version, SHA-256, licence and number of characters"
        elif line.strip() and not cells[4].isdecimal():
            yield f"{path}: line {number}: characters {cells[4]!r} is no number"


def write_pins(path: Path, pins: Sequence[Pin]) -> None:
    """Writes the table, sorted by package."""
    rows = [[field.name for field in fields(Pin)]]
    rows += [list(map(str, astuple(pin))) for pin in sorted(pins, key=lambda pin: pin.package)]
    write_atomically(path, "".join("\t".join(row) + "\n" for row in rows))


# ---- apt and the cache


def _apt(*command: str, folder: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs an apt command in `folder`. Raises FileNotFoundError where there is none."""
    # In English, because its errors are read here.
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def _download(names: Sequence[str], folder: Path) -> None:
    if not names:
        return
    with retold(lambda said: f"{folder}: cannot be written ({said}); set XDG_CACHE_HOME", OSError):
        folder.mkdir(parents=True, exist_ok=True)
        # Into a folder beside, so that whatever lies in the cache is whole.
        temporary = tempfile.TemporaryDirectory(dir=folder)
    with temporary as inner:
        done = _apt("apt-get", "download", "-q", *names, folder=inner)
        if done.returncode:
            raise AlbertError(f"{PREFIX}{','.join(names)}: apt-get download failed ({_last_line(done.stderr)})")
        for file in Path(inner).glob("*.deb"):
            file.replace(folder / file.name)


def _cached(folder: Path, name: str, version: str, sha256: str) -> Package | None:
    """The newest file of that version ("*": any) in the cache whose digest is `sha256` ("": any)."""
    pattern = f"{name}_{version.replace(':', '%3a')}_*.deb"
    found = sorted(folder.glob(pattern), key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
    for path in found:
        digest = _digest(path, path.stat().st_size, path.stat().st_mtime_ns)
        if sha256 in ("", digest):
            return Package(name, _unquoted(path.name.split("_")[1]), digest, path)
    return None


@functools.cache
def _digest(path: Path, size: int, time_ns: int) -> str:
    """SHA-256 of a file, read once a process as long as it is that size and that old."""
    with retold(lambda said: f"{path}: cannot be read ({said})", OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unquoted(version: str) -> str:
    return version.replace("%3a", ":")  # the one character of a version that apt quotes in a file's name


def _no_apt(names: Sequence[str], folder: Path) -> Iterator[str]:
    if names:
        yield (
            f"{PREFIX}{','.join(names)}: no apt on this system; put the .deb files into {folder}, or give the text as"
            " files: --corpus TEXT.jsonl, made on a Debian-like system with `python -m benchmarks.debian --text"
            " TEXT.jsonl NAME ...`"
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.startswith("E:")] or text.strip().splitlines() or ["?"]
    return lines[-1].removeprefix("E:").strip()
