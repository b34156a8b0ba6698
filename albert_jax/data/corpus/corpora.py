"""Corpora by name: what `--corpus` accepts, cut into units of work and read as documents.

FILE, DIRECTORY, GLOB   .txt and anything else: plain text (data/text/lines.py); .jsonl: JSON lines with a `text` field
                        (or `sentences`, a list), and optional `name` and `label`; both also .gz
tfds:NAME[:FEATURE]     a TensorFlow dataset by name or by directory (data/store/tfds.py)
pydocs[:PACKAGE,...]    the English of installed packages' docstrings (data/pydocs)
debian:NAME[,...]       the English of a Debian-like system's packages, by name or by a table of pins (data/packages)

A corpus is cut into segments (a byte range of a text file at document boundaries, a whole .gz file, a range of
examples), and segments are gathered into units of about equal size, one unit a shard. The cut depends on the corpus and
the unit size alone, never on the number of workers, and reading a unit takes memory for one document.
"""

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from albert_jax.data.packages.fetch import PREFIX as DEBIAN
from albert_jax.data.packages.fetch import Package, Pin, fetch, write_pins
from albert_jax.data.store import paths, tfds
from albert_jax.data.store.documents import Document
from albert_jax.data.text.lines import Layout, detect_layout, documents, line_number, read_lines, text_sentences
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.files import write_atomically

MAX_JSON_LINE_BYTES = 2**26  # a line of JSON holds a whole document
MIN_WORDS = 12  # of a labelled paragraph of pydocs: below, there is little to tell its package by
_HEAD_BYTES = 2**16  # read of each file to see its layout and to tell whether it has changed
_GZIP_RATIO = 3  # text is about that much larger than its .gz
_CUT_REACH = 2**22  # bytes: how far past the wanted position a cut searches for the end of a document
_SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".gz")
_LINE = re.compile(rb"\n")
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
_TWO_BLANK_LINES = re.compile(rb"\n[ \t\r]*\n[ \t\r]*\n")
# Where a file may be cut, best first: after a document; else the document is divided after a paragraph.
_BOUNDARIES = {"json": [_LINE], "sentences": [_BLANK_LINE], "paragraphs": [_TWO_BLANK_LINES, _BLANK_LINE]}


@dataclass(frozen=True)
class Segment:
    """A stretch of a corpus that one process reads from start to stop."""

    kind: Literal["text", "json", "tfds"]
    path: str
    start: int = 0  # bytes (text, json) or examples (tfds)
    stop: int | None = None  # None: to the end
    size: int = 0  # bytes of text, estimated where it is compressed
    layout: Layout = "auto"
    feature: str = ""  # of a TFDS dataset
    split: str = ""  # of a TFDS dataset


Unit = tuple[Segment, ...]  # what one worker makes one shard of

# ---- finding


def gather(corpora: Sequence[str], layout: Layout) -> tuple[list[Segment], str]:
    """All of `corpora` but packages' text, one segment a file or dataset, in a fixed order, and a digest of everything.

    The digest changes when a file is added, removed, renamed, resized, or changed in its first or last 64 KiB, and with
    the versions of the packages of pydocs and the bytes of those of debian. Names of directories and times do not
    count, so a copy of a corpus is the same corpus. Raises AlbertError, which names the corpus and the remedy, for one
    that is empty or cannot be read.
    """
    refuse(_flaws(corpora, layout))
    segments: list[Segment] = []
    digest = hashlib.blake2b(digest_size=16)
    for corpus in corpora:
        found: list[Segment] = []
        if is_packages(corpus):
            continue
        if corpus.startswith("tfds:"):
            directory, feature, splits = tfds.find(corpus)
            for split, count, size in splits:
                found.append(Segment("tfds", directory, 0, count, size=size, feature=feature, split=split))
            digest.update(repr([(s.split, s.feature, s.stop, s.size) for s in found]).encode())
        else:
            for path in _files(corpus):
                head, tail, size = _ends(path)
                # Not all of the file: a corpus of terabytes would have to be read once more at every start.
                digest.update(repr((Path(path).name, size)).encode() + head + tail)
                if size:
                    found.append(_file_segment(path, size, layout, head))
        if not found:
            raise AlbertError(f"{corpus}: the corpus is empty")
        segments += found
    return segments, _with_packages(digest.hexdigest() if segments else "", corpora)


