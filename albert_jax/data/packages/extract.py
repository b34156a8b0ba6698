"""Packages to documents of running English text.

    .deb -> `archive` files -> `kinds` paragraphs (`markup`, `plain`, `dictionaries`, `sword`, `rdata`, `strings`)
    -> `prose` sentences of those that are English text -> here: each paragraph once -> `Text`s

What comes out depends on the packages alone: same packages, same text in the same order.
`python -m benchmarks.debian NAME ...` prints the counts of each package and some paragraphs.
"""

import concurrent.futures
import contextlib
import multiprocessing
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_jax.data.packages import archive, kinds, prose

MAX_DOCUMENT_CHARACTERS = 24_000  # a longer one is divided between paragraphs
MIN_DOCUMENT_CHARACTERS = 200

Found = tuple[str, list[tuple[str, ...]]]  # a part's file and its paragraphs, each a tuple of sentences


@dataclass(frozen=True)
class Text:
    """A document: running text of one file, or of one part of a file that holds many."""

    package: str
    version: str
    licence: str  # short names, as in "GPL-2, CC-BY-SA-3.0"
    file: str  # see kinds.Part
    sentences: tuple[str, ...]

    @property
    def name(self) -> str:
        """What a split is drawn by: all documents of a part have one."""
        return f"{self.package}/{self.file}"

    @property
    def characters(self) -> int:
        """With one white space after each sentence."""
        return sum(map(len, self.sentences)) + len(self.sentences)


def read_packages(packages: Sequence[Path], workers: int = 1) -> Iterator[Text]:
    """The documents of .deb files, in the order given and within each by the names of its files.

    A paragraph is kept where it comes first; later ones that differ from it only in case, digits or punctuation are
    dropped, over all packages, and so is a sentence from its third time on. Any number of `workers`, processes that
    read, gives the same documents.

    Raises AlbertError for a file that is no package or is damaged.
    """
    repeats = prose.Repeats()
    for empty, found in _read_all(packages, workers):
        for file, paragraphs in found:
            for sentences in _documents([new for paragraph in paragraphs if (new := repeats.new(paragraph))]):
                yield Text(empty.package, empty.version, empty.licence, file, sentences)


def _documents(paragraphs: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    gathered: list[str] = []
    size = 0
    for paragraph in paragraphs:
        length = sum(map(len, paragraph)) + len(paragraph)
        if gathered and size + length > MAX_DOCUMENT_CHARACTERS:
            yield tuple(gathered)
            gathered, size = [], 0
        gathered += paragraph
        size += length
    if size >= MIN_DOCUMENT_CHARACTERS:
        yield tuple(gathered)


def _read_all(packages: Sequence[Path], workers: int) -> Iterator[tuple[Text, list[Found]]]:
    if workers <= 1 or len(packages) <= 1:
        yield from map(_read_package, packages)
        return
    # Spawned, not forked: the caller may have started JAX, whose threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(packages)), mp_context=context) as pool:
        waiting = [pool.submit(_read_package, path) for path in packages]
        with contextlib.ExitStack() as stack:
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            for number, future in enumerate(waiting):
                yield future.result()
                waiting[number] = concurrent.futures.Future()  # lets go of the text


def _read_package(path: Path) -> tuple[Text, list[Found]]:
    package = archive.read(path)
    empty = Text(package.name, package.version, licence_of(package), "", ())
    read = ((part.file, prose.english(part.paragraphs, part.min_words)) for part in kinds.parts(package))
    return empty, [(file, paragraphs) for file, paragraphs in read if paragraphs]


# ---- licences

# A short name, not the beginning of a text: "GPL-2+ or Artistic", "public domain".
_LICENCE_FIELD = re.compile(
    r"^License:[ \t]*([\w.+:-]+(?:,? (?:and|or|with) [\w.+:-]+)*(?: exception)?|public domain)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_LICENCES = [
    ("public-domain", re.compile(r"public domain", re.IGNORECASE)),
    ("CC-BY-SA", re.compile(r"Creative Commons Attribution[- ]Share", re.IGNORECASE)),
    ("GFDL", re.compile(r"Free\s+Documentation\s+License")),
    ("NetHack GPL", re.compile(r"NetHack\s+General\s+Public\s+License", re.IGNORECASE)),
    ("GPL", re.compile(r"(?<!NetHack )General\s+Public\s+Licen[sc]e|GNU GPL", re.IGNORECASE)),
    ("Artistic", re.compile(r"Artistic License")),
    ("PSF", re.compile(r"PYTHON SOFTWARE FOUNDATION LICENSE")),
    ("free with notice", re.compile(r"permission notice\s+identical")),
    ("free with credit", re.compile(r"Redistribution, copying, and editing")),
    ("BSD", re.compile(r"Redistribution and use in source and binary forms")),
    ("MIT", re.compile(r"Permission is hereby granted, free of charge")),
    ("Apache-2.0", re.compile(r"Apache License")),
]
_MACHINE_READABLE = re.compile(r"^(?:Format|Files):[ \t]*\S", re.MULTILINE)
_MAX_LICENCES = 6  # named of a package; files of its build system often bring a dozen more


def licence_of(package: archive.Package) -> str:
    """Short names of the licences in a package's `copyright`: its `License:` fields, else those named in the text."""
    folder = f"usr/share/doc/{package.name}"
    text = ""
    for file in package.files:
        if file.path == f"{folder}/copyright":
            text = file.content.decode("utf-8", "replace")
    if not text and folder in package.links:
        return f"as {Path(package.links[folder]).name}"  # packages of one source may share the file
    named = dict.fromkeys(map(str.strip, _LICENCE_FIELD.findall(text))) if _MACHINE_READABLE.search(text) else {}
    named = named or dict.fromkeys(name for name, pattern in _LICENCES if pattern.search(text))
    shown = [*named][:_MAX_LICENCES] + [f"{len(named) - _MAX_LICENCES} more"] * (len(named) > _MAX_LICENCES)
    return ", ".join(shown) or "see its copyright file"
