"""Corpora by name: what `--corpus` accepts, cut into pieces of work and read as documents.

    FILE, DIRECTORY, GLOB     .txt and anything else: plain text (`data/text_layout.py`); .jsonl: JSON lines
    with a
                              `text` field (or `sentences`, a list), and optional `name` and `label`; both
                              also .gz
    tfds:NAME[:FEATURE]       a TensorFlow dataset by name or by directory (`data/tfds_corpus.py`)
    pydocs[:PACKAGE,...]      the English of installed packages' docstrings (`data/pydocs.py`)

A corpus is cut into `Segment`s (a byte range of a text file at document boundaries, a whole .gz file, a
range of examples), and segments are gathered into units of about equal size, one unit a shard. The cut
depends on the corpus and the unit size alone, never on the number of workers, and reading a unit takes
memory for one document.
"""

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from albert_jax.data.store import tfds as tfds_corpus
from albert_jax.data.store.documents import Document
from albert_jax.data.text.layout import (
    Layout,
    check_layout,
    detect_layout,
    paragraph_lines,
    sentence_lines,
    text_sentences,
)
from albert_jax.data.text.lines import line_number, read_lines
from albert_jax.errors import AlbertError

__all__ = ["Document", "Segment", "gather", "pack", "read"]

MAX_JSON_LINE_BYTES = 2**26  # a line of JSON holds a whole document
_HEAD_BYTES = 2**16  # read of each file to see its layout and to tell whether it has changed
_GZIP_RATIO = 3  # text is about that much larger than its .gz
_CUT_REACH = 2**22  # bytes: how far past the wanted place a cut looks for the end of a document
_SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".gz")
_LINE = re.compile(rb"\n")
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
_TWO_BLANK_LINES = re.compile(rb"\n[ \t\r]*\n[ \t\r]*\n")


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


def gather(corpora: Sequence[str], layout: Layout) -> tuple[list[Segment], str]:
    """Everything in `corpora`, one segment a file or dataset, in a fixed order, and a digest of it.

    The digest changes when a file is added, removed, renamed, resized, or changed in its first or last 64
    KiB. Names of directories and times do not count, so a copy of a corpus is the same corpus.

    Raises:
        AlbertError: nothing there, nothing in it, or not readable; it names the corpus and the remedy.
    """
    check_layout(layout)
    if not corpora:
        raise AlbertError("no corpus: give --corpus a file, a directory, a glob, tfds:NAME or pydocs")
    segments: list[Segment] = []
    digest = hashlib.blake2b(digest_size=16)
    for corpus in corpora:
        if corpus.startswith("tfds:"):
            found = _tfds_segments(corpus)
            digest.update(repr([(s.split, s.feature, s.stop, s.size) for s in found]).encode())
        else:
            found = []
            for path in _files(corpus):
                head, tail, size = _ends(path)
                digest.update(repr((Path(path).name, size)).encode() + head + tail)
                if size:
                    found.append(_file_segment(path, size, layout, head))
        if not found:
            raise AlbertError(f"{corpus}: the corpus is empty")
        segments += found
    return segments, digest.hexdigest()


def pack(segments: Sequence[Segment], unit_bytes: int) -> list[tuple[Segment, ...]]:
    """Units of about `unit_bytes` of text: large segments cut at document boundaries, small ones put
    together."""
    units: list[tuple[Segment, ...]] = []
    gathered: list[Segment] = []
    for segment in (part for whole in segments for part in _cut(whole, unit_bytes)):
        if gathered and sum(s.size for s in gathered) + segment.size > unit_bytes:
            units.append(tuple(gathered))
            gathered = []
        gathered.append(segment)
    return [*units, tuple(gathered)] if gathered else units


def read(segment: Segment) -> Iterator[Document]:
    """The documents of `segment` in order.

    Raises:
        AlbertError: what is there cannot be read as documents; it names the file and the line.
    """
    if segment.kind == "tfds":
        texts = tfds_corpus.read_texts(segment.path, segment.split, segment.feature, segment.start, segment.stop)
        for text in texts:
            if sentences := text_sentences(text, segment.layout):
                yield Document(sentences)
    elif segment.kind == "json":
        yield from _json_documents(segment)
    else:
        batches = (lines for _, lines in read_lines(segment.path, segment.start, segment.stop))
        layout = paragraph_lines if segment.layout == "paragraphs" else sentence_lines
        yield from map(Document, layout(batches))


# ------------------------------------------------------------------------------------------------- finding