def _flaws(corpora: Sequence[str], layout: str) -> Iterator[str]:
    if layout not in get_args(Layout):
        yield f"layout {layout!r}: the layouts are {', '.join(get_args(Layout))}"
    if not corpora:
        yield "no corpus: give --corpus a file, a directory, a glob, tfds:NAME, pydocs or debian:NAME"


def _files(corpus: str) -> list[str]:
    path = Path(corpus).expanduser()
    if path.exists() and not path.is_dir():
        return [str(path)]
    if path.is_dir():
        found = (file for file in path.rglob("*") if file.name.endswith(_SUFFIXES) and file.is_file())
        files = [str(file) for file in found if not file.name.startswith(".")]
        none = f"no {', '.join(_SUFFIXES[:4])} files in this directory"
    else:
        files = [file for file in glob.glob(str(path), recursive=True) if Path(file).is_file()]
        none = "no such file, directory or match of a glob"
    if not files:
        raise AlbertError(f"{corpus}: {none}")
    # A file system lists its files in no order of its own, and the order decides what a unit holds.
    return sorted(files)


def _ends(path: str) -> tuple[bytes, bytes, int]:
    """The first and the last 64 KiB of a file, and its size."""
    with retold(lambda said: f"{path}: cannot be read ({said})", OSError), open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _HEAD_BYTES))
        tail = file.read(_HEAD_BYTES)
        file.seek(0)
        return file.read(_HEAD_BYTES), tail, size


def _file_segment(path: str, size: int, layout: Layout, head: bytes) -> Segment:
    compressed = path.endswith(".gz")
    size = size * _GZIP_RATIO if compressed else size
    if path.removesuffix(".gz").endswith(".jsonl"):
        return Segment("json", path, size=size, layout=layout)
    if layout == "auto":
        if compressed:
            lines = next((lines for _, lines in read_lines(path)), [])[:1000]
        else:
            lines = head.decode("utf-8", "replace").split("\n")
            lines = lines[:-1] if len(head) == _HEAD_BYTES else lines  # the last one may be cut
        layout = detect_layout(lines)
    return Segment("text", path, size=size, layout=layout)


def pack(segments: Sequence[Segment], unit_bytes: int) -> list[Unit]:
    """Units of about `unit_bytes` of text: large segments cut at document boundaries, small ones put together."""
    units: list[Unit] = []
    gathered: list[Segment] = []
    for segment in (part for whole in segments for part in _cut(whole, unit_bytes)):
        if gathered and sum(s.size for s in gathered) + segment.size > unit_bytes:
            units.append(tuple(gathered))
            gathered = []
        gathered.append(segment)
    return [*units, tuple(gathered)] if gathered else units