def _files(corpus: str) -> list[str]:
    path = Path(corpus).expanduser()
    if path.is_dir():
        files = sorted(str(file) for file in path.rglob("*") if file.is_file() and _is_text(file))
        if not files:
            raise AlbertError(f"{corpus}: no {', '.join(_SUFFIXES[:4])} files in this directory")
        return files
    if path.exists():
        return [str(path)]
    files = sorted(file for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
    if not files:
        raise AlbertError(f"{corpus}: no such file, directory or match of a glob")
    return files


def _is_text(path: Path) -> bool:
    return path.name.endswith(_SUFFIXES) and not path.name.startswith(".")


def _ends(path: str) -> tuple[bytes, bytes, int]:
    """The first and the last 64 KiB of a file, and its size."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _HEAD_BYTES))
            tail = file.read(_HEAD_BYTES)
            file.seek(0)
            return file.read(_HEAD_BYTES), tail, size
    except OSError as error:
        raise AlbertError(f"{path}: cannot be read ({error.strerror or error})") from error


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
            lines = lines[:-1] if len(head) == _HEAD_BYTES else lines
        layout = detect_layout(lines)
    return Segment("text", path, size=size, layout=layout)


def _tfds_segments(corpus: str) -> list[Segment]:
    directory, feature, splits = tfds_corpus.find(corpus)
    return [
        Segment("tfds", directory, 0, examples, size=size, feature=feature, split=split)
        for split, examples, size in splits
    ]


# ------------------------------------------------------------------------------------------------- cutting


def _cut(segment: Segment, unit_bytes: int) -> Iterator[Segment]:
    """`segment` in parts of at least `unit_bytes`, cut where a document ends."""
    if segment.size <= unit_bytes or segment.path.endswith(".gz"):
        yield segment
    elif segment.kind == "tfds":
        assert segment.stop is not None
        step = max(1, segment.stop * unit_bytes // segment.size)
        for start in range(segment.start, segment.stop, step):
            stop = min(start + step, segment.stop)
            size = segment.size * (stop - start) // segment.stop
            yield replace(segment, start=start, stop=stop, size=size)
    else:
        start = 0
        while start < segment.size:
            stop = segment.size
            if start + unit_bytes < segment.size:
                stop = _document_end(segment, start + unit_bytes)
            yield replace(segment, start=start, stop=stop, size=stop - start)
            start = stop


def _document_end(segment: Segment, position: int) -> int:
    """The first byte at or after `position` of `segment`'s file that starts a document, or the file's end.

    Where no document ends within 4 MiB, a paragraph's or a line's end will do: the document is divided there.
    """
    boundaries = {
        "json": [_LINE],
        "sentences": [_BLANK_LINE],
        "paragraphs": [_TWO_BLANK_LINES, _BLANK_LINE],
    }
    with open(segment.path, "rb") as file:
        file.seek(position - 1)
        text = file.read(_CUT_REACH)
        for pattern in boundaries["json" if segment.kind == "json" else segment.layout]:
            if found := pattern.search(text):
                return position - 1 + found.end()
        if len(text) < _CUT_REACH:
            return segment.size
        while text and b"\n" not in text:
            position += len(text)
            text = file.read(_CUT_REACH)
        return position + text.index(b"\n") if text else segment.size


# ------------------------------------------------------------------------------------------------- JSON lines


def _json_documents(segment: Segment) -> Iterator[Document]:
    batches = read_lines(segment.path, segment.start, segment.stop, MAX_JSON_LINE_BYTES)
    for newlines, lines in batches:
        for number, line in enumerate(lines):
            if not line or line.isspace():
                continue
            try:
                document = _json_document(line, segment.layout)
            except ValueError as error:
                where = line_number(segment.path, segment.start, newlines + number)
                raise AlbertError(f"{segment.path}: line {where}: {error}") from error
            if document.sentences:
                yield document


def _json_document(line: str, layout: Layout) -> Document:
    """A document from a line of JSON; ValueError tells what is wrong with it."""
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error}); give one object a line") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object; give one object with a `text` field a line")
    name, label = value.get("name", ""), value.get("label", "")
    name, label = name if isinstance(name, str) else "", label if isinstance(label, str) else ""
    sentences = value.get("sentences")
    if isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences):
        return Document(tuple(_storable(s) for s in sentences if s and not s.isspace()), name, label)
    text = value.get("text")
    if not isinstance(text, str):
        fields = ", ".join(islice(value, 8)) or "none"
        raise ValueError(f"no `text` field that is a string (fields: {fields})")
    return Document(text_sentences(_storable(text), layout), name, label)


def _storable(text: str) -> str:
    """`text` with halves of surrogate pairs, which JSON can spell and UTF-8 cannot, replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