def _cut(segment: Segment, unit_bytes: int) -> Iterator[Segment]:
    """`segment` in parts of at least `unit_bytes`, cut where a document ends."""
    # There is no way into the middle of a .gz but by decompressing all before it.
    if segment.size <= unit_bytes or segment.path.endswith(".gz"):
        yield segment
    elif segment.kind == "tfds":
        examples = segment.stop or 0
        step = max(1, examples * unit_bytes // segment.size)
        for start in range(segment.start, examples, step):
            stop = min(start + step, examples)
            yield replace(segment, start=start, stop=stop, size=segment.size * (stop - start) // examples)
    else:
        start = 0
        while start < segment.size:
            stop = segment.size
            if start + unit_bytes < segment.size:
                stop = _document_end(segment, start + unit_bytes)
            yield replace(segment, start=start, stop=stop, size=stop - start)
            start = stop


def _document_end(segment: Segment, position: int) -> int:
    """The first byte at or after `position` of `segment`'s file that starts a document, or the file's end."""
    with open(segment.path, "rb") as file:
        file.seek(position - 1)
        text = file.read(_CUT_REACH)
        for pattern in _BOUNDARIES["json" if segment.kind == "json" else segment.layout]:
            if found := pattern.search(text):
                return position - 1 + found.end()
        if len(text) < _CUT_REACH:
            return segment.size
        # No document ends within 4 MiB: the end of a line will do, or one file would be one unit.
        while text and b"\n" not in text:
            position += len(text)
            text = file.read(_CUT_REACH)
        return position + text.index(b"\n") if text else segment.size


def read(segment: Segment) -> Iterator[Document]:
    """The documents of `segment` in order. Raises AlbertError, which names the file and the line, for what is none."""
    if segment.kind == "tfds":
        texts = tfds.read_texts(segment.path, segment.split, segment.feature, segment.start, segment.stop)
        for text in texts:
            if sentences := text_sentences(text, segment.layout):
                yield Document(sentences)
    elif segment.kind == "json":
        for newlines, lines in read_lines(segment.path, segment.start, segment.stop, MAX_JSON_LINE_BYTES):
            for number, line in enumerate(lines, newlines):
                if line and not line.isspace():
                    document = _json_document(line, segment.layout, partial(_at_line, segment, number))
                    if document.sentences:
                        yield document
    else:
        batches = (lines for _, lines in read_lines(segment.path, segment.start, segment.stop))
        yield from map(Document, documents(batches, segment.layout))


def _at_line(segment: Segment, newlines: int, problem: str) -> str:
    return f"{segment.path}: line {line_number(segment.path, segment.start, newlines)}: {problem}"


def _json_document(line: str, layout: Layout, located: Callable[[str], str]) -> Document:
    """A document from a line of JSON; `located` puts the file and the line before a complaint."""
    with retold(lambda said: located(f"not JSON ({said}); give one object a line"), ValueError, RecursionError):
        value = json.loads(line)
    refuse(map(located, _json_flaws(value)))
    name, label = (field if isinstance(field := value.get(key), str) else "" for key in ("name", "label"))
    if _has_sentences(value):
        return Document(tuple(_storable(s) for s in value["sentences"] if s and not s.isspace()), name, label)
    return Document(text_sentences(_storable(value["text"]), layout), name, label)


def _json_flaws(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield "not a JSON object; give one object with a `text` field a line"
    if not _has_sentences(value) and not isinstance(value.get("text"), str):
        yield f"no `text` field that is a string (fields: {', '.join(islice(value, 8)) or 'none'})"


def _has_sentences(value: dict[str, Any]) -> bool:
    sentences = value.get("sentences")
    return isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences)


def _storable(text: str) -> str:
    """`text` with halves of surrogate pairs, which JSON can spell and UTF-8 cannot, replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def is_pydocs(corpus: str) -> bool:
    return corpus == "pydocs" or corpus.startswith("pydocs:")


def is_debian(corpus: str) -> bool:
    return corpus.startswith(DEBIAN)


def is_packages(corpus: str) -> bool:
    """Whether `corpus` is read from packages into a spool first, rather than segment by segment."""
    return is_pydocs(corpus) or is_debian(corpus)


def _packages(corpus: str) -> list[str] | None:
    return [name for name in corpus.removeprefix("pydocs").removeprefix(":").split(",") if name] or None


def _debian_packages(corpora: Sequence[str]) -> list[Package]:
    """The .deb files of all the debian corpora together, each once, by name."""
    found = {package.sha256: package for corpus in corpora if is_debian(corpus) for package in _fetched(corpus)}
    return sorted(found.values(), key=lambda package: (package.name, package.version))


def _fetched(corpus: str) -> list[Package]:
    return fetch(corpus.removeprefix(DEBIAN))


def _with_packages(digest: str, corpora: Sequence[str]) -> str:
    """`digest` of the other corpora together with the versions of the packages read here."""
    from albert_jax.data.pydocs.sources import package_versions

    versions = [sorted(package_versions(_packages(corpus)).items()) for corpus in corpora if is_pydocs(corpus)]
    read = repr(versions) if versions else ""
    read += repr([package.sha256 for package in debs]) if (debs := _debian_packages(corpora)) else ""
    return hashlib.blake2b((digest + read).encode(), digest_size=16).hexdigest() if read else digest


def spool_debian(corpora: Sequence[str], directory: Path, workers: int) -> list[Segment]:
    """The debian corpora in `corpora` as one segment: read into DIR/unfinished, unless that was done.

    DIR/sources.tsv then lists the packages with version, digest, licence and characters of text. Any number of
    `workers`, processes that read, gives the same bytes.
    """
    packages = _debian_packages(corpora)
    if not packages:
        return []
    spool = paths.unfinished_dir(directory) / "debian.jsonl"
    if not spool.exists():
        write_pins(directory / paths.SOURCES, write_texts(packages, spool, workers))
    return [Segment("json", str(spool), size=spool.stat().st_size)]


def write_texts(packages: Sequence[Package], path: Path, workers: int) -> list[Pin]:
    """Writes the documents of `packages` to `path` as JSON lines, each with its source and licence; their table."""
    from albert_jax.data.packages.extract import read_packages

    licences: dict[str, str] = {}
    characters: dict[str, int] = {}
    beside = path.with_name(path.name + ".new")
    with retold(lambda said: f"{path}: cannot be written ({said}); {paths.WRITE_ADVICE}", OSError):
        with beside.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            for text in read_packages([package.path for package in packages], workers):
                licences[text.package] = text.licence
                characters[text.package] = characters.get(text.package, 0) + text.characters
                line = asdict(Document(text.sentences, text.name, text.package))
                line |= {"version": text.version, "licence": text.licence}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        os.replace(beside, path)
    return [
        Pin(
            package.name,
            package.version,
            package.sha256,
            licences.get(package.name, ""),
            characters.get(package.name, 0),
        )
        for package in packages
    ]


def spool_pydocs(
    corpora: Sequence[str], directory: Path, validation: float, test: float, workers: int
) -> list[Segment]:
    """The pydocs among `corpora`, one segment each: read into DIR/unfinished and DIR/paragraphs, unless that was done.

    `validation` and `test` are shares of modules held out, for the paragraphs; the documents are divided later. Any
    number of `workers`, processes that parse, gives the same bytes.
    """
    from albert_jax.data.pydocs.extract import read_modules
    from albert_jax.data.pydocs.paragraphs import write_paragraphs

    # Into JSON lines first, which are cut like any others: the docstrings of a file cannot be told from a byte range,
    # and sentences are dropped that occurred before. Labelled paragraphs come from the same packages, in the same pass.
    spools = {
        paths.unfinished_dir(directory) / f"pydocs-{number}.jsonl": _packages(corpus)
        for number, corpus in enumerate(filter(is_pydocs, corpora))
    }
    if not all(path.exists() for path in spools):
        modules = {path: list(read_modules(names, workers=workers)) for path, names in spools.items()}
        paragraphs = (
            paragraph
            for found in modules.values()
            for module in found
            for paragraph in module.labelled_paragraphs(MIN_WORDS)
        )
        write_paragraphs(directory, paragraphs, validation, test)
        for path, found in modules.items():
            lines = (json.dumps(asdict(module.document()), ensure_ascii=False) for module in found)
            content = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
            write_atomically(path, content, paths.WRITE_ADVICE)
    return [Segment("json", str(path), size=path.stat().st_size) for path in spools]
